"""Data of summarization: articles and their summaries, a JSON object a line or a table's row a pair.

{train,validation,test}.jsonl, or the hub's tables (`test-00000-of-00001.parquet`), anywhere below the folder.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from data_pipeline.benchmarks.benchmark import Benchmark, BenchmarkText, add_benchmark, text_of
from data_pipeline.benchmarks.split_files import ROW_SUFFIXES, files_of_split, rows_of_files

SPLITS = ("train", "validation", "test")
LONGEST_SUMMARY_CHARACTERS = 10_000
_LARGEST_LEFT_OUT = 100  # rows, or 1 of 100
_SHOWN = 10


@dataclass(frozen=True)
class SummaryTask:
    """What a task's files hold.

    Attributes:
        name, title: as a benchmark's; its folder is called by the name.
        article, summary: the columns of the two texts.
        tokens: a generated summary has at most.
        shown: sentences of the article that the baseline takes, as many as such summaries have.
    """

    name: str
    title: str
    article: str
    summary: str
    tokens: int
    shown: int = 3


TASKS = {
    task.name: task
    for task in (
        SummaryTask("cnn_dailymail", "CNN/DailyMail", "article", "highlights", tokens=128),
        SummaryTask("xsum", "XSum", "document", "summary", tokens=60),
    )
}


@dataclass(frozen=True)
class Row:
    """An article and its summary, neither of them empty."""

    id: str
    article: str
    summary: str


@dataclass(frozen=True)
class Split:
    """The pairs of a split, and the places of the rows that were left out, by reason."""

    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """What was left out: how many rows, and the first of them, by reason."""
        return {
            reason: {"rows": len(places), "first": places[:_SHOWN]}
            for reason, places in self.left_out.items()
        }


def read_split(directory: Path, task: SummaryTask, name: str) -> Split:
    """Read one split.

    A row with an empty text, a summary that is none by its length, or an id that was there before is left out.

    Args:
        directory: the folder with the splits.
        name: one of `SPLITS`.

    Raises:
        UserError: there is no such split or it holds no pair, a file is damaged, a row has not its two texts, or more
            than 100 rows and 1 of 100 would be left out; the message names file and line.
    """
    directory = Path(directory)
    files = files_of_split(directory, {name}, ROW_SUFFIXES)
    if not files:
        raise UserError(
            f"{directory}: holds no {name}.jsonl, nor the hub's tables of this split; give the folder of {task.title}"
        )
    split = Split()
    seen: set[str] = set()
    for number, (where, row) in enumerate(rows_of_files(files)):
        try:
            pair = _pair(row, task, str(number))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if reason := _unusable(pair, seen):
            split.left_out.setdefault(reason, []).append(where.removeprefix(f"{directory}/"))
        else:
            split.rows.append(pair)
        seen.add(pair.id)
    check_left_out(split.rows, split.left_out, files[0])
    return split


def check_left_out(rows: list[Any], left_out: Mapping[str, list[str]], path: Path) -> None:
    """Refuse a split of which too much cannot be used.

    Raises:
        UserError: nothing is left, or more than 100 rows and 1 of 100 are left out.
    """
    reasons = "; ".join(f"{places[0]}: {reason}" for reason, places in left_out.items())
    count = sum(map(len, left_out.values()))
    if not rows:
        raise UserError(f"{path}: holds no row that can be used{f' ({reasons})' if reasons else ''}")
    if count > max(_LARGEST_LEFT_OUT, (len(rows) + count) // 100):
        raise UserError(f"{path}: {count} of {len(rows) + count} rows cannot be used, the first: {reasons}")


def _pair(row: Mapping[str, Any], task: SummaryTask, number: str) -> Row:
    identity = row.get("id")
    if identity is None:
        identity = number
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise UserError(f'"id" must be a string or a number, is {identity!r}')
    return Row(str(identity), text_of(row, task.article), text_of(row, task.summary))


def _unusable(pair: Row, seen: set[str]) -> str:
    """Why a pair is left out, or nothing."""
    if pair.id in seen:
        return "an id that was there before"
    if not pair.article.strip():
        return "an empty article"
    if not pair.summary.strip():
        return "an empty summary"
    if len(pair.summary) > LONGEST_SUMMARY_CHARACTERS:
        return f"a summary of more than {LONGEST_SUMMARY_CHARACTERS:,} characters"
    return ""


def _row_texts(task: SummaryTask, row: Any) -> Iterator[BenchmarkText]:
    yield BenchmarkText(text_of(row, task.article))
    yield BenchmarkText(text_of(row, task.summary))


def _record(task: SummaryTask) -> Benchmark:
    return Benchmark(
        name=task.name,
        title=task.title,
        file=task.name,
        suffix=".jsonl",
        row_texts=lambda row: _row_texts(task, row),
    )


for _task in TASKS.values():
    add_benchmark(_record(_task))
