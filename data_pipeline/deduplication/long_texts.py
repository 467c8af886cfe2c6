"""Long texts: unrelated books share a third of their runs of five characters and more, for there are only so many.

What two long texts share is therefore held against what others of their kind would share by chance: a similarity above
that is the Jaccard similarity of the whole texts, as for short ones. Below it, both are cut at places where they agree
(the same 32 characters, once in each, in the same order), so what was inserted or removed shifts nothing, and |A ∩ B| and
|A ∪ B| of the pieces' shingles are summed; two texts that agree nowhere have similarity 0. Where they agree in more than
can be laid side by side so (what repeats itself, pages in another order), it is again the similarity of the whole texts.
Short texts are compared by `data_pipeline.deduplication.minhash`.
"""

import bisect
import functools
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from data_pipeline.deduplication.minhash import (
    Codes,
    Hashes,
    distinct,
    jaccard,
    overlap,
    shingle_blocks,
    shingle_hashes,
    sorted_distinct,
)
from data_pipeline.settings import Shingles

LONG_CHARACTERS = 100_000
_SET_HASHES = 1 << 21  # of more shingles in a half, a million and more stand for all: off by 0.0004
_MERGED_HASHES = 1 << 19
_PAGE_UNITS = 1 << 14
_BEYOND_CHANCE = 0.05
_FEW_WINDOWS = 0.25  # of those that a text of this length has
_UNPLACED = 0.02
_PIECE_CHARACTERS = 20_000
_LONGEST_PIECE = 60_000
_WINDOW = 32
_ANCHOR_EVERY = 256
_BASE = 0x9E3779B97F4A7C15
_BLOCK_CHARACTERS = 1 << 20

Places = npt.NDArray[np.int64]
Windows = tuple[Hashes, Places]


class _Set:
    """Distinct hashes, collected: all of them, or where they are too many, those up to the largest that is looked at."""

    def __init__(self) -> None:
        self.largest = (1 << 64) - 1
        self.hashes: Hashes = np.empty(0, np.uint64)
        self._new: list[Hashes] = []
        self._size = 0

    def add(self, hashes: Hashes) -> None:
        self._new.append(hashes[hashes <= np.uint64(self.largest)])
        self._size += len(self._new[-1])
        if self._size >= max(len(self.hashes), _MERGED_HASHES):
            self.merge()

    def merge(self) -> None:
        """Bring `hashes` up to date, sorted."""
        self.hashes = sorted_distinct(np.concatenate([self.hashes, *self._new]))
        self._new, self._size = [], 0
        while len(self.hashes) > _SET_HASHES:
            self.largest >>= 1
            self.hashes = _up_to(self.hashes, self.largest).copy()


class LongText:
    """A long normalised text, and what is compared of it.

    Attributes:
        sample: its shingles' hashes, sorted: all, or where they are many millions, those up to the largest.
        largest: the largest hash that is looked at.
        chance: what another text of this kind and length shares with it, at most: judged by its even pages and its odd
            ones. If each half holds a share p of all shingles that there are, all as frequent, the halves' similarity is
            p / (2 - p), and a whole text holds 1 - (1 - p)² of them. Where some are rarer, the share grows more slowly.
    """

    def __init__(self, codes: Codes, shingles: Shingles) -> None:
        self.codes = codes
        self.shingles = shingles
        halves = _Set(), _Set()
        for page, hashes in enumerate(shingle_blocks(codes, shingles, _PAGE_UNITS)):
            halves[page % 2].add(hashes)
        for half in halves:
            half.merge()
        self.largest = min(half.largest for half in halves)
        even, odd = (_up_to(half.hashes, self.largest) for half in halves)
        self.sample = sorted_distinct(np.concatenate([even, odd]))
        share = 2 * (
            1 - len(self.sample) / max(len(even) + len(odd), 1)
        )  # of 2 J / (1 + J), J of even and odd
        share = 1 - (1 - share) ** 2
        self.chance = share / (2 - share)

    @functools.cached_property
    def windows(self) -> Windows:
        """Windows chosen by their content, about one in `_ANCHOR_EVERY`: hashes and places."""
        values, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for start in range(0, len(self.codes) - _WINDOW + 1, _BLOCK_CHARACTERS):
            hashes = self.codes[start : start + _BLOCK_CHARACTERS + _WINDOW - 1].astype(np.uint64)
            step = 1
            while step < _WINDOW:  # a window's hash from those of its halves
                hashes = hashes[:-step] * np.uint64(pow(_BASE, step, 1 << 64)) + hashes[step:]
                hashes ^= hashes >> np.uint64(29)
                step *= 2
            chosen = np.flatnonzero((hashes >> np.uint64(32)) % np.uint64(_ANCHOR_EVERY) == 0)
            values.append(hashes[chosen])
            places.append(chosen + start)
        return np.concatenate(values), np.concatenate(places)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, about."""
        return self.codes.nbytes + self.sample.nbytes


def long_similarity(first: LongText, second: LongText) -> float:
    """Jaccard similarity of two long texts, without what texts of their kind share by chance."""
    whole = _whole_similarity(first, second)
    if whole > max(first.chance, second.chance) + _BEYOND_CHANCE:
        return whole
    places = _common_places(first, second)
    if all(_is_placed(*pair, places) for pair in ((first, second), (second, first))):
        return _piecewise_similarity(first, second, places)
    return whole


def _whole_similarity(first: LongText, second: LongText) -> float:
    """Jaccard similarity of the texts' shingles; of a sample of them where they are many millions."""
    largest = min(first.largest, second.largest)
    return jaccard(_up_to(first.sample, largest), _up_to(second.sample, largest))


def _up_to(hashes: Hashes, largest: int) -> Hashes:
    return hashes[: np.searchsorted(hashes, np.uint64(largest), side="right")]


def _is_placed(text: LongText, other: LongText, places: list[tuple[int, int]]) -> bool:
    """Whether the common places are nearly all that a text has in common with another."""
    values = text.windows[0]
    if len(values) < _FEW_WINDOWS * len(text.codes) / _ANCHOR_EVERY:
        return False
    common = np.count_nonzero(np.isin(values, other.windows[0]))
    return bool(common - len(places) <= _UNPLACED * len(values))


def _piecewise_similarity(first: LongText, second: LongText, places: list[tuple[int, int]]) -> float:
    """Jaccard similarity summed over pieces that belong together."""
    common = together = 0
    for one, other in _pieces(first.codes, second.codes, places):
        if max(len(one), len(other)) <= _LONGEST_PIECE:
            found = overlap(shingle_hashes(one, first.shingles), shingle_hashes(other, first.shingles))
            common += found.common
            together += found.first + found.second - found.common
        else:  # nothing of it agrees
            together += sum(_distinct_shingles(part, first.shingles) for part in (one, other))
    return common / together if together else 1.0


def _distinct_shingles(text: Codes, shingles: Shingles) -> int:
    """Shingles of a text, counted as those of its pieces are."""
    return sum(
        len(distinct(shingle_hashes(text[start : start + _PIECE_CHARACTERS], shingles)))
        for start in range(0, len(text), _PIECE_CHARACTERS)
    )


def _pieces(first: Codes, second: Codes, places: list[tuple[int, int]]) -> Iterator[tuple[Codes, Codes]]:
    """Both texts cut at the common places, one pair of pieces after the other."""
    last = previous = (0, 0)
    cuts = [last]
    for place in [*places, (len(first), len(second))]:
        jump = max(place[0] - previous[0], place[1] - previous[1])
        if jump > _PIECE_CHARACTERS and previous != last:  # something is in one text only
            cuts.append(previous)
            last = previous
        if place[0] - last[0] + place[1] - last[1] >= 2 * _PIECE_CHARACTERS:
            cuts.append(place)
            last = place
        previous = place
    if last != previous:
        cuts.append(previous)
    for start, end in itertools.pairwise(cuts):
        yield first[start[0] : end[0]], second[start[1] : end[1]]


def _common_places(first: LongText, second: LongText) -> list[tuple[int, int]]:
    """Places where both texts hold the same window, rising in both."""
    values, places = _once(*first.windows)
    other_values, other_places = _once(*second.windows)
    _, one, other = np.intersect1d(values, other_values, assume_unique=True, return_indices=True)
    order = np.argsort(places[one])
    return _longest_rising(places[one][order].tolist(), other_places[other][order].tolist())


def _once(values: Hashes, places: Places) -> Windows:
    """The windows that occur once in their text."""
    distinct, firsts, counts = np.unique(values, return_index=True, return_counts=True)
    return distinct[counts == 1], places[firsts[counts == 1]]


def _longest_rising(places: list[int], others: list[int]) -> list[tuple[int, int]]:
    """The longest sequence of pairs that rises in `others` too; `places` rise already."""
    ends: list[int] = []  # the least end of a rising sequence of each length
    ends_at: list[int] = []
    before: list[int] = []
    for index, other in enumerate(others):
        length = bisect.bisect_left(ends, other)
        before.append(ends_at[length - 1] if length else -1)
        ends[length : length + 1] = [other]
        ends_at[length : length + 1] = [index]
    chain = []
    index = ends_at[-1] if ends_at else -1
    while index >= 0:
        chain.append((places[index], others[index]))
        index = before[index]
    return chain[::-1]
