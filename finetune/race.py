"""RACE: answering four-option questions about passages (paper section 5.3).

Each option, after the question or in its gap, is one sequence with the passage; the largest of a question's four
scores is the answer. Not here: the data's format (`data_pipeline.benchmarks.race`), forms of sequences (`pairs`), the
model (`heads`) and training (`tuner`).
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.config import ModelConfig
from data_pipeline.benchmarks.race import LETTERS, LEVELS, OPTIONS, SPLITS, Split, read_split
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.metrics import confusion, named_confusion, question_word, shares
from finetune.pairs import SPECIAL_TOKENS, PairExamples, encode_texts
from finetune.program import Program
from recipes.records import (
    Bar,
    Column,
    FineTuning,
    Published,
    Table,
    add_fine_tuning,
    fits_the_model,
)
from recipes.schema import FinetuningSettings

if TYPE_CHECKING:
    from core.parallel.mesh import Mesh
    from finetune.heads import MultipleChoice, Scorer

LONGEST_QUESTION_TOKENS = 128
_SHORTEST_SEQUENCE = LONGEST_QUESTION_TOKENS // 4 + SPECIAL_TOKENS + 1


def question_with_option(question: str, option: str) -> str:
    """A cloze question has its gap filled, any other is followed by the option."""
    return question.replace("_", option) if "_" in question else f"{question} {option}"


def encode_split(split: Split, tokenizer: Tokenizer, sequence_length: int) -> PairExamples:
    """All passages and all questions with their options, each encoded once.

    Of a question with its option the first `LONGEST_QUESTION_TOKENS` tokens are kept.
    """
    room = sequence_length - SPECIAL_TOKENS
    texts = [
        question_with_option(question.question, option)
        for question in split.questions
        for option in question.options
    ]
    return PairExamples(
        choices=OPTIONS,
        firsts=encode_texts(texts, tokenizer, min(LONGEST_QUESTION_TOKENS, room)),
        seconds=encode_texts(split.passages, tokenizer, room),
        second_of=np.array([question.passage for question in split.questions]),
        answers=np.array([question.answer for question in split.questions]),
        groups=np.array([question.level for question in split.questions]),
        tokenizer=tokenizer,
        sequence_length=sequence_length,
    )


def kind_of_question(question: str) -> str:
    """ "cloze" where there is a gap to fill, else its first question word, or "other"."""
    return "cloze" if "_" in question else question_word(question)


class Race(Program):
    """RACE for one tokenizer and sequence length; reading checks all three splits."""

    def __init__(
        self, data: Path, tokenizer: Tokenizer, sequence_length: int, settings: FinetuningSettings
    ) -> None:
        self.splits = {name: read_split(data, name) for name in SPLITS}
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length
        self._probabilities = np.zeros((0, OPTIONS))  # of the test set

    @functools.lru_cache(maxsize=2)  # noqa: B019 - one program a process
    def examples(self, split: str) -> PairExamples:
        return encode_split(self.splits[split], self.tokenizer, self.sequence_length)

    def model(self, config: ModelConfig, mesh: "Mesh") -> "MultipleChoice":
        from finetune.heads import MultipleChoice

        return MultipleChoice(config, mesh, OPTIONS, "race")

    def on_dev(self, score: "Scorer") -> dict[str, Any]:
        return {"accuracy": score(self.examples("dev"), "dev", LEVELS).share}

    def result(self, score: "Scorer", controls: bool) -> dict[str, Any]:
        from finetune.heads import accuracy

        test = self.examples("test")
        self._probabilities = score.probabilities(test, "test", OPTIONS)
        on_test = accuracy(self._probabilities.argmax(axis=1) == test.answers, test, LEVELS)
        result: dict[str, Any] = {
            **numbers(self.predictions(score)),
            "standard_error": on_test.standard_error,
            "standard_error_over": f"{on_test.texts} passages",
            "chance": 1 / OPTIONS,
            "empty_passages": {name: split.empty for name, split in self.splits.items() if split.empty},
        }
        if controls:
            blank = score(test.without_seconds(), "no passages", LEVELS)
            result["blank_passage_accuracy"] = blank.share
        return result

    def predictions(self, score: "Scorer") -> dict[str, Table]:
        split = self.splits["test"]
        return {
            "test": {
                "id": [split.ids[question.passage] for question in split.questions],
                "question": [question.question for question in split.questions],
                "level": [question.level for question in split.questions],
                "answer": [LETTERS[question.answer] for question in split.questions],
                "prediction": [LETTERS[place] for place in self._probabilities.argmax(axis=1)],
                "probabilities": self._probabilities.tolist(),
            }
        }


def numbers(predictions: Mapping[str, Table]) -> dict[str, Any]:
    """Accuracy over all, by level and by kind of question, and which letters were taken for which."""
    table = predictions["test"]
    answers, predicted = (
        np.array([LETTERS.index(x) for x in table[key]]) for key in ("answer", "prediction")
    )
    by_level = shares(answers == predicted, table["level"])
    by_level |= shares(answers == predicted, ["all"] * len(answers))
    return {
        **{
            name: {key: share[name] for key, share in by_level.items()}
            for name in ("accuracy", "correct", "total")
        },
        "by_kind": shares(
            answers == predicted, [kind_of_question(question) for question in table["question"]]
        ),
        "confusion": named_confusion(confusion(answers, predicted, OPTIONS), LETTERS),
    }


def submission(predictions: Mapping[str, Table]) -> dict[str, str]:
    """A list of answers a passage, in the order of its questions, as the data's own files hold them."""
    answers: dict[str, list[str]] = {}
    for name, letter in zip(*(predictions["test"][key] for key in ("id", "prediction")), strict=True):
        answers.setdefault(name, []).append(letter)
    return {"answers.json": json.dumps(answers, indent=1) + "\n"}


def _errors(settings: Any, config: Any, where: str) -> list[str]:
    if (settings.sequence_length or config.sequence_length) < _SHORTEST_SEQUENCE:
        return [
            f"{where}.sequence_length: must be {_SHORTEST_SEQUENCE} or more for questions with passages, is "
            f"{settings.sequence_length} with a model of {config.sequence_length}"
        ]
    return fits_the_model(settings, config, where)


RACE = add_fine_tuning(
    FineTuning(
        name="race",
        title="RACE",
        benchmark="race",
        program="finetune.race:Race",
        causal=False,
        columns=(
            Column("accuracy", "accuracy.all", "percent", error="standard_error.all"),
            Column("middle", "accuracy.middle", "percent", error="standard_error.middle"),
            Column("high", "accuracy.high", "percent", error="standard_error.high"),
            Column("chance", "chance", "percent"),
            Column("passage left out", "blank_passage_accuracy.all", "percent"),
            Column("dev, median of seeds", "dev_median", "percent", spread="dev_spread"),
            Column("ensemble of seeds", "ensemble.accuracy.all", "percent"),
        ),
        published=Published(
            columns=("accuracy, %", "middle, %", "high, %"),
            rows=(
                ("BERT 336M", (83.0, 86.9, 81.5)),
                ("BERT 1.3B", (87.3, 90.4, 86.1)),
                ("BERT 3.9B", (89.5, 91.8, 88.6)),
                ("BERT 3.9B, ensemble", (90.9, None, None)),
                ("previous best, ensemble", (89.4, None, None)),
            ),
            place="table 5",
            paths=("accuracy.all", "accuracy.middle", "accuracy.high"),
        ),
        facts=lambda result: f"accuracy {result['accuracy']['all']:.1%}",
        bar=Bar("accuracy.all", {"chance": "chance", "passage left out": "blank_passage_accuracy.all"}),
        note="Test accuracy of the epoch and seed that are best on the development set; the control answers without the passage.",
        chosen_by="accuracy.all",
        submission=submission,
        labels=tuple(LETTERS),
        numbers=numbers,
        choices=len(LETTERS),
        errors=_errors,
    )
)
