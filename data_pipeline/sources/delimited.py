"""Rows of CSV and TSV files, streamed: quotes, bad rows and their lines. The names of their columns are `columns`' part."""

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from data_pipeline.sources.columns import check_columns, check_separator
from data_pipeline.sources.fields import Fields
from data_pipeline.sources.raw_records import EXCERPT_BYTES, DamagedFileError, RawRecord, too_long
from data_pipeline.text_files import half_pair, open_decompressed, skip_line

_LOOKED_AT_BYTES = 1 << 20  # of a .tsv file, for quotes


class _RecordTooLongError(Exception):
    """The lines of one CSV record exceed the maximum."""


def table_rows(
    path: Path, stream: BinaryIO, fields: Fields | None, maximum: int, *, tabs: bool
) -> Iterator[RawRecord]:
    """Rows as fields by the names in the first row.

    Args:
        path: the file.
        stream: its content, decompressed, at its start.
        fields, maximum: see `formats.raw_records`.
        tabs: whether they separate columns, and not commas.

    Raises:
        DamagedFileError: no first row.
        ColumnError, UnreadableFileError: see `columns`.
    """
    quoting = _tsv_quoting(path) if tabs else csv.QUOTE_MINIMAL
    with _fields_of_at_most(maximum):
        yield from _csv_rows(path, stream, fields, maximum, "\t" if tabs else ",", quoting)


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


def _tsv_quoting(path: Path) -> Literal[0, 3]:
    """Whether quotes in a .tsv file quote, as spreadsheets write them, or are text: what makes more rows of its first
    megabyte fit the columns."""
    with open_decompressed(path) as stream:
        text = stream.read(_LOOKED_AT_BYTES).decode("utf-8-sig", "replace")
    lines = text[: text.rfind("\n") + 1] or text
    with _fields_of_at_most(2 * _LOOKED_AT_BYTES):
        fits = _misfits(lines, csv.QUOTE_MINIMAL) <= _misfits(lines, csv.QUOTE_NONE)
    return csv.QUOTE_MINIMAL if fits else csv.QUOTE_NONE


@contextlib.contextmanager
def _fields_of_at_most(characters: int) -> Iterator[None]:
    """The limit is the process's, there is no other."""
    before = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _misfits(lines: str, quoting: Literal[0, 3]) -> int:
    """How many rows are not as long as the first one, or no rows."""
    rows = csv.reader(io.StringIO(lines, newline=""), delimiter="\t", quoting=quoting, strict=True)
    columns = misfits = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return misfits
        except csv.Error:
            misfits += 1
            continue
        columns = columns or len(row)
        misfits += len(row) not in (0, columns)


def _csv_rows(
    path: Path,
    stream: BinaryIO,
    fields: Fields | None,
    maximum: int,
    delimiter: str,
    quoting: Literal[0, 3],
) -> Iterator[RawRecord]:
    """The rows; a bad one ends with its line, or where its quotes close."""
    lines = _CsvLines(stream, maximum)
    rows = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = next(rows, [])
    except (csv.Error, _RecordTooLongError) as error:
        check_separator(path, lines.excerpt, delimiter)
        raise DamagedFileError(f"no row of column names: {error}") from error
    if fields is None or not fields.column(header):
        check_separator(path, lines.excerpt, delimiter)
    check_columns(path, fields, header, row=True)
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
