"""The trainer: data × tensor parallel training of any objective, resumable at any moment."""

import contextlib
import hashlib
import json
import math
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from core.config import ConfigurationError, TrainingConfig
from core.models.transformer import TransformerLayer
from core.parallel.mesh import Mesh
from core.training.checkpoint import Checkpoints
from core.training.data_parallel import complete_gradients, prepare_backward, shard_over_data
from core.training.loss_scale import LossScale
from core.training.metrics import Recorder, read_state, write_state
from core.training.optimizer import build_optimizer, clip_gradients, learning_rate

Batch = dict[str, torch.Tensor]


class BatchSource(Protocol):
    """Numbered samples and how they become batches."""

    total_samples: int

    def batch(self, indices: np.ndarray) -> Batch:
        """The model's keyword arguments for these samples, as CPU tensors."""

    def counts(self, batch: Batch) -> dict[str, float]:
        """Scored items in a batch for each loss term the model returns."""


class TrainingTask(BatchSource, Protocol):
    """An objective: a model whose forward gives summed losses per term, and its samples.

    Attributes:
        model: `model(**batch)` returns {term: summed loss, fp32 scalar}; the root of sharding.
        validation: held-out samples, or None.
    """

    @property
    def model(self) -> nn.Module: ...

    @property
    def validation(self) -> BatchSource | None: ...

    def save(self, directory: Path) -> None:
        """Write the model directory; called by all ranks."""


@dataclass(frozen=True)
class TrainingResult:
    """How a call of `train` ended: "finished" or "stopped" (by a signal, after a checkpoint)."""

    status: str
    step: int


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or not a number; the message says at which step."""


def train(
    task: TrainingTask,
    mesh: Mesh,
    config: TrainingConfig,
    output: Path,
    title: str = "",
    identity: str = "",
    zero: int = 1,
) -> TrainingResult:
    """Train, or go on where an earlier call was killed or stopped. All ranks call it.

    Writes `output/model/` when finished, `metrics.jsonl`, `logs/`, `state.json`, and `checkpoints/` (private).
    SIGTERM and SIGINT finish the step, save a checkpoint and return "stopped".

    Args:
        identity: what the samples and the initial weights come from; a checkpoint of another is refused.
        zero: what is split over the data ranks, see `ParallelConfig`.

    Raises:
        ConfigurationError: the batch cannot be dealt to the data ranks.
        NonFiniteLoss, EndlessOverflow, CheckpointError: as they say; `state.json` then says "failed".
    """
    if errors := config.errors() + config.layout_errors(mesh.data_size):
        raise ConfigurationError(errors)
    output = Path(output)
    if read_state(output).get("status") == "finished":
        return TrainingResult("finished", config.steps)
    run = _Run(task, mesh, config, output, title, identity, zero)
    try:
        with _stop_signals() as stop:
            return run.loop(stop)
    except Exception as error:
        if mesh.is_main:
            write_state(output, "failed", run.done, error=str(error))
        raise


class _Run:
    """One call of `train`: the loop's state."""

    def __init__(
        self,
        task: TrainingTask,
        mesh: Mesh,
        config: TrainingConfig,
        output: Path,
        title: str,
        identity: str,
        zero: int,
    ) -> None:
        self.task, self.mesh, self.config, self.output, self.zero = task, mesh, config, output, zero
        self.done = 0  # optimizer steps
        self.model = task.model.train()
        set_recompute(self.model, config.recompute)
        shard_over_data(self.model, mesh, config.precision, zero)
        self.optimizer = build_optimizer(self.model, config)
        self.checkpoints = Checkpoints(
            output / "checkpoints", mesh, self._fingerprint(identity), config.keep_checkpoints, self._say
        )
        self.loss_scale = LossScale(config) if config.precision == "fp16" else None
        self.done, facts = self.checkpoints.load_latest(self.model, self.optimizer)
        if self.loss_scale and facts:
            self.loss_scale.load(facts["loss_scale"])
        if mesh.is_main:
            if self.done:
                self._say(f"{title} resumes at step {self.done} of {config.steps}")
            self.recorder = Recorder(output, self.done, config.steps, title)
            write_state(output, "running", self.done)

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def _fingerprint(self, identity: str) -> str:
        """What a checkpoint must agree on: the shapes and everything that sets the course of the run."""
        shapes = [(name, list(parameter.shape)) for name, parameter in self.model.named_parameters()]
        facts = [self.config.significant(), shapes, self.task.total_samples, identity]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def loop(self, stop: "_Stop") -> TrainingResult:
        """Validate and save at the top, so that the first and the last step share one path."""
        config = self.config
        saved = self.done
        while True:
            finished = self.done == config.steps
            if self._validation_is_due(finished):
                self._validate()
            stopping = self._agreed(stop.requested)
            due = self.done % config.checkpoint_interval == 0 or stopping
            if due and self.done > saved and not finished:
                facts = {"loss_scale": self.loss_scale.state()} if self.loss_scale else {}
                self.checkpoints.save(self.done, self.model, self.optimizer, facts)
                saved = self.done
            if finished or stopping:
                break
            self._step()
        return self._end(finished)

    def _validation_is_due(self, finished: bool) -> bool:
        interval = self.config.validation_interval
        return interval > 0 and (finished or self.done % interval == 0)

    def _end(self, finished: bool) -> TrainingResult:
        if finished:
            self.task.save(self.output / "model")
        status = "finished" if finished else "stopped"
        if self.mesh.is_main:
            self.recorder.close()
            write_state(self.output, status, self.done)
            if not finished:
                self._say(f"stopped by a signal after step {self.done}; the same command goes on from there")
        return TrainingResult(status, self.done)

    def _agreed(self, flag: bool) -> bool:
        """True on all ranks when it is true on any."""
        value = torch.tensor([float(flag)])
        dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self.mesh.control_group)
        return bool(value.item())

    def _step(self) -> None:
        config, step = self.config, self.done
        batches = self._micro_batches(self.task, step)
        totals = self._global_counts(self.task, batches)
        rate = learning_rate(config, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses, norm = self._gradients(batches, totals)
        overflows = 0
        while self._overflowed(norm):
            self.optimizer.zero_grad(set_to_none=True)
            losses, norm = self._gradients(batches, totals)
            overflows += 1
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        facts = {"learning_rate": rate, "gradient_norm": norm}
        if self.loss_scale:
            facts |= {"loss_scale": self.loss_scale.value, "overflows": overflows}
        self._record(losses, facts, batches)

    def _gradients(
        self, batches: list[tuple[Batch, float]], totals: dict[str, float]
    ) -> tuple[dict[str, float], float]:
        """The step's mean losses, its gradients (in the parameters, clipped), and their norm before that."""
        losses = self._global_means(self._accumulate(batches, totals), totals)
        self._check_finite(losses)
        scale = self.loss_scale.value if self.loss_scale else 1.0
        return losses, clip_gradients(self.model.parameters(), self.config.clip_gradient_norm, scale)

    def _overflowed(self, norm: float) -> bool:
        """With fp16: whether gradients overflowed on any rank, so that the step is to be tried again."""
        if self.loss_scale is None:
            return False
        overflowed = self._agreed(not math.isfinite(norm))
        self.loss_scale.update(overflowed)
        return overflowed

    def _accumulate(
        self, batches: list[tuple[Batch, float]], totals: dict[str, float]
    ) -> dict[str, torch.Tensor]:
        """Forward and backward passes of a step; returns the summed losses of this data rank, by term."""
        sums: dict[str, torch.Tensor] = {}
        for number, (batch, weight) in enumerate(batches):
            prepare_backward(self.model, self.zero, last=number == len(batches) - 1)
            self.mesh.streams.start_micro_batch(self.config.seed, self.done, number)
            terms = self.model(**self._on_device(batch))
            # fully_shard averages gradients over the data ranks: times their number makes it the global mean.
            scale = weight * self.mesh.data_size
            loss = torch.stack([value * (scale / totals[term]) for term, value in terms.items()]).sum()
            (loss * self.loss_scale.value if self.loss_scale else loss).backward()
            _add(sums, terms, weight)
        complete_gradients(self.model)
        return sums

    def _record(
        self, losses: dict[str, float], facts: dict[str, float], batches: list[tuple[Batch, float]]
    ) -> None:
        if not self.mesh.is_main:
            return
        record: dict[str, Any] = {"step": self.done, "loss": sum(losses.values())}
        if len(losses) > 1:
            record["losses"] = losses
        record |= facts
        tokens = sum(batch["tokens"].numel() for batch, _ in batches) * self.mesh.data_size
        self.recorder.step(record, tokens, log=self.done % self.config.log_interval == 0)

    def _micro_batches(self, source: BatchSource, step: int) -> list[tuple[Batch, float]]:
        """This data rank's micro-batches of a global batch, each with weight 1.

        Global batches are consecutive samples, whatever the layout; the last may be short. A rank that has
        nothing left then takes part in the collectives with a batch of weight 0.
        """
        config, ranks = self.config, self.mesh.data_size
        first = step * config.global_batch
        count = min(config.global_batch, source.total_samples - first)
        if count <= 0:
            raise RuntimeError(f"step {step + 1} has no samples left: {source.total_samples} in all")
        share = math.ceil(count / ranks)
        own = np.arange(first, first + count)[self.mesh.data_rank * share :][:share]
        result = []
        for start in range(0, share, config.micro_batch):
            indices = own[start : start + config.micro_batch]
            weight = 1.0 if len(indices) else 0.0
            result.append((source.batch(indices if len(indices) else np.array([first])), weight))
        return result

    def _global_counts(self, source: BatchSource, batches: list[tuple[Batch, float]]) -> dict[str, float]:
        """Scored items per term over all ranks and micro-batches: losses are divided by these."""
        counts: dict[str, float] = {}
        for batch, weight in batches:
            for term, count in source.counts(batch).items():
                counts[term] = counts.get(term, 0.0) + weight * count
        summed = self._sum_over_data(list(counts.values()))
        return {term: max(value, 1.0) for term, value in zip(counts, summed, strict=True)}

    def _global_means(self, sums: dict[str, torch.Tensor], totals: dict[str, float]) -> dict[str, float]:
        summed = self._sum_over_data([value.item() for value in sums.values()])
        return {term: value / totals[term] for term, value in zip(sums, summed, strict=True)}

    def _sum_over_data(self, values: list[float]) -> list[float]:
        if self.mesh.data_size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.mesh.device)
        dist.all_reduce(tensor, group=self.mesh.data_group)
        return tensor.tolist()

    def _check_finite(self, losses: dict[str, float]) -> None:
        for term, value in losses.items():
            if not math.isfinite(value):
                raise NonFiniteLoss(
                    f"the {term} loss is {value} at step {self.done + 1}; lower the learning rate, or go on "
                    "from an earlier checkpoint"
                )

    @torch.no_grad()
    def _validate(self) -> None:
        """Mean loss over the first validation batches, dropout off."""
        source = self.task.validation
        if source is None:
            return
        self.model.eval()
        sums: dict[str, torch.Tensor] = {}
        counts: dict[str, float] = {}
        available = math.ceil(source.total_samples / self.config.global_batch)
        for step in range(min(self.config.validation_batches, available)):
            batches = self._micro_batches(source, step)
            for batch, weight in batches:
                _add(sums, self.model(**self._on_device(batch)), weight)
            for term, count in self._global_counts(source, batches).items():
                counts[term] = counts.get(term, 0.0) + count
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # a forward pass without a backward leaves the parameters gathered
        losses = self._global_means(sums, counts)
        if self.mesh.is_main and losses:
            self.recorder.validation({"step": self.done, "validation_loss": sum(losses.values())})

    def _on_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.mesh.device) for name, value in batch.items()}


def _add(sums: dict[str, torch.Tensor], terms: dict[str, torch.Tensor], weight: float) -> None:
    """Add a micro-batch's loss sums to the running ones, in float64 on the host."""
    for term, value in terms.items():
        sums[term] = (
            sums.get(term, torch.zeros((), dtype=torch.float64)) + weight * value.detach().double().cpu()
        )


def set_recompute(model: nn.Module, recompute: str) -> None:
    """Choose what every transformer layer recomputes: "none", "selective" or "full", see `TrainingConfig`."""
    for module in model.modules():
        if isinstance(module, TransformerLayer):
            module.recompute = recompute == "full"
            module.attention.recompute = recompute == "selective"


class _Stop:
    requested = False


@contextlib.contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """While inside, SIGTERM and SIGINT ask the loop to stop after the current step."""
    stop = _Stop()

    def request(number: int, frame: object) -> None:
        stop.requested = True

    previous = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
