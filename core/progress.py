"""How far long work is: a bar on a terminal, elsewhere a plain line now and then, and a word to whoever watches. No torch.

What is watched: the bars of this process, and what is told of programs that it started (`tell`). A watcher hears of a
bar once a second at most.
"""

import contextlib
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

PROGRESS_FILE = (
    ".progress.json"  # in the folder of an artifact that is being made; hidden, so that no manifest covers it
)
_TOLD_SECONDS = 1.0
_PLAIN_LINE_SECONDS = 60.0
RANKS_LINE_SECONDS = 10.0  # of programs on ranks, whose lines go to a log


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far something is.

    Attributes:
        what: it is, for people.
        unit: of what is counted.
        done: so many of them, those of earlier attempts included.
        total: of all; 0 where that is not known.
        before: what was done when this attempt began.
        started: this attempt, in seconds since 1970.
        more: what else there is to say (speed, loss).
    """

    what: str
    unit: str
    done: float
    total: float
    before: float
    started: float
    more: str = ""

    @property
    def left_seconds(self) -> float:
        """How long the rest takes at this attempt's speed; infinite where nobody knows."""
        if not self.total or self.done <= self.before:
            return math.inf
        return (time.time() - self.started) / (self.done - self.before) * (self.total - self.done)

    def line(self) -> str:
        """For people: "300 of 900 steps, 12.3 documents/s, 02:10 left"."""
        units = self.unit if self.unit == "B" else plural(self.unit)
        count = (
            f"{self.done:,.0f} of {self.total:,.0f} {units}" if self.total else f"{self.done:,.0f} {units}"
        )
        left = "" if math.isinf(self.left_seconds) else f"{tqdm.format_interval(self.left_seconds)} left"
        return ", ".join(text for text in (count, self.more, left) if text)


def plural(unit: str) -> str:
    """ "shards", "batches", "documents" """
    if unit.endswith("s"):
        return unit
    return f"{unit}es" if unit.endswith("ch") else f"{unit}s"


Watcher = Callable[[Progress], object]
_watchers: list[Watcher] = []
_row: int | None = (
    None  # of the terminal, below the cursor, on which this process draws; tqdm's choice for None
)


@contextlib.contextmanager
def watched(*watchers: Watcher) -> Iterator[None]:
    """While inside, these hear how far things are."""
    _watchers.extend(watchers)
    try:
        yield
    finally:
        for watcher in watchers:
            _watchers.remove(watcher)


def tell(progress: Progress) -> None:
    """Let all who watch hear of it."""
    for watcher in list(_watchers):
        watcher(progress)


@contextlib.contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """While inside, `PROGRESS_FILE` in a folder says how far the work is, for another process to read."""
    path, temporary = folder / PROGRESS_FILE, folder / f"{PROGRESS_FILE}.{os.getpid()}.tmp"

    def write(progress: Progress) -> None:
        facts = {**dataclasses.asdict(progress), "time": time.time()}
        with contextlib.suppress(OSError):  # a full disk, a folder that is gone: the work itself will say
            temporary.write_text(json.dumps(facts))
            os.replace(temporary, path)

    try:
        with watched(write):
            yield
    finally:
        for file in (path, temporary):
            file.unlink(missing_ok=True)


def draw_on_row(row: int, lock: Any) -> None:
    """From now on this process draws its bars on a row of its own, as many processes share the terminal and a lock."""
    global _row
    _row = row
    tqdm.set_lock(lock)


class Bar(tqdm):
    """A bar on a terminal; elsewhere, unless somebody watches, a plain line on stderr every so often.

    Args:
        every: seconds between two such lines.
        hidden: neither, and nobody hears of it.
    """

    def __init__(
        self, *arguments: Any, every: float = _PLAIN_LINE_SECONDS, hidden: bool = False, **options: Any
    ) -> None:
        if _row is not None:
            options |= {"position": _row, "leave": False}
        super().__init__(*arguments, disable=True if hidden else None, **options)
        self._hidden, self._every, self._postfix = hidden, every, ""
        self._what, self._unit = options.get("desc") or "", str(options.get("unit", "it")).strip()
        self._before, self._began = self.n, time.time()
        self._told, self._said = -math.inf, time.monotonic()

    def update(self, n: float | None = 1) -> bool | None:
        """Count some more."""
        shown = super().update(n)
        if self.disable:  # tqdm does not count then
            self.n += n or 0
        self._tell()
        return shown

    def __iter__(self) -> Iterator[Any]:
        """The things, each counted when the next is asked for."""
        with self:
            for thing in self.iterable:
                yield thing
                self.update()

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        self._postfix = s
        if not self.disable:
            super().set_postfix_str(s, refresh)

    def _tell(self) -> None:
        now = time.monotonic()
        if self._hidden or not (now - self._told > _TOLD_SECONDS or self.n == self.total):
            return
        self._told = now
        found = Progress(
            self._what, self._unit, self.n, self.total or 0, self._before, self._began, self._postfix
        )
        tell(found)
        if self.disable and not _watchers and now - self._said > self._every:
            self._said = now
            with contextlib.suppress(OSError):  # a full disk, or a reader that is gone, ends no work
                print(f"{self._what} {found.line()}".strip(), file=sys.stderr, flush=True)
