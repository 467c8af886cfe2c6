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
_RUN_BASE = 0x9E3779B97F4A7C15
_GROUP_CHARACTERS = 1 << 16
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
                    mixed = _mixed(words(way).hashes)
                    length = min(len(mixed), ngram)
                    if length >= minimum_words:
                        collected[length].append((owner, mixed))
            if sizes == (len(self.titles), sum(map(len, collected.values()))):
                raise BenchmarkError(
                    f"{path}: holds no text of {minimum_words} words or more, so nothing would be looked for"
                )
        self._least = min(collected, default=0)
        self._runs: dict[int, tuple[Hashes, npt.NDArray[np.int64]]] = {}
        starts = [np.empty(0, np.uint64)]
        for length, parts in sorted(collected.items()):
            runs = [_run_hashes(mixed, length) for _, mixed in parts]
            starts += [
                _run_hashes(mixed, self._least)[: len(each)]
                for (_, mixed), each in zip(parts, runs, strict=True)
            ]
            owners = np.repeat([owner for owner, _ in parts], list(map(len, runs)))
            distinct, firsts = np.unique(np.concatenate(runs), return_index=True)
            self._runs[length] = distinct, owners[firsts]
        self._starts = np.unique(np.concatenate(starts))  # the first `_least` words of each run
        self._table = _table(self._starts)

    def find(self, texts: list[str]) -> list[list[Match]]:
        """All runs of each document's words that a benchmark holds, in order."""
        found: list[set[Match]] = [set() for _ in texts]
        numbered = [(number, reading) for number, text in enumerate(texts) for reading in readings(text)]
        if self._runs:
            for part in _laid_together(numbered):
                ends = np.cumsum([len(reading) + 1 for _, reading in part])
                for start, end, owner in self._find("\n".join(reading for _, reading in part)):
                    index = int(np.searchsorted(ends, start, side="right"))
                    number, reading = part[index]
                    first = int(ends[index]) - len(reading) - 1
                    if end < ends[index]:  # not a run that goes on in the next one
                        found[number].add(Match(start - first, end - first, self._names[owner]))
        return [sorted(matches) for matches in found]

    def _find(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Start, end and benchmark of each run."""
        read, starts, ends = words(text)
        if len(read) < self._least:
            return
        mixed = _mixed(read)
        hashes = _run_hashes(mixed, self._least)
        likely = np.flatnonzero(self._table.take(_table_places(hashes, self._table), mode="clip"))
        likely = likely[_find_in(self._starts, hashes[likely])[1]]
        if len(likely) == 0:
            return
        for length, (runs, owners) in self._runs.items():
            first = likely[likely <= len(mixed) - length]
            places, hit = _find_in(runs, _run_hashes_at(mixed, length, first))
            first, owner = first[hit], owners[places[hit]]
            yield from zip(
                starts[first].tolist(), ends[first + length - 1].tolist(), owner.tolist(), strict=True
            )


def _laid_together(numbered: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Short texts in groups, since arrays cost little more for many characters than for few; ASCII and others apart."""
    groups: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    sizes = {True: 0, False: 0}
    for number, text in numbered:
        kind = text.isascii()
        groups[kind].append((number, text))
        sizes[kind] += len(text)
        if sizes[kind] >= _GROUP_CHARACTERS:
            yield groups[kind]
            groups[kind], sizes[kind] = [], 0
    yield from (group for group in groups.values() if group)


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


def _mixed(words: Hashes) -> Hashes:
    """Words' hashes with all bits spread."""
    mixed = (words ^ (words >> np.uint64(31))) * _WORD_FACTOR
    return mixed ^ (mixed >> np.uint64(29))


def _run_hashes(mixed: Hashes, length: int) -> Hashes:
    """Hashes of all runs of so many words: polynomials in the words' mixed hashes, each from those of its halves."""
    hashes, size = mixed, 1
    for bit in bin(length)[3:]:
        count = max(len(mixed) - 2 * size + 1, 0)
        hashes = hashes[:count] * np.uint64(pow(_RUN_BASE, size, 1 << 64)) + hashes[size : size + count]
        size *= 2
        if bit == "1":
            count = max(count - 1, 0)
            hashes = hashes[:count] * np.uint64(_RUN_BASE) + mixed[size : size + count]
            size += 1
    return hashes


def _run_hashes_at(mixed: Hashes, length: int, places: npt.NDArray[np.int64]) -> Hashes:
    """The same of the runs that start at some places."""
    hashes = np.zeros(len(places), np.uint64)
    for offset in range(length):
        hashes = hashes * np.uint64(_RUN_BASE) + mixed[places + offset]
    return hashes


def _find_in(known: Hashes, hashes: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Where hashes would be among sorted ones, and whether they are there."""
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return places, known[places] == hashes


def _table(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Marks the places of hashes in a table at least sixteen times as large: what is not marked is not there."""
    table = np.zeros(1 << max(16, len(hashes).bit_length() + 4), np.bool_)
    table[_table_places(hashes, table)] = True
    return table


def _table_places(hashes: Hashes, table: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return (hashes >> np.uint64(65 - len(table).bit_length())).view(np.int64)
