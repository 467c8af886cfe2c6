"""Runs of words that benchmarks hold, and where documents hold them too.

Words are compared without case and punctuation. A text's words are found and hashed as arrays, so that a document
costs a few nanoseconds a character. Which texts benchmarks hold is `data_pipeline.decontamination.texts`' part, what becomes
of documents `data_pipeline.decontamination.decontamination`'s.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.decontamination.texts import BenchmarkError, benchmark_texts

Hashes = npt.NDArray[np.uint64]

WORD = re.compile(r"\w+")
_JOINED = re.compile(r"(\w) n't\b")
_SPLIT = re.compile(r"(\w)n't\b")
_HASH_BASE = 0x9E3779B97F4A7C15
_WORD_FACTOR = np.uint64(0xC4CEB9FE1A85EC53)
_CODE_POINTS = 0x110000
_PERIOD = 64  # characters of a word after which the factors repeat
_BLOCK_CHARACTERS = 1 << 20


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
        self.titles: dict[str, str] = {}
        collected: dict[int, list[tuple[int, Hashes]]] = defaultdict(list)
        for owner, (name, path) in enumerate(files):
            sizes = len(self.titles), sum(map(len, collected.values()))
            for text, title in benchmark_texts(path, name):
                if title:
                    self.titles.setdefault(title_words(title), name)
                for way in dict.fromkeys((text, _JOINED.sub(r"\1n't", text), _SPLIT.sub(r"\1 n't", text))):
                    words = word_hashes(way)
                    length = min(len(words), ngram)
                    if length >= minimum_words:
                        ((_, runs),) = _run_hashes(words, [length])
                        collected[length].append((owner, runs))
            if sizes == (len(self.titles), sum(map(len, collected.values()))):
                raise BenchmarkError(
                    f"{path}: holds no text of {minimum_words} words or more, so nothing would be looked for"
                )
        self.titles.pop("", None)  # a title without words says nothing
        self._runs: dict[int, tuple[Hashes, npt.NDArray[np.int64], npt.NDArray[np.bool_]]] = {}
        for length, parts in sorted(collected.items()):
            hashes = np.concatenate([runs for _, runs in parts])
            owners = np.repeat([owner for owner, _ in parts], [len(runs) for _, runs in parts])
            distinct, firsts = np.unique(hashes, return_index=True)
            self._runs[length] = distinct, owners[firsts], _table(distinct)

    def find(self, text: str) -> list[Match]:
        """All runs of a document's words (places in `WORD.findall(text)`) that a benchmark holds, in order."""
        found = []
        for length, runs in _run_hashes(word_hashes(text), self._runs):
            hashes, owners, table = self._runs[length]
            likely = np.flatnonzero(table.take(_table_places(runs, table), mode="clip"))
            if len(likely) == 0:
                continue
            places = np.minimum(np.searchsorted(hashes, runs[likely]), len(hashes) - 1)
            hit = hashes[places] == runs[likely]
            pairs = zip(likely[hit].tolist(), owners[places[hit]].tolist(), strict=True)
            found += [Match(start, length, self._names[owner]) for start, owner in pairs]
        return sorted(found)


@functools.lru_cache(maxsize=1)
def benchmark_ngrams(files: tuple[tuple[str, Path], ...], ngram: int, minimum_words: int) -> BenchmarkNgrams:
    """`BenchmarkNgrams`, built once a process."""
    return BenchmarkNgrams(files, ngram, minimum_words)


def title_words(title: str) -> str:
    """A title without case and punctuation."""
    return " ".join(WORD.findall(title.lower()))


def word_hashes(text: str) -> Hashes:
    """A hash of each of a text's words (`WORD.findall`), in order, of their lower-case characters."""
    letters = _letters()
    if text.isascii():
        codes: npt.NDArray[np.integer] = np.frombuffer(text.encode(), np.uint8)
    else:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    lower = letters.take(codes, mode="clip")
    inside = np.zeros(len(lower) + 2, np.bool_)
    np.not_equal(lower, 0, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    parts = [np.empty(0, np.uint64)]
    first = 0
    while first < len(starts):  # some words at a time, so that memory stays bounded
        last = int(np.searchsorted(starts, starts[first] + _BLOCK_CHARACTERS))
        parts.append(_hash_words(lower, starts[first:last], ends[first:last]))
        first = last
    return np.concatenate(parts)


@functools.cache
def _letters() -> npt.NDArray[np.uint32]:
    """What each code point becomes: its lower case, where that is one, or 0 where it is in no word."""
    table = np.zeros(_CODE_POINTS, np.uint32)
    everything = "".join(chr(code) for code in range(_CODE_POINTS) if not 0xD800 <= code < 0xE000)
    for word in WORD.findall(everything):
        for character in word:
            lower = character.lower()
            table[ord(character)] = ord(lower) if len(lower) == 1 else ord(character)
    return table


@functools.cache
def _powers() -> Hashes:
    return np.array([pow(_HASH_BASE, exponent, 1 << 64) for exponent in range(_PERIOD)], np.uint64)


def _hash_words(
    lower: npt.NDArray[np.uint32], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> Hashes:
    """Hashes of consecutive words, given where they are."""
    characters = lower[starts[0] : ends[-1]]
    characters = characters[characters != 0]
    lengths = ends - starts
    firsts = np.cumsum(lengths) - lengths
    place = np.arange(len(characters)) - np.repeat(firsts, lengths)
    hashes = np.add.reduceat(characters * _powers()[place % _PERIOD], firsts)
    return hashes ^ (lengths.astype(np.uint64) << np.uint64(56))


def _run_hashes(words: Hashes, lengths: Iterable[int]) -> Iterator[tuple[int, Hashes]]:
    """Hashes of all runs of so many words, for each of the rising lengths: polynomials in the words' mixed hashes."""
    mixed = (words ^ (words >> np.uint64(31))) * _WORD_FACTOR
    mixed ^= mixed >> np.uint64(29)
    hashes = np.zeros(len(words), np.uint64)
    size = 0
    for length in lengths:
        while size < min(length, len(words)):
            hashes = hashes[: len(words) - size]
            hashes *= np.uint64(_HASH_BASE)
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
