"""Formats of source files: the raw records of JSON, text, CSV and Parquet files, plain or compressed.

Files are streamed: what is in memory at a time is one record, or one batch of Parquet rows. Names, compression and lines
are `data_pipeline.text_files`' part. What a record must hold to become a document, and what happens to bad ones, lives in
`records`; which files are read, in `local`.
"""

import csv
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import UserError
from data_pipeline import text_files
from data_pipeline.settings import MAXIMUM_RECORD_BYTES
from data_pipeline.sources.json_values import JsonError, json_layout, json_values
from data_pipeline.sources.raw_records import EXCERPT_BYTES, RawRecord, too_long
from data_pipeline.text_files import (
    BYTE_ORDER_MARK,
    COMPRESSIONS,
    check_content,
    half_pair,
    name_of,
    numbered_lines,
    open_decompressed,
    skip_line,
)

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".txt": "txt",
    ".csv": "csv",
    ".parquet": "parquet",
}
_PARQUET_BATCH_ROWS = 64
_BUFFER_BYTES = 1 << 16
_SKIPPED_AT_ONCE = 1 << 20
# What the decoders raise at a damaged file.
DAMAGE = (*text_files.DAMAGE, pa.ArrowException)


class DamagedFileError(UserError):
    """A file ends too early or holds what its format does not allow; the message is the decoder's."""


class ColumnError(UserError):
    """A table without the column of the texts; the message names the columns there are."""


class _RecordTooLongError(Exception):
    """The lines of one CSV record exceed the maximum."""


def kind_of(path: Path) -> str:
    """What a file holds, a value of `KINDS`, by its name without a compression's suffix; empty for any other."""
    return KINDS.get(name_of(path).suffix, "")


def place_name(path: Path) -> str:
    """What the numbers of a file's records count."""
    return {"parquet": "row", "json": "record"}.get(kind_of(path), "line")


def known_suffixes() -> str:
    """The names that files are read by, for messages."""
    return f"{', '.join(KINDS)}, plain or with {', '.join(COMPRESSIONS)}"


def raw_records(
    path: Path,
    *,
    text_field: str = "text",
    maximum_record_bytes: int = MAXIMUM_RECORD_BYTES,
    row_groups: range | None = None,
) -> Iterator[RawRecord]:
    """The records of a file in order. Blank lines have the content b"".

    Args:
        path: a file that `kind_of` knows.
        text_field: the column that tables must have; "" for none.
        maximum_record_bytes: longer records are skipped, and reported by their `problem`.
        row_groups: of a Parquet file, read only these.

    Raises:
        DamagedFileError: the file is cut off, corrupt, or not of its format; after the records before the damage.
        ColumnError: a table without the column.
        UnreadableFileError: the name says another format than the content, or a tool is missing.
    """
    kind = kind_of(path)
    try:
        if kind == "parquet":
            yield from _parquet_rows(path, text_field, maximum_record_bytes, row_groups)
            return
        check_content(path)
        layout = _json_layout(path, maximum_record_bytes) if kind == "json" else "lines"
        with open_decompressed(path) as stream:
            if kind == "txt":
                yield _whole_file(stream, maximum_record_bytes)
            elif kind == "csv":
                yield from _csv_rows(stream, text_field, maximum_record_bytes)
            elif layout == "lines":
                yield from _lines(stream, maximum_record_bytes)
            else:
                yield from json_values(stream, maximum_record_bytes, in_list=layout == "list")
    except (JsonError, *DAMAGE) as error:
        raise DamagedFileError(str(error) or type(error).__name__) from error


def _json_layout(path: Path, maximum: int) -> str:
    with open_decompressed(path) as stream:
        return json_layout(stream, maximum)


def _whole_file(stream: BinaryIO, maximum: int) -> RawRecord:
    content = stream.read(len(BYTE_ORDER_MARK) + maximum + 1).removeprefix(BYTE_ORDER_MARK)
    if len(content) <= maximum:
        return RawRecord(1, b"" if content.isspace() else content)
    while stream.read(_SKIPPED_AT_ONCE):  # to its end, where damage shows
        pass
    return RawRecord(1, content[:EXCERPT_BYTES], too_long(maximum))


def _lines(stream: BinaryIO, maximum: int) -> Iterator[RawRecord]:
    for number, line in numbered_lines(stream, maximum):
        if len(line) > maximum:
            yield RawRecord(number, line[:EXCERPT_BYTES], too_long(maximum))
        else:
            yield RawRecord(number, line if not line.isspace() else b"")


class _CsvLines:
    """Lines for the csv module, which raise when a record's lines grow too long. (No generator: those end then.)

    Bytes that are no UTF-8 become lone surrogates, so that only the record with them is bad.
    """

    def __init__(self, stream: BinaryIO, maximum: int) -> None:
        self.stream = stream
        self.maximum = maximum
        self.number = 0
        self.start_record()

    def start_record(self) -> None:
        self.size = 0
        self.excerpt = b""

    def __iter__(self) -> "_CsvLines":
        return self

    def __next__(self) -> str:
        line = self.stream.readline(self.maximum + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.size += len(line)
        self.excerpt = self.excerpt or line[:EXCERPT_BYTES]
        if self.size > self.maximum:
            skip_line(self.stream, line)
            raise _RecordTooLongError(too_long(self.maximum))
        return line.decode("utf-8-sig" if self.number == 1 else "utf-8", "surrogateescape")


def _csv_rows(stream: BinaryIO, text_field: str, maximum: int) -> Iterator[RawRecord]:
    """Rows as fields by the names in the first row; a bad row ends with its line, or where its quotes close."""
    csv.field_size_limit(maximum)  # of the process, there is no other
    lines = _CsvLines(stream, maximum)
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, [])
    except (csv.Error, _RecordTooLongError) as error:
        raise DamagedFileError(f"no row of column names: {error}") from error
    if text_field and text_field not in header:
        raise ColumnError(f"no column {text_field!r}, only {header[:10]}")
    while True:
        lines.start_record()
        first = lines.number + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, _RecordTooLongError) as error:
            yield RawRecord(first, lines.excerpt, f"not CSV in lines {first} to {lines.number}: {error}")
            continue
        if not row:
            yield RawRecord(first, b"")
        elif len(row) != len(header):
            problem = f"{len(row)} fields, but the first row names {len(header)} columns"
            yield RawRecord(first, lines.excerpt, problem)
        elif any(half_pair(field) is not None for field in row):
            yield RawRecord(first, lines.excerpt, "invalid UTF-8")
        else:
            yield RawRecord(first, dict(zip(header, row, strict=True)))


def parquet_row_groups(path: Path) -> list[int]:
    """Bytes of each row group of a Parquet file; empty when its footer cannot be read."""
    try:
        with pq.ParquetFile(path) as table:
            groups = range(table.metadata.num_row_groups)
            return [table.metadata.row_group(group).total_byte_size for group in groups]
    except DAMAGE:
        return []


def _parquet_rows(path: Path, text_field: str, maximum: int, groups: range | None) -> Iterator[RawRecord]:
    with tempfile.TemporaryFile() as unpacked:
        source: Any = path
        if name_of(path).compression:  # the format is read from its end, which a compressed stream has not
            with open_decompressed(path) as stream:
                shutil.copyfileobj(stream, unpacked, _SKIPPED_AT_ONCE)
            source = unpacked
        with pq.ParquetFile(
            source, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
        ) as table:
            if text_field and text_field not in table.schema_arrow.names:
                raise ColumnError(f"no column {text_field!r}, only {table.schema_arrow.names[:10]}")
            groups = range(table.num_row_groups) if groups is None else groups
            row = sum(table.metadata.row_group(group).num_rows for group in range(groups.start))
            end = row + sum(table.metadata.row_group(group).num_rows for group in groups)
            for batch in table.iter_batches(
                batch_size=_PARQUET_BATCH_ROWS, row_groups=list(groups), use_threads=False
            ):
                yield from _batch_rows(batch, row, text_field, maximum)
                row += batch.num_rows
            _check_rows(table.metadata, row, end)


def _check_rows(metadata: pq.FileMetaData, row: int, end: int) -> None:
    """Rows that do not come are damage, of which Arrow says nothing: the footer, which says how many, has no checksum."""
    total = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    if row != end or total != metadata.num_rows:
        raise EOFError(f"{row} rows, but its footer says {end}, and {metadata.num_rows} in all of {total}")


def _batch_rows(batch: pa.RecordBatch, before: int, text_field: str, maximum: int) -> Iterator[RawRecord]:
    """The rows of a batch; one whose values cannot be had (invalid UTF-8, dates out of range) is bad alone."""
    try:
        rows: list[dict[str, Any] | str] = batch.to_pylist()
    except (ValueError, ArithmeticError):
        rows = [_row_or_problem(batch.slice(index, 1)) for index in range(batch.num_rows)]
    for number, row in enumerate(rows, start=before + 1):
        if isinstance(row, str):
            yield RawRecord(number, b"", row)
        else:
            yield row_record(number, row, text_field, maximum)


def row_record(number: int, row: dict[str, Any], text_field: str, maximum_record_bytes: int) -> RawRecord:
    """A row as a record, of which only the start is kept when its text is too long."""
    text = row.get(text_field)
    # A character is at most 4 bytes, so most texts need not be encoded to be measured.
    if isinstance(text, str) and len(text) * 4 > maximum_record_bytes:
        encoded = text.encode("utf-8", "surrogatepass")
        if len(encoded) > maximum_record_bytes:
            return RawRecord(number, encoded[:EXCERPT_BYTES], too_long(maximum_record_bytes))
    return RawRecord(number, row)


def _row_or_problem(batch: pa.RecordBatch) -> dict[str, Any] | str:
    try:
        return batch.to_pylist()[0]
    except (ValueError, ArithmeticError) as error:
        return f"unreadable values: {error}"
