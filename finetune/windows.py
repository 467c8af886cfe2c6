"""Questions with passages that are longer than a sequence: windows that slide over the passage. No torch.

[CLS] question [SEP]   (token type 0)   window of the passage [SEP]   (token type 1)

(Devlin et al. 2019, section 4.2, and its code.) Windows begin every `STRIDE` tokens and overlap. Each token of a passage is
answered for by one of them, where it has most context on its scantier side; an answer is predicted there where it begins.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from data_pipeline.tokenization.places import PlacedIds
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.pairs import SPECIAL_TOKENS

STRIDE = 128
LONGEST_QUESTION_TOKENS = 64
_ENCODED_AT_ONCE = 2048


def window_starts(tokens: int, room: int, stride: int) -> list[int]:
    """Where the windows of a passage begin, each of at most `room` tokens, the last one with its end.

    With a stride of `room` or more they share nothing; none is left out between them.
    """
    step = min(stride, room)
    return list(range(0, max(tokens - room, 0) + step, step)) if tokens > room else [0]


@functools.lru_cache(maxsize=1024)
def answered_by(tokens: int, room: int, stride: int) -> np.ndarray:
    """[tokens], the number of the window in which each has most context: the fewer of the tokens on its two sides count,
    and of equal ones the first is taken.

    BERT's code adds a hundredth of a window's length, and so, of a passage that just does not fit, leaves the last token to
    a window without the answers that end there. Here answers up to half an overlap are whole in the window of their first token.
    """
    best = np.full(tokens, -1)
    found = np.zeros(tokens, np.int32)
    for number, start in enumerate(window_starts(tokens, room, stride)):
        places = np.arange(min(room, tokens - start))
        context = np.minimum(places, places[::-1])
        better = context > best[start : start + room]
        best[start : start + room][better] = context[better]
        found[start : start + room][better] = number
    found.setflags(write=False)
    return found


def encode_places(texts: Sequence[str], tokenizer: Tokenizer) -> list[PlacedIds]:
    """All tokens of each text with their characters, a block of texts at a time."""
    encoded: list[PlacedIds] = []
    for start in range(0, len(texts), _ENCODED_AT_ONCE):
        encoded += tokenizer.encode_with_places(list(texts[start : start + _ENCODED_AT_ONCE]))
    return encoded


class Windows(NamedTuple):
    """[windows] each, those of a question beside each other.

    Attributes:
        question: whose they are.
        number: from 0 in each question.
        start, size: in tokens of its passage.
    """

    question: np.ndarray
    number: np.ndarray
    start: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class WindowExamples:
    """Questions about passages; an example is one window of one question.

    Attributes:
        questions: token ids, at most `LONGEST_QUESTION_TOKENS`.
        passages: tokens with their characters.
        passage_of: [questions], an index into `passages`.
        answers: [questions, 2] int64, first and last token in the passage of what training predicts; -1 for none.
        tokenizer: it has `cls`, `sep`, `pad` and `mask`.
        sequence_length: the longest input in tokens, special tokens included.
        scored: whether batches are for prediction, not for training.
    """

    questions: list[np.ndarray]
    passages: list[PlacedIds]
    passage_of: np.ndarray
    answers: np.ndarray
    tokenizer: Tokenizer
    sequence_length: int
    scored: bool = False

    def __len__(self) -> int:
        return len(self.windows.question)

    def room(self, question: int) -> int:
        """Tokens of the passage in one sequence with a question."""
        return self.sequence_length - SPECIAL_TOKENS - len(self.questions[question])

    def stride(self, question: int) -> int:
        """Between its windows; of short sequences half a window, lest answers stand in none of them."""
        return min(STRIDE, max(self.room(question) // 2, 1))

    @cached_property
    def windows(self) -> Windows:
        """Those of all questions."""
        rows: list[tuple[int, int, int, int]] = []
        for question, passage in enumerate(self.passage_of):
            tokens, room = len(self.passages[passage].ids), self.room(question)
            for number, start in enumerate(window_starts(tokens, room, self.stride(question))):
                rows.append((question, number, start, min(room, tokens - start)))
        return Windows(*np.array(rows, np.int64).reshape(-1, 4).T)

    @cached_property
    def lengths(self) -> np.ndarray:
        """By window: tokens of its sequence, special tokens included."""
        questions = np.array([len(question) for question in self.questions], np.int64)
        return questions[self.windows.question] + self.windows.size + SPECIAL_TOKENS

    def without_passages(self) -> "WindowExamples":
        """The same examples with every token of the passages masked: what questions, lengths and places give away."""
        masked = [
            passage._replace(ids=np.full_like(passage.ids, self.tokenizer.mask)) for passage in self.passages
        ]
        return replace(self, passages=masked)

    def without_questions(self) -> "WindowExamples":
        """The same passages with empty questions: what they give away whatever is asked."""
        return replace(self, questions=[np.empty(0, np.int32)] * len(self.questions))

    def batch(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs of the model for some windows, padded to the longest among them.

        Returns:
            "tokens", "token_types" and "attention_mask" [windows, sequence] int64. For training "answers" [windows, 2]
            int64, places in the sequence of the first and the last token of the answer, both 0, which is [CLS], where
            the window does not hold it whole. For prediction "firsts" and "lasts" [windows, sequence] bool, where an
            answer may begin and end.
        """
        shape = (len(examples), int(self.lengths[examples].max()))
        tokens = np.full(shape, self.tokenizer.pad, np.int64)
        token_types, attention_mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        answers = np.zeros((len(examples), 2), np.int64)
        firsts, lasts = np.zeros(shape, bool), np.zeros(shape, bool)
        for row, example in enumerate(examples):
            question, number, start, size = (int(column[example]) for column in self.windows)
            asked, passage = self.questions[question], self.passages[self.passage_of[question]].ids
            offset = len(asked) + 2  # of the window in the sequence
            end = offset + size
            tokens[row, 0] = self.tokenizer.cls
            tokens[row, 1 : offset - 1] = asked
            tokens[row, offset - 1] = tokens[row, end] = self.tokenizer.sep
            tokens[row, offset:end] = passage[start : start + size]
            token_types[row, offset : end + 1] = 1
            attention_mask[row, : end + 1] = 1
            if self.scored:
                owners = answered_by(len(passage), self.room(question), self.stride(question))
                firsts[row, offset:end] = owners[start : start + size] == number
                lasts[row, offset:end] = True
                continue
            first, last = self.answers[question]
            if start <= first and last < start + size:
                answers[row] = first - start + offset, last - start + offset
        inputs = {"tokens": tokens, "token_types": token_types, "attention_mask": attention_mask}
        return inputs | ({"firsts": firsts, "lasts": lasts} if self.scored else {"answers": answers})
