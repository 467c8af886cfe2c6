"""Local files as a source: dealt to tasks, each task's documents in shards.

The stage "fetch" of a corpus of files. A bad record goes to quarantine; a bad file stops the stage, or is kept as far
as it can be read. Which files there are is `found_files`' part, what a task reads `pieces`', file formats `formats`', what
a record must hold `records`' and `fields`'.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.engine.documents import Document, ShardSize
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.resumable import BadRecord, Counts, add_counts, run_shards
from data_pipeline.sources.columns import ColumnError
from data_pipeline.sources.formats import place_name, raw_records, row_record
from data_pipeline.sources.pieces import Dealing, Piece
from data_pipeline.sources.raw_records import DamagedFileError, RawRecord
from data_pipeline.sources.records import Reading, SourceError, documents_of, judge, write_documents
from data_pipeline.text_files import lines_within

if TYPE_CHECKING:
    from data_pipeline.sources.source import Source

ONLY_FILE = "00000"  # what the one input of a source without files is called in ids
FIRST_DOCUMENTS = "first documents"  # of a source with a limit: the pin of their content
_LINES = ".lines"  # hidden: how many there are is no part of the output


def fetch_local(
    source: "Source", files: Mapping[str, Path], output: Path, *, executor: Executor, title: str = ""
) -> Counts:
    """Read local files into document shards.

    A document's id is `<source>/<name of the file>/<line or row>`; fields other than the text become its metadata.

    Args:
        source: what it is called, and how its records are read.
        files: by what they are called, in the order of their documents.
        output: directory to write to.

    Returns:
        Counts: files, records, documents, bytes, quarantined, blank_lines, bad_files (a large Parquet file is read
        in pieces, and counts once for each damaged one); with a limit "pins", too: the hash of what was read, see
        `first_documents`.

    Raises:
        SourceError: a damaged file, no documents, or more than max(100, 1 %) bad records.
    """
    output = Path(output)
    dealing = Dealing(files, source.txt)
    size = dealing.shard_size
    if source.limit:
        size = ShardSize()  # what comes after the limit determines nothing
        groups: Iterable[list[Piece]] = [[Piece(name, path) for name, path in files.items()]]
    else:
        groups = dealing.tasks(_count_lines(source, dealing.lines_pieces(), files, output, executor, title))
    tasks = {f"files-{number:05d}": (number, group) for number, group in enumerate(groups)}
    work = functools.partial(_fetch_group, source, output, size)
    counts = run_shards(f"fetch {source.name}", work, tasks, output, executor, title)
    shutil.rmtree(output / _LINES, ignore_errors=True)
    pins = {"pins": {FIRST_DOCUMENTS: counts[0].pop(FIRST_DOCUMENTS)}} if source.limit else {}
    summary = {"files": len(files), **add_counts(counts)}

    def where(record: BadRecord) -> str:
        path = files.get(record.source.removeprefix(f"{source.name}/"), Path(record.file))
        return f"{path} {place_name(path)} {record.line}"

    judge(summary, source.name, output, where)
    return {**summary, **pins}


def _count_lines(
    source: "Source",
    pieces: Mapping[str, list[range]],
    files: Mapping[str, Path],
    output: Path,
    executor: Executor,
    title: str,
) -> dict[str, list[int]]:
    """How many lines begin in each piece of the large files: where the next one's numbers begin."""
    if not pieces:
        return {}
    tasks = [(files[name], piece) for name, ranges in pieces.items() for piece in ranges]
    numbered = {f"{number:06d}": task for number, task in enumerate(tasks)}
    stage = f"fetch {source.name}: lines"
    counts = run_shards(
        stage, _count_piece, numbered, output / _LINES, executor, f"{title}: lines" if title else ""
    )
    found = (count["lines"] for count in counts)
    return {name: list(itertools.islice(found, len(ranges))) for name, ranges in pieces.items()}


def _count_piece(task: tuple[Path, range]) -> Counts:
    path, piece = task
    return {"lines": lines_within(path, piece), "documents": 0, "bytes": len(piece)}


def first_documents(source: "Source", files: Mapping[str, Path]) -> tuple[dict[str, Path], str]:
    """Those of the files that hold the first `limit` documents, and the sha256 of what a fetch of these takes from them.

    Nothing beyond them is read, however large the files are, nor is it part of the key.
    """
    used: dict[str, Path] = {}
    reading, digest = Reading(), hashlib.sha256()
    left = source.limit
    for name, path in files.items():
        used[name] = path
        documents = itertools.islice(_read(source, [Piece(name, path)], reading), left)
        left -= sum(1 for _ in hashed(documents, digest))
        if not left:
            break
    return used, digest_of(reading, digest)


def hashed(documents: Iterable[Document], digest: "hashlib._Hash") -> Iterator[Document]:
    """The documents, each of which goes into the digest as it goes by."""
    for document in documents:
        digest.update((json.dumps(document) + "\n").encode())
        yield document


def digest_of(reading: Reading, digest: "hashlib._Hash") -> str:
    """sha256 of the documents that went by, and of what else was found on the way."""
    digest.update(json.dumps(dataclasses.asdict(reading)).encode())
    return digest.hexdigest()


def fetch_records(source: "Source", output: Path, *, executor: Executor, title: str = "") -> Counts:
    """Write the records of a plug-in's source as document shards; ids are `<source>/00000/<record>`.

    It is read in one process, from its beginning; a killed fetch starts anew. Returns and raises as `fetch_local`.
    """
    output = Path(output)
    work = functools.partial(_fetch_records, source, output)
    (counts,) = run_shards(f"fetch {source.name}", work, {"records": 0}, output, executor, title)
    judge(counts, source.name, output, lambda record: f"{source.name} record {record.line}")
    return counts


def _fetch_records(source: "Source", output: Path, task: int) -> Counts:
    reading = Reading()
    records = (
        row_record(number, dict(row), source.text_field, source.maximum_record_bytes)
        for number, row in enumerate(source.records(), start=1)
    )
    documents = documents_of(
        records,
        path=Path(source.name),
        source=source.name,
        name=ONLY_FILE,
        fields=source.fields(),
        maximum_record_bytes=source.maximum_record_bytes,
        reading=reading,
    )
    return write_documents(
        output,
        "records",
        lambda part: f"documents-{part:06d}.parquet",
        source.limited(documents),
        reading,
        ShardSize.of_part,
    )


def _fetch_group(source: "Source", output: Path, size: ShardSize, task: tuple[int, list[Piece]]) -> Counts:
    """Read one group of files into the shards `documents-<group>-<part>.parquet`."""
    number, pieces = task
    reading = Reading()

    def name(part: int) -> str:
        return f"documents-{number:05d}-{part:04d}.parquet"

    documents, digest = source.limited(_read(source, pieces, reading)), hashlib.sha256()
    if source.limit:
        documents = hashed(documents, digest)
    counts = write_documents(output, f"files-{number:05d}", name, documents, reading, lambda part: size)
    return {**counts, FIRST_DOCUMENTS: digest_of(reading, digest)} if source.limit else counts


def _read(source: "Source", pieces: list[Piece], reading: Reading) -> Iterator[Document]:
    for piece in pieces:
        path = piece.path
        before = reading.records

        def bad_file(reason: str, name: str = piece.name, path: Path = path) -> None:
            reading.records += 1
            reading.quarantine(f"{source.name}/{name}", path.name, RawRecord(0, b""), reason)

        if path.stat().st_size == 0:
            bad_file("empty file")
            continue
        fields = source.fields(piece.name)
        records = raw_records(
            path,
            fields=fields,
            txt=source.txt,
            maximum_record_bytes=source.maximum_record_bytes,
            part=piece.part,
        )
        try:
            yield from documents_of(
                records,
                path=path,
                source=source.name,
                name=piece.name,
                fields=fields,
                maximum_record_bytes=source.maximum_record_bytes,
                reading=reading,
            )
        except ColumnError as error:
            raise SourceError(
                f"{path}: {error}; name the column of the texts as text_field, or as text_fields for files like this one"
            ) from error
        except DamagedFileError as error:
            problem = f"cut off or corrupt after {reading.records - before} records ({error})"
            if source.on_bad_file == "stop":
                raise SourceError(
                    f'{path}: {problem}; fetch it again, or set on_bad_file = "keep" to keep those records'
                ) from error
            reading.bad_files += 1
            bad_file(problem)
