"""RACE as files and as token sequences: reading the original tree, and encoding it for BERT (paper section 5.4).

RACE/{train,dev,test}/{middle,high}/*.txt, each one JSON object: article, questions[], options[][4], answers[]
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from data_pipeline.tokenization.tokenizers import Tokenizer

SPLITS = ("train", "dev", "test")
LEVELS = ("middle", "high")
OPTIONS = 4
LONGEST_QUESTION_TOKENS = 128
SPECIAL_TOKENS = 3  # [CLS], [SEP], [SEP]
_LETTERS = "ABCD"
_ENCODED_AT_ONCE = 2048
_ERRORS_SHOWN = 10


@dataclass(frozen=True)
class Question:
    """One question with its four options; `passage` is an index into its split's passages."""

    passage: int
    question: str
    options: tuple[str, ...]
    answer: int
    level: str


@dataclass(frozen=True)
class Split:
    """Passages and questions in the order of the sorted file names, middle school first."""

    passages: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


def read_split(directory: Path, name: str) -> Split:
    """Read one split of the tree. Sorted, so that nothing depends on the file system's order.

    Args:
        directory: the folder that holds train, dev and test.
        name: one of `SPLITS`.

    Raises:
        ValueError: folders are missing or hold no question, or files are damaged; the message names each file
            and key.
    """
    split = Split()
    errors: list[str] = []
    for level in LEVELS:
        folder = Path(directory) / name / level
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; {directory} must hold {{train,dev,test}}/{{middle,high}}/*.txt"
            )
        before = len(split.questions)
        for path in sorted(folder.glob("*.txt")):
            errors += _read_passage(path, level, split)
        if not errors and len(split.questions) == before:
            raise UserError(f"{folder}: holds no questions")
    if errors:
        more = [f"… and {len(errors) - _ERRORS_SHOWN} more"] if len(errors) > _ERRORS_SHOWN else []
        raise UserError("\n".join(errors[:_ERRORS_SHOWN] + more))
    return split


def _read_passage(path: Path, level: str, split: Split) -> list[str]:
    """Add one file to the split, or say what is wrong with it."""
    try:
        record = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError) as error:
        return [f"{path}: cannot be read as JSON ({error})"]
    if errors := _record_errors(record):
        return [f"{path}: {error}" for error in errors]
    passage = len(split.passages)
    split.passages.append(record["article"])
    for question, options, answer in zip(
        record["questions"], record["options"], record["answers"], strict=True
    ):
        split.questions.append(Question(passage, question, tuple(options), _LETTERS.index(answer), level))
    return []


def _record_errors(record: Any) -> list[str]:
    if not isinstance(record, dict):
        return ["must be a JSON object"]
    errors = []
    if not isinstance(record.get("article"), str):
        errors.append('"article": must be a string')
    for key in ("questions", "options", "answers"):
        if not isinstance(record.get(key), list):
            errors.append(f'"{key}": must be a list')
    if errors:
        return errors
    lengths = {key: len(record[key]) for key in ("questions", "options", "answers")}
    if len(set(lengths.values())) > 1:
        return [f'"questions", "options", "answers": lengths differ, {lengths}']
    for index, question in enumerate(record["questions"]):
        if not isinstance(question, str):
            errors.append(f'"questions"[{index}]: must be a string')
    for index, options in enumerate(record["options"]):
        whole = isinstance(options, list) and len(options) == OPTIONS
        if not whole or not all(isinstance(option, str) for option in options):
            errors.append(f'"options"[{index}]: must be a list of {OPTIONS} strings')
    for index, answer in enumerate(record["answers"]):
        if not (isinstance(answer, str) and len(answer) == 1 and answer in _LETTERS):
            errors.append(f'"answers"[{index}]: must be one of "A", "B", "C", "D", is {answer!r}')
    return errors


def question_with_option(question: str, option: str) -> str:
    """A cloze question has its gap filled, any other is followed by the option."""
    return question.replace("_", option) if "_" in question else f"{question} {option}"


@dataclass(frozen=True)
class EncodedSplit:
    """A split as token ids, each text encoded once.

    Attributes:
        passages: by passage.
        options: question and option together, `OPTIONS` entries a question.
        passage_of, answers: by question.
        levels: by question, "middle" or "high".
        cls, sep, pad: BERT's special tokens.
        sequence_length: the longest input in tokens, special tokens included.
    """

    passages: list[np.ndarray]
    options: list[np.ndarray]
    passage_of: np.ndarray
    answers: np.ndarray
    levels: np.ndarray
    cls: int
    sep: int
    pad: int
    sequence_length: int

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def lengths(self) -> np.ndarray:
        """By question: tokens of its longest sequence, special tokens included."""
        options = np.array([len(option) for option in self.options]).reshape(-1, OPTIONS).max(axis=1)
        passages = np.array([len(passage) for passage in self.passages])[self.passage_of]
        return np.minimum(options + passages + SPECIAL_TOKENS, self.sequence_length)

    def without_passages(self) -> "EncodedSplit":
        """The same questions with empty passages: shows what the options give away by themselves."""
        return replace(self, passages=[np.empty(0, np.int32)] * len(self.passages))

    def batch(self, questions: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs of the model for some questions, padded to the longest among them.

            [CLS] question-option [SEP]   (token type 0)   passage [SEP]   (token type 1)

        A sequence that is too long loses the end of its passage.

        Returns:
            "tokens", "token_types" and "attention_mask" [4 · questions, sequence] int64, a question's options in
            neighbouring rows, and "answers" [questions] int64.
        """
        shape = (len(questions) * OPTIONS, int(self.lengths[questions].max()))
        tokens = np.full(shape, self.pad, np.int64)
        token_types = np.zeros(shape, np.int64)
        attention_mask = np.zeros(shape, np.int64)
        sources = (questions[:, None] * OPTIONS + np.arange(OPTIONS)).ravel()
        for row, source in enumerate(sources):
            option = self.options[source]
            passage = self.passages[self.passage_of[source // OPTIONS]]
            passage = passage[: self.sequence_length - len(option) - SPECIAL_TOKENS]
            second = len(option) + 2  # where the passage starts
            end = second + len(passage) + 1
            tokens[row, 0] = self.cls
            tokens[row, 1 : second - 1] = option
            tokens[row, second - 1] = self.sep
            tokens[row, second : end - 1] = passage
            tokens[row, end - 1] = self.sep
            token_types[row, second:end] = 1
            attention_mask[row, :end] = 1
        return {
            "tokens": tokens,
            "token_types": token_types,
            "attention_mask": attention_mask,
            "answers": self.answers[questions],
        }


def encode_split(split: Split, tokenizer: Tokenizer, sequence_length: int) -> EncodedSplit:
    """Encode all passages and all questions with their options, each once.

    Of a question with its option the first `LONGEST_QUESTION_TOKENS` tokens are kept.

    Raises:
        ValueError: `sequence_length` has no room for a passage.
    """
    room = sequence_length - SPECIAL_TOKENS
    if room <= LONGEST_QUESTION_TOKENS // 4:
        raise UserError(f"a sequence length of {sequence_length} is too short for questions with passages")
    texts = [
        question_with_option(question.question, option)
        for question in split.questions
        for option in question.options
    ]
    return EncodedSplit(
        passages=_encode(split.passages, tokenizer, room),
        options=_encode(texts, tokenizer, min(LONGEST_QUESTION_TOKENS, room)),
        passage_of=np.array([question.passage for question in split.questions]),
        answers=np.array([question.answer for question in split.questions]),
        levels=np.array([question.level for question in split.questions]),
        cls=tokenizer.cls,
        sep=tokenizer.sep,
        pad=tokenizer.pad,
        sequence_length=sequence_length,
    )


def _encode(texts: Sequence[str], tokenizer: Tokenizer, limit: int) -> list[np.ndarray]:
    """Token ids as arrays, a block of texts at a time: lists of Python integers take nine times the memory."""
    encoded = []
    for start in range(0, len(texts), _ENCODED_AT_ONCE):
        for ids in tokenizer.encode_batch(list(texts[start : start + _ENCODED_AT_ONCE])):
            encoded.append(np.array(ids[:limit], np.int32))
    return encoded
