"""GLUE's tasks on the hub, whose rows become GLUE's own files, and in the generated sample, which has MNLI and QQP."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import atomic_write
from data_pipeline.benchmarks.benchmark import Origin, Rows, Sample, text_of
from data_pipeline.sample.pairs import longer_texts, mnli_rows, qqp_rows
from data_pipeline.sample.text import Guard
from data_pipeline.sample.world import World
from data_pipeline.text_files import at_line

if TYPE_CHECKING:
    from data_pipeline.benchmarks.glue import GlueTask

_MNLI_COLUMNS = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
    "sentence1 sentence2 label1 gold_label"
)
_BETWEEN_COLUMNS = re.compile(r"[\t\r\n]+")
_UNSTATED = "not stated by its authors"
# Of each task: rows of train and of each part of the development set, and its data's licence.
_PUBLISHED: dict[str, tuple[tuple[int, ...], str]] = {
    "mnli": ((392_702, 9815, 9832), "OANC's (free of restrictions); parts CC BY 3.0 and CC BY-SA 3.0"),
    "qqp": ((363_846, 40_430), "Quora's terms: for non-commercial use only"),
    "qnli": ((104_743, 5463), "CC BY-SA 4.0"),
    "rte": ((2490, 277), _UNSTATED),
    "mrpc": ((3668, 408), "Microsoft Research's data licence: for research only"),
    "wnli": ((635, 71), _UNSTATED),
    "sst2": ((67_349, 872), _UNSTATED),
    "cola": ((8551, 1043), _UNSTATED),
}


def origin(task: "GlueTask", count: Callable[[Path], dict[str, Any]]) -> Origin:
    """Where a task is fetched. Its numbers are about the development set: the labels of the test set are not public."""
    counts, licence = _PUBLISHED[task.name]
    splits = ("train", *task.splits("dev").values())
    return Origin(
        "nyu-mll/glue",
        configuration=task.name,
        split="train",
        licence=licence,
        terms="cite GLUE and the task's authors",
        write=partial(write_rows, task),
        count=count,
        counts={split: {"examples": rows} for split, rows in zip(splits, counts, strict=True)},
        measured="dev",
    )


def write_rows(task: "GlueTask", rows: Rows, target: Path, tests: bool = True) -> None:
    """Write the hub's rows as the task's TSV files: no quoting; tabs and line ends within a text become a blank.

    Args:
        tests: whether there are test sets, which have no labels.

    Raises:
        UserError: a row without its texts or label; the message names split and row.
    """
    for kind in ("dev", "test")[: 1 + tests]:
        for name in task.splits(kind).values():
            _write_split(task, rows, target, name)
    _write_split(task, rows, target, "train")


def _write_split(task: "GlueTask", rows: Rows, target: Path, name: str) -> None:
    is_test, hub_name = name.startswith("test"), name.replace("dev", "validation", 1)
    names = (task.test_texts or task.texts) if is_test else task.texts
    columns = _columns(task, names, is_test)
    path = target / f"{name}.tsv"
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        if is_test or not task.columns:
            out.write("\t".join(columns) + "\n")
        for number, row in enumerate(rows(hub_name)):
            with at_line(number, f"{hub_name}, ", "row"):
                known = {"index": str(number), "id": str(number)}
                for column, hub_column in zip(names, task.hub_texts or task.texts, strict=True):
                    known[column] = _BETWEEN_COLUMNS.sub(" ", text_of(row, hub_column))
                if not is_test:
                    known[task.label] = _label(row, task.labels)
            out.write("\t".join(known.get(column, "") for column in columns) + "\n")


def _columns(task: "GlueTask", texts: Sequence[str], is_test: bool) -> Sequence[str]:
    """Of a task's files: all of MNLI's, whose numbers others rely on (8, 9, and the last), and QQP's (3, 4 and 5)."""
    if task.name == "mnli":
        columns = _MNLI_COLUMNS.split()
        return columns[: columns.index("sentence2") + 1] if is_test else columns
    if task.columns and not is_test:
        return task.columns
    between = ("qid1", "qid2") if task.name == "qqp" and not is_test else ()
    return (task.ids[0], *between, *texts, *(() if is_test else (task.label,)))


def _label(row: Mapping[str, Any], names: Sequence[str]) -> str:
    label = row.get("label")
    if not isinstance(label, int) or not 0 <= label < len(names):
        raise UserError(f'"label" must be a number from 0 to {len(names) - 1}, is {label!r}')
    return names[label]


def sample(task: "GlueTask") -> Sample | None:
    """How the generated sample writes a task; None of those that it does not have."""
    if task.name not in _SAMPLE_ROWS:
        return None
    return Sample(task.folder, partial(_write_sample, task), share=0.002, on_demand=True)


_SAMPLE_ROWS: dict[str, Callable[[World, int], dict[str, list[dict[str, Any]]]]] = {
    "mnli": mnli_rows,
    "qqp": qqp_rows,
}


def _write_sample(task: "GlueTask", folder: Path, world: World, guard: Guard, seed: int) -> list[str]:
    """Write training and development sets; returns the longer texts of the latter."""
    made = _SAMPLE_ROWS[task.name](world, seed)
    write_rows(task, made.__getitem__, folder, tests=False)
    texts = longer_texts(
        [row for name, rows in made.items() if name != "train" for row in rows],
        *(task.hub_texts or task.texts),
    )
    for text in texts:
        guard.add(text)
    return texts
