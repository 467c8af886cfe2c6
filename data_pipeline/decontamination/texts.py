"""What decontamination looks for: the texts of benchmark files in their authors' formats, or as the hub's rows.

The formats are those of the records in `data_pipeline.benchmarks`, told by a file's name; lines of JSON and tables are
read as those of sources are. Of a directory every file is read, or named in an error; only what lies under a part named
`train` is left out: decontamination protects what models are tested on. Their runs of words are
`data_pipeline.decontamination.ngrams`' part.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import UserError
from data_pipeline.benchmarks import BENCHMARKS, Benchmark, BenchmarkText
from data_pipeline.text_files import COMPRESSIONS, check_characters, files_below, name_of, read_text

_TRAIN = re.compile(
    r"train([-_].*)?", re.IGNORECASE
)  # a folder's or file's name, or what is between its dots
_TABLES = ("jsonl", "json", "csv", "parquet")
_SHOWN = 10
_logger = logging.getLogger("data_pipeline")


class BenchmarkError(UserError):
    """A benchmark file is missing or of an unknown format; the message names it."""


def benchmark_texts(path: Path, name: str = "") -> Iterator[BenchmarkText]:
    """All texts of a benchmark file or directory, in the order of the files' names.

    Args:
        path: of the file or directory.
        name: the benchmark's; where it is no record's, or that record's files are called otherwise, the format is told
            by a file's suffix.

    Raises:
        BenchmarkError: nothing there, or a file that cannot be read.
    """
    for file in _files(Path(path), name):
        record = _record(file, name)
        title = record.title if record else "rows with the fields of a benchmark"
        try:
            if _is_table(file, record):
                yield from _rows(file, name)
            else:
                assert record is not None and record.texts is not None  # `_files` gives no others
                yield from record.texts(read_text(file))
        except (OSError, ValueError, LookupError, TypeError) as error:
            what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            raise BenchmarkError(f"{file}: cannot be read as {title} ({what})") from error


def _files(path: Path, name: str) -> list[Path]:
    """A file, or those of a directory that models are tested on.

    Raises:
        BenchmarkError: there are none, or one that no record reads.
    """
    found = files_below(path) if path.is_dir() else [path]
    files = [file for file in found if file == path or not _is_train(file, path)]
    if not files or not files[0].exists():
        raise BenchmarkError(f"{path}: no benchmark files there ({_known()})")
    unknown = [str(file) for file in files if not _is_known(file, name)]
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise BenchmarkError(
            f"{', '.join(unknown[:_SHOWN])}{more}: of no known format ({_known()}); unpack or convert what is to be "
            "protected, and move other files out of the folder"
        )
    if len(files) < len(found):
        _logger.debug("%s: %d files of training sets are left out", path, len(found) - len(files))
    return files


def _known() -> str:
    titles = [f"{BENCHMARKS[name].title} {', '.join(BENCHMARKS[name].suffixes)}" for name in BENCHMARKS]
    return f"{'; '.join(titles)}; their rows as .jsonl, .json, .csv, .parquet; also with {', '.join(COMPRESSIONS)}"


def _is_train(file: Path, root: Path) -> bool:
    parts = file.relative_to(root).parts
    return any(_TRAIN.fullmatch(piece) for part in parts for piece in part.split("."))


def _record(file: Path, name: str) -> Benchmark | None:
    """The record that reads a file: the one of this name; of rows that nobody named none, for their fields tell; else the
    first whose files are called so. What the named record's files are called, too, but another's first of all, is that
    one's where it can be read so: RACE's passages lie beside LAMBADA in the files of plain text."""
    from data_pipeline.sources.formats import kind_of

    suffix = name_of(file).suffix
    named = next((BENCHMARKS[known] for known in BENCHMARKS if known == name), None)
    if named and suffix == named.suffix:
        return named
    if kind_of(file) in _TABLES:
        return named if named and suffix in named.suffixes else None
    records = [BENCHMARKS[known] for known in BENCHMARKS]
    fitting = [record for record in records if suffix == record.suffix]
    if named and suffix in named.other_suffixes:
        return fitting[0] if fitting and _reads(fitting[0], file) else named
    fitting += [record for record in records if suffix in record.other_suffixes]
    return fitting[0] if fitting else None


def _reads(record: Benchmark, file: Path) -> bool:
    try:
        return record.texts is not None and any(True for _ in record.texts(read_text(file)))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _is_known(file: Path, name: str) -> bool:
    record = _record(file, name)
    return _is_table(file, record) or (record is not None and record.texts is not None)


def _is_table(file: Path, record: Benchmark | None) -> bool:
    """Whether a file is read row by row: a table or lines of JSON, unless its record knows only whole files."""
    from data_pipeline.sources.formats import kind_of

    return kind_of(file) in _TABLES and (record is None or record.row_texts is not None)


def _rows(file: Path, name: str) -> Iterator[BenchmarkText]:
    """The texts in the rows of a file."""
    from data_pipeline.sources.formats import place_name, raw_records
    from data_pipeline.sources.records import fields_of

    readers = [[BENCHMARKS[known] for known in BENCHMARKS]]
    if name in BENCHMARKS:
        readers.insert(0, [BENCHMARKS[name]])
    for record in raw_records(file):
        if record.content == b"" and not record.problem:
            continue
        try:
            if record.problem:
                raise UserError(record.problem)
            yield from _row_texts(fields_of(record), readers)
        except UserError as error:
            raise UserError(f"{place_name(file)} {record.number}: {error}") from error


def _row_texts(row: dict[str, Any], readers: list[list[Benchmark]]) -> list[BenchmarkText]:
    """What the first readers find that know the row's fields: where two of a kind do, what both find."""
    problems: list[UserError] = []
    for reader in readers:
        texts: list[BenchmarkText] = []
        fits = False
        for record in reader:
            if record.row_texts is not None:
                try:
                    texts += record.row_texts(row)
                    fits = True
                except UserError as error:
                    problems.append(error)
                except (LookupError, TypeError, ValueError) as error:
                    problems.append(UserError(f"{type(error).__name__}: {error}"))
        if fits:
            return texts
    for value in row.values():
        if isinstance(value, str):
            check_characters(value)  # which says more than what the first reader misses
    if len(readers) > 1:  # the benchmark that was named
        raise problems[0]
    about_its_fields = [error for error in problems if any(f'"{field}"' in str(error) for field in row)]
    raise (about_its_fields or [UserError(f"has no field of a benchmark, only {', '.join(row) or 'none'}")])[
        0
    ]
