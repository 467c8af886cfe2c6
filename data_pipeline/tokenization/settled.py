"""Which texts all versions of Unicode read alike: those without characters that a younger version has added.

Libraries bring their own tables of letters and numbers, of different ages: a script that the one knows is to the other
no letter, and the text is split elsewhere. Such texts are rare; the reference encodes them.
"""

import unicodedata

import numpy as np
import numpy.typing as npt

_SETTLED, _UNKNOWN, _UNSETTLED = range(3)


class SettledCharacters:
    """Tells texts of characters that Python's own table knows from others, as fast as they can be read.

    That table is older than those of the libraries (14.0 in Python 3.11, 15.1 in 3.13).
    """

    def __init__(self) -> None:
        self._states = np.full(0x110000, _UNKNOWN, np.uint8)

    def __call__(self, text: str) -> bool:
        """Whether every character of a text, which must be Unicode (no lone surrogate), is known."""
        if text.isascii():
            return True
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        state = self._states[points].max()
        if state != _SETTLED:
            self._look_up(points)
            state = self._states[points].max()
        return bool(state == _SETTLED)

    def _look_up(self, points: npt.NDArray[np.uint32]) -> None:
        for point in np.unique(points[self._states[points] == _UNKNOWN]).tolist():
            assigned = unicodedata.category(chr(point)) != "Cn"
            self._states[point] = _SETTLED if assigned else _UNSETTLED
