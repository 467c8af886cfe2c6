"""How long training waits for a checkpoint: saved by a thread against saved at once.

One model in one process, and in turn both ways of saving it: the stall is the time until the next step can start. Steps
while the thread writes are slower, on a CPU that has no core to spare above all; that is measured, too.
"""

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

from benchmarks import harness, token_task
from core.config import ModelConfig, TrainingConfig
from core.parallel.mesh import initialize
from core.training.checkpoint import THREAD, Checkpoints
from core.training.data_parallel import shard_over_data
from core.training.optimizer import build_optimizer


@dataclass(frozen=True)
class Settings(token_task.Settings):
    """What is trained and saved, and where.

    Attributes:
        steps: without a save, before each of them.
        directory: of the checkpoints; otherwise a temporary folder.
    """

    small: ClassVar = ModelConfig("gpt2", 10, 640, 10, 64, 16384)
    turns: int = 5
    batch: int = 2
    steps: int = 3
    precision: str = "fp32"
    directory: Path | None = None


def run(settings: Settings, report: harness.Report) -> None:
    mesh = initialize()
    training = TrainingConfig(
        steps=1, global_batch=1, micro_batch=1, learning_rate=1e-4, precision=settings.precision, keep_last=1
    )
    objective = token_task.language_modeling(settings.shape(), mesh).train()
    shard_over_data(objective, mesh, training.precision)
    optimizer = build_optimizer(objective, training)
    batch = token_task.inputs(token_task.random_tokens(settings.shape(), settings.batch, 1).to(mesh.device))
    size = sum(parameter.numel() for parameter in objective.parameters()) * 12 / 1e6
    report.note(f"{settings.describe()}, {settings.precision}; {size:.0f} MB of state; seconds")

    def step() -> None:
        objective(**batch)["language_model"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if mesh.device.type == "cuda":
            torch.cuda.synchronize()

    with tempfile.TemporaryDirectory(dir=settings.directory) as folder:
        sides = {}
        for kind, background in (("asynchronous", True), ("synchronous", False)):
            config = replace(training, asynchronous_saving=background)
            checkpoints = Checkpoints(Path(folder) / kind, mesh, "", config, print)
            numbers = itertools.count(1)
            save = lambda one=checkpoints, numbers=numbers: one.save(next(numbers), objective, optimizer, {})  # noqa: E731
            sides[kind] = partial(_measure, save, checkpoints.wait, step, settings.steps)
        first = ", ".join(f"{kind} {measure()['stall']:.2f} s" for kind, measure in sides.items())
        report.compare(sides, settings.turns, ["stall"])
    report.note(
        f"The stall of the first checkpoint, which allocates the buffers and is left out above: {first}"
    )
    mesh.shutdown()


def _measure(
    save: Callable[[], None], wait: Callable[[], None], step: Callable[[], None], steps: int
) -> harness.Measurement:
    """Steps without a save, then one checkpoint and the steps until it is there."""
    usual = statistics.median(harness.seconds(step) for _ in range(steps))
    started = time.perf_counter()
    save()
    stall = time.perf_counter() - started
    meanwhile = []
    while any(thread.name == THREAD for thread in threading.enumerate()):
        meanwhile.append(harness.seconds(step))
    wait()
    found = {
        "stall": stall,
        "until it is there": time.perf_counter() - started,
        "a step without a save": usual,
    }
    if meanwhile:
        found["a step meanwhile"] = statistics.median(meanwhile)
    return {**found, "lost in all": stall + sum(meanwhile) - usual * len(meanwhile)}
