"""How a training program runs: when it stops by itself, how long it waits, what it shows and records."""

import datetime
import math
import re
from dataclasses import dataclass
from typing import Any

from core.parallel.mesh import DEFAULT_TIMEOUT
from core.tables import out_of_range


@dataclass(frozen=True)
class RunSettings:
    """What changes nothing of what a training computes.

    Attributes:
        exit_after_minutes: save and stop after so many minutes, for batch systems; the same command goes on. 0 for no
            limit.
        timeout_minutes: how long processes wait for one that hangs before they name it and stop.
        tensorboard: write event files to logs/tensorboard: losses, learning rate, gradient norm, throughput (needs the
            package tensorboard).
        profile_steps: trace these steps, FIRST:LAST (from 1, both included), on the first process by torch's profiler,
            which slows them, into logs/trace-rank0.json, for Perfetto or chrome://tracing.
        measure_peak: measure the device's peak by a matrix product in the run's precision, as the base of MFU, instead
            of looking it up by the device's name (CPUs and unknown devices are always measured).
    """

    exit_after_minutes: float = 0.0
    timeout_minutes: int = DEFAULT_TIMEOUT // datetime.timedelta(minutes=1)
    tensorboard: bool = False
    profile_steps: str = ""
    measure_peak: bool = False

    def errors(self, where: str) -> list[str]:
        problems = out_of_range(self, where, exit_after_minutes=(0, math.inf), timeout_minutes=(1, math.inf))
        if self.profile_steps and self._steps() is None:
            problems.append(
                f"{where}.profile_steps: must be FIRST:LAST with 1 ≤ FIRST ≤ LAST, as 10:13, is {self.profile_steps!r}"
            )
        return problems

    def _steps(self) -> tuple[int, int] | None:
        match = re.fullmatch(r"(\d+):(\d+)", self.profile_steps)
        first, last = (int(match[1]), int(match[2])) if match else (0, 0)
        return (first, last) if 1 <= first <= last else None

    @property
    def timeout(self) -> datetime.timedelta:
        return datetime.timedelta(minutes=self.timeout_minutes)

    def options(self) -> dict[str, Any]:
        """As arguments of the trainer's `RunOptions`."""
        return {
            "exit_after_minutes": self.exit_after_minutes,
            "tensorboard": self.tensorboard,
            "profile_steps": self._steps(),
            "measure_peak": self.measure_peak,
        }
