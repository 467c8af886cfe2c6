"""Examples that are pairs of texts, as token sequences of BERT's form:

[CLS] first [SEP]   (token type 0)   second [SEP]   (token type 1)

No torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from data_pipeline.tokenization.tokenizers import Tokenizer

SPECIAL_TOKENS = 3  # [CLS], [SEP], [SEP]
_ENCODED_AT_ONCE = 2048


@dataclass(frozen=True)
class PairExamples:
    """Examples of `choices` pairs each, which share the second text; each text is encoded once.

    Attributes:
        choices: pairs an example.
        firsts: token ids, `choices` neighbours an example.
        seconds: token ids.
        second_of: by example, an index into `seconds`.
        answers: by example, what is to be predicted.
        groups: by example, what its result counts towards besides all.
        tokenizer: it has `cls`, `sep` and `pad`.
        sequence_length: the longest input in tokens, special tokens included.
    """

    choices: int
    firsts: list[np.ndarray]
    seconds: list[np.ndarray]
    second_of: np.ndarray
    answers: np.ndarray
    groups: np.ndarray
    tokenizer: Tokenizer
    sequence_length: int

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def lengths(self) -> np.ndarray:
        """By example: tokens of its longest sequence, special tokens included."""
        firsts = np.array([len(first) for first in self.firsts]).reshape(-1, self.choices).max(axis=1)
        seconds = np.array([len(second) for second in self.seconds])[self.second_of]
        return np.minimum(firsts + seconds + SPECIAL_TOKENS, self.sequence_length)

    def without_seconds(self) -> "PairExamples":
        """The same examples with empty second texts: shows what the first ones give away by themselves."""
        return replace(self, seconds=[np.empty(0, np.int32)] * len(self.seconds))

    def batch(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs of the model for some examples, padded to the longest among them.

        A sequence that is too long loses the end of its second text.

        Returns:
            "tokens", "token_types" and "attention_mask" [choices · examples, sequence] int64, an example's pairs in
            neighbouring rows, and "answers" [examples] int64.
        """
        shape = (len(examples) * self.choices, int(self.lengths[examples].max()))
        tokens = np.full(shape, self.tokenizer.pad, np.int64)
        token_types = np.zeros(shape, np.int64)
        attention_mask = np.zeros(shape, np.int64)
        sources = (examples[:, None] * self.choices + np.arange(self.choices)).ravel()
        for row, source in enumerate(sources):
            first = self.firsts[source]
            second = self.seconds[self.second_of[source // self.choices]]
            second = second[: self.sequence_length - len(first) - SPECIAL_TOKENS]
            start = len(first) + 2  # of the second text
            end = start + len(second) + 1
            tokens[row, 0] = self.tokenizer.cls
            tokens[row, 1 : start - 1] = first
            tokens[row, start - 1] = self.tokenizer.sep
            tokens[row, start : end - 1] = second
            tokens[row, end - 1] = self.tokenizer.sep
            token_types[row, start:end] = 1
            attention_mask[row, :end] = 1
        return {
            "tokens": tokens,
            "token_types": token_types,
            "attention_mask": attention_mask,
            "answers": self.answers[examples],
        }


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer, limit: int) -> list[np.ndarray]:
    """The first `limit` token ids of each text as arrays, a block of texts at a time: lists of Python integers take
    nine times the memory."""
    encoded = []
    for start in range(0, len(texts), _ENCODED_AT_ONCE):
        for ids in tokenizer.encode_batch(list(texts[start : start + _ENCODED_AT_ONCE])):
            encoded.append(np.array(ids[:limit], np.int32))
    return encoded
