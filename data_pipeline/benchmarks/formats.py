"""Formats that several benchmarks have, written from the hub's rows: GLUE's TSV, JSON lines.

Not here: readers, which are their benchmarks'; the files of a single benchmark, which its module writes.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import atomic_write
from data_pipeline.benchmarks.benchmark import Rows
from data_pipeline.text_files import at_line

Row = Mapping[str, Any]
_BETWEEN_COLUMNS = re.compile(r"[\t\r\n]+")


def write_tsv(
    rows: Rows,
    target: Path,
    splits: Mapping[str, str],
    columns: Sequence[str],
    cells: Callable[[Row], Mapping[str, str]],
) -> None:
    """Write GLUE's files: a heading, then a row a line, no quoting; tabs and line ends within a text become a blank.

    Args:
        splits: the hub's name of each split, and that of its file in the folder `target`, without its suffix.
        columns: in order.
        cells: those of a row that are known, by column; the others are left empty.

    Raises:
        UserError: a row without its texts or label; the message names split and row.
    """
    for split, name in splits.items():
        with atomic_write(target / f"{name}.tsv") as temporary, temporary.open("w", encoding="utf-8") as out:
            out.write("\t".join(columns) + "\n")
            for number, row in enumerate(rows(split)):
                with at_line(number, f"{split}, ", "row"):
                    known = {"index": str(number), **cells(row)}
                line = [_BETWEEN_COLUMNS.sub(" ", known.get(column, "")) for column in columns]
                out.write("\t".join(line) + "\n")


def label_of(row: Row, names: Sequence[str]) -> str:
    """The name of a row's label, a number on the hub.

    Raises:
        UserError: it is none of them, such as the -1 of a row without one.
    """
    label = row.get("label")
    if not isinstance(label, int) or not 0 <= label < len(names):
        raise UserError(f'"label" must be a number from 0 to {len(names) - 1}, is {label!r}')
    return names[label]


def write_json_lines(
    rows: Rows, target: Path, splits: Sequence[str], record: Callable[[Row], Mapping[str, Any]]
) -> None:
    """Write a file of JSON lines for each split, `record` of each row.

    Raises:
        UserError: a row that `record` refuses; the message names split and row.
    """
    for split in splits:
        path = target / f"{split}.jsonl"
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as out:
            for number, row in enumerate(rows(split)):
                with at_line(number, f"{split}, ", "row"):
                    out.write(json.dumps(record(row), ensure_ascii=False) + "\n")
