"""GLUE's tasks on the hub, whose rows become GLUE's own files, and in the generated sample, which has MNLI and QQP."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import atomic_write
from data_pipeline.benchmarks.benchmark import Origin, Rows, Sample, text_of
from data_pipeline.benchmarks.glue_tasks import GlueTask, SampleRows
from data_pipeline.sample.pairs import longer_texts
from data_pipeline.sample.text import Guard
from data_pipeline.sample.world import World
from data_pipeline.text_files import at_line

_BETWEEN_COLUMNS = re.compile(r"[\t\r\n]+")


def origin(task: GlueTask, count: Callable[[Path], dict[str, Any]]) -> Origin:
    """Where a task is fetched. Its numbers are about the development set: the labels of the test set are not public."""
    splits = ("train", *task.splits("dev").values())
    return Origin(
        "nyu-mll/glue",
        configuration=task.name,
        split="train",
        licence=task.licence,
        terms="cite GLUE and the task's authors",
        write=partial(write_rows, task),
        count=count,
        counts={split: {"examples": rows} for split, rows in zip(splits, task.published, strict=True)},
        measured="dev",
    )


def write_rows(task: GlueTask, rows: Rows, target: Path, tests: bool = True) -> None:
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


def _write_split(task: GlueTask, rows: Rows, target: Path, name: str) -> None:
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


def _columns(task: GlueTask, texts: Sequence[str], is_test: bool) -> Sequence[str]:
    """Of a task's files."""
    head = task.test_head if is_test else task.columns or task.head
    return head or (task.ids[0], *texts, *(() if is_test else (task.label,)))


def _label(row: Mapping[str, Any], names: Sequence[str]) -> str:
    label = row.get("label")
    if not isinstance(label, int) or not 0 <= label < len(names):
        raise UserError(f'"label" must be a number from 0 to {len(names) - 1}, is {label!r}')
    return names[label]


def sample(task: GlueTask) -> Sample | None:
    """How the generated sample writes a task; None of those that it does not have."""
    if task.sample is None:
        return None
    return Sample(task.folder, partial(_write_sample, task, task.sample), share=0.002, on_demand=True)


def _write_sample(
    task: GlueTask, rows_of: SampleRows, folder: Path, world: World, guard: Guard, seed: int
) -> list[str]:
    """Write training and development sets; returns the longer texts of the latter."""
    made = rows_of(world, seed)
    write_rows(task, made.__getitem__, folder, tests=False)
    texts = longer_texts(
        [row for name, rows in made.items() if name != "train" for row in rows],
        *(task.hub_texts or task.texts),
    )
    for text in texts:
        guard.add(text)
    return texts
