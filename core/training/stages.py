"""What a training must know of a pipeline's stages: whether a model can be computed in them, what they hold together, and
how long they wait. Not here: who does what when (`core.training.pipeline`)."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from core.config import ParallelConfig
from core.errors import ConfigurationError
from core.models.transformer import PretrainingObjective
from core.parallel.mesh import Mesh


class IdleTime:
    """How long a rank computes, and how long its passes take, both in seconds."""

    def __init__(self, device: torch.device) -> None:
        self._on_device = device.type == "cuda"
        self._computing: list[tuple[Any, Any]] = []
        self._passing: list[tuple[Any, Any]] = []

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        started = self._now()
        yield
        self._computing.append((started, self._now()))

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        started = self._now()
        yield
        self._passing.append((started, self._now()))

    def taken(self) -> tuple[float, float]:
        """(computing, passing) since the last call."""
        if self._on_device:
            torch.cuda.synchronize()
        result = self._seconds(self._computing), self._seconds(self._passing)
        self._computing, self._passing = [], []
        return result

    def _now(self) -> Any:
        if not self._on_device:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, spans: list[tuple[Any, Any]]) -> float:
        if self._on_device:
            return sum(start.elapsed_time(end) for start, end in spans) / 1000
        return math.fsum(end - start for start, end in spans)


def bubble(stages: int, micro_batches: int, parts: int = 1) -> float:
    """The share of a pipeline's time that its ranks wait, were all passes of one length: (p - 1) / (m + p - 1), with v
    parts a rank (p - 1) / (v · m + p - 1) (Narayanan et al. 2021, section 2.2, as a share of the whole)."""
    return (stages - 1) / (parts * micro_batches + stages - 1)


def whole_shapes(model: nn.Module, mesh: Mesh) -> dict[str, list[int]]:
    """The shapes of all parameters by name, wherever they are, the same on every layout. Collective in a pipeline."""
    own = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    if mesh.pipeline_size == 1:
        return own
    return {name: shape for shapes in _gathered(own, mesh) for name, shape in shapes.items()}


def stage_errors(model: nn.Module, mesh: Mesh, zero: int = 1, schedule: str = "1f1b") -> list[str]:
    """Why a model cannot be trained in stages, one line each."""
    layout: dict[str, Any] = {
        "pipeline_parallel": mesh.pipeline_size,
        "pipeline_chunks": mesh.pipeline_chunks,
        "pipeline_schedule": schedule,
        "zero": zero,
    }
    if errors := ParallelConfig(**layout).errors("layout"):
        return errors
    remedy = "train it with pipeline_parallel 1"
    if not isinstance(model, PretrainingObjective):
        return [
            f"{type(model).__name__} is no core.models.transformer.PretrainingObjective, and only those can be dealt to a "
            f"pipeline; {remedy}"
        ]
    network = type(model.network)
    made = {name: _maker(network, name) for name in ("forward", "begin", "finish")}
    late = [name for name in ("begin", "finish") if not issubclass(made[name], made["forward"])]
    if late:
        return [
            f"{network.__name__} has a forward of its own, but not {' and '.join(late)}, which the stages of a pipeline "
            f"compute; {remedy}, or add them"
        ]
    return []


def _maker(network: type, name: str) -> type:
    """The class that a method is from."""
    return next(ancestor for ancestor in network.__mro__ if name in vars(ancestor))


def tied_parameters(model: nn.Module, mesh: Mesh) -> list[nn.Parameter]:
    """This rank's parameters that another stage holds, too: at the two ends of the pipeline.

    Raises:
        ConfigurationError: other stages hold the same.
    """
    own = dict(model.named_parameters())
    holders: dict[str, list[int]] = {}
    for rank, names in enumerate(_gathered(list(own), mesh)):
        for name in names:
            holders.setdefault(name, []).append(rank)
    shared = {name: ranks for name, ranks in holders.items() if len(ranks) > 1}
    ends = [0, mesh.pipeline_size - 1]
    errors = [f"{name} is on the stages {ranks}" for name, ranks in shared.items() if ranks != ends]
    if errors:
        remedy = "a network makes what comes before the layers where mesh.has_first_stage, what comes after them where "
        raise ConfigurationError(
            [*errors, f"{remedy}mesh.has_last_stage; or train it with pipeline_parallel 1"]
        )
    return [parameter for name, parameter in own.items() if name in shared]


def _gathered(own: Any, mesh: Mesh) -> list[Any]:
    """What every rank of the pipeline gives, by stage."""
    given: list[Any] = [None] * mesh.pipeline_size
    dist.all_gather_object(given, own, group=mesh.pipeline_group)
    return given
