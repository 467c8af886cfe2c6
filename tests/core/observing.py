"""Observers that do something after a step: what tests of kills, faults and signals need."""

import os
import signal
from collections.abc import Callable

from core.training.observers import Observer


class AfterStep(Observer):
    """Calls `act(steps done)` after every step."""

    def __init__(self, act: Callable[[int], object]) -> None:
        self.act = act

    def step_done(self, record, throughput) -> None:
        self.act(record["step"])


def signal_after(steps: int, number: int = signal.SIGKILL) -> AfterStep:
    """This process gets a signal when so many steps are done; never, with 0."""
    return AfterStep(lambda done: done == steps and os.kill(os.getpid(), number))
