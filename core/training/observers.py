"""Who hears of a training while it runs. Its records, its progress line and its trace are observers, and so may a user's
own, a benchmark's or a test's be; nobody needs to reach into the trainer."""

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from core.config import TrainingConfig
from core.parallel.mesh import Mesh
from core.training.peak import Peak
from core.training.throughput import Throughput


@dataclass(frozen=True)
class Run:
    """A run that is about to go on.

    Attributes:
        output: its directory.
        first_step: steps done before.
        model: as it trains, sharded.
        peak: of a device.
        paused: inside this context time does not count as a step's; for what takes long.
    """

    output: Path
    first_step: int
    config: TrainingConfig
    model: nn.Module
    mesh: Mesh
    peak: Peak
    paused: Callable[[], AbstractContextManager[None]]


class Observer:
    """Hears of the events of a run on the rank that it was given to, and overrides those it wants to hear of.

    An observer must not wait for other ranks. What it raises ends the run.
    """

    def started(self, run: Run) -> None:
        """The model is sharded, and the newest checkpoint loaded; no step has been done."""

    def step_started(self, step: int) -> None:
        """The step with this number (1 is the first) begins."""

    def step_done(self, record: dict[str, Any], throughput: Throughput | None) -> None:
        """A step is done.

        Args:
            record: its line of `metrics.jsonl`: step, loss, losses by term when there are several, learning_rate,
                gradient_norm, and with fp16 loss_scale and overflows.
            throughput: of the steps since the last that had it; each `log_interval` steps, and at the last.
        """

    def validated(self, record: dict[str, Any]) -> None:
        """A validation is done: step and validation_loss."""

    def measured(self, record: dict[str, Any]) -> None:
        """A `Selection` has measured the model: step, and measured, what it found."""

    def checkpoint_taken(self, step: int) -> None:
        """The state after this step has been copied; with asynchronous saving a thread is still writing it."""

    def ended(self) -> None:
        """The run is over, however it ended; called once."""


def numbers_in(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested records with their paths: "dev.accuracy.all"."""
    for name, inner in value.items():
        here = f"{path}.{name}" if path else name
        if isinstance(inner, Mapping):
            yield from numbers_in(inner, here)
        elif isinstance(inner, int | float):
            yield here, inner


class Selection(Protocol):
    """Measures the model after some steps and chooses which of them is delivered. Unlike an observer's, its methods are
    called by all ranks together."""

    @property
    def steps(self) -> Container[int]:
        """After which ones it measures; the last step is one of them."""

    def started(self, first_step: int) -> None:
        """The run goes on after so many steps."""

    def measured(self, step: int) -> dict[str, Any]:
        """Measure the model after this step; a run that goes on after it asks again. What is found goes to the records."""

    def deliver(self, directory: Path) -> None:
        """The last step is done and measured: write the chosen model's directory."""
