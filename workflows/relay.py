"""What a program on ranks prints, on its way: lines to its log, its bar to the terminal, how far it is to who watches."""

import fcntl
import math
import os
import re
import select
import shutil
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import BinaryIO

from core.progress import Progress, tell
from workflows.console import say

_HEARD_SECONDS = 1.0
_NUMBERS = r"(?P<done>[\d,]+){between}(?P<total>[\d,]+)"
# Of what a program prints behind its title, with more of the title before it and fields or a rate behind.
_FORMS = tuple(
    re.compile(r"(?P<part>.*?)" + form)
    for form in (
        r" step " + _NUMBERS.format(between=" of ") + r", (?P<fields>.*)",  # a training's line
        r" " + _NUMBERS.format(between=" of ") + r" (?P<units>[a-z]+)(?:, (?P<fields>.*))?$",  # any other's
        r":\s+\d+%\|[^|]*\| " + _NUMBERS.format(between="/") + r" \[.*?(?:(?P<rate>[a-z]+)/s|s/(?P<slow>[a-z]+)).*\]",  # a bar
        r" [^\w\s]*\s*" + _NUMBERS.format(between="/") + r", (?P<fields>.*)",  # a training's bar
    )
)  # fmt: skip


def channel() -> tuple[int, int]:
    """(read end, write end): a pseudo-terminal when we are on one, so that the child draws its bar; else a pipe."""
    if not sys.stderr.isatty():
        return os.pipe()
    reader, writer = os.openpty()
    size = shutil.get_terminal_size()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, size.columns, 0, 0))
    return reader, writer


def pump(reader: int, relay: "Relay", seconds: float | None = None) -> bool:
    """Relay what arrives until every process that holds the other end is gone; False when time ran out first."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        if not select.select([reader], [], [], left)[0]:
            return False
        try:
            block = os.read(reader, 65536)
        except OSError:  # a pseudo-terminal ends with EIO
            return True
        if not block:
            return True
        relay.feed(block)


class Relay:
    """Splits a program's output into lines (to the log) and redrawn progress bars (to the terminal, if any).

    A bar is text that follows a carriage return: it is drawn as it stands and wiped out when its line ends; only its
    last state reaches the log, with whatever was printed over it.

    Args:
        log: where lines go.
        draw: shows a bar as it is now, or none; None where there is no terminal.
        show: is given each whole line.
        heard: is given each state of a bar, and each line.
    """

    def __init__(
        self,
        log: BinaryIO,
        draw: Callable[[bytes], object] | None,
        show: Callable[[str], None] | None = None,
        heard: Callable[[str], object] | None = None,
    ) -> None:
        self._log = log
        self._draw = draw or (lambda bar: None)
        self._show = show or _show_line
        self._heard = heard or (lambda text: None)
        self._line = b""
        self._in_bar = False
        self._returned = False

    def feed(self, block: bytes) -> None:
        for part in _split(block):
            if part == b"\n":
                self._end_line()
            elif part == b"\r":
                self._returned = True
            else:
                self._text(part)
        if self._in_bar:
            self._draw(self._line)
            self._heard(self._text_of_line())

    def _text(self, part: bytes) -> None:
        if self._returned:
            self._returned = False
            self._in_bar = True
            self._line = b""
        self._line += part

    def _text_of_line(self) -> str:
        return self._line.decode("utf-8", errors="replace")

    def _end_line(self) -> None:
        self._returned = False  # a terminal's line end is \r\n
        if self._in_bar:
            self._draw(b"")
            self._in_bar = False
        self._log.write(self._line + b"\n")
        self._log.flush()
        self._heard(self._text_of_line())
        self._show(self._text_of_line())
        self._line = b""

    def close(self) -> None:
        if self._line:
            self._end_line()


class Hearing:
    """Makes of what a program prints how far it is, and tells whoever watches: of "TITLE step 300 of 900, loss 3.2, …",
    and of "TITLE: 45% … 90/200 […batch/s]", a bar."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._seen: dict[
            str, tuple[float, float]
        ] = {}  # of each bar, what was done when it was first seen, and when
        self._told = -math.inf

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._told < _HEARD_SECONDS or not text.startswith(self._title):
            return
        rest = text[len(self._title) :]
        found = next((found for form in _FORMS if (found := form.match(rest))), None)
        if found is None:
            return
        self._told = time.monotonic()
        said = {name: value for name, value in found.groupdict().items() if value is not None}
        what = self._title + said["part"]
        done, total = (int(said[name].replace(",", "")) for name in ("done", "total"))
        first, started = self._seen.setdefault(what, (done, time.time()))
        unit = next((said[name] for name in ("rate", "slow", "units") if name in said), "step")
        fields = (field.strip() for field in said.get("fields", "").split(", "))
        more = ", ".join(field for field in fields if field and not field.endswith(" left"))
        tell(Progress(what, unit, done, total, first, started, more))


def _split(block: bytes) -> list[bytes]:
    """Text, line ends and carriage returns, apart and in order."""
    return [part for part in re.split(rb"([\r\n])", block) if part]


def _show_line(line: str) -> None:
    """Of a program's own lines, the console shows where it resumes, and notes."""
    if "resum" in line.lower() or line.startswith("note: "):
        say(f"        {line.strip()}")
