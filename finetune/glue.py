"""GLUE's classification tasks: the label of a sentence, or of a pair (the paper's MNLI and QQP, section 5.3 and table 5).

A task's numbers are about the development set, as the paper's are: the test set's labels are not published; predictions
for it are written as the official evaluation takes them. Not here: files and labels (`data_pipeline.benchmarks.glue`),
the model (`heads`) and training (`tuner`).
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.config import ModelConfig
from data_pipeline.benchmarks.glue import NO_LABEL, Row, read_splits
from data_pipeline.benchmarks.glue_tasks import TASKS, GlueTask
from data_pipeline.benchmarks.splits import Split
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.metrics import METRICS, confusion, named_confusion
from finetune.pairs import SPECIAL_TOKENS, PairExamples, cut_pairs, encode_texts
from finetune.program import Program
from recipes.records import Bar, Column, FineTuning, Form, Published, Table, add_fine_tuning, fits_the_model
from recipes.schema import FinetuningSettings

if TYPE_CHECKING:
    from core.parallel.mesh import Mesh
    from finetune.heads import Classification, Scorer

_SHORTEST_SEQUENCE = SPECIAL_TOKENS + 5
_ALL = "all"  # the part of a development set that has one


def encode_split(
    task: GlueTask, split: Split[Row], tokenizer: Tokenizer, sequence_length: int
) -> PairExamples:
    """All examples; each text is encoded once, however often it is there."""
    room = sequence_length - SPECIAL_TOKENS
    single = len(task.texts) == 1
    texts = list(dict.fromkeys(text for row in split.rows for text in row.texts))
    encoded = dict(zip(texts, encode_texts(texts, tokenizer, room + single), strict=True))
    firsts = [encoded[row.texts[0]] for row in split.rows]
    seconds = [np.empty(0, np.int32)]
    if not single:
        firsts, seconds = cut_pairs(firsts, [encoded[row.texts[1]] for row in split.rows], room)
    return PairExamples(
        choices=1,
        firsts=firsts,
        seconds=seconds,
        second_of=np.zeros(len(split.rows), int) if single else np.arange(len(split.rows)),
        answers=np.array([max(row.label, 0) for row in split.rows]),  # a test set's are never looked at
        groups=np.array([_ALL] * len(split.rows)),
        tokenizer=tokenizer,
        sequence_length=sequence_length,
        single=single,
    )


class Glue(Program):
    """A task of GLUE's for one tokenizer and sequence length."""

    def __init__(
        self,
        task: GlueTask,
        data: Path,
        tokenizer: Tokenizer,
        sequence_length: int,
        settings: FinetuningSettings,
    ) -> None:
        self.task = task
        self.splits = read_splits(data, task)
        self.tokenizer, self.sequence_length = tokenizer, sequence_length
        self._scored: dict[str, np.ndarray] = {}  # probabilities by split, of the model that is best

    @functools.lru_cache(maxsize=4)  # noqa: B019 - one program a process
    def examples(self, split: str) -> PairExamples:
        return encode_split(self.task, self.splits[split], self.tokenizer, self.sequence_length)

    def model(self, config: ModelConfig, mesh: "Mesh") -> "Classification":
        from finetune.heads import Classification

        return Classification(config, mesh, len(self.task.labels), self.task.name)

    def on_dev(self, score: "Scorer") -> dict[str, Any]:
        tables = {split: self._table(split, self._score(score, split)) for split in self._dev.values()}
        return metrics(self.task, tables)

    def result(self, score: "Scorer", controls: bool) -> dict[str, Any]:
        self._scored = {split: self._score(score, split) for split in self.splits if split != "train"}
        found = numbers(self.task, self.predictions(score))
        totals = {
            part: np.array([sum(row.values()) for row in matrix.values()])
            for part, matrix in found["confusion"].items()
        }
        result = {
            **found,
            "standard_error": {part: self._standard_error(split) for part, split in self._dev.items()},
            "standard_error_over": "first sentences" if len(self.task.texts) > 1 else "sentences",
            "chance": 1 / len(self.task.labels),
            "majority": {part: float(count.max() / count.sum()) for part, count in totals.items()},
            "left_out": {name: split.report() for name, split in self.splits.items() if split.left_out},
        }
        if controls and len(self.task.texts) > 1:
            blind = {
                split: self._table(split, self._score(score, split, "first text left out"))
                for split in self._dev.values()
            }
            result["second_text_only"] = metrics(self.task, blind)
        return result

    def predictions(self, score: "Scorer") -> dict[str, Table]:
        return {split: self._table(split, probabilities) for split, probabilities in self._scored.items()}

    @property
    def _dev(self) -> dict[str, str]:
        return dev_splits(self.task)

    def _score(self, score: "Scorer", split: str, control: str = "") -> np.ndarray:
        """[examples, labels] probabilities, with a control of examples without their first texts."""
        examples = self.examples(split)
        if control:
            return score.probabilities(
                examples.without_firsts(), f"{split}, {control}", len(self.task.labels)
            )
        return score.probabilities(examples, split, len(self.task.labels))

    def _standard_error(self, split: str) -> float | None:
        """Of the accuracy; examples with the same first text are not independent."""
        from core.evaluation import ratio_standard_error  # torch, which workflows do without

        right = self._scored[split].argmax(axis=1) == self.examples(split).answers
        _, groups = np.unique([row.texts[0] for row in self.splits[split].rows], return_inverse=True)
        return ratio_standard_error(right.astype(float), np.ones(len(right)), groups)

    def _table(self, split: str, probabilities: np.ndarray) -> Table:
        rows, labels = self.splits[split].rows, self.task.labels
        return {
            "id": [row.id for row in rows],
            "answer": [None if row.label == NO_LABEL else labels[row.label] for row in rows],
            "prediction": [labels[place] for place in probabilities.argmax(axis=1)],
            "probabilities": probabilities.tolist(),
        }


def dev_splits(task: GlueTask) -> dict[str, str]:
    """The development set's splits by what their numbers are called."""
    return {part or _ALL: split for part, split in task.splits("dev").items()}


def _confusions(task: GlueTask, predictions: Mapping[str, Table]) -> dict[str, np.ndarray]:
    """Of the development set, by part."""

    def numbered(split: str, column: str) -> np.ndarray:
        return np.array([task.labels.index(label) for label in predictions[split][column]])

    return {
        part: confusion(numbered(split, "answer"), numbered(split, "prediction"), len(task.labels))
        for part, split in dev_splits(task).items()
    }


def metrics(task: GlueTask, predictions: Mapping[str, Table]) -> dict[str, Any]:
    """The official metrics and the accuracy on the development set, each by part."""
    found = _confusions(task, predictions)
    return {
        metric: {part: METRICS[metric](matrix) for part, matrix in found.items()}
        for metric in dict.fromkeys((*task.metrics, "accuracy"))
    }


def numbers(task: GlueTask, predictions: Mapping[str, Table]) -> dict[str, Any]:
    """The same with what it is made of."""
    found = _confusions(task, predictions)
    return {
        **metrics(task, predictions),
        "correct": {part: int(matrix.trace()) for part, matrix in found.items()},
        "total": {part: int(matrix.sum()) for part, matrix in found.items()},
        "confusion": {part: named_confusion(matrix, task.labels) for part, matrix in found.items()},
    }


def submission(task: GlueTask, predictions: Mapping[str, Table]) -> dict[str, str]:
    """The predictions for the test sets as GLUE's evaluation takes them: a file a test set."""
    files = {}
    for name, split in zip(task.submissions, task.splits("test").values(), strict=True):
        if split in predictions:
            rows = zip(*(predictions[split][key] for key in ("id", "prediction")), strict=True)
            lines = ["index\tprediction", *(f"{index}\t{label}" for index, label in rows)]
            files[name] = "\n".join(lines) + "\n"
    return files


def _errors(settings: Any, config: Any, where: str) -> list[str]:
    if (settings.sequence_length or config.sequence_length) < _SHORTEST_SEQUENCE:
        return [
            f"{where}.sequence_length: must be {_SHORTEST_SEQUENCE} or more for two texts, is "
            f"{settings.sequence_length} with a model of {config.sequence_length}"
        ]
    return fits_the_model(settings, config, where)


# The paper's table 5, on the development sets.
_PUBLISHED = {
    "mnli": Published(
        columns=("matched, %", "mismatched, %"),
        rows=(
            ("BERT 336M", (89.7, 90.0)),
            ("BERT 1.3B", (90.9, 91.0)),
            ("BERT 3.9B", (91.4, 91.4)),
        ),
        place="table 5",
        paths=("accuracy.matched", "accuracy.mismatched"),
    ),
    "qqp": Published(
        columns=("accuracy, %",),
        rows=(("BERT 336M", (92.3,)), ("BERT 1.3B", (92.6,)), ("BERT 3.9B", (92.7,))),
        place="table 5",
        paths=("accuracy.all",),
    ),
}
_TITLES = {"accuracy": "accuracy", "f1": "F1", "matthews": "Matthews' correlation"}


def _record(task: GlueTask) -> FineTuning:
    """What the report and the tuner have to know of a task."""
    parts = [part or _ALL for part in task.parts]
    headline = f"{task.metrics[0]}.{parts[0]}"
    columns = [
        Column(
            f"{_TITLES[metric]}{'' if part == _ALL else f', {part}'}",
            f"{metric}.{part}",
            "number" if metric == "matthews" else "percent",
            error=f"standard_error.{part}" if metric == "accuracy" else "",
        )
        for metric in task.metrics
        for part in parts
    ]
    form: Form = "number" if task.metrics[0] == "matthews" else "percent"
    columns += [
        Column("most frequent label", f"majority.{parts[0]}", "percent"),
        Column("median of seeds", "dev_median", form, spread="dev_spread"),
        Column("ensemble of seeds", f"ensemble.{headline}", form),
    ]
    accuracy = f"accuracy.{parts[0]}"
    baselines = {"most frequent label": f"majority.{parts[0]}"}
    if len(task.texts) > 1:
        blind = Column("second text only", f"second_text_only.{accuracy}", "percent")
        columns.insert(-2, blind)
        baselines["second text only"] = blind.path
    return FineTuning(
        name=task.name,
        title=task.title,
        benchmark=task.name,
        program=f"finetune.glue:{task.name}",
        causal=False,
        columns=tuple(columns),
        published=_PUBLISHED.get(task.name),
        facts=lambda result: f"accuracy {result['accuracy'][parts[0]]:.1%}",
        bar=Bar(accuracy, baselines),
        note="On the development set, of the epoch and seed that are best there.",
        chosen_by=headline,
        submission=functools.partial(submission, task),
        labels=task.labels,
        numbers=functools.partial(numbers, task),
        errors=_errors,
    )


def __getattr__(name: str) -> Any:
    """The program of a task by the task's name, which its record names."""
    if name in TASKS:
        return functools.partial(Glue, TASKS[name])
    raise AttributeError(name)


for _task in TASKS.values():
    add_fine_tuning(_record(_task))
