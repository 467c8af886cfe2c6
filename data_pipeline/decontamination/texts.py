"""What decontamination looks for: the texts of benchmark files in their real formats.

WikiText (`*.tokens`: one paragraph a line, ` = Title = ` headings), LAMBADA (`*.jsonl`: {"text": …}) and RACE (a tree
of `*.txt`, each a JSON object with an `article`). Of a directory, what lies under a part named `train` is left out:
decontamination protects what models are tested on. Their runs of words are `data_pipeline.decontamination.ngrams`' part.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from core.errors import UserError

_TITLE = re.compile(r"^ = ([^=].*?) = $")
_SUFFIXES = (".tokens", ".jsonl", ".txt")


class BenchmarkError(UserError):
    """A benchmark file is missing or of an unknown format; the message names it."""


class BenchmarkText(NamedTuple):
    """One passage of a benchmark.

    Attributes:
        text: the passage; empty where there is a title.
        title: the title of a WikiText article, or empty.
    """

    text: str
    title: str


def benchmark_texts(path: Path) -> Iterator[BenchmarkText]:
    """All texts of a benchmark file or directory, in the order of the files' names.

    Raises:
        BenchmarkError: nothing there, or a file that cannot be read.
    """
    files = [Path(path)]
    if Path(path).is_dir():
        files = [
            file
            for file in sorted(Path(path).rglob("*"))
            if file.suffix in _SUFFIXES and not _is_train(file, path)
        ]
    if not files or not files[0].exists():
        raise BenchmarkError(f"{path}: no benchmark files there ({', '.join(_SUFFIXES)})")
    for file in files:
        try:
            yield from _READERS[file.suffix](file.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            known = "WikiText .tokens, LAMBADA .jsonl or a RACE .txt"
            raise BenchmarkError(
                f"{file}: cannot be read as {known} ({type(error).__name__}: {error})"
            ) from error


def _is_train(file: Path, root: Path) -> bool:
    return any("train" in part.split(".") for part in file.relative_to(root).parts)


def _wikitext(content: str) -> Iterator[BenchmarkText]:
    for line in content.split("\n"):
        heading = _TITLE.match(line)
        yield BenchmarkText("", heading.group(1)) if heading else BenchmarkText(line, "")


def _lambada(content: str) -> Iterator[BenchmarkText]:
    for line in content.splitlines():
        if line.strip():
            yield BenchmarkText(json.loads(line)["text"], "")


def _race(content: str) -> Iterator[BenchmarkText]:
    yield BenchmarkText(json.loads(content)["article"], "")


_READERS: dict[str, Callable[[str], Iterator[BenchmarkText]]] = {
    ".tokens": _wikitext,
    ".jsonl": _lambada,
    ".txt": _race,
}
