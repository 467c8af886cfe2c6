"""The words of a text as decontamination compares them, and where each stands in it.

Case, accents, compatibility forms (ligatures, wide letters), combining marks and characters that are not seen (soft
hyphens, zero-width and other format characters, variation selectors) do not count; all but letters and digits parts
words. What several ways of reading could make of a text, `readings` says. A text's words are found and hashed as
arrays, so that a document costs a few nanoseconds a character. Runs of words are `data_pipeline.decontamination.ngrams`'
part.
"""

import functools
import html
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_HASH_BASE = 0x9E3779B97F4A7C15
_CODE_POINTS = 0x110000
_LEAST_BITS = 14
_BLOCK_CHARACTERS = 1 << 20
_BLANK = re.compile(r"\s")
_NOT_SEEN = "\u2060"
_APOSTROPHES = frozenset("ʹʺʻʼʽʾʿꞋꞌ")  # that are letters to Unicode
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")  # letters that are not seen
_NO_TEXT = frozenset(("Cn", "Co", "Cs"))
_NOT_SINGLE = 0xFFFFFFFF

_PARTS_WORDS = re.compile("[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_MARKUP = re.compile(
    r"""[<&\[\]*_~`\u00ad\u2010-](?:
      (?<=<)/?(?!unk>)[A-Za-z][^<>]{0,200}>                      # a tag
    | (?<=&)(?:\#\d{1,7}|\#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]\w{1,7});  # an entity
    | (?<=\[)[^\[\]\n]{1,20}\](?![(\[])                          # a note
    | (?<=\])\([^()\n]{0,500}\)                                  # a link's target
    | (?<=\w[-\u2010\u00ad])\r?\n[ \t]*(?=\w)                    # a word broken at the end of a line
    | (?<=[^\W_][*_~`])[*_~`]{0,3}(?=[^\W_])                     # emphasis within a word
    )""",
    re.VERBOSE,
)


class Words(NamedTuple):
    """A text's words, in order: hashes of their folded characters, and the characters of the text they span."""

    hashes: Hashes
    starts: Places
    ends: Places


def readings(text: str) -> Iterator[str]:
    """The text, and as what else it can be read, where that differs; all as long as the text.

    Characters that are not seen may stand between words instead of a blank; and markup may be none of the text: tags,
    entities, notes in brackets, targets of links, marks within a word, hyphens at the ends of lines.
    """
    yield text
    if not text.isascii():
        apart = _PARTS_WORDS.sub(" ", text)
        if apart != text:
            yield apart
    bare = _MARKUP.sub(_without_markup, text)
    if bare != text:
        yield bare


def _without_markup(match: re.Match[str]) -> str:
    mark = match.group()
    if mark[0] == "&":
        return html.unescape(mark)[: len(mark)].ljust(len(mark), _NOT_SEEN)
    return (" " if mark[0] in "<[]" else _NOT_SEEN) * len(mark)


def folded(text: str) -> str:
    """A text's words as they are compared, with single blanks between them."""
    _, counts, offsets, flat = _folding()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    parts = [flat[offsets[code] : offsets[code] + counts[code]].tolist() for code in codes.tolist()]
    return " ".join("".join(chr(code) if code else " " for part in parts for code in part).split())


def words(text: str) -> Words:
    """The words of a text."""
    blocks = [_words(text[start:end], start) for start, end in _blocks(text)]
    return blocks[0] if len(blocks) == 1 else Words(*map(np.concatenate, zip(*blocks, strict=True)))


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Where to cut a long text, so that memory stays bounded: at blanks, where there are any."""
    start = 0
    while len(text) - start > 2 * _BLOCK_CHARACTERS:
        blank = _BLANK.search(text, start + _BLOCK_CHARACTERS, start + 2 * _BLOCK_CHARACTERS)
        end = blank.start() if blank else start + 2 * _BLOCK_CHARACTERS
        yield start, end
        start = end
    yield start, len(text)


def _words(text: str, first: int) -> Words:
    lower, origin = _folded_codes(text)
    inside = np.zeros(len(lower) + 2, np.bool_)
    np.not_equal(lower, 0, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    if len(starts) == 0:
        return Words(np.empty(0, np.uint64), starts, ends)
    hashes = _hash_words(lower, starts, ends)
    if origin is not None:
        starts, ends = origin[starts], origin[ends - 1] + 1
    return Words(hashes, starts + first, ends + first)


def _folded_codes(text: str) -> tuple[npt.NDArray[np.uint32], Places | None]:
    """A text's folded code points, 0 between words; and the place in the text of each, unless they are the same."""
    single, counts, offsets, flat = _folding()
    if text.isascii():
        codes: npt.NDArray[np.integer] = np.frombuffer(text.encode(), np.uint8)
    else:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    lower = single.take(codes, mode="clip")
    if lower.max(initial=0) != _NOT_SINGLE:
        return lower, None
    sizes = counts.take(codes, mode="clip")
    origin = np.repeat(np.arange(len(codes)), sizes)
    within = np.arange(len(origin)) - np.repeat(np.cumsum(sizes, dtype=np.int64) - sizes, sizes)
    return flat.take(offsets.take(codes[origin]) + within), origin


@functools.cache
def _folding() -> tuple[
    npt.NDArray[np.uint32], npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.uint32]
]:
    """What each code point becomes: one folded code point (0 between words) or `_NOT_SINGLE`; how many there are, none
    where it is not seen; and where they stand in the array of all of them."""
    single = np.zeros(_CODE_POINTS, np.uint32)
    counts = np.ones(_CODE_POINTS, np.uint8)
    offsets = np.zeros(_CODE_POINTS, np.int32)  # of most: to the 0 that is there first
    flat = [0]
    for code in range(_CODE_POINTS):
        character = chr(code)
        category = unicodedata.category(character)
        if category in _NO_TEXT:
            continue
        if _is_not_seen(character, category):
            single[code], counts[code] = _NOT_SINGLE, 0
        elif (fold := _fold(character)) != [0]:
            single[code] = fold[0] if len(fold) == 1 else _NOT_SINGLE
            counts[code], offsets[code] = len(fold), len(flat)
            flat += fold
    return single, counts, offsets, np.array(flat, np.uint32)


def _is_not_seen(character: str, category: str) -> bool:
    """Format and control characters, marks on the character before, fillers."""
    return (
        category == "Cf"
        or category[0] == "M"
        or character in _FILLERS
        or (category == "Cc" and not character.isspace())
    )


def _fold(character: str) -> list[int]:
    """The letters and digits of a character without case, marks and compatibility forms; 0 for anything else."""
    if not (character.isalnum() or unicodedata.decomposition(character).startswith("<circle>")):
        return [0]
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    marks = [part for part in plain if unicodedata.category(part)[0] != "M"]
    return [ord(part) if part.isalnum() and part not in _APOSTROPHES else 0 for part in marks] or [0]


@functools.cache
def _powers(bits: int) -> tuple[Hashes, Hashes]:
    """The first 2 to the power of `bits` powers of the base, and of its inverse, modulo 2⁶⁴."""
    tables = np.ones((2, 1 << bits), np.uint64)
    for table, base in zip(tables, (_HASH_BASE, pow(_HASH_BASE, -1, 1 << 64)), strict=True):
        for bit in range(bits):
            size = 1 << bit
            np.multiply(table[:size], np.uint64(pow(base, size, 1 << 64)), out=table[size : 2 * size])
    return tables[0], tables[1]


def _hash_words(lower: npt.NDArray[np.uint32], starts: Places, ends: Places) -> Hashes:
    """Hashes of words, given where they are: differences of sums of characters times powers, from the first on."""
    powers, inverses = _powers(max(_LEAST_BITS, len(lower).bit_length()))
    sums = np.zeros(len(lower) + 1, np.uint64)
    np.cumsum(lower * powers[: len(lower)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    return hashes ^ ((ends - starts).astype(np.uint64) << np.uint64(56))
