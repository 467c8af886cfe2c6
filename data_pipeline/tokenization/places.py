"""Which characters of a text its tokens stand for, in the text as it is written.

The library follows each token back through lower-casing, taken away accents and the like, but to what of a character
the token was made of: `é` written as two characters is an `e` whose accent is no token's. Here every character that is
not blank belongs to the token it touches, so that texts can be cut out between tokens. No library is called here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class PlacedIds(NamedTuple):
    """The tokens of one text.

    Attributes:
        ids: int32 [tokens].
        starts, ends: int32 [tokens], of the characters that each stands for, first and behind the last. Neither ever
            goes down; several tokens may stand for one character.
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]

    def tokens_of(self, start: int, end: int) -> tuple[int, int] | None:
        """The first and the last token that stand for one of these characters; None where none does."""
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = int(np.searchsorted(self.starts, end, side="left")) - 1
        return (first, last) if first <= last else None

    def text(self, whole: str, first: int, last: int) -> str:
        """What two tokens and all between them stand for, of the whole text."""
        return whole[self.starts[first] : self.ends[last]]


def placed_ids(ids: Sequence[int], offsets: Sequence[tuple[int, int]], start: int = 0) -> PlacedIds:
    """The library's tokens of a text, or of its piece that begins at a character."""
    places = np.array(offsets, np.int32).reshape(-1, 2) + np.int32(start)
    return PlacedIds(np.array(ids, np.int32), places[:, 0], places[:, 1])


def widened(tokens: PlacedIds, text: str) -> PlacedIds:
    """The same tokens without blanks around them, with the characters that belong to no token and touch one: to the
    one before, or where a blank is before them to the one behind."""
    if text.isascii() and text.isprintable() and not _has_blanks(tokens, text):
        return tokens
    starts, ends = tokens.starts.tolist(), tokens.ends.tolist()
    for place in range(len(starts)):
        while starts[place] < ends[place] and text[starts[place]].isspace():
            starts[place] += 1
        while starts[place] < ends[place] and text[ends[place] - 1].isspace():
            ends[place] -= 1
    # Several tokens may stand for one character, so what holds of one place holds of all that begin or end there.
    first_of, behind = {start: start for start in starts}, {end: end for end in ends}
    reached = 0
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        while first_of[start] > reached and not text[first_of[start] - 1].isspace():
            first_of[start] -= 1
        stop = starts[place + 1] if place + 1 < len(starts) else len(text)
        while behind[end] < stop and not text[behind[end]].isspace():
            behind[end] += 1
        reached = max(reached, behind[end])
    return PlacedIds(
        tokens.ids,
        np.maximum.accumulate(np.array([first_of[start] for start in starts], np.int32)),
        np.maximum.accumulate(np.array([behind[end] for end in ends], np.int32)),
    )


def _has_blanks(tokens: PlacedIds, text: str) -> bool:
    """Whether a token begins or ends with a blank, as GPT-2's do; of printable ASCII."""
    characters = np.frombuffer(text.encode("ascii"), np.uint8)
    blanks = characters == ord(" ")
    return bool(len(tokens.ids) and (blanks[tokens.starts].any() or blanks[tokens.ends - 1].any()))
