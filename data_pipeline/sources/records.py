"""From raw records to documents: what a record must hold, where bad ones go, and when they are too many.

Reading raw records is `formats`' and `hub`'s part; which records, the stages' (`local`, `hub`).
"""

import itertools
import json
import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from data_pipeline.engine.documents import Document, ShardSize, text_bytes, write_shard
from data_pipeline.engine.resumable import BadRecord, Counts, read_quarantine, write_quarantine
from data_pipeline.settings import MAXIMUM_RECORD_BYTES
from data_pipeline.sources.fields import Fields, text_and_metadata
from data_pipeline.sources.formats import kind_of
from data_pipeline.sources.raw_records import EXCERPT_BYTES, RawRecord, too_long
from data_pipeline.text_files import check_characters, check_depth, parse_json, printable

_ALLOWED_BAD_RECORDS = 100
_ALLOWED_BAD_PERCENT = 1
_EXAMPLES = 5
_FIELDS_SHOWN = 10
_CHARACTERS_SHOWN = 100


class SourceError(UserError):
    """A source is missing, unusable, or holds too many bad records; the message names it and the remedy."""


@dataclass
class Reading:
    """What is found while one task's records are read."""

    records: int = 0
    blank_lines: int = 0
    bad_files: int = 0
    bad: list[BadRecord] = field(default_factory=list)

    def quarantine(self, source: str, file: str, record: RawRecord, reason: str) -> None:
        content = record.content
        raw = content if isinstance(content, bytes) else _excerpt(content)
        self.bad.append(BadRecord(source, printable(file), record.number, reason, BadRecord.start(raw)))


def _excerpt(fields: dict[str, Any]) -> bytes:
    """How a row starts: a few of its fields, each cut short, however large or deep they are."""
    short = reprlib.Repr()
    short.maxdict, short.maxstring, short.maxother = _FIELDS_SHOWN, _CHARACTERS_SHOWN, _CHARACTERS_SHOWN
    return short.repr(fields).encode("utf-8", "backslashreplace")


def documents_of(
    records: Iterable[RawRecord],
    *,
    path: Path,
    source: str,
    name: str,
    fields: Fields,
    maximum_record_bytes: int = MAXIMUM_RECORD_BYTES,
    reading: Reading,
) -> Iterator[Document]:
    """Make documents of one file's records, with ids `<source>/<name>/<line or row>`; note what is bad.

    Args:
        name: what the file is called in ids.
    """
    prefix = f"{source}/{name}"
    kind = kind_of(path)
    for record in records:
        if record.content == b"" and not record.problem:
            reading.blank_lines += 1
            continue
        reading.records += 1
        if record.problem:
            reading.quarantine(prefix, path.name, record, record.problem)
            continue
        try:
            text, metadata = _text_and_metadata(record, kind, path, fields)
            # A character is at most 4 bytes, so most texts need not be encoded to be measured.
            if len(text) * 4 > maximum_record_bytes and len(encoded := text.encode()) > maximum_record_bytes:
                record = record._replace(content=encoded[:EXCERPT_BYTES])
                raise UserError(too_long(maximum_record_bytes))
        except ValueError as error:
            reading.quarantine(prefix, path.name, record, str(error))
            continue
        yield Document(f"{prefix}/{record.number:09d}", text, source, metadata)


def _text_and_metadata(record: RawRecord, kind: str, path: Path, fields: Fields) -> tuple[str, str]:
    """The text of a record and its other fields as JSON; a ValueError says what is wrong with it."""
    if kind == "txt" and isinstance(record.content, bytes):
        text = _decoded(record.content)
        metadata = json.dumps({"file": path.name} if fields.keeps("file") else {})
    else:
        text, metadata = text_and_metadata(fields_of(record), fields)
    check_characters(text)
    return text, metadata


def fields_of(record: RawRecord) -> dict[str, Any]:
    """The fields of a row, or of the JSON object that a line is; a ValueError says what is wrong with it."""
    if not isinstance(record.content, bytes):
        check_depth(record.content)
        return record.content
    fields = parse_json(_decoded(record.content))
    if not isinstance(fields, dict):
        raise UserError(f"not a JSON object but a {type(fields).__name__}")
    return fields


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"invalid UTF-8 at byte {error.start}") from error


def write_documents(
    output: Path,
    task: str,
    name: Callable[[int], str],
    documents: Iterator[Document],
    reading: Reading,
    size: Callable[[int], ShardSize] = lambda part: ShardSize(),
) -> Counts:
    """Write a task's documents as bounded shards, then its bad records, and count both.

    Args:
        output: the stage's directory.
        task: the task's name, that of its quarantine file.
        name: the file name of the shard with a number.
        documents: as read; the reading is complete when they are.
        size: how large the shard with a number becomes.
    """
    counts = {"documents": 0, "bytes": 0}

    def counted(shard: Iterable[Document]) -> Iterator[Document]:
        for document in shard:
            counts["documents"] += 1
            counts["bytes"] += text_bytes(document.text)
            yield document

    for part, shard in cut(documents, size):
        write_shard(output / name(part), counted(shard))
    write_quarantine(output, task, reading.bad)
    return {
        "records": reading.records,
        **counts,
        "quarantined": len(reading.bad),
        "blank_lines": reading.blank_lines,
        "bad_files": reading.bad_files,
    }


def cut(
    documents: Iterable[Document], size: Callable[[int], ShardSize]
) -> Iterator[tuple[int, Iterator[Document]]]:
    """Cut a stream of documents into shards, each a stream to be read before the next, with their numbers from 0."""
    part = rows = characters = 0
    limits = size(part)

    def shard_of(document: Document) -> int:
        nonlocal part, rows, characters, limits
        if limits.is_full(rows, characters):
            part, rows, characters = part + 1, 0, 0
            limits = size(part)
        rows, characters = rows + 1, characters + len(document.text)
        return part

    return itertools.groupby(documents, shard_of)


def allowed_bad_records(records: int) -> int:
    """How many of so many records may be bad."""
    return max(_ALLOWED_BAD_RECORDS, records * _ALLOWED_BAD_PERCENT // 100)


def judge(summary: Counts, source: str, output: Path, where: Callable[[BadRecord], str]) -> None:
    """Refuse a corpus without documents or with too many bad records, by name and first reasons.

    Args:
        summary: the counts of all tasks.
        source: the corpus' name.
        output: the stage's directory, with the quarantine.
        where: says where a bad record is.

    Raises:
        SourceError: no documents, or more than max(100, 1 %) bad records.
    """
    bad, records = summary["quarantined"], summary["records"]
    allowed = allowed_bad_records(records)
    if bad <= allowed and summary["documents"]:
        return
    examples = []
    for record in read_quarantine(output):
        examples.append(f"{where(record)}: {record.reason}")
        if len(examples) == _EXAMPLES:
            break
    what = (
        f"{bad} of {records} records are bad, more than the {allowed} allowed"
        if bad > allowed
        else "no documents"
    )
    hint = "; name the field of the texts as text_field" if "no field" in " ".join(examples) else ""
    raise SourceError("; ".join([f"{source}: {what}", *examples]) + f" (all in {output}/quarantine){hint}")
