"""A thread that notices that a training does not get on, when nothing else can: with NCCL a rank that waits for a lost one
waits in the device's queue and never comes back to Python, and a rank that hangs in foreign code tells nobody.

The trainer marks how far it is. Where no mark comes for the time-out and some, the ranks are called (`roll_call`),
`state.json` says who is lost, and the process ends; the same command goes on from the last checkpoint.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from core.parallel.mesh import Mesh
from core.program.ranks import speak
from core.training.errors import LostRank
from core.training.roll_call import RollCall, Standing, lost_rank

_GRACE = 0.1  # of the time-out, and no less than a second: a collective that fails by itself says more, and comes first
_LONGEST_NAP = 5.0  # seconds
# Whose code is the innermost where a thread waits for what ranks send each other.
_WAITING = ("/torch/distributed/", "core/parallel/collectives.py", "core/parallel/column_product.py")


class Watchdog:
    """Watches the thread that makes it; while `watching`, and of several ranks only.

    Args:
        fail: writes down why the run ended; called on the first of the ranks that are left, before its process ends.
    """

    def __init__(self, mesh: Mesh, fail: Callable[[LostRank], None]) -> None:
        self.roll_call = RollCall(mesh)
        self._rank, self._fail = mesh.rank, fail
        self._thread_id = threading.get_ident()
        timeout = mesh.timeout.total_seconds()
        self.deadline = timeout + max(1.0, _GRACE * timeout)
        self._several = mesh.world_size > 1
        self._on_device = mesh.device.type != "cpu"
        self._marks, self._at, self._since = 0, "at the start", time.monotonic()
        self._watched = False
        self._stopped = threading.Event()

    def mark(self, at: str) -> None:
        """The training has come so far.

        Args:
            at: what it does now.
        """
        self._marks, self._at, self._since = self._marks + 1, at, time.monotonic()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, the thread runs; elsewhere in a program things may take as long as they take."""
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        if self._several:
            thread.start()
        self._watched = True
        self.mark("at the start")
        try:
            yield
        finally:
            self.stop()

    @contextlib.contextmanager
    def paused(self, at: str) -> Iterator[None]:
        """Inside, no mark is expected.

        Args:
            at: what is done, for those who ask.
        """
        self.mark(at)
        self._watched = False
        try:
            yield
        finally:
            self._watched = True
            self.mark("between two steps")

    def stop(self) -> None:
        """Watch no more; others are answered no more."""
        self._stopped.set()

    def tell(self, error: Exception) -> None:
        """The training has ended with an error on this rank: nobody needs to wait for its answer."""
        if self._several and not isinstance(error, LostRank):
            standing = Standing(self._marks, f"over, by {type(error).__name__}", False, 0.0)
            with contextlib.suppress(RuntimeError):
                self.roll_call.answer(standing)

    def standing(self, waits: bool | None = None) -> Standing:
        """Of the watched thread.

        Args:
            waits: for others; None looks where it is.
        """
        place, found = _place(sys._current_frames().get(self._thread_id))
        if waits is None:
            waits = (
                found or self._on_device
            )  # whose queue tells nothing: its rank may wait there, and the marks must tell
        return Standing(self._marks, f"{self._at}{place}", waits, time.monotonic() - self._since)

    def _watch(self) -> None:
        nap = min(_LONGEST_NAP, self.deadline / 8)
        answered = False
        while not self._stopped.wait(nap):
            try:
                if not answered and self.roll_call.called():
                    self.roll_call.answer(self.standing())
                    answered = True
            except RuntimeError:  # who kept the store has ended
                return
            seconds = time.monotonic() - self._since
            if self._watched and seconds > self.deadline:
                self._give_up(seconds)

    def _give_up(self, seconds: float) -> None:
        at = self._at
        found = self.roll_call.hold(self.standing())
        if self._stopped.is_set():
            return  # meanwhile the thread has found out by itself
        message = lost_rank(f"for {seconds:.0f} s this training has been {at}", found)
        try:
            if found.answered[0] == self._rank:
                self._fail(LostRank(message, speaks=True))
            speak(message)
        finally:
            os._exit(LostRank.exit_code)


def _place(frame: FrameType | None) -> tuple[str, bool]:
    """Where a thread is, for people, and whether it waits for other ranks there."""
    waits = frame is not None and any(part in _file(frame) for part in _WAITING)
    while frame is not None and "/torch/" in _file(frame):
        frame = frame.f_back
    if frame is None:
        return "", waits
    place = "/".join(_file(frame).split("/")[-2:])
    return f", in {frame.f_code.co_name} ({place}, line {frame.f_lineno})", waits


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename.replace(os.sep, "/")
