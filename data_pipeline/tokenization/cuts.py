"""Where a very long text may be cut so that its pieces have the ids of the whole.

The library takes a hundred times a text's size in memory, so texts of more than half a million characters are encoded
in pieces, but only by tokenizers of which it is proved that they do not look across the cuts; and every cut is tried.

Cuts are before the blanks that follow a word, and before the last one of several blanks. So no piece holds both a very
long run of blanks and the word after it, over which regular expressions run out of memory. A word (text without blanks)
is never cut.
- GPT-2's splitting is a pattern whose alternatives hold either no blanks but one at the start, or nothing but blanks; of
  the latter `\\s+(?!\\S)` leaves the last blank to the word after it. That holds with no normalizer, no blank put before
  the text, and no added token found in it.
- BERT's splits at every blank; its normalizer looks at one character at a time, or at marks, which stand after others.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tokenizers

from data_pipeline.tokenization.kinds import BYTE_LEVEL, KINDS, WORD_PIECE, TokenizerError

PIECE_CHARACTERS = 1 << 19
CHECKED_CHARACTERS = 1 << 10  # on either side of a cut

# Of each kind the normalizers, and the splitting, for which the above holds.
_PROVED: dict[str, tuple[tuple[str | None, ...], dict[str, Any]]] = {
    BYTE_LEVEL.name: ((None,), {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}),
    WORD_PIECE.name: ((None, "BertNormalizer"), {"type": "BertPreTokenizer"}),
}
_PLACES = {
    name: re.compile(
        f"[^{KINDS[name].blanks}](?=[{KINDS[name].blanks}])|[{KINDS[name].blanks}](?=[{KINDS[name].blanks}][^{KINDS[name].blanks}])"
    )
    for name in KINDS
}
Ids = TypeVar("Ids", list[int], npt.NDArray[np.uint32])


def places_to_cut(backend: tokenizers.Tokenizer, kind: str) -> re.Pattern[str] | None:
    """What ends where a text may be cut, for a tokenizer's exact settings; None where nothing is proved."""
    normalizing, splitting = _PROVED[kind]
    found = any(not token.special for token in backend.get_added_tokens_decoder().values())
    normalizer, splitter = _definition(backend.normalizer), _definition(backend.pre_tokenizer)
    proved = (
        not found
        and normalizer.get("type") in normalizing
        and all(splitter.get(key) == value for key, value in splitting.items())
    )
    return _PLACES[kind] if proved else None


def _definition(part: Any) -> dict[str, Any]:
    return {} if part is None else dict(json.loads(part.__getstate__()))


def pieces(text: str, places: re.Pattern[str] | None) -> Iterator[str]:
    """A text in pieces that are little longer than they must be; whole where it may not be cut."""
    start = 0
    while places is not None and len(text) - start > PIECE_CHARACTERS:
        boundary = places.search(text, start + PIECE_CHARACTERS)
        if boundary is None:
            break
        yield text[start : boundary.end()]
        start = boundary.end()
    yield text[start:]


def encode_pieces(text: str, places: re.Pattern[str] | None, encode: Callable[[str], Ids]) -> Iterator[Ids]:
    """The ids of each piece of a text; around each cut they are compared with those of the uncut text.

    Raises:
        TokenizerError: they differ.
    """
    place = 0
    for piece in pieces(text, places):
        if place:
            _check(text, place, encode)
        yield encode(piece)
        place += len(piece)


def _check(text: str, place: int, encode: Callable[[str], Iterable[int]]) -> None:
    before, after = text[max(0, place - CHECKED_CHARACTERS) : place], text[place : place + CHECKED_CHARACTERS]
    if [*encode(before), *encode(after)] != [*encode(before + after)]:
        raise TokenizerError(
            f"a text of {len(text):,} characters would get other ids if it were cut at character {place:,}, though its "
            "tokenizer should not look across; install the versions of constraints.txt"
        )
