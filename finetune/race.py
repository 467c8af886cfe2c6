"""RACE: answering four-option questions about passages (paper section 5.3).

Each option, after the question or in its gap, is one sequence with the passage; the largest of a question's four
scores is the answer. Not here: the data's format (`data_pipeline.benchmarks.race`), forms of sequences (`pairs`), the
model (`heads`) and training (`tuner`).
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.config import ModelConfig
from data_pipeline.benchmarks.race import LEVELS, OPTIONS, SPLITS, Split, read_split
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.pairs import SPECIAL_TOKENS, PairExamples, encode_texts
from finetune.program import Program
from recipes.records import (
    Bar,
    Column,
    FineTuning,
    Published,
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


class Race(Program):
    """RACE for one tokenizer and sequence length; reading checks all three splits."""

    def __init__(
        self, data: Path, tokenizer: Tokenizer, sequence_length: int, settings: FinetuningSettings
    ) -> None:
        self.splits = {name: read_split(data, name) for name in SPLITS}
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length

    @functools.lru_cache(maxsize=2)  # noqa: B019 - one program a process
    def examples(self, split: str) -> PairExamples:
        return encode_split(self.splits[split], self.tokenizer, self.sequence_length)

    def model(self, config: ModelConfig, mesh: "Mesh") -> "MultipleChoice":
        from finetune.heads import MultipleChoice

        return MultipleChoice(config, mesh, OPTIONS, "race")

    def on_dev(self, score: "Scorer") -> dict[str, Any]:
        return {"accuracy": score(self.examples("dev"), "dev", LEVELS).share}

    def result(self, score: "Scorer", controls: bool) -> dict[str, Any]:
        test = self.examples("test")
        on_test = score(test, "test", LEVELS)
        result: dict[str, Any] = {
            "accuracy": on_test.share,
            "correct": on_test.correct,
            "total": on_test.total,
            "standard_error": on_test.standard_error,
            "standard_error_over": f"{on_test.texts} passages",
            "chance": 1 / OPTIONS,
        }
        if controls:
            blank = score(test.without_seconds(), "no passages", LEVELS)
            result["blank_passage_accuracy"] = blank.share
        return result


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
            Column("dev, median of seeds", "dev_median", "percent"),
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
        ),
        facts=lambda result: f"accuracy {result['accuracy']['all']:.1%}",
        bar=Bar("accuracy.all", {"chance": "chance", "passage left out": "blank_passage_accuracy.all"}),
        note="Test accuracy of the epoch and seed that are best on the development set; the control answers without the passage.",
        chosen_by="accuracy.all",
        errors=_errors,
    )
)
