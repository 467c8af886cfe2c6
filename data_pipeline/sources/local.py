"""Local files as a source: which files, dealt to tasks, each task's documents in shards.

The stage "fetch" of a corpus of files. A bad record goes to quarantine; a bad file stops the stage, or is kept as far
as it can be read. File formats live in `formats`, what a record must hold in `records`.
"""

import functools
import glob
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_pipeline.engine.documents import DOCUMENT_SHARDS, SHARD_ROWS, Document
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.resumable import BadRecord, Counts, add_counts, run_shards
from data_pipeline.sources.formats import (
    ColumnError,
    DamagedFileError,
    kind_of,
    known_suffixes,
    parquet_row_groups,
    place_name,
    raw_records,
    row_record,
)
from data_pipeline.sources.raw_records import RawRecord
from data_pipeline.sources.records import Reading, SourceError, documents_of, judge, write_documents
from data_pipeline.text_files import Name, files_below, name_of

if TYPE_CHECKING:
    from data_pipeline.sources.source import Source

_SHOWN = 5
_GROUP_BYTES = 1 << 20
_PARQUET_PIECE_BYTES = 256 << 20
_logger = logging.getLogger("data_pipeline")


class _Piece(NamedTuple):
    """A file with its number, or some row groups of a large Parquet file."""

    number: int
    path: Path
    row_groups: range | None = None


def find_files(paths: list[str]) -> list[Path]:
    """The files that names, folders and glob patterns (`**` included) stand for: each once, in the order of `paths`.

    Of a folder all files of known kinds below it, in the order of their names; what is left out is logged.

    Raises:
        SourceError: nothing is found, a file of a kind that is not read here, or a folder of another command's output.
    """
    found: dict[Path, None] = {}
    errors: list[str] = []
    for pattern in map(str, paths):
        if Path(pattern).is_dir():
            files = _files_of_folder(Path(pattern), errors)
        else:
            matches = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
            files = [Path(match) for match in matches if Path(match).is_file()]
            if not files:
                errors.append(f"{pattern}: no such file")
            errors += [f"{file}: unknown kind of file" for file in files if not kind_of(file)]
        found.update(dict.fromkeys(files))
    if errors:
        raise SourceError("; ".join(errors[:20]) + f" (files are read whose names end in {known_suffixes()})")
    return list(found)


def _files_of_folder(folder: Path, errors: list[str]) -> list[Path]:
    files = files_below(folder)
    known = [path for path in files if kind_of(path)]
    if shard := next((path for path in files if path.match(DOCUMENT_SHARDS)), None):
        errors.append(f"{shard}: a document shard, as commands write them; give its folder alone as --input")
    elif not known:
        errors.append(f"{folder}: no file of a known kind in this folder")
    elif others := [path.relative_to(folder).as_posix() for path in files if not kind_of(path)]:
        _logger.warning(
            "%s: %d files of other kinds are not read (%s)", folder, len(others), ", ".join(others[:_SHOWN])
        )
    return known


def fetch_local(
    source: "Source", files: Sequence[Path], output: Path, *, executor: Executor, title: str = ""
) -> Counts:
    """Read local files into document shards.

    A document's id is `<source>/<number of the file>/<line or row>`; fields other than the text become its metadata.

    Args:
        source: what it is called, and how its records are read.
        files: in the order that ids follow.
        output: directory to write to.

    Returns:
        Counts: files, records, documents, bytes, quarantined, blank_lines, bad_files (a large Parquet file is read
        in pieces, and counts once for each damaged one).

    Raises:
        SourceError: a damaged file, no documents, or more than max(100, 1 %) bad records.
    """
    output = Path(output)
    tasks = {f"files-{number:05d}": (number, group) for number, group in enumerate(_group(list(files)))}
    work = functools.partial(_fetch_group, source, output)
    counts = run_shards(f"fetch {source.name}", work, tasks, output, executor, title)
    summary = {"files": len(files), **add_counts(counts)}
    names = {f"{source.name}/{number:05d}": path for number, path in enumerate(files)}

    def where(record: BadRecord) -> str:
        path = names.get(record.source, Path(record.file))
        return f"{path} {place_name(path)} {record.line}"

    judge(summary, source.name, output, where)
    return summary


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
        number=0,
        text_field=source.text_field,
        reading=reading,
    )
    return write_documents(
        output, "records", lambda part: f"documents-{part:06d}.parquet", documents, reading
    )


def _group(files: list[Path]) -> Iterator[list[_Piece]]:
    """Group consecutive small files, with their numbers; a file of a megabyte and more is a group alone.

    A Parquet file is cut into runs of row groups, so that one large file is work for many processes.
    """
    group: list[_Piece] = []
    size = 0
    for number, path in enumerate(files):
        more = path.stat().st_size
        if group and (size + more > _GROUP_BYTES or len(group) >= SHARD_ROWS):
            yield group
            group, size = [], 0
        pieces = _pieces(number, path) if name_of(path) == Name(".parquet", "") else [_Piece(number, path)]
        if len(pieces) > 1:
            if group:
                yield group
                group, size = [], 0
            yield from ([piece] for piece in pieces)
            continue
        group += pieces
        size += more
    if group:
        yield group


def _pieces(number: int, path: Path) -> list[_Piece]:
    pieces = []
    first = size = 0
    row_groups = parquet_row_groups(path)
    for index, more in enumerate(row_groups):
        if index > first and size + more > _PARQUET_PIECE_BYTES:
            pieces.append(_Piece(number, path, range(first, index)))
            first, size = index, 0
        size += more
    if not pieces:
        return [_Piece(number, path)]
    return [*pieces, _Piece(number, path, range(first, len(row_groups)))]


def _fetch_group(source: "Source", output: Path, task: tuple[int, list[_Piece]]) -> Counts:
    """Read one group of files into the shards `documents-<group>-<part>.parquet`."""
    number, pieces = task
    reading = Reading()

    def name(part: int) -> str:
        return f"documents-{number:05d}-{part:04d}.parquet"

    documents = _read(source, pieces, reading)
    return write_documents(output, f"files-{number:05d}", name, documents, reading)


def _read(source: "Source", pieces: list[_Piece], reading: Reading) -> Iterator[Document]:
    for piece in pieces:
        path = piece.path
        before = reading.records

        def bad_file(reason: str, number: int = piece.number, path: Path = path) -> None:
            reading.records += 1
            reading.quarantine(f"{source.name}/{number:05d}", path.name, RawRecord(0, b""), reason)

        if path.stat().st_size == 0:
            bad_file("empty file")
            continue
        records = raw_records(
            path,
            text_field=source.text_field,
            maximum_record_bytes=source.maximum_record_bytes,
            row_groups=piece.row_groups,
        )
        try:
            yield from documents_of(
                records,
                path=path,
                source=source.name,
                number=piece.number,
                text_field=source.text_field,
                reading=reading,
            )
        except ColumnError as error:
            raise SourceError(f"{path}: {error}; name the column of the texts as text_field") from error
        except DamagedFileError as error:
            problem = f"cut off or corrupt after {reading.records - before} records ({error})"
            if source.on_bad_file == "stop":
                raise SourceError(
                    f'{path}: {problem}; fetch it again, or set on_bad_file = "keep" to keep those records'
                ) from error
            reading.bad_files += 1
            bad_file(problem)
