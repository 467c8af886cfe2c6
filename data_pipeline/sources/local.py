"""Local files as a source: `.jsonl` (one record a line) and `.txt` (one document a file), plain or `.gz`.

The stage "fetch" turns them into document shards. A bad record goes to quarantine; a bad file stops the stage, or is
kept as far as it can be read.
"""

import functools
import glob
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from data_pipeline.documents import SHARD_BYTES, SHARD_ROWS, Document, text_bytes, write_shard
from data_pipeline.executors import Executor
from data_pipeline.resumable import (
    BadRecord,
    Counts,
    add_counts,
    read_quarantine,
    run_shards,
    write_quarantine,
)

_SUFFIXES = (".jsonl", ".jsonl.gz", ".txt", ".txt.gz")
_GROUP_BYTES = 1 << 20
_ALLOWED_BAD_RECORDS = 100
_ALLOWED_BAD_PERCENT = 1
_EXAMPLES = 5


class SourceError(ValueError):
    """Files are missing, unusable, or hold too many bad records; the message names them and the remedy."""


@dataclass(frozen=True)
class _Settings:
    source: str
    text_field: str
    keep_bad_files: bool
    output: Path


@dataclass
class _Reading:
    """What is found while one task's files are read."""

    records: int = 0
    blank_lines: int = 0
    bad_files: int = 0
    bad: list[BadRecord] = field(default_factory=list)


def find_files(paths: list[str]) -> list[Path]:
    """The files that names and glob patterns (`**` included) stand for: each once, in the order of the patterns.

    Raises:
        SourceError: a pattern matches nothing, or a file of a kind that is not read here.
    """
    found: dict[Path, None] = {}
    errors = []
    for pattern in map(str, paths):
        matches = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            errors.append(f"{pattern}: no such file")
        errors += [f"{file}: unknown kind of file" for file in files if not file.name.endswith(_SUFFIXES)]
        found.update(dict.fromkeys(files))
    if errors:
        raise SourceError(
            "; ".join(errors[:20]) + f" (files are read whose names end in {', '.join(_SUFFIXES)})"
        )
    return list(found)


def fetch_local(
    paths: list[str],
    output: Path,
    *,
    source: str,
    text_field: str = "text",
    on_bad_file: Literal["stop", "keep"] = "stop",
    executor: Executor,
    title: str = "",
) -> Counts:
    """Read local files into document shards.

    A document's id is `<source>/<number of the file>/<line>`; fields other than the text become its metadata.

    Args:
        paths: files and glob patterns.
        output: directory to write to.
        source: the corpus' name.
        text_field: the field of a record that holds its text.
        on_bad_file: "stop" raises at a file that is cut off or corrupt, "keep" keeps the records before the damage.

    Returns:
        Counts: files, records, documents, bytes, quarantined, blank_lines, bad_files.

    Raises:
        SourceError: no files, a damaged file, no documents, or more than max(100, 1 %) bad records.
    """
    files = find_files(paths)
    settings = _Settings(source, text_field, on_bad_file == "keep", Path(output))
    tasks = {f"files-{number:05d}": (number, group) for number, group in enumerate(_group(files))}
    work = functools.partial(_fetch_group, settings)
    counts = run_shards(f"fetch {source}", work, tasks, settings.output, executor, title)
    summary = {"files": len(files), **add_counts(counts)}
    _judge(summary, settings, files)
    return summary


def _group(files: list[Path]) -> Iterator[list[tuple[int, Path]]]:
    """Group consecutive small files, with their numbers; a file of a megabyte and more is a group alone."""
    group: list[tuple[int, Path]] = []
    size = 0
    for number, path in enumerate(files):
        more = path.stat().st_size
        if group and (size + more > _GROUP_BYTES or len(group) >= SHARD_ROWS):
            yield group
            group, size = [], 0
        group.append((number, path))
        size += more
    if group:
        yield group


def _fetch_group(settings: _Settings, task: tuple[int, list[tuple[int, Path]]]) -> Counts:
    """Read one group of files into the shards `documents-<group>-<part>.parquet`."""
    number, files = task
    reading = _Reading()
    size = documents = 0
    for part, shard in enumerate(_cut(_read_files(settings, files, reading))):
        write_shard(settings.output / f"documents-{number:05d}-{part:04d}.parquet", shard)
        documents += len(shard)
        size += sum(text_bytes(document.text) for document in shard)
    write_quarantine(settings.output, f"files-{number:05d}", reading.bad)
    return {
        "records": reading.records,
        "documents": documents,
        "bytes": size,
        "quarantined": len(reading.bad),
        "blank_lines": reading.blank_lines,
        "bad_files": reading.bad_files,
    }


def _cut(documents: Iterator[Document]) -> Iterator[list[Document]]:
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


def _read_files(settings: _Settings, files: list[tuple[int, Path]], reading: _Reading) -> Iterator[Document]:
    for number, path in files:
        position = reading.records

        def bad(line: int, reason: str, raw: bytes = b"", number: int = number, path: Path = path) -> None:
            source = f"{settings.source}/{number:05d}"
            reading.bad.append(BadRecord(source, path.name, line, reason, BadRecord.start(raw)))

        try:
            if path.stat().st_size == 0:
                reading.records += 1
                bad(0, "empty file")
                continue
            for line, raw in _raw_records(path):
                if not raw.strip():
                    reading.blank_lines += 1
                    continue
                reading.records += 1
                try:
                    yield _parse(settings, number, path, line, raw)
                except ValueError as error:
                    bad(line, str(error), raw)
        except (EOFError, zlib.error, OSError) as error:
            read = reading.records - position
            problem = f"cut off or corrupt after {read} records ({error})"
            if not settings.keep_bad_files:
                raise SourceError(
                    f'{path}: {problem}; fetch it again, or set on_bad_file = "keep" to keep those records'
                ) from error
            reading.bad_files += 1
            reading.records += 1
            bad(0, problem)


def _raw_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """The records of a file as (line, bytes): its lines, or all of a text file as line 1."""
    with _open(path) as stream:
        if ".txt" in path.suffixes:
            yield 1, stream.read()
        else:
            yield from enumerate(stream, start=1)


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return path.open("rb")


def _parse(settings: _Settings, number: int, path: Path, line: int, raw: bytes) -> Document:
    """Make a document of a raw record; a ValueError says what is wrong with it."""
    try:
        content = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start}") from error
    if ".txt" in path.suffixes:
        text, metadata = content, json.dumps({"file": path.name})
    else:
        text, metadata = _parse_json(settings.text_field, content)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"half a surrogate pair at character {error.start}") from error
    return Document(f"{settings.source}/{number:05d}/{line:09d}", text, settings.source, metadata)


def _parse_json(text_field: str, content: str) -> tuple[str, str]:
    """The text and the other fields of a JSON record."""
    try:
        record: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"not a JSON object but a {type(record).__name__}")
    if text_field not in record:
        raise ValueError(f"no field {text_field!r}, only {sorted(record)[:10]}")
    text = record.pop(text_field)
    if not isinstance(text, str):
        raise ValueError(f"field {text_field!r} is not a string but of type {type(text).__name__}")
    return text, json.dumps(record, sort_keys=True)


def _judge(summary: Counts, settings: _Settings, files: list[Path]) -> None:
    """Refuse a corpus without documents or with too many bad records, by name and first reasons."""
    bad, records = summary["quarantined"], summary["records"]
    allowed = max(_ALLOWED_BAD_RECORDS, records * _ALLOWED_BAD_PERCENT // 100)
    if bad <= allowed and summary["documents"]:
        return
    paths = {f"{settings.source}/{number:05d}": path for number, path in enumerate(files)}
    examples = []
    for record in read_quarantine(settings.output):
        examples.append(f"{paths.get(record.source, record.file)} line {record.line}: {record.reason}")
        if len(examples) == _EXAMPLES:
            break
    what = (
        f"{bad} of {records} records are bad, more than the {allowed} allowed"
        if bad > allowed
        else "no documents"
    )
    raise SourceError(
        "; ".join([f"{settings.source}: {what}", *examples]) + f" (all in {settings.output}/quarantine)"
    )
