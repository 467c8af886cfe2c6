"""MinHash: normalised texts as arrays, their shingles, and signatures that estimate how similar two texts are.

Pure functions on texts and arrays. Texts are laid end to end, so that a thousand short ones cost as little as one long
one. Finding and removing duplicates in a corpus lives in `data_pipeline.deduplication.deduplication`.
"""

import contextlib
import functools
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.settings import Shingles

Codes = npt.NDArray[
    np.unsignedinteger
]  # uint8, bytes of `_CODE_PAGE`, where it has all characters, else uint32, code points
Hashes = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint32]

_WORD = re.compile(r"\w+")
_BLANK = 32
_CODE_PAGE = "cp1252"  # ASCII, western letters, and the quotes, dashes and dots of typesetters
_LAST_OF_PAGE = 0x2122
_MAPPED_CODE_POINTS = 0x20000  # all cased letters and blanks of Unicode are below
_SHORT_BASE = np.uint32(0x9E3779B1)  # odd, so that a polynomial in it keeps all bits
_LONG_BASE = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xFF51AFD7ED558CCD)  # odd: no two values become one, and their high bits depend on all
_NO_HASH = np.uint32(0xFFFFFFFF)
_SEED = 1909_08053
_GROUP_CHARACTERS = 1 << 16  # of so many at a time the arrays stay in the processor's cache
_SET_CHARACTERS = 1 << 20
_TABLE_HASHES = 1 << 20  # more are sorted
_TABLE_BITS: dict[Any, int] = {np.uint16: 18, np.uint32: 20}  # small ones stay in the processor's cache
_FEW_HASHES = 1 << 10  # for which arrays take longer than Python's sets
_WORD_BYTES = 8
_LAST_ASCII = 127


def _normal(character: str) -> str:
    """Lower case, where that is one code point, and one kind of blank."""
    lower = " " if character.isspace() else character.lower()
    return lower if len(lower) == 1 else character


@functools.cache
def _normal_bytes() -> bytes:
    """What each byte of the code page becomes; those that it has no character for stay."""
    characters = [bytes([code]).decode(_CODE_PAGE, "replace") for code in range(256)]
    normal = [_normal(character).encode(_CODE_PAGE, "replace") for character in characters]
    return bytes(
        code if character == "\ufffd" else byte[0]
        for code, (character, byte) in enumerate(zip(characters, normal, strict=True))
    )


@functools.cache
def _normal_code_points() -> npt.NDArray[np.uint32]:
    """What each code point becomes."""
    return np.fromiter(map(ord, map(_normal, map(chr, range(_MAPPED_CODE_POINTS)))), np.uint32)


@functools.cache
def _page_code_points() -> npt.NDArray[np.uint32]:
    """The code point of each byte of the code page."""
    return np.fromiter(map(ord, bytes(range(256)).decode(_CODE_PAGE, "replace")), np.uint32)


def normalise(text: str) -> Codes:
    """The text as it is compared: case and the kind and number of blanks do not count. Equal texts get equal codes."""
    return normalise_all([text])[0]


def normalise_all(texts: Iterable[str]) -> list[Codes]:
    """Each text as it is compared; what is in bytes is worked on end to end."""
    contents: list[bytes] = []
    result: list[Codes | None] = []
    for text in texts:
        text = text.strip()
        codes = None
        try:
            contents.append(text.encode("ascii" if text.isascii() else _CODE_PAGE))
        except UnicodeEncodeError:
            codes = _from_code_points(text)
            if codes.itemsize == 1:
                contents.append(codes.tobytes())
                codes = None
        result.append(codes)
    ends = np.cumsum(list(map(len, contents)))
    flat, ends = _single_blanks(np.frombuffer(b"".join(contents).translate(_normal_bytes()), np.uint8), ends)
    edges = iter(itertools.pairwise([0, *ends.tolist()]))
    return [flat[slice(*next(edges))] if codes is None else codes for codes in result]


def _single_blanks(
    codes: npt.NDArray[Any], ends: npt.NDArray[np.int64]
) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Texts end to end, which neither begin nor end with a blank, without all but the first of each run; and their ends."""
    keep = codes != _BLANK
    keep[1:] |= keep[:-1].copy()
    surplus = np.flatnonzero(~keep)
    return (codes[keep], ends - np.searchsorted(surplus, ends)) if len(surplus) else (codes, ends)


def _from_code_points(text: str) -> Codes:
    """What the code page has not all characters of: in code points, unless it has those that they become."""
    codes: npt.NDArray[Any] = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    mapped = _normal_code_points()
    largest = int(codes.max())
    if largest < len(mapped):
        codes = mapped[codes]
        largest = int(codes.max())
    else:
        codes = np.where(codes < len(mapped), mapped[np.minimum(codes, len(mapped) - 1)], codes)
    if (
        largest <= _LAST_OF_PAGE
    ):  # a rare blank, or a letter with a common one for its lower case, may be gone now
        with contextlib.suppress(UnicodeEncodeError):
            return np.frombuffer(codes.tobytes().decode("utf-32-le").encode(_CODE_PAGE), np.uint8)
    return _single_blanks(codes, np.array([len(codes)]))[0]


def code_points(codes: Codes) -> Codes:
    """A normalised text's code points, in bytes where all are ASCII."""
    if codes.itemsize > 1 or codes.tobytes().isascii():
        return codes
    return _page_code_points().take(codes)


def text_hash(codes: Codes) -> bytes:
    """16 bytes that are equal for texts that are the same when normalised."""
    digest = hashlib.sha256(bytes([codes.itemsize]))
    digest.update(codes.data)
    return digest.digest()[:16]


def _units(codes: Codes, shingles: Shingles) -> Codes:
    """The units that shingles are made of; fewer than one shingle's are filled up with zeros."""
    units = codes
    if shingles.unit == "word":
        text = code_points(codes).astype(np.uint32).tobytes().decode("utf-32-le")
        units = np.fromiter(map(_word_hash, _WORD.findall(text)), np.uint32)
    missing = shingles.size - len(units) if len(units) else 0
    return np.concatenate([units, np.zeros(missing, units.dtype)]) if missing > 0 else units


@functools.lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little")


def shingle_hashes(codes: Codes, shingles: Shingles) -> Hashes:
    """The set of a normalised text's shingles, as 64-bit hashes: of a text above a million units each hash once, else as
    they come, for `overlap` counts them once all the same. Two texts are compared in one form: both in bytes, or both as
    `code_points` gives them."""
    units = _units(codes, shingles)
    if len(units) <= _SET_CHARACTERS:
        return _hashes(units, shingles.size)
    return sorted_distinct(np.concatenate([*shingle_blocks(codes, shingles, _SET_CHARACTERS)]))


def shingle_blocks(codes: Codes, shingles: Shingles, units_a_block: int) -> Iterator[Hashes]:
    """The same, block by block of a text, each block's distinct."""
    units = _units(codes, shingles)
    for start in range(0, max(len(units) - shingles.size + 1, 0), units_a_block):
        yield distinct(_hashes(units[start : start + units_a_block + shingles.size - 1], shingles.size))


def _hashes(units: Codes, size: int) -> Hashes:
    """Of each `size` consecutive units one hash; of up to eight bytes, different ones for different shingles."""
    count = len(units) - size + 1
    if count < 1:
        return np.empty(0, np.uint64)
    if size > _WORD_BYTES:
        hashes = _polynomial(units.astype(np.uint64), size, _LONG_BASE)
    else:
        hashes = _packed(units.astype(np.uint8, copy=False), size)
        if units.itemsize > 1 and len(places := _with_others(units, size)):
            polynomial = np.zeros(len(places), np.uint64)
            for place in range(size):
                polynomial = polynomial * _LONG_BASE + units[places + place]
            hashes[places] = polynomial
    hashes *= _SPREAD
    return hashes


def _packed(codes: npt.NDArray[np.uint8], size: int) -> Hashes:
    """The bytes of each shingle as one number."""
    padded = codes.tobytes() + bytes(_WORD_BYTES)
    shape = (len(codes) - size + 1,)
    words: Hashes = np.ndarray(shape, "<u8", padded, strides=(1,))
    return words & np.uint64((1 << 8 * size) - 1)


def _with_others(units: Codes, size: int) -> npt.NDArray[np.int64]:
    """The places of shingles in which a unit is not ASCII."""
    is_other = units > _LAST_ASCII
    found = is_other[: len(units) - size + 1].copy()
    for place in range(1, size):
        found |= is_other[place : len(found) + place]
    return np.flatnonzero(found)


# Sets of some thousand hashes are compared by laying them in a table by some of their bits, faster than by sorting. Of the
# hashes that share a place the last one lies there; what is another hash than that, a few in a hundred, is compared by
# itself.


def distinct(hashes: Hashes) -> Hashes:
    """Each value once."""
    if len(hashes) > _TABLE_HASHES:
        return sorted_distinct(hashes)
    own, last = _lay(hashes)
    is_other = hashes.take(last, mode="clip") != hashes
    return np.concatenate([hashes[last == own], sorted_distinct(hashes[is_other])])


class Overlap(NamedTuple):
    """How many different hashes are in a first collection, in a second one, and in both."""

    first: int
    second: int
    common: int


def overlap(first: Hashes, second: Hashes) -> Overlap:
    """Compare two sets given as hashes, each once or more."""
    size = len(first)
    if size + len(second) > _TABLE_HASHES:
        return _sorted_overlap(first, second)
    hashes = np.concatenate([first, second])
    own, last = _lay(hashes)
    is_last, is_known = last == own, hashes.take(last, mode="clip") == hashes
    in_both = np.zeros(len(hashes), np.bool_)  # of the second's, which were laid later
    in_both[last[:size][(last[:size] >= size) & is_known[:size]]] = True
    common = int(np.count_nonzero(in_both))
    others = _other_overlap(first[~is_known[:size]], second[~is_known[size:]])
    return Overlap(
        int(np.count_nonzero(is_last[:size])) + common + others.first,
        int(np.count_nonzero(is_last[size:])) + others.second,
        common + others.common,
    )


def _lay(hashes: Hashes) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The numbers of hashes, and of each the number of the last one that has the same place."""
    kind = np.uint16 if len(hashes) <= 1 << 16 else np.uint32
    table, numbers = _table(kind)
    places = (hashes >> np.uint64(64 - _TABLE_BITS[kind])).view(np.int64)
    own = numbers[: len(hashes)]
    table[places] = own
    return own, table.take(places, mode="clip")  # nothing to clip, but this way is faster


@functools.cache
def _table(kind: type) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A table of numbers, whose content does not matter, and the numbers in order."""
    return np.zeros(1 << _TABLE_BITS[kind], kind), np.arange(
        min(_TABLE_HASHES, 1 << 8 * kind().itemsize), dtype=kind
    )


def _other_overlap(first: Hashes, second: Hashes) -> Overlap:
    if len(first) + len(second) > _FEW_HASHES:
        return _sorted_overlap(first, second)
    one, other = set(first.tolist()), set(second.tolist())
    return Overlap(len(one), len(other), len(one & other))


def _sorted_overlap(first: Hashes, second: Hashes) -> Overlap:
    first, second = sorted_distinct(first), sorted_distinct(second)
    both = np.sort(np.concatenate([first, second]), kind="stable")  # merges what is sorted
    return Overlap(len(first), len(second), int(np.count_nonzero(both[1:] == both[:-1])))


def sorted_distinct(hashes: Hashes) -> Hashes:
    """Each value once, sorted: several times as fast as `numpy.unique`, which builds a table of its own first."""
    is_new = np.ones(len(hashes), np.bool_)
    np.greater(hashes[1:], hashes[:-1], out=is_new[1:])
    if is_new.all():
        return hashes
    ordered = np.sort(hashes)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    return ordered[is_new]


def jaccard(first: Hashes, second: Hashes) -> float:
    """Similarity of two sets given as hashes, each once or more: |A ∩ B| / |A ∪ B|; 1 for two empty ones."""
    found = overlap(first, second)
    together = found.first + found.second - found.common
    return found.common / together if together else 1.0


def _polynomial(values: npt.NDArray[Any], size: int, base: Any) -> npt.NDArray[Any]:
    """Of each `size` consecutive values one hash, in their own integer type: [values - size + 1]."""
    hashes, length = values, 1
    for bit in bin(size)[3:]:  # a run's hash from those of its halves
        count = len(values) - 2 * length + 1
        hashes = hashes[:count] * base**length + hashes[length : length + count]
        length *= 2
        if bit == "1":
            count -= 1
            hashes = hashes[:count] * base + values[length : length + count]
            length += 1
    return hashes.copy() if size == 1 else hashes


def _mix64(hashes: Hashes) -> None:
    """Spread the bits of each value over all 64, in place and reversibly (two rounds of xor-shift and multiply)."""
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (29, 0xC4CEB9FE1A85EC53)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(32)


def _mix32(hashes: Signatures) -> None:
    """The same for 32 bits."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes ^= hashes >> np.uint32(shift)
        hashes *= np.uint32(factor)
    hashes ^= hashes >> np.uint32(16)


def signatures(texts: Iterable[Codes], shingles: Shingles, values: int) -> Signatures:
    """MinHash signatures by one permutation: the hashes' range is cut in `values` bins, each gives its minimum.

    A bin without any hash borrows that of another, chosen by bin and attempt alone (optimal densification,
    Shrivastava 2017), so that two signatures agree in a fraction of places that estimates the texts' Jaccard
    similarity. Similar texts agree in their empty bins too, mostly.

    Args:
        texts: normalised texts.
        shingles: what is compared.
        values: a power of two.

    Returns:
        [texts, values]; rows of empty texts are filled with the largest value.
    """
    units = [_units(code_points(codes), shingles) for codes in texts]
    result = np.full((len(units) + 1, values), _NO_HASH)
    if units:
        ends = np.cumsum(list(map(len, units)))
        _take_minima(np.concatenate(units), ends, shingles.size, result)
    _densify(result[:-1])
    return result[:-1]


def _take_minima(flat: Codes, ends: npt.NDArray[np.int64], size: int, result: Signatures) -> None:
    """Of texts end to end, each of none or `size` units and more, the least hash of each bin; the last row is for shingles
    that cross from one into the next."""
    values = result.shape[1]
    for start in range(0, len(flat) - size + 1, _GROUP_CHARACTERS):
        part = flat[start : start + _GROUP_CHARACTERS + size - 1].astype(np.uint32, copy=False)
        hashes = _polynomial(part, size, _SHORT_BASE)
        _mix32(hashes)
        first, last = np.searchsorted(ends, [start, start + len(hashes) - 1], side="right").tolist()
        ends_here = ends[first : last + 1] - start
        lengths = np.diff(np.minimum(ends_here, len(hashes)), prepend=0)
        cells = np.repeat(np.arange(first, last + 1) * values, lengths)
        crossing = (ends_here[:, None] - np.arange(1, size)).ravel()
        cells[crossing[(crossing >= 0) & (crossing < len(hashes))]] = (len(result) - 1) * values
        if values > 1:
            cells += (hashes >> np.uint32(33 - values.bit_length())).astype(np.int64)
        np.minimum.at(result.reshape(-1), cells, hashes)


def _densify(result: Signatures) -> None:
    """Fill empty bins in place, for all rows at a time, one attempt after the other."""
    values = result.shape[1]
    empty = result == _NO_HASH
    rows, bins = np.nonzero(empty)
    borrows = np.bincount(rows, minlength=1)[rows] < values  # an empty set has nothing to borrow
    rows, bins = rows[borrows], bins[borrows]
    random = np.random.default_rng(_SEED)
    while len(rows):
        donors = np.asarray(random.integers(0, values, values))[bins]
        found = ~empty[rows, donors]
        result[rows[found], bins[found]] = result[rows[found], donors[found]]
        rows, bins = rows[~found], bins[~found]


def band_hashes(signature: Signatures, bands: int) -> Hashes:
    """One hash for each band of a signature: [bands, texts]; texts that agree in one are candidates."""
    texts, values = signature.shape
    rows = signature.reshape(texts, bands, values // bands)
    result = np.zeros((texts, bands), np.uint64)
    for place in range(rows.shape[2]):
        result *= _LONG_BASE
        result += rows[:, :, place]
        _mix64(result)
    return np.ascontiguousarray(result.T)


def short_signature(signature: Signatures) -> npt.NDArray[np.uint8]:
    """One byte of each value: enough to reject most false candidates without their texts."""
    return signature.astype(np.uint8)


def estimated_jaccard(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Estimate of the Jaccard similarity of pairs, [pairs], from their short signatures, [pairs, values].

    Unequal values agree in their byte once in 256 times, which is taken off.
    """
    agreement = (first == second).mean(axis=1)
    return (agreement - 1 / 256) / (1 - 1 / 256)
