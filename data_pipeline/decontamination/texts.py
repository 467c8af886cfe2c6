"""What decontamination looks for: the texts of benchmark files in their authors' formats.

The formats are those of the records in `data_pipeline.benchmarks`, told by a file's name. Of a directory, what lies
under a part named `train` is left out: decontamination protects what models are tested on. Their runs of words are
`data_pipeline.decontamination.ngrams`' part.
"""

from collections.abc import Iterator
from pathlib import Path

from core.errors import UserError
from data_pipeline.benchmarks import BENCHMARKS, Benchmark, BenchmarkText


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
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = [
            file for file in sorted(path.rglob("*")) if _record(file, name) and not _is_train(file, path)
        ]
    if not files or not files[0].exists():
        suffixes = ", ".join(BENCHMARKS[known].suffix for known in BENCHMARKS)
        raise BenchmarkError(f"{path}: no benchmark files there ({suffixes})")
    for file in files:
        record = _record(file, name)
        if record is None:
            known = ", ".join(f"{BENCHMARKS[known].title} {BENCHMARKS[known].suffix}" for known in BENCHMARKS)
            raise BenchmarkError(f"{file}: of no known format ({known})")
        try:
            yield from record.texts(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchmarkError(
                f"{file}: cannot be read as {record.title} ({type(error).__name__}: {error})"
            ) from error


def _record(file: Path, name: str) -> Benchmark | None:
    """The record that reads a file: the one of this name, else the first whose files are called so."""
    names = [name, *BENCHMARKS] if name in BENCHMARKS else BENCHMARKS
    return next((BENCHMARKS[known] for known in names if BENCHMARKS[known].suffix == file.suffix), None)


def _is_train(file: Path, root: Path) -> bool:
    return any("train" in part.split(".") for part in file.relative_to(root).parts)
