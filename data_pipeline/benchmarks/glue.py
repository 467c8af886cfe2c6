"""GLUE's classification tasks: one sentence or two, and a label. What each task's files hold says `glue_tasks`.

Files are GLUE's own (`train.tsv`, `dev.tsv`, `test.tsv`: fields between tabs, and no quoting, so that `"` is text), or the
hub's (`nyu-mll/glue`: a table or JSON lines a split, labels as numbers from 0 in the order of `GlueTask.labels`, -1 for none).
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from data_pipeline.benchmarks import glue_origins
from data_pipeline.benchmarks.benchmark import Benchmark, BenchmarkText, add_benchmark, text_of
from data_pipeline.benchmarks.glue_tasks import TASKS, GlueTask
from data_pipeline.benchmarks.split_files import ROW_SUFFIXES, files_of_split, rows_of_files
from data_pipeline.benchmarks.splits import LARGEST_LEFT_OUT, SHOWN, Split
from data_pipeline.text_files import name_of, read_text

NO_LABEL = -1  # of a row of a test set
_TSV = ".tsv"
_EMPTY = "a text is empty"
_NOT_AGREED = "-"  # where the annotators did not agree on a label


@dataclass(frozen=True)
class Row:
    """One example: an id, its sentences, and the number of its label or `NO_LABEL`."""

    id: str
    texts: tuple[str, ...]
    label: int


class _LeftOutError(UserError):
    """A row that is no example; the message is the reason."""


class _BrokenRowError(UserError):
    """A row that is not as its file says: an error, or left out where the published file has such rows."""


def read_splits(directory: Path, task: GlueTask) -> dict[str, Split[Row]]:
    """The training and development sets, and those test sets that are there; see `read_split`."""
    tests = [name for name in task.splits("test").values() if _files(Path(directory), task, name)]
    names = ("train", *task.splits("dev").values(), *tests)
    return {name: read_split(directory, task, name) for name in names}


def _files(directory: Path, task: GlueTask, name: str) -> list[Path]:
    """Of a copy of all of GLUE only the task's folder is looked at, by GLUE's name or the hub's."""
    own = (directory / folder for folder in (task.folder, task.name))
    directory = next((folder for folder in own if folder.is_dir()), directory)
    names = {name, name.replace("dev", "validation", 1)}
    return files_of_split(directory, names, (_TSV, *ROW_SUFFIXES))


def read_split(directory: Path, task: GlueTask, name: str) -> Split[Row]:
    """Read one split, GLUE's file or the hub's.

    Args:
        directory: the folder with the splits.
        name: "train", or one of `GlueTask.splits`.

    Raises:
        UserError: there is no such split or it holds no examples, a file is damaged, or a row is broken (of a tolerant
            task more than 100 and 1 of 100 are); the message names file and line.
    """
    directory = Path(directory)
    files = _files(directory, task, name)
    if not files:
        raise UserError(
            f"{directory}: holds no {name}.tsv, nor the hub's tables of this split; give the folder {task.folder} of GLUE, "
            "or the hub's files"
        )
    is_test = name.startswith("test")
    if name_of(files[0]).suffix == _TSV:
        rows = _tsv_rows(files[0], task, is_test)
    else:
        rows = _hub_rows(files, task, is_test)
    split = _collected(rows, task, files[0].parent)
    if not split.rows:
        raise UserError(f"{files[0]}: holds no examples")
    if name != "train":
        _check_ids(split, files[0])
    return split


def _collected(rows: Iterable[tuple[str, Callable[[], Row]]], task: GlueTask, folder: Path) -> Split[Row]:
    """All rows of files in a folder, each with its place there and what reads it."""
    split: Split[Row] = Split()
    broken: list[str] = []
    for where, read in rows:
        try:
            split.rows.append(read())
        except _LeftOutError as reason:
            split.left_out.setdefault(str(reason), []).append(where)
        except _BrokenRowError as error:
            broken.append(f"{where}: {error}")
    if broken:
        allowed = max(LARGEST_LEFT_OUT, (len(split.rows) + len(broken)) // 100) if task.tolerant else 0
        if len(broken) > allowed:
            more = [f"… and {len(broken) - SHOWN} more"] if len(broken) > SHOWN else []
            raise UserError("\n".join([*(f"{folder}/{place}" for place in broken[:SHOWN]), *more]))
        split.left_out["broken"] = broken
    return split


def _check_ids(split: Split[Row], path: Path) -> None:
    """Predictions are told by their ids."""
    seen: set[str] = set()
    for row in split.rows:
        if row.id in seen:
            raise UserError(f"{path}: two rows have the id {row.id}")
        seen.add(row.id)


def _tsv_rows(path: Path, task: GlueTask, is_test: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The rows of GLUE's own file, which end at "\\n" alone."""
    lines = read_text(path).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    columns: list[str] = list(task.columns)
    start = 1
    if is_test or not columns:
        if not lines:
            raise UserError(f"{path}: is empty")
        columns = lines[0].rstrip("\r").split("\t")
        start = 2
        del lines[0]
    wanted = (task.test_texts or task.texts) if is_test else (*task.texts, task.label)
    if missing := [name for name in wanted if name not in columns]:
        raise UserError(
            f"{path}: has no column {', '.join(missing)}, only {', '.join(columns[:SHOWN])}; is it {task.title}'s?"
        )
    places = {name: place for place, name in enumerate(columns)}
    for number, line in enumerate(lines, start):
        last = number == start + len(lines) - 1
        fields = line.rstrip("\r").split("\t")
        where = f"{path.name}, line {number}"
        if last and len(fields) < len(columns):
            raise UserError(
                f"{path}, line {number}: the file is cut off, {_fields(fields, columns)}; fetch it again"
            )
        yield where, functools.partial(_tsv_row, task, fields, columns, places, number - start, is_test)


def _fields(fields: list[str], columns: list[str]) -> str:
    return f"{len(fields)} fields where {len(columns)} are named"


def _tsv_row(
    task: GlueTask,
    fields: list[str],
    columns: list[str],
    places: Mapping[str, int],
    number: int,
    is_test: bool,
) -> Row:
    if len(fields) != len(columns):
        raise _BrokenRowError(_fields(fields, columns))
    names = (task.test_texts or task.texts) if is_test else task.texts
    ids = [fields[places[name]] for name in task.ids if name in places]
    label = NO_LABEL if is_test else _label_of(task, fields[places[task.label]])
    return _row(task, ids[0] if ids else str(number), [fields[places[name]] for name in names], label)


def _hub_rows(files: list[Path], task: GlueTask, is_test: bool) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The rows of the hub's files; their ids are their numbers from 0, which are those of GLUE's test files."""
    for number, (where, row) in enumerate(rows_of_files(files)):
        yield (
            where.removeprefix(f"{files[0].parent}/"),
            functools.partial(_hub_row, task, row, number, is_test),
        )


def _hub_row(task: GlueTask, row: Mapping[str, Any], number: int, is_test: bool) -> Row:
    texts = []
    for name in task.hub_texts or task.texts:
        value = row.get(name)
        if not isinstance(value, str):
            raise _BrokenRowError(f'must have a string "{name}"')
        texts.append(value)
    label = row.get("label")
    if is_test:
        label = NO_LABEL
    elif isinstance(label, str):
        label = _label_of(task, label)
    elif label == NO_LABEL:
        raise _LeftOutError("no agreed label")
    elif isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(task.labels):
        raise _BrokenRowError(f'"label" must be a number from 0 to {len(task.labels) - 1}, is {label!r}')
    return _row(task, str(number), texts, label)


def _label_of(task: GlueTask, label: str) -> int:
    if label == _NOT_AGREED:
        raise _LeftOutError("no agreed label")
    if label not in task.labels:
        raise _BrokenRowError(f"the label must be one of {', '.join(task.labels)}, is {label!r}")
    return task.labels.index(label)


def _row(task: GlueTask, identity: str, texts: list[str], label: int) -> Row:
    if not all(text.strip() for text in texts):
        raise (_LeftOutError if task.tolerant else _BrokenRowError)("a text is empty")
    return Row(identity, tuple(texts), label)


def _texts(task: GlueTask, content: str) -> Iterator[BenchmarkText]:
    """For decontamination: the sentences of a file of GLUE's."""
    lines = content.split("\n")
    head = lines[0].rstrip("\r").split("\t")
    names = next((n for n in (task.texts, task.test_texts or ()) if n and set(n) <= set(head)), None)
    if names is None and task.columns:
        head, names = list(task.columns), task.texts
    elif names is None:
        raise UserError(f"has no column {', '.join(task.texts)}")
    else:
        lines = lines[1:]
    places = [head.index(name) for name in names]
    for line in lines:
        fields = line.rstrip("\r").split("\t")
        if len(fields) == len(head):
            yield from (BenchmarkText(fields[place]) for place in places)


def _row_texts(task: GlueTask, row: Mapping[str, Any]) -> list[BenchmarkText]:
    return [BenchmarkText(text_of(row, name)) for name in task.hub_texts or task.texts]


def _count(task: GlueTask, directory: Path) -> dict[str, Any]:
    """Examples of training and development sets, those included that have no text: the hub counts them."""
    splits = {name: read_split(directory, task, name) for name in ("train", *task.splits("dev").values())}
    return {
        name: {"examples": len(split.rows) + len(split.left_out.get(_EMPTY, ()))}
        for name, split in splits.items()
    }


for _task in TASKS.values():
    add_benchmark(
        Benchmark(
            name=_task.name,
            title=_task.title,
            file=_task.folder,
            suffix=_TSV,
            texts=functools.partial(_texts, _task),
            row_texts=functools.partial(_row_texts, _task),
            origin=glue_origins.origin(_task, functools.partial(_count, _task)),
            sample=glue_origins.sample(_task),
        )
    )
