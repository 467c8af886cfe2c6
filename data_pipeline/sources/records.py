"""From raw records to documents: what a record must hold, where bad ones go, and when they are too many.

Reading raw records is `formats`' and `hub`'s part; which records, the stages' (`local`, `hub`).
"""

import json
import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from data_pipeline.engine.documents import SHARD_BYTES, SHARD_ROWS, Document, text_bytes, write_shard
from data_pipeline.engine.resumable import BadRecord, Counts, read_quarantine, write_quarantine
from data_pipeline.sources.formats import kind_of
from data_pipeline.sources.raw_records import RawRecord
from data_pipeline.text_files import check_characters, check_depth, parse_json

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
        self.bad.append(BadRecord(source, file, record.number, reason, BadRecord.start(raw)))


def _excerpt(fields: dict[str, Any]) -> bytes:
    """How a row starts: a few of its fields, each cut short, however large or deep they are."""
    short = reprlib.Repr()
    short.maxdict, short.maxstring, short.maxother = _FIELDS_SHOWN, _CHARACTERS_SHOWN, _CHARACTERS_SHOWN
    return short.repr(fields).encode("utf-8", "backslashreplace")


def documents_of(
    records: Iterable[RawRecord], *, path: Path, source: str, number: int, text_field: str, reading: Reading
) -> Iterator[Document]:
    """Make documents of one file's records, with ids `<source>/<number>/<line or row>`; note what is bad."""
    prefix = f"{source}/{number:05d}"
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
            text, metadata = _text_and_metadata(record, kind, path, text_field)
        except ValueError as error:
            reading.quarantine(prefix, path.name, record, str(error))
            continue
        yield Document(f"{prefix}/{record.number:09d}", text, source, metadata)


def _text_and_metadata(record: RawRecord, kind: str, path: Path, text_field: str) -> tuple[str, str]:
    """The text of a record and its other fields as JSON; a ValueError says what is wrong with it."""
    if kind == "txt" and isinstance(record.content, bytes):
        text, metadata = _decoded(record.content), json.dumps({"file": path.name})
    else:
        text, metadata = _fields(fields_of(record), text_field)
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


def _fields(record: dict[str, Any], text_field: str) -> tuple[str, str]:
    """The text, and the other fields of a record as JSON, where a number that is none or infinite is null."""
    if text_field not in record:
        raise UserError(f"no field {text_field!r}, only {sorted(record)[:10]}")
    text = record[text_field]
    if not isinstance(text, str):
        raise UserError(f"field {text_field!r} is not a string but of type {type(text).__name__}")
    others = {key: value for key, value in record.items() if key != text_field}
    try:
        metadata = json.dumps(others, sort_keys=True, default=str)
        if "NaN" in metadata or "Infinity" in metadata:  # Python writes such numbers, but they are no JSON
            metadata = json.dumps(json.loads(metadata, parse_constant=lambda _: None))
        return text, metadata
    except TypeError as error:
        raise UserError(f"its other fields cannot be kept as JSON: {error}") from error


def write_documents(
    output: Path, task: str, name: Callable[[int], str], documents: Iterator[Document], reading: Reading
) -> Counts:
    """Write a task's documents as bounded shards, then its bad records, and count both.

    Args:
        output: the stage's directory.
        task: the task's name, that of its quarantine file.
        name: the file name of the shard with a number.
        documents: as read; the reading is complete when they are.
    """
    size = count = 0
    for part, shard in enumerate(cut(documents)):
        write_shard(output / name(part), shard)
        count += len(shard)
        size += sum(text_bytes(document.text) for document in shard)
    write_quarantine(output, task, reading.bad)
    return {
        "records": reading.records,
        "documents": count,
        "bytes": size,
        "quarantined": len(reading.bad),
        "blank_lines": reading.blank_lines,
        "bad_files": reading.bad_files,
    }


def cut(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Cut a stream of documents into shards bounded in rows and characters."""
    shard: list[Document] = []
    size = 0
    for document in documents:
        shard.append(document)
        size += len(document.text)
        if len(shard) >= SHARD_ROWS or size >= SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


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
    allowed = max(_ALLOWED_BAD_RECORDS, records * _ALLOWED_BAD_PERCENT // 100)
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
    raise SourceError("; ".join([f"{source}: {what}", *examples]) + f" (all in {output}/quarantine)")
