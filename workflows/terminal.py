"""The last rows of the terminal: a bar each of the stages that run at a time, and lines printed over them.

With `--workers` each stage is in a process that luigi forked. All of them draw below the cursor, each on a row of its
own, and leave the cursor where it was; one lock keeps them apart, which a dead process holds no more.
"""

import contextlib
import fcntl
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from core import progress
from core.processes import is_running

_UP, _CLEAR = "\x1b[A", "\r\x1b[K"


class _Lock:
    """Between threads and processes, again and again in one thread; to be made before the processes are forked."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process)
        self._inside, self._depth = threading.RLock(), 0

    def acquire(self, *arguments: Any, **options: Any) -> bool:
        if not self._inside.acquire(*arguments, **options):
            return False
        if self._depth == 0:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._inside.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class _Rows:
    """Rows that processes share: whose each is."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.lock = _Lock()
        self.owners = multiprocessing.Array(
            "i", count, lock=False
        )  # ids of processes, in memory that forks share


_rows: _Rows | None = None
_row = 0


def share(count: int) -> None:
    """There will be so many forked processes at a time that draw."""
    global _rows
    _rows = _Rows(count) if count > 1 else None


def take_row() -> None:
    """Give this process, forked for one stage, the first row of which the owner is gone."""
    global _row
    if _rows is None:
        return
    with _rows.lock:
        free = [row for row, owner in enumerate(_rows.owners) if not (owner and is_running(owner))]
        _row = free[0] if free else 0
        _rows.owners[_row] = os.getpid()
    progress.draw_on_row(_row, _rows.lock)


@contextlib.contextmanager
def over_bars() -> Iterator[None]:
    """While inside, what is printed begins on a clear row; bars are drawn again below it when they move."""
    count = _rows.count if _rows is not None else 1
    with _rows.lock if _rows is not None else contextlib.nullcontext():
        if sys.stderr.isatty():
            with contextlib.suppress(OSError):
                sys.stderr.write(_CLEAR + f"\n{_CLEAR}" * (count - 1) + _UP * (count - 1))
                sys.stderr.flush()
        yield


def draw(bar: bytes) -> None:
    """Draw a bar, or nothing, on this process's row of a terminal."""
    with _rows.lock if _rows is not None else contextlib.nullcontext():
        place = _row if _rows is not None else 0
        sys.stderr.buffer.write(b"\n" * place + b"\r" + bar + b"\x1b[K" + _UP.encode() * place)
        sys.stderr.buffer.flush()
