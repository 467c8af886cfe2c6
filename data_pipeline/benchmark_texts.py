"""What decontamination looks for: the texts of benchmark files in their real formats, as runs of words.

WikiText (`*.tokens`: one paragraph a line, ` = Title = ` headings), LAMBADA (`*.jsonl`: {"text": …}) and RACE (a tree
of `*.txt`, each a JSON object with an `article`). Of a directory, what lies under a part named `train` is left out:
decontamination protects what models are tested on. What happens to a document with such text lives in
`data_pipeline.decontamination`.
"""

import functools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

WORD = re.compile(r"\w+")
_TITLE = re.compile(r"^ = ([^=].*?) = $")
_JOINED = re.compile(r"(\w) n't\b")
_SPLIT = re.compile(r"(\w)n't\b")
_HASH_BASE = np.uint64(0x9E3779B97F4A7C15)
_WORD_FACTOR = np.uint64(0xC4CEB9FE1A85EC53)
_SUFFIXES = (".tokens", ".jsonl", ".txt")


class BenchmarkError(ValueError):
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


class Match(NamedTuple):
    """A run of words in a document that is also in a benchmark: first word, number of words, whose it is."""

    start: int
    words: int
    benchmark: str


class BenchmarkNgrams:
    """The runs of words of some benchmarks, as 64-bit hashes (a false match once in 10¹³ words or so).

    Attributes:
        titles: the benchmark of each WikiText article, by `title_words` of its title.
    """

    def __init__(self, files: tuple[tuple[str, Path], ...], ngram: int, minimum_words: int) -> None:
        """Take up all runs of `ngram` words, and texts of fewer, but at least `minimum_words`, as a whole."""
        self._names = [name for name, _ in files]
        self._numbers: dict[str, int] = {}
        self.titles: dict[str, str] = {}
        collected: dict[int, list[tuple[int, npt.NDArray[np.uint64]]]] = defaultdict(list)
        for owner, (name, path) in enumerate(files):
            for text, title in benchmark_texts(path):
                if title:
                    self.titles.setdefault(title_words(title), name)
                for words in _spellings(text):
                    length = min(len(words), ngram)
                    if length >= minimum_words:
                        numbers = [self._numbers.setdefault(word, len(self._numbers) + 1) for word in words]
                        collected[length].append((owner, _run_hashes(np.array(numbers, np.uint64), length)))
        self.titles.pop("", None)  # a title without words says nothing
        self._hashes: dict[int, npt.NDArray[np.uint64]] = {}
        self._owners: dict[int, npt.NDArray[np.int64]] = {}
        for length, runs in sorted(collected.items()):
            hashes = np.concatenate([run for _, run in runs])
            owners = np.repeat([owner for owner, _ in runs], [len(run) for _, run in runs])
            self._hashes[length], firsts = np.unique(hashes, return_index=True)
            self._owners[length] = owners[firsts]

    def find(self, text: str) -> list[Match]:
        """All runs of a document's words (places in `WORD.findall(text)`) that a benchmark holds, in order."""
        numbers = np.array([self._numbers.get(word.lower(), 0) for word in WORD.findall(text)], np.uint64)
        found = []
        for length, hashes in self._hashes.items():
            runs = _run_hashes(numbers, length)
            unknown = np.concatenate([[0], np.cumsum(numbers == 0)])
            starts = (
                np.flatnonzero(unknown[length:] == unknown[:-length]) if len(runs) else np.empty(0, np.int64)
            )
            places = np.minimum(np.searchsorted(hashes, runs[starts]), len(hashes) - 1)
            hit = hashes[places] == runs[starts]
            owners = self._owners[length][places[hit]]
            pairs = zip(starts[hit].tolist(), owners.tolist(), strict=True)
            found += [Match(start, length, self._names[owner]) for start, owner in pairs]
        return sorted(found)


@functools.lru_cache(maxsize=1)
def benchmark_ngrams(files: tuple[tuple[str, Path], ...], ngram: int, minimum_words: int) -> BenchmarkNgrams:
    """`BenchmarkNgrams`, built once a process."""
    return BenchmarkNgrams(files, ngram, minimum_words)


def title_words(title: str) -> str:
    """A title without case and punctuation."""
    return " ".join(WORD.findall(title.lower()))


def _spellings(text: str) -> list[list[str]]:
    """The words of a text as written, with contractions joined, and with contractions split: each way once."""
    ways = dict.fromkeys((text, _JOINED.sub(r"\1n't", text), _SPLIT.sub(r"\1 n't", text)))
    return [[word.lower() for word in WORD.findall(way)] for way in ways]


def _run_hashes(numbers: npt.NDArray[np.uint64], length: int) -> npt.NDArray[np.uint64]:
    """Hashes of all runs of `length` words: polynomials in the words' mixed numbers."""
    mixed = (numbers ^ (numbers << np.uint64(31))) * _WORD_FACTOR
    mixed ^= mixed >> np.uint64(29)
    count = max(len(numbers) - length + 1, 0)
    hashes = np.zeros(count, np.uint64)
    for offset in range(length if count else 0):
        hashes *= _HASH_BASE
        hashes += mixed[offset : offset + count]
    return hashes
