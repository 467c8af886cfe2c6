"""A trace of chosen steps by torch's profiler, to be opened in Perfetto or chrome://tracing."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

TRACE_FILE = "logs/trace-rank0.json"


class StepTrace:
    """Records the steps `first` to `last`, both included and counted from 1, into one file; for one rank.

    Args:
        path: the file.
        steps: (first, last), or None: nothing is traced.
        paused: entered while the profiler starts or writes, which is no part of a step.
    """

    def __init__(
        self, path: Path, steps: tuple[int, int] | None, paused: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._path, self._paused = path, paused
        self._steps = range(steps[0], steps[1] + 1) if steps else range(0)
        self._profile: profile | None = None

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around the step with this number."""
        if number in self._steps and self._profile is None:
            with self._paused():
                self._start()
        yield
        if self._profile and number == self._steps[-1]:
            with self._paused():
                self.close()

    def _start(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)
        self._profile.start()

    def close(self) -> None:
        """Write what has been recorded, if anything."""
        if self._profile is not None:
            self._profile.stop()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._profile.export_chrome_trace(str(self._path))
            self._profile = None
