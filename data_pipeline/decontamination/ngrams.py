"""Runs of words that benchmarks hold, and where documents hold them too.

What words are is `data_pipeline.decontamination.words`' part, which texts benchmarks hold is
`data_pipeline.decontamination.texts`', what becomes of documents `data_pipeline.decontamination.decontamination`'s.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.cleaning import clean_text
from data_pipeline.decontamination.texts import BenchmarkError, benchmark_texts
from data_pipeline.decontamination.titles import Titles
from data_pipeline.decontamination.words import Hashes, readings, words
from data_pipeline.settings import CleaningSettings

_JOINED = re.compile(r"(\w) (n['’ʼ`´]t)\b", re.IGNORECASE)
_SPLIT = re.compile(r"(\w)(n['’ʼ`´]t)\b", re.IGNORECASE)
_RUN_BASE = np.uint64(0x9E3779B97F4A7C15)
_WORD_FACTOR = np.uint64(0xC4CEB9FE1A85EC53)


class Match(NamedTuple):
    """A run of words in a document that is also in a benchmark: the characters it spans, and whose it is."""

    start: int
    end: int
    benchmark: str


class BenchmarkNgrams:
    """The runs of words of some benchmarks, as 64-bit hashes (a false match once in 10¹³ words or so).

    Attributes:
        titles: of benchmarks' articles.
    """

    def __init__(self, files: tuple[tuple[str, Path], ...], ngram: int, minimum_words: int) -> None:
        """Take up all runs of `ngram` words, and texts of fewer, but at least `minimum_words`, as a whole."""
        self._names = [name for name, _ in files]
        self.titles = Titles()
        collected: dict[int, list[tuple[int, Hashes]]] = defaultdict(list)
        for owner, (name, path) in enumerate(files):
            sizes = len(self.titles), sum(map(len, collected.values()))
            for text, title in benchmark_texts(path, name):
                if title:
                    self.titles.add(title, name)
                for way in _ways(text):
                    hashes = words(way).hashes
                    length = min(len(hashes), ngram)
                    if length >= minimum_words:
                        ((_, runs),) = _run_hashes(hashes, [length])
                        collected[length].append((owner, runs))
            if sizes == (len(self.titles), sum(map(len, collected.values()))):
                raise BenchmarkError(
                    f"{path}: holds no text of {minimum_words} words or more, so nothing would be looked for"
                )
        self._runs: dict[int, tuple[Hashes, npt.NDArray[np.int64], npt.NDArray[np.bool_]]] = {}
        for length, parts in sorted(collected.items()):
            hashes = np.concatenate([runs for _, runs in parts])
            owners = np.repeat([owner for owner, _ in parts], [len(runs) for _, runs in parts])
            distinct, firsts = np.unique(hashes, return_index=True)
            self._runs[length] = distinct, owners[firsts], _table(distinct)

    def find(self, text: str) -> list[Match]:
        """All runs of a document's words that a benchmark holds, in order."""
        return sorted({match for reading in readings(text) for match in self._find(reading)})

    def _find(self, text: str) -> Iterator[Match]:
        read, starts, ends = words(text)
        for length, runs in _run_hashes(read, self._runs):
            hashes, owners, table = self._runs[length]
            likely = np.flatnonzero(table.take(_table_places(runs, table), mode="clip"))
            if len(likely) == 0:
                continue
            places = np.minimum(np.searchsorted(hashes, runs[likely]), len(hashes) - 1)
            hit = hashes[places] == runs[likely]
            first, owner = likely[hit], owners[places[hit]]
            spans = starts[first].tolist(), ends[first + length - 1].tolist(), owner.tolist()
            yield from (
                Match(start, end, self._names[whose]) for start, end, whose in zip(*spans, strict=True)
            )


def _ways(text: str) -> Iterable[str]:
    """How documents may spell a benchmark's text: as it is and as cleaning repairs it, each with contractions whole
    (didn't) and split (did n't), and as it can be read without markup."""
    ways: dict[str, None] = {}
    for spelling in (text, clean_text(text, CleaningSettings())):
        for way in (spelling, _JOINED.sub(r"\1\2", spelling), _SPLIT.sub(r"\1 \2", spelling)):
            ways.update(dict.fromkeys(readings(way)))
    return ways


@functools.lru_cache(maxsize=1)
def benchmark_ngrams(files: tuple[tuple[str, Path], ...], ngram: int, minimum_words: int) -> BenchmarkNgrams:
    """`BenchmarkNgrams`, built once a process."""
    return BenchmarkNgrams(files, ngram, minimum_words)


def _run_hashes(words: Hashes, lengths: Iterable[int]) -> Iterator[tuple[int, Hashes]]:
    """Hashes of all runs of so many words, for each of the rising lengths: polynomials in the words' mixed hashes."""
    mixed = (words ^ (words >> np.uint64(31))) * _WORD_FACTOR
    mixed ^= mixed >> np.uint64(29)
    hashes = np.zeros(len(words), np.uint64)
    size = 0
    for length in lengths:
        while size < min(length, len(words)):
            hashes = hashes[: len(words) - size]
            hashes *= _RUN_BASE
            hashes += mixed[size:]
            size += 1
        yield length, hashes if size == length else hashes[:0]


def _table(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Marks the places of hashes in a table at least sixteen times as large: what is not marked is not there."""
    table = np.zeros(1 << max(16, len(hashes).bit_length() + 4), np.bool_)
    table[_table_places(hashes, table)] = True
    return table


def _table_places(hashes: Hashes, table: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return (hashes >> np.uint64(65 - len(table).bit_length())).view(np.int64)
