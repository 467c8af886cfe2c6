"""The trainer: data × tensor parallel training of any objective, resumable at any moment."""

import hashlib
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule

from core.config import TrainingConfig
from core.errors import ConfigurationError
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
from core.training.optimizer import build_optimizer, clip_gradients, learning_rate
from core.training.options import RunOptions
from core.training.peak import device_peak
from core.training.profiler import TRACE_FILE, StepTrace
from core.training.records import Recorder, describe_run, read_state, write_state
from core.training.safety import check_same_settings, check_same_weights, explained_failures
from core.training.stopping import NO_REASON, SAVE_FAILED, StopRequest, reason_name
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
class TrainingResult:
    """How a call of `train` ended: "finished" or "stopped" (by a signal or the time limit, after a checkpoint)."""

    status: str
    step: int


def train(
    task: TrainingTask, mesh: Mesh, config: TrainingConfig, output: Path, options: RunOptions | None = None
) -> TrainingResult:
    """Train, or go on where an earlier call was killed or stopped. All ranks call it.

    Writes `output/model/` when finished, `metrics.jsonl`, `logs/`, `state.json`, and `checkpoints/` (private).
    SIGTERM, SIGINT and the time limit finish the step, save a checkpoint and return "stopped".

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
        with StopRequest(run.options.exit_after_minutes) as stop, explained_failures(mesh):
            run.prepare()
            return run.loop(stop)
    except Exception as error:
        run.checkpoints.settle()
        if mesh.is_main:
            write_state(output, "failed", run.done or read_state(output).get("step", 0), error=str(error))
        raise


class _Run:
    """One call of `train`: the loop's state."""

    def __init__(
        self, task: TrainingTask, mesh: Mesh, config: TrainingConfig, output: Path, options: RunOptions
    ) -> None:
        self.task, self.mesh, self.config, self.output, self.options = task, mesh, config, output, options
        self.done = 0  # optimizer steps
        self.model = task.model.train()
        self.loss_scale = LossScale(config) if config.precision == "fp16" else None
        folder = output / "checkpoints"
        self.checkpoints = Checkpoints(folder, mesh, self._fingerprint(), config, self._say)

    def prepare(self) -> None:
        """Check that the ranks agree, shard the model, go back to the newest checkpoint, and rehearse."""
        config, mesh, options = self.config, self.mesh, self.options
        settings = asdict(config) | self._origin() | {"zero": options.zero, "torch": torch.__version__}
        check_same_settings(settings, mesh)
        check_same_weights(self.model, mesh, "before the first step")
        set_recompute(self.model, config.recompute)
        if config.compile:
            compile_layers(self.model)
        shard_over_data(self.model, mesh, config.precision, options.zero)
        self.optimizer = build_optimizer(self.model, config)
        self.done, facts = self.checkpoints.load_latest(self.model, self.optimizer)
        if self.loss_scale and facts:
            self.loss_scale.load(facts["loss_scale"])
        peak = device_peak(mesh, config.precision, options.measure_peak)
        self.meter = ThroughputMeter(self.model, config.recompute, mesh, peak)
        self.trace = StepTrace(
            self.output / TRACE_FILE, options.profile_steps if mesh.is_main else None, self.meter.paused
        )
        if mesh.is_main:
            if self.done:
                self._say(f"{options.title} resumes at step {self.done} of {config.steps}")
            self.recorder = Recorder(self.output, self.done, config.steps, options.title, options.tensorboard)
            describe_run(self.output, self.model, mesh, peak)
            write_state(self.output, "running", self.done)
        if self.done < config.steps:
            self._rehearse()
        self.meter.start()

    def _rehearse(self) -> None:
        """One micro-batch forward and backward, of which nothing is kept: what cannot work shows at once."""
        batches = micro_batches(self.task, self.done, self.config, self.mesh)
        self._accumulate(batches[:1], global_counts(self.task, batches, self.mesh))
        self.optimizer.zero_grad(set_to_none=True)

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def _origin(self) -> dict[str, Any]:
        """What is trained, and on what."""
        shapes = {name: list(parameter.shape) for name, parameter in self.model.named_parameters()}
        return {"shapes": shapes, "samples": self.task.total_samples, "identity": self.options.identity}

    def _fingerprint(self) -> str:
        """What a checkpoint must agree on: the shapes and everything that sets the course of the run."""
        facts = {**self._origin(), **self.config.significant()}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def loop(self, stop: StopRequest) -> TrainingResult:
        """Validate and save at the top, so that the first and the last step share one path."""
        config = self.config
        saved = self.done
        self.meter.start()
        while True:
            finished = self.done == config.steps
            if self._validation_is_due(finished):
                with self.meter.paused():
                    self._validate()
            # A failed save ends the run as a signal does, but that `save` or, in `_end`, `wait` raises what failed.
            reason = int(self._largest(SAVE_FAILED if self.checkpoints.failed else stop.reason()))
            stopping = reason != NO_REASON
            due = self.done % config.checkpoint_interval == 0 or stopping
            if due and self.done > saved and not finished:
                facts = {"loss_scale": self.loss_scale.state()} if self.loss_scale else {}
                with self.meter.paused():
                    check_same_weights(self.model, self.mesh, f"after step {self.done}")
                    self.checkpoints.save(self.done, self.model, self.optimizer, facts)
                saved = self.done
            if finished or stopping:
                break
            with self.trace.step(self.done + 1):
                self._step()
        return self._end(finished, reason)

    def _validation_is_due(self, finished: bool) -> bool:
        interval = self.config.validation_interval
        return interval > 0 and (finished or self.done % interval == 0)

    def _end(self, finished: bool, reason: int) -> TrainingResult:
        self.checkpoints.wait()
        if finished:
            self.task.save(self.output / "model")
        status = "finished" if finished else "stopped"
        self.trace.close()
        if self.mesh.is_main:
            self.recorder.close()
            if finished:
                write_state(self.output, status, self.done)
            else:
                name = reason_name(reason)
                write_state(self.output, status, self.done, reason=name)
                self._say(f"stopped by {name} after step {self.done}; the same command goes on from there")
        return TrainingResult(status, self.done)

    def _largest(self, value: float) -> float:
        """The largest of all ranks' values."""
        values = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.mesh.control_group)
        return values.item()

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
        sums = self._accumulate(batches, totals)
        losses = global_means(sums, totals, self.mesh)
        self._check_finite(losses, sums)
        scale = self.loss_scale.value if self.loss_scale else 1.0
        return losses, clip_gradients(self.model.parameters(), self.config.clip_gradient_norm, scale)

    def _overflowed(self, norm: float) -> bool:
        """With fp16: whether gradients overflowed on any rank, so that the step is to be tried again."""
        if self.loss_scale is None:
            return False
        overflowed = self._largest(not math.isfinite(norm)) > 0
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

    def _check_finite(self, losses: dict[str, float], sums: dict[str, torch.Tensor]) -> None:
        """Stop at a mean loss that is no number, and say which ranks' own `sums` are none. All see the same mean."""
        bad = [term for term, value in losses.items() if not math.isfinite(value)]
        if not bad:
            return
        finite: list[bool] = [True] * self.mesh.world_size
        own = all(math.isfinite(sums[term].item()) for term in bad)
        dist.all_gather_object(finite, own, group=self.mesh.control_group)
        ranks = ", ".join(str(rank) for rank, is_finite in enumerate(finite) if not is_finite)
        raise NonFiniteLoss(
            f"the {bad[0]} loss is {losses[bad[0]]} at step {self.done + 1}, on rank {ranks}; lower the learning rate, "
            "or go on from an earlier checkpoint"
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


def compile_layers(model: nn.Module) -> None:
    """Compile every transformer layer."""
    for module in model.modules():
        if isinstance(module, TransformerLayer):
            module.compile_computation()
