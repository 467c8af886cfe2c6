"""Formats of source files: the raw records of JSON, text, CSV, TSV and Parquet files, plain or compressed.

Files are streamed: what is in memory at a time is one record, or one batch of Parquet rows; of large ones a part can be
read. Names, compression and lines are `data_pipeline.text_files`' part. What a record must hold to become a document, and what happens to bad ones, lives in
`records`; which files are read, in `local`.
"""

import contextlib
import csv
import io
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import UserError
from data_pipeline import text_files
from data_pipeline.settings import MAXIMUM_RECORD_BYTES
from data_pipeline.sources.fields import Fields
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
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_PARQUET_BATCH_ROWS = 64
_BUFFER_BYTES = 1 << 16
_SKIPPED_AT_ONCE = 1 << 20
_LOOKED_AT_BYTES = 1 << 20  # of a .tsv file, for quotes
TextDocuments = Literal["file", "line", "paragraph"]
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


class Part(NamedTuple):
    """Of a large file what one task reads.

    Attributes:
        row_groups: of a Parquet file.
        lines: the bytes in which the lines that are read begin, of a plain file of lines.
        first_line: the number of the first of those.
    """

    row_groups: range | None = None
    lines: range | None = None
    first_line: int = 1


WHOLE = Part()


def is_lines(path: Path, txt: TextDocuments) -> bool:
    """Whether a file is plain and has a record a line, so that it can be read from any of them."""
    kind = kind_of(path)
    if name_of(path).compression or (kind, txt) in (("txt", "file"), ("txt", "paragraph")):
        return False
    is_json_of_lines = kind == "json" and _json_layout(path, MAXIMUM_RECORD_BYTES) == "lines"
    return kind in ("jsonl", "txt") or is_json_of_lines


def raw_records(
    path: Path,
    *,
    fields: Fields | None = None,
    txt: TextDocuments = "file",
    maximum_record_bytes: int = MAXIMUM_RECORD_BYTES,
    part: Part = WHOLE,
) -> Iterator[RawRecord]:
    """The records of a file in order. Blank lines have the content b"".

    Args:
        path: a file that `kind_of` knows.
        fields: what of a record will be used: a table must have the text's column, and of Parquet files no other
            columns are read; None for all.
        txt: what of a .txt file is a record: all of it, a line, or a paragraph (lines up to a blank one).
        maximum_record_bytes: longer records are skipped, and reported by their `problem`.
        part: of a large file.

    Raises:
        DamagedFileError: the file is cut off, corrupt, or not of its format; after the records before the damage.
        ColumnError: a table without the column.
        UnreadableFileError: the name says another format than the content, or a tool is missing.
    """
    kind, maximum = kind_of(path), maximum_record_bytes
    try:
        if kind == "parquet":
            yield from _parquet_rows(path, fields, maximum, part.row_groups)
            return
        check_content(path)
        layout = _json_layout(path, maximum) if kind == "json" else "lines"
        quoting = _tsv_quoting(path) if kind == "tsv" else csv.QUOTE_MINIMAL
        with open_decompressed(path) as stream:
            if kind in ("csv", "tsv"):
                delimiter = "\t" if kind == "tsv" else ","
                with _fields_of_at_most(maximum):
                    yield from _csv_rows(stream, fields, maximum, delimiter=delimiter, quoting=quoting)
            elif kind == "txt" and txt == "file":
                yield _whole_file(stream, maximum)
            elif kind == "txt" and txt == "paragraph":
                yield from _paragraphs(stream, maximum)
            elif layout == "lines":
                yield from _lines(stream, maximum, part)
            else:
                yield from json_values(stream, maximum, in_list=layout == "list")
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


def _lines(stream: BinaryIO, maximum: int, part: Part) -> Iterator[RawRecord]:
    for number, line in numbered_lines(stream, maximum, part.lines, part.first_line):
        if len(line) > maximum:
            yield RawRecord(number, line[:EXCERPT_BYTES], too_long(maximum))
        else:
            yield RawRecord(number, line if not line.isspace() else b"")


def _paragraphs(stream: BinaryIO, maximum: int) -> Iterator[RawRecord]:
    """Runs of lines that are not blank, by the number of their first line."""
    first, size, block = 0, 0, b""
    for number, line in itertools.chain(numbered_lines(stream, maximum), [(0, b"")]):
        if line.strip():
            first = first if size else number
            size += len(line)
            block += line if size <= maximum else b""
        elif size:
            problem = too_long(maximum) if size > maximum else ""
            yield RawRecord(first, block[:EXCERPT_BYTES] if problem else block.rstrip(b"\r\n"), problem)
            size, block = 0, b""


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
    stream: BinaryIO,
    fields: Fields | None,
    maximum: int,
    *,
    delimiter: str,
    quoting: Literal[0, 3],
) -> Iterator[RawRecord]:
    """Rows as fields by the names in the first row; a bad row ends with its line, or where its quotes close."""
    lines = _CsvLines(stream, maximum)
    rows = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = next(rows, [])
    except (csv.Error, _RecordTooLongError) as error:
        raise DamagedFileError(f"no row of column names: {error}") from error
    _check_column(fields, header)
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


def _check_column(fields: Fields | None, names: list[str]) -> None:
    if fields is not None and not fields.column(names):
        raise ColumnError(f"no column {fields.text!r}, only {names[:10]}")


def _columns(schema: pa.Schema, fields: Fields | None) -> list[str] | None:
    """The columns that are read: the text's, and those that are kept as metadata, binary ones left out."""
    if fields is None:
        return None
    text = fields.column(schema.names)
    return [
        column.name
        for column in schema
        if column.name == text or (fields.keeps(column.name) and not _is_binary(column.type))
    ]


def _is_binary(kind: pa.DataType) -> bool:
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in checks)


def _parquet_rows(
    path: Path, fields: Fields | None, maximum: int, groups: range | None
) -> Iterator[RawRecord]:
    with tempfile.TemporaryFile() as unpacked:
        source: Any = path
        if name_of(path).compression:  # the format is read from its end, which a compressed stream has not
            with open_decompressed(path) as stream:
                shutil.copyfileobj(stream, unpacked, _SKIPPED_AT_ONCE)
            source = unpacked
        with pq.ParquetFile(
            source, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
        ) as table:
            _check_column(fields, table.schema_arrow.names)
            groups = range(table.num_row_groups) if groups is None else groups
            row = sum(table.metadata.row_group(group).num_rows for group in range(groups.start))
            end = row + sum(table.metadata.row_group(group).num_rows for group in groups)
            for batch in table.iter_batches(
                batch_size=_PARQUET_BATCH_ROWS,
                row_groups=list(groups),
                columns=_columns(table.schema_arrow, fields),
                use_threads=False,
            ):
                yield from _batch_rows(batch, row, "" if fields is None else fields.text, maximum)
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
