"""MinHash: documents' shingles as arrays, and signatures that estimate how similar two documents are.

Pure functions on texts and arrays; finding and removing duplicates in a corpus lives in
`data_pipeline.deduplication`.
"""

import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_WORD = re.compile(r"\w+")
_SHINGLE_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that a polynomial in it keeps all 64 bits
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_SEED = 1909_08053


@dataclass(frozen=True)
class Shingles:
    """What of a text is compared.

    Attributes:
        unit: "character" or "word".
        size: how many units make one shingle.
    """

    unit: Literal["character", "word"]
    size: int


def normalise(text: str) -> str:
    """The text as it is compared: case and the kind and number of blanks do not count."""
    return " ".join(text.casefold().split())


def text_hash(normal: str) -> tuple[int, int]:
    """128 bits of a normalised text, as two integers: equal for exact duplicates."""
    digest = hashlib.blake2b(normal.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def shingle_hashes(normal: str, shingles: Shingles) -> Hashes:
    """The set of a normalised text's shingles, as sorted distinct 64-bit hashes; a text shorter than one shingle has one."""
    if shingles.unit == "word":
        units = np.fromiter(map(_word_hash, _WORD.findall(normal)), np.uint64)
    elif normal.isascii():
        units = np.frombuffer(normal.encode(), np.uint8).astype(np.uint64)
    else:
        units = np.frombuffer(normal.encode("utf-32-le"), np.uint32).astype(np.uint64)
    if len(units) == 0:
        return np.empty(0, np.uint64)
    count = max(len(units) - shingles.size + 1, 1)
    hashes = units[:count].copy()
    for offset in range(1, min(shingles.size, len(units))):
        hashes *= _SHINGLE_BASE
        hashes += units[offset : offset + count]
    _mix(hashes)
    hashes.sort()
    return hashes[np.concatenate([[True], hashes[1:] != hashes[:-1]])]


@functools.lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest(), "little")


def _mix(hashes: Hashes) -> None:
    """Spread the bits of each value over all 64, in place and reversibly (two rounds of xor-shift and multiply)."""
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (29, 0xC4CEB9FE1A85EC53)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(32)


def jaccard(first: Hashes, second: Hashes) -> float:
    """Similarity of two sets given as sorted distinct hashes: |A ∩ B| / |A ∪ B|."""
    if len(first) > len(second):
        first, second = second, first
    if len(first) == 0:
        return float(len(second) == 0)
    places = np.searchsorted(second, first)
    places[places == len(second)] = 0
    common = int(np.count_nonzero(second[places] == first))
    return common / (len(first) + len(second) - common)


def signatures(sets: list[Hashes], values: int) -> Hashes:
    """MinHash signatures by one permutation: the hashes' range is cut in `values` bins, each gives its minimum.

    A bin without any hash borrows that of another, chosen by bin and attempt alone (optimal densification,
    Shrivastava 2017), so that two signatures agree in a fraction of places that estimates the sets' Jaccard
    similarity. Similar sets agree in their empty bins too, mostly.

    Returns:
        [sets, values]; rows of empty sets are filled with the largest value.
    """
    edges = np.array([(index << 64) // values for index in range(1, values)], np.uint64)
    result = np.full((len(sets), values), _EMPTY)
    for row, hashes in zip(result, sets, strict=True):
        starts = np.concatenate([[0], np.searchsorted(hashes, edges), [len(hashes)]])
        filled = starts[:-1] < starts[1:]
        row[filled] = hashes[starts[:-1][filled]]
    _densify(result)
    return result


def _densify(result: Hashes) -> None:
    """Fill empty bins in place, for all rows at a time, one attempt after the other."""
    values = result.shape[1]
    empty = result == _EMPTY
    empty[empty.all(axis=1)] = False  # an empty set has nothing to borrow
    borrowable = ~empty
    rows, bins = np.nonzero(empty)
    random = np.random.default_rng(_SEED)
    while len(rows):
        donors = np.asarray(random.integers(0, values, values))[bins]
        found = borrowable[rows, donors]
        result[rows[found], bins[found]] = result[rows[found], donors[found]]
        rows, bins = rows[~found], bins[~found]


def band_hashes(signature: Hashes, bands: int) -> Hashes:
    """One hash for each band of a signature: [bands, documents]; documents that agree in one are candidates."""
    documents, values = signature.shape
    rows = signature.reshape(documents, bands, values // bands)
    result = np.zeros((documents, bands), np.uint64)
    for place in range(rows.shape[2]):
        result *= _SHINGLE_BASE
        result += rows[:, :, place]
        _mix(result)
    return np.ascontiguousarray(result.T)


def short_signature(signature: Hashes) -> npt.NDArray[np.uint8]:
    """One byte of each value: enough to reject most false candidates without their texts."""
    return (signature & np.uint64(0xFF)).astype(np.uint8)


def estimated_jaccard(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Estimate of the Jaccard similarity of pairs, [pairs], from their short signatures, [pairs, values].

    Unequal values agree in their byte once in 256 times, which is taken off.
    """
    agreement = (first == second).mean(axis=1)
    return (agreement - 1 / 256) / (1 - 1 / 256)
