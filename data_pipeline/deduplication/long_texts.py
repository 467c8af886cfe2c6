"""Long texts are compared in pieces: unrelated books share a third of their runs of five characters, for there are only
so many; pieces of some pages do not.

Both texts are cut at places where they agree (the same 32 characters, once in each, in the same order), so what was
inserted or removed shifts nothing; then |A ∩ B| and |A ∪ B| of the pieces' shingles are summed. Two texts that agree
nowhere have similarity 0. Short texts are compared as a whole by `data_pipeline.deduplication.minhash`.
"""

import bisect
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from data_pipeline.deduplication.minhash import Codes, Hashes, common_hashes, shingle_hashes
from data_pipeline.settings import Shingles

LONG_CHARACTERS = 100_000
_PIECE_CHARACTERS = 20_000
_LONGEST_PIECE = 60_000
_WINDOW = 32
_ANCHOR_EVERY = 256
_BASE = 0x9E3779B97F4A7C15
_BLOCK_CHARACTERS = 1 << 20

Places = npt.NDArray[np.int64]


def piecewise_similarity(first: Codes, second: Codes, shingles: Shingles) -> float:
    """Jaccard similarity of two long normalised texts, summed over pieces that belong together."""
    common = together = 0
    for one, other in _pieces(first, second):
        if max(len(one), len(other)) <= _LONGEST_PIECE:
            sets = shingle_hashes(one, shingles), shingle_hashes(other, shingles)
            agree = common_hashes(*sets)
            common += agree
            together += len(sets[0]) + len(sets[1]) - agree
        else:  # nothing of it agrees
            together += _distinct_shingles(one, shingles) + _distinct_shingles(other, shingles)
    return common / together if together else 1.0


def _distinct_shingles(text: Codes, shingles: Shingles) -> int:
    """Shingles of a text, counted as those of its pieces are."""
    return sum(
        len(shingle_hashes(text[start : start + _PIECE_CHARACTERS], shingles))
        for start in range(0, len(text), _PIECE_CHARACTERS)
    )


def _pieces(first: Codes, second: Codes) -> Iterator[tuple[Codes, Codes]]:
    """Both texts cut at the same places, one pair of pieces after the other."""
    last = previous = (0, 0)
    cuts = [last]
    for place in [*_common_places(first, second), (len(first), len(second))]:
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


def _common_places(first: Codes, second: Codes) -> list[tuple[int, int]]:
    """Places where both texts hold the same window, rising in both."""
    values, places = _anchors(first)
    other_values, other_places = _anchors(second)
    _, one, other = np.intersect1d(values, other_values, assume_unique=True, return_indices=True)
    order = np.argsort(places[one])
    return _longest_rising(places[one][order].tolist(), other_places[other][order].tolist())


def _anchors(codes: Codes) -> tuple[Hashes, Places]:
    """Windows chosen by their content, about one in `_ANCHOR_EVERY`, that occur once: hashes and places."""
    values, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for start in range(0, len(codes) - _WINDOW + 1, _BLOCK_CHARACTERS):
        hashes = codes[start : start + _BLOCK_CHARACTERS + _WINDOW - 1].astype(np.uint64)
        step = 1
        while step < _WINDOW:  # a window's hash from those of its halves
            hashes = hashes[:-step] * np.uint64(pow(_BASE, step, 1 << 64)) + hashes[step:]
            hashes ^= hashes >> np.uint64(29)
            step *= 2
        chosen = np.flatnonzero((hashes >> np.uint64(32)) % np.uint64(_ANCHOR_EVERY) == 0)
        values.append(hashes[chosen])
        places.append(chosen + start)
    all_values, all_places = np.concatenate(values), np.concatenate(places)
    distinct, firsts, counts = np.unique(all_values, return_index=True, return_counts=True)
    return distinct[counts == 1], all_places[firsts[counts == 1]]


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
