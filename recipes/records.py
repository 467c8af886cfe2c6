"""What the packages on ranks can do, a record each: pretrainings, zero-shot evaluations, fine-tunings. No torch.

Recipes are checked against these registries, workflows make a stage of each record, reports a table, and the programs
a command. `pretrain`, `evaluate` and `finetune` add theirs when they are imported; a user's plug-in adds its own.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.registry import Registry

Form = Literal["number", "percent", "text"]
Table = Mapping[str, Sequence[Any]]
"""Columns of equal length, by name; a value is a number, a text, or a list of them."""


@dataclass(frozen=True)
class Column:
    """One column of a task's table in the report.

    Attributes:
        title: its head.
        path: of its value in the task's result, such as "accuracy.middle"; a missing one is shown as a dash.
        form: how the value is written; "percent" takes a share of 1.
        error: path of its standard error, which is written behind it.
        spread: path of the least and the most of several, which are written behind it.
    """

    title: str
    path: str
    form: Form = "number"
    error: str = ""
    spread: str = ""


@dataclass(frozen=True)
class Bar:
    """An accuracy and what it must be above, for the report's picture of accuracies: paths as in `Column`.

    Attributes:
        path: of the accuracy.
        baselines: of each baseline, by its name for people.
    """

    path: str
    baselines: Mapping[str, str]


@dataclass(frozen=True)
class Published:
    """The paper's numbers, beside which the report sets ours.

    Attributes:
        columns: their heads, with units.
        rows: (model, a number for each column or None).
        place: where in the paper; what has one place stands in one table.
        paths: of our value for each column, in a task's result; none where nothing of ours is the same measure.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    place: str
    paths: tuple[str, ...] = ()


SHAPE_COLUMNS = ("parameters, 10⁹", "layers", "hidden", "heads", "hidden a head", "devices")


@dataclass(frozen=True)
class Task:
    """What a zero-shot evaluation and a fine-tuning have in common.

    Attributes:
        name: of the command, of the stage's folder, and in results.
        title: for people: "WikiText-103".
        benchmark: the name of its data's record in `data_pipeline.benchmarks`.
        program: "module:name" of what computes it, imported when it runs.
        causal: which families it takes: causal ones, or those that read whole texts.
        columns: of its table in the report; the first is the headline number.
        published: the paper's numbers.
        facts: a result in a few words, for the console.
        bar: its accuracy in the report's picture; None where it has none.
        note: what the columns mean, in a sentence below the table's title.
        libraries: distributions that compute its numbers, besides torch and numpy; their versions are in its keys.
    """

    name: str
    title: str
    benchmark: str
    program: str
    causal: bool
    columns: tuple[Column, ...]
    published: Published | None
    facts: Callable[[Mapping[str, Any]], str]
    bar: Bar | None = None
    note: str = ""
    libraries: tuple[str, ...] = ()


def value_at(result: Mapping[str, Any], path: str) -> Any:
    """The value of a `Column`'s path, such as "accuracy.middle"; None where the result has none."""
    value: Any = result
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def best_of_seeds(
    runs: Mapping[str, Mapping[str, Any]], chosen_by: str, shown: str, lower_is_better: bool = False
) -> dict[str, Any]:
    """Several seeds as the paper reports them (section 5.3): the result of the run that is best on the development set,
    the first of equal ones, beside the median and the spread of the development set and what each seed reached.

    Args:
        runs: results by seed.
        chosen_by: path of the number on the development set, such as "dev.accuracy.all".
        shown: path of the headline number.
    """
    on_dev = {seed: value_at(runs[seed], chosen_by) for seed in sorted(runs)}
    best = (min if lower_is_better else max)(on_dev, key=lambda seed: on_dev[seed])
    name = chosen_by.split(".")[0]
    return {
        **runs[best],
        "seed": int(best),
        f"{name}_median": statistics.median(on_dev.values()),
        f"{name}_spread": [min(on_dev.values()), max(on_dev.values())],
        f"{name}_of_seeds": on_dev,
        "seeds": {seed: value_at(run, shown) for seed, run in sorted(runs.items())},
    }


def always_fits(settings: Any, config: Any, where: str) -> list[str]:
    """Nothing in the settings contradicts the model's shape."""
    return []


@dataclass(frozen=True)
class ZeroShot(Task):
    """An evaluation of a pretrained model as it is.

    Attributes:
        settings: the fields of `EvaluationSettings` that its numbers depend on, part of its key.
        errors: what in the settings does not fit a model: (EvaluationSettings, ModelConfig, where) → lines.
    """

    settings: tuple[str, ...] = ("precision",)
    errors: Callable[[Any, Any, str], list[str]] = always_fits


def fits_the_model(settings: Any, config: Any, where: str) -> list[str]:
    """A fine-tuning's inputs are no longer than the model reads."""
    if settings.sequence_length <= config.sequence_length:
        return []
    return [
        f"{where}.sequence_length: must be at most the model's, {config.sequence_length}, is {settings.sequence_length}"
    ]


@dataclass(frozen=True)
class FineTuning(Task):
    """A fine-tuning, one run a seed, and its evaluation.

    Attributes:
        combine: the results of all seeds, by seed, as one for the report; by default `best_of_seeds`.
        chosen_by: path of the number on the development set ("accuracy.all" in what the program's `on_dev` gives) by
            which the best epoch is chosen; empty where there is none, and the last one is taken.
        lower_is_better: as of a perplexity.
        submission: makes of a program's predictions, by split, files in the benchmark's official format: {name: text}.
        labels: of a prediction's "probabilities", in their order, where an ensemble of the seeds is to be made.
        numbers: what predictions, by split, are worth: of an ensemble.
        errors: what in the settings does not fit a model: (FinetuningSettings, ModelConfig, where) → lines.
        choices: sequences that the model reads for an example.
    """

    combine: Callable[[Mapping[str, Mapping[str, Any]]], dict[str, Any]] | None = None
    chosen_by: str = ""
    lower_is_better: bool = False
    submission: Callable[[Mapping[str, Table]], dict[str, str]] | None = None
    labels: tuple[str, ...] = ()
    numbers: Callable[[Mapping[str, Table]], dict[str, Any]] | None = None
    errors: Callable[[Any, Any, str], list[str]] = fits_the_model
    choices: int = 1

    @property
    def makes_ensembles(self) -> bool:
        return bool(self.labels and self.numbers)

    def of_seeds(self, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The results of all seeds, by seed, as one."""
        if self.combine:
            return self.combine(runs)
        if not self.chosen_by:
            return dict(runs[min(runs)])
        return best_of_seeds(runs, f"dev.{self.chosen_by}", self.columns[0].path, self.lower_is_better)


@dataclass(frozen=True)
class Pretraining:
    """How models of a family are pretrained.

    Attributes:
        family: the name of a record in `core.families`.
        title: the objective, for people: "next-token prediction".
        task: "module:class" of the trainer's task, imported when it runs.
        blends: whether it reads a blend of several corpora.
        perplexity: whether exp(loss) is the perplexity of a token.
        shapes: the paper's table of models: a row of `SHAPE_COLUMNS` for each.
        figure: the paper's figure of learning curves, for people.
        told_by: fields of a model's shape that the figure compares, such as "norm_order".
    """

    family: str
    title: str
    task: str
    blends: bool = False
    perplexity: bool = False
    shapes: Published | None = None
    figure: str = ""
    told_by: tuple[str, ...] = ()


PRETRAININGS: Registry[Pretraining] = Registry("pretraining")
ZERO_SHOT: Registry[ZeroShot] = Registry("zero-shot task")
FINE_TUNING: Registry[FineTuning] = Registry("fine-tuning task")


def add_zero_shot(record: ZeroShot) -> ZeroShot:
    """Make an evaluation known, under its name."""
    return ZERO_SHOT.add(record.name, record)


def add_fine_tuning(record: FineTuning) -> FineTuning:
    """Make a fine-tuning known, under its name."""
    return FINE_TUNING.add(record.name, record)
