"""A trace of chosen steps by torch's profiler, to be opened in Perfetto or chrome://tracing."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from core.training.observers import Observer
from core.training.throughput import Throughput

TRACE_FILE = "logs/trace-rank0.json"


class StepTrace(Observer):
    """Records the steps `first` to `last`, both included and counted from 1, into one file; for one rank.

    Args:
        path: the file.
        steps: (first, last).
        paused: entered while the profiler starts or writes, which is no part of a step.
    """

    def __init__(
        self, path: Path, steps: tuple[int, int], paused: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._path, self._paused = path, paused
        self._steps = range(steps[0], steps[1] + 1)
        self._profile: profile | None = None

    def step_started(self, step: int) -> None:
        if step in self._steps and self._profile is None:
            with self._paused():
                activities = [ProfilerActivity.CPU]
                if torch.cuda.is_available():
                    activities.append(ProfilerActivity.CUDA)
                self._profile = profile(activities=activities)
                self._profile.start()

    def step_done(self, record: dict[str, Any], throughput: Throughput | None) -> None:
        if record["step"] == self._steps[-1]:
            with self._paused():
                self.ended()

    def ended(self) -> None:
        """Write what has been recorded, if anything."""
        if self._profile is not None:
            self._profile.stop()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._profile.export_chrome_trace(str(self._path))
            self._profile = None
