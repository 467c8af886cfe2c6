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

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from core.config import ConfigurationError, TrainingConfig
from core.models.transformer import TransformerLayer
from core.parallel.mesh import Mesh
from core.training.batches import (
    Batch,
    BatchSource,
    WeightedBatch,
    add_losses,
    global_counts,
    global_means,
    micro_batches,
)
from core.training.checkpoint import Checkpoints
from core.training.data_parallel import complete_gradients, prepare_backward, shard_over_data
from core.training.errors import NonFiniteLoss
from core.training.loss_scale import LossScale
from core.training.metrics import Recorder, describe_run, read_state, write_state
from core.training.optimizer import build_optimizer, clip_gradients, learning_rate
from core.training.peak import device_peak
from core.training.profiler import TRACE_FILE, StepTrace
from core.training.tensorboard import MISSING, installed
from core.training.throughput import ThroughputMeter


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
class RunOptions:
    """How one call of `train` runs; nothing here changes the course of the run by more than rounding.

    Attributes:
        title: before progress lines.
        identity: what the samples and the initial weights come from; a checkpoint of another is refused.
        zero: what is split over the data ranks, see `ParallelConfig`.
        measure_peak: MFU against a measured peak, even of a device whose peak is known.
        tensorboard: event files, too, in `logs/tensorboard`.
        profile_steps: (first, last), counted from 1: the main rank's trace of these steps in `logs/trace-rank0.json`.
    """

    title: str = ""
    identity: str = ""
    zero: int = 1
    measure_peak: bool = False
    tensorboard: bool = False
    profile_steps: tuple[int, int] | None = None

    def errors(self, config: TrainingConfig) -> list[str]:
        """What is wrong with these options, one line each."""
        problems = [] if installed() or not self.tensorboard else [MISSING]
        if self.profile_steps:
            first, last = self.profile_steps
            if not 1 <= first <= last <= config.steps:
                problems.append(
                    f"--profile-steps {first}:{last}: must be FIRST:LAST with 1 ≤ FIRST ≤ LAST ≤ {config.steps}, "
                    "the steps of this training"
                )
        return problems


@dataclass(frozen=True)
class TrainingResult:
    """How a call of `train` ended: "finished" or "stopped" (by a signal, after a checkpoint)."""

    status: str
    step: int


def train(
    task: TrainingTask, mesh: Mesh, config: TrainingConfig, output: Path, options: RunOptions | None = None
) -> TrainingResult:
    """Train, or go on where an earlier call was killed or stopped. All ranks call it.

    Writes `output/model/` when finished, `metrics.jsonl`, `logs/`, `state.json`, and `checkpoints/` (private).
    SIGTERM and SIGINT finish the step, save a checkpoint and return "stopped".

    Raises:
        ConfigurationError: the batch cannot be dealt to the data ranks, or the options cannot be met.
        TrainingError: something the user can mend; `state.json` then says "failed".
    """
    options = options or RunOptions()
    if errors := config.errors() + config.layout_errors(mesh.data_size) + options.errors(config):
        raise ConfigurationError(errors)
    output = Path(output)
    if read_state(output).get("status") == "finished":
        return TrainingResult("finished", config.steps)
    run = _Run(task, mesh, config, output, options)
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
        self, task: TrainingTask, mesh: Mesh, config: TrainingConfig, output: Path, options: RunOptions
    ) -> None:
        self.task, self.mesh, self.config, self.output, self.options = task, mesh, config, output, options
        self.done = 0  # optimizer steps
        self.model = task.model.train()
        set_recompute(self.model, config.recompute)
        shard_over_data(self.model, mesh, config.precision, options.zero)
        self.optimizer = build_optimizer(self.model, config)
        self.checkpoints = Checkpoints(
            output / "checkpoints",
            mesh,
            self._fingerprint(options.identity),
            config.keep_checkpoints,
            self._say,
        )
        self.loss_scale = LossScale(config) if config.precision == "fp16" else None
        self.done, facts = self.checkpoints.load_latest(self.model, self.optimizer)
        if self.loss_scale and facts:
            self.loss_scale.load(facts["loss_scale"])
        peak = device_peak(mesh, config.precision, options.measure_peak)
        self.meter = ThroughputMeter(self.model, config.recompute, mesh, peak)
        self.trace = StepTrace(
            output / TRACE_FILE, options.profile_steps if mesh.is_main else None, self.meter.paused
        )
        if mesh.is_main:
            if self.done:
                self._say(f"{options.title} resumes at step {self.done} of {config.steps}")
            self.recorder = Recorder(output, self.done, config.steps, options.title, options.tensorboard)
            describe_run(output, self.model, mesh, peak)
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
        self.meter.start()
        while True:
            finished = self.done == config.steps
            if self._validation_is_due(finished):
                with self.meter.paused():
                    self._validate()
            stopping = self._agreed(stop.requested)
            due = self.done % config.checkpoint_interval == 0 or stopping
            if due and self.done > saved and not finished:
                facts = {"loss_scale": self.loss_scale.state()} if self.loss_scale else {}
                with self.meter.paused():
                    self.checkpoints.save(self.done, self.model, self.optimizer, facts)
                saved = self.done
            if finished or stopping:
                break
            with self.trace.step(self.done + 1):
                self._step()
        return self._end(finished)

    def _validation_is_due(self, finished: bool) -> bool:
        interval = self.config.validation_interval
        return interval > 0 and (finished or self.done % interval == 0)

    def _end(self, finished: bool) -> TrainingResult:
        if finished:
            self.task.save(self.output / "model")
        status = "finished" if finished else "stopped"
        self.trace.close()
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
        batches = micro_batches(self.task, step, config, self.mesh)
        totals = global_counts(self.task, batches, self.mesh)
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
        self.meter.count(batches, 1 + overflows)
        self._record(losses, facts)

    def _gradients(
        self, batches: list[WeightedBatch], totals: dict[str, float]
    ) -> tuple[dict[str, float], float]:
        """The step's mean losses, its gradients (in the parameters, clipped), and their norm before that."""
        losses = global_means(self._accumulate(batches, totals), totals, self.mesh)
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

    def _accumulate(self, batches: list[WeightedBatch], totals: dict[str, float]) -> dict[str, torch.Tensor]:
        """Forward and backward passes of a step; returns the summed losses of this data rank, by term."""
        sums: dict[str, torch.Tensor] = {}
        for number, (batch, weight) in enumerate(batches):
            prepare_backward(self.model, self.options.zero, last=number == len(batches) - 1)
            self.mesh.streams.start_micro_batch(self.config.seed, self.done, number)
            terms = self.model(**self._on_device(batch))
            # fully_shard averages gradients over the data ranks: times their number makes it the global mean.
            scale = weight * self.mesh.data_size
            loss = torch.stack([value * (scale / totals[term]) for term, value in terms.items()]).sum()
            (loss * self.loss_scale.value if self.loss_scale else loss).backward()
            add_losses(sums, terms, weight)
        complete_gradients(self.model)
        return sums

    def _record(self, losses: dict[str, float], facts: dict[str, float]) -> None:
        due = self.done % self.config.log_interval == 0 or self.done == self.config.steps
        throughput = self.meter.window() if due else None
        if not self.mesh.is_main:
            return
        record: dict[str, Any] = {"step": self.done, "loss": sum(losses.values())}
        if len(losses) > 1:
            record["losses"] = losses
        record |= facts
        self.recorder.step(record, throughput)

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
            batches = micro_batches(source, step, self.config, self.mesh)
            for batch, weight in batches:
                add_losses(sums, self.model(**self._on_device(batch)), weight)
            for term, count in global_counts(source, batches, self.mesh).items():
                counts[term] = counts.get(term, 0.0) + count
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # a forward pass without a backward leaves the parameters gathered
        losses = global_means(sums, counts, self.mesh)
        if self.mesh.is_main and losses:
            self.recorder.validation({"step": self.done, "validation_loss": sum(losses.values())})

    def _on_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.mesh.device) for name, value in batch.items()}


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
