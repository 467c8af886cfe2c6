"""Examples that are pairs of texts, or single ones, as token sequences of BERT's form:

[CLS] first [SEP]   (token type 0)   second [SEP]   (token type 1; not of single ones)

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
        single: there are no second texts: `seconds` holds one empty one.
    """

    choices: int
    firsts: list[np.ndarray]
    seconds: list[np.ndarray]
    second_of: np.ndarray
    answers: np.ndarray
    groups: np.ndarray
    tokenizer: Tokenizer
    sequence_length: int
    single: bool = False

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def lengths(self) -> np.ndarray:
        """By example: tokens of its longest sequence, special tokens included."""
        firsts = np.array([len(first) for first in self.firsts]).reshape(-1, self.choices).max(axis=1)
        seconds = np.array([len(second) for second in self.seconds])[self.second_of]
        return np.minimum(firsts + seconds + SPECIAL_TOKENS - self.single, self.sequence_length)

    def without_seconds(self) -> "PairExamples":
        """The same examples with empty second texts: shows what the first ones give away by themselves."""
        return replace(self, seconds=[np.empty(0, np.int32)] * len(self.seconds))

    def without_firsts(self) -> "PairExamples":
        """The same examples with empty first texts."""
        return replace(self, firsts=[np.empty(0, np.int32)] * len(self.firsts))

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
            attention_mask[row, : start if self.single else end] = 1
            tokens[row, 0] = self.tokenizer.cls
            tokens[row, 1 : start - 1] = first
            tokens[row, start - 1] = self.tokenizer.sep
            if self.single:
                continue
            tokens[row, start : end - 1] = second
            tokens[row, end - 1] = self.tokenizer.sep
            token_types[row, start:end] = 1
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


def cut_pairs(
    firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray], room: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pairs of at most `room` tokens: of one that is longer, the end of the longer text goes, until both are as long, and
    then the ends of both (Devlin et al.'s way, where neither text is a context of the other)."""
    cut = []
    for first, second in zip(firsts, seconds, strict=True):
        if (over := len(first) + len(second) - room) > 0:
            # The longer text loses what it has more, at most all that is over; both then lose as much, the second first.
            more = len(first) - len(second)
            from_first, from_second = (min(over, max(0, sign * more)) for sign in (1, -1))
            rest = over - from_first - from_second
            first = first[: len(first) - from_first - rest // 2]
            second = second[: len(second) - from_second - (rest - rest // 2)]
        cut.append((first, second))
    return [first for first, _ in cut], [second for _, second in cut]
