"""Where the splits of a benchmark are in a folder, and their rows in the hub's layout: a table or JSON lines a split,
perhaps in several files (`validation-00000-of-00002.parquet`), perhaps in folders of configurations."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from core.errors import UserError
from core.files import atomic_write
from data_pipeline.benchmarks.benchmark import Rows
from data_pipeline.text_files import at_line, files_below, half_pair, json_lines, name_of, read_text

ROW_SUFFIXES = (".parquet", ".jsonl")
_PART = re.compile(r"-\d{5}-of-\d{5}")


def files_of_split(folder: Path, names: Iterable[str], suffixes: Iterable[str]) -> list[Path]:
    """The files below a folder that hold a split, in order.

    Args:
        names: of the split: `dev`, and the hub's `validation`.
        suffixes: without a compression's.

    Raises:
        UserError: no such folder, its parts are not all there, or it is there twice; the message names the files.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names, suffixes = set(names), set(suffixes)
    found: dict[Path, list[Path]] = {}  # by what is one split: the path without the number of its part
    for path in files_below(folder):
        stem = path.name.split(".")[0]
        if _PART.sub("", stem) in names and name_of(path).suffix in suffixes:
            found.setdefault(path.with_name(_PART.sub("", path.name)), []).append(path)
    if len(found) > 1:
        listed = ", ".join(str(files[0]) for files in found.values())
        raise UserError(f"{folder}: holds the split {min(names)} more than once: {listed}; leave one of them")
    files = next(iter(found.values()), [])
    for path in files:
        parts = re.search(r"-of-(\d{5})$", path.name.split(".")[0])
        if parts and len(files) != int(parts[1]):
            raise UserError(f"{path}: one of {int(parts[1])} parts, of which {len(files)} are here")
    return files


def rows_of_files(files: Iterable[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of tables or JSON lines, each with its place for messages: "FILE, row 3".

    Raises:
        UserError: a file is damaged, or a row is none or holds half a character; the message names both.
    """
    for path in files:
        if name_of(path).suffix == ".parquet":
            yield from _table_rows(path)
            continue
        where = f"{path}, "
        for number, row in json_lines(read_text(path), where):
            with at_line(number, where):
                _check_row(row)
            yield f"{where}line {number}", row


def _table_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from data_pipeline.sources.formats import raw_records
    except ImportError as error:  # a bare machine for training
        raise UserError(
            f"{path}: reading it needs the package {error.name}: pip install {error.name}"
        ) from error
    try:
        for record in raw_records(path):
            if record.problem:
                raise UserError(f"row {record.number}: {record.problem}")
            yield f"{path}, row {record.number}", cast(Mapping[str, Any], record.content)
    except UserError as error:
        raise UserError(f"{path}, {error}") from error


def _check_row(row: Any) -> None:
    if not isinstance(row, dict):
        raise UserError("must be a JSON object")
    for name, value in row.items():
        if isinstance(value, str) and (place := half_pair(value)) is not None:
            raise UserError(f"{name!r}: half a surrogate pair at character {place}")


def write_json_lines(
    rows: Rows, folder: Path, splits: Iterable[str], record: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> None:
    """Write the hub's rows as a file of JSON lines a split.

    Args:
        record: what is written of a row; a `UserError` says what is wrong with it.

    Raises:
        UserError: with split and row.
    """
    for split in splits:
        path = Path(folder) / f"{split}.jsonl"
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as out:
            for number, row in enumerate(rows(split)):
                with at_line(number, f"{split}, ", "row"):
                    out.write(json.dumps(record(row), ensure_ascii=False) + "\n")
