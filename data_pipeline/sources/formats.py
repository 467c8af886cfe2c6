"""Formats of source files: the raw records of JSON, text, CSV, TSV and Parquet files, plain or compressed.

Files are streamed: what is in memory at a time is one record, or one batch of Parquet rows; of large ones a part can be
read. Names, compression and lines are `data_pipeline.text_files`' part, rows of CSV and TSV `delimited`'s, the names of
columns `columns`'. What a record must hold to become a document, and what happens to bad ones, lives in
`records`; which files are read, in `local`.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import text_files
from data_pipeline.settings import MAXIMUM_RECORD_BYTES
from data_pipeline.sources.columns import check_columns
from data_pipeline.sources.delimited import table_rows
from data_pipeline.sources.fields import Fields
from data_pipeline.sources.json_values import JsonError, json_layout, json_values
from data_pipeline.sources.raw_records import EXCERPT_BYTES, DamagedFileError, RawRecord, too_long
from data_pipeline.text_files import (
    BYTE_ORDER_MARK,
    COMPRESSIONS,
    check_content,
    name_of,
    numbered_lines,
    open_decompressed,
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
TextDocuments = Literal["file", "line", "paragraph"]
# What the decoders raise at a damaged file.
DAMAGE = (*text_files.DAMAGE, pa.ArrowException)


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
        UnreadableFileError: the name says another format than the content, a table's names of columns cannot be used, or
            a tool is missing.
    """
    kind, maximum = kind_of(path), maximum_record_bytes
    try:
        if kind == "parquet":
            yield from _parquet_rows(path, fields, maximum, part.row_groups)
            return
        check_content(path)
        layout = _json_layout(path, maximum) if kind == "json" else "lines"
        with open_decompressed(path) as stream:
            if kind in ("csv", "tsv"):
                yield from table_rows(path, stream, fields, maximum, tabs=kind == "tsv")
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


def parquet_row_groups(path: Path) -> list[int]:
    """Bytes of each row group of a Parquet file; empty when its footer cannot be read."""
    try:
        with pq.ParquetFile(path) as table:
            groups = range(table.metadata.num_row_groups)
            return [table.metadata.row_group(group).total_byte_size for group in groups]
    except DAMAGE:
        return []


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
            check_columns(path, fields, table.schema_arrow.names)
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
