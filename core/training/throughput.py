"""How fast a run computes: tokens and operations over the time of its steps alone, and the memory it takes."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn

from core.parallel.mesh import Mesh
from core.training.batches import WeightedBatch
from core.training.flops import batch_flops
from core.training.peak import Peak
from core.training.stages import bubble

if TYPE_CHECKING:
    from core.training.pipeline import Pipeline


@dataclass(frozen=True)
class Throughput:
    """A window of steps. A device is a GPU, or a process that computes on the CPU.

    Attributes:
        step_seconds: the mean of a step: its data, passes and update, without validation and checkpoints.
        tokens_per_second: of all devices, places of padding included.
        model_tflops, hardware_tflops: 10¹² operations a second and device, see `core.training.flops`.
        mfu: model FLOPs utilisation, model_tflops over the device's peak.
        memory_bytes: of the device where it is largest, since the start: what torch had allocated on a GPU, else what
            the process had resident.
        idle: in a pipeline, the share of its passes' time that a rank does not compute, the mean of all; None elsewhere.
        bubble: what of it is the schedule's, by theory, see `core.training.stages.bubble`.
    """

    step_seconds: float
    tokens_per_second: float
    model_tflops: float
    hardware_tflops: float
    mfu: float
    memory_bytes: int
    idle: float | None = None
    bubble: float | None = None


class ThroughputMeter:
    """Counts the work of steps, and its time; on every rank.

    Args:
        model: trained as `recompute` says.
        peak: of one device.
        pipeline: where there is one.
    """

    def __init__(
        self, model: nn.Module, recompute: str, mesh: Mesh, peak: Peak, pipeline: "Pipeline | None" = None
    ) -> None:
        self._model, self._recompute, self._mesh = model, recompute, mesh
        self.peak = peak
        self._pipeline = pipeline
        self.start()

    def start(self) -> None:
        """Begin a window now."""
        self._work = torch.zeros(3, dtype=torch.float64)  # tokens, model FLOPs, hardware FLOPs
        self._steps = 0
        self._seconds = 0.0
        if self._pipeline:
            self._pipeline.idle.taken()
        self._running_since = time.monotonic()

    def count(self, batches: list[WeightedBatch], attempts: int = 1) -> None:
        """A step is done, on this rank's `batches`; fp16's overflows take several attempts."""
        for batch, weight in batches:
            flops = batch_flops(self._model, batch, self._recompute)
            work = [batch["tokens"].numel(), flops.model, flops.hardware * attempts]
            self._work += weight * torch.tensor(work, dtype=torch.float64)
        self._steps += 1

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While inside, time does not count."""
        self._stop()
        yield
        self._running_since = time.monotonic()

    def window(self) -> Throughput:
        """What was counted since the last call, over all ranks, which all call it."""
        self._stop()
        dist.all_reduce(self._work, group=self._mesh.control_group)
        memory = torch.tensor([peak_memory(self._mesh.device)])
        dist.all_reduce(memory, op=dist.ReduceOp.MAX, group=self._mesh.control_group)
        seconds = max(self._seconds, 1e-9)
        # Every tensor rank and every stage counted the work of its whole data rank.
        devices = self._mesh.world_size
        copies = self._mesh.tensor_size * self._mesh.pipeline_size
        tokens, model, hardware = (self._work / copies / seconds).tolist()
        result = Throughput(
            seconds / max(self._steps, 1),
            tokens,
            model / devices / 1e12,
            hardware / devices / 1e12,
            model / devices / self.peak.flops_per_second,
            int(memory.item()),
            *self._waiting(),
        )
        self.start()
        return result

    def _waiting(self) -> tuple[float | None, float | None]:
        """Idle time and its theory."""
        if self._pipeline is None:
            return None, None
        seconds = torch.tensor(self._pipeline.idle.taken(), dtype=torch.float64)
        dist.all_reduce(seconds, group=self._mesh.control_group)
        computing, passing = seconds.tolist()
        theory = bubble(self._mesh.pipeline_size, self._pipeline.micro_batches, self._pipeline.parts)
        return 1.0 - computing / max(passing, 1e-9), theory

    def _stop(self) -> None:
        if self._mesh.device.type == "cuda":  # what a step has queued belongs to it
            torch.cuda.synchronize(self._mesh.device)
        self._seconds += time.monotonic() - self._running_since


def peak_memory(device: torch.device) -> int:
    """Bytes at most: what torch allocated on a GPU, else what the process had resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
