"""The trainer: pipeline × data × tensor parallel training of any objective, resumable at any moment.

Who watches a run stands in `observers`, how a batch goes through the layers in `schedule`.
"""

import contextlib
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.distributed as dist
from torch import nn

from core.config import TrainingConfig
from core.errors import ConfigurationError, TransientError
from core.parallel.mesh import Mesh
from core.tf32 import NAME as TF32
from core.tf32 import tf32, tf32_errors
from core.training.batches import BatchSource, WeightedBatch, global_counts, global_means
from core.training.checkpoint import FOLDER, Checkpoints, goes_on
from core.training.data_parallel import shard_over_data
from core.training.loss_scale import LossScale
from core.training.observers import Observer, Run, Selection
from core.training.optimizer import build_optimizer, learning_rate, scale_gradients, squared_norm
from core.training.options import RunOptions
from core.training.outcome import Outcome, read_outcome
from core.training.peak import device_peak
from core.training.preparation import (
    compile_layers,
    deterministic,
    is_compiled,
    release_errors,
    set_recompute,
)
from core.training.progress import say
from core.training.reader import BatchReader
from core.training.records import read_state, standard_observers, write_state
from core.training.safety import (
    bad_samples,
    check_finite,
    check_same_settings,
    check_same_weights,
    explained_failures,
    non_finite_gradient,
    non_finite_loss,
)
from core.training.schedule import Schedule, Totals, WholeModel
from core.training.stages import stage_errors, whole_shapes
from core.training.stopping import BAD_SAMPLES, NO_REASON, SAVE_FAILED, StopRequest, reason_name
from core.training.throughput import ThroughputMeter
from core.training.watchdog import Watchdog

if TYPE_CHECKING:
    from core.training.pipeline import Pipeline


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
    task: TrainingTask,
    mesh: Mesh,
    config: TrainingConfig,
    output: Path,
    options: RunOptions | None = None,
    observers: Sequence[Observer] = (),
    selection: Selection | None = None,
) -> TrainingResult:
    """Train, or go on where an earlier call was killed or stopped. All ranks call it.

    Writes `output/model/` when finished, `metrics.jsonl`, `logs/`, `state.json`, and `checkpoints/` (private).
    SIGTERM, SIGINT, SIGHUP and the time limit finish the step, save a checkpoint and return "stopped".

    Args:
        observers: hear of what happens on this rank, after those that `options` ask for.
        selection: chooses the model to deliver; by default it is that of the last step.

    Raises:
        ConfigurationError: the batch cannot be dealt to the data ranks, the options cannot be met, or a validation is
            asked for and there is nothing to validate on.
        TrainingError: something the user can mend; `state.json` then says "failed".
    """
    options = options or RunOptions()
    errors = (
        config.errors()
        + config.layout_errors(
            mesh.data_size, pipeline_parallel=mesh.pipeline_size, pipeline_chunks=mesh.pipeline_chunks
        )
        + options.errors(config)
        + release_errors(config, mesh.tensor_size)
        + tf32_errors(config.precision, mesh.device, "training.precision")
    )
    if mesh.pipeline_size > 1:
        errors += stage_errors(task.model, mesh, options.zero, options.pipeline_schedule)
    if not errors and config.validation_interval and task.validation is None:
        errors.append(
            f"training.validation_interval: is {config.validation_interval}, but nothing is held out to validate on: "
            "the data has too few documents (3 of 100 are held out); give more, or set it to 0"
        )
    if errors:
        raise ConfigurationError(errors)
    output = Path(output)
    if read_state(output).get("status") == "finished":
        return TrainingResult("finished", config.steps)
    trainer: _Trainer | None = None

    def fail(error: Exception) -> None:
        done = trainer.done if trainer else 0
        lost = {"lost": True} if isinstance(error, TransientError) else {}
        write_state(output, "failed", done or read_state(output).get("step", 0), error=str(error), **lost)

    watchdog = Watchdog(mesh, fail)
    try:
        with (
            StopRequest(options.exit_after_minutes) as stop,
            explained_failures(mesh, watchdog),
            watchdog.watching(),
            deterministic(config.deterministic),
            tf32(config.precision == TF32),
        ):
            trainer = _Trainer(task, mesh, config, output, options, selection, watchdog)
            return trainer.train(stop, observers)
    except Exception as error:
        watchdog.tell(error)
        if trainer:
            trainer.abandon()
        if mesh.is_main or getattr(error, "speaks", False):
            fail(error)
        raise


class _Trainer:
    """One call of `train`: the ranks agree, the model is sharded, and the newest checkpoint is loaded."""

    def __init__(
        self,
        task: TrainingTask,
        mesh: Mesh,
        config: TrainingConfig,
        output: Path,
        options: RunOptions,
        selection: Selection | None,
        watchdog: Watchdog,
    ) -> None:
        self.task, self.mesh, self.config, self.output, self.options = task, mesh, config, output, options
        self.selection, self.watchdog = selection, watchdog
        self.model = task.model.train()
        origin = {
            "shapes": whole_shapes(self.model, mesh),
            "samples": task.total_samples,
            "identity": options.identity,
        }
        check_same_settings(
            asdict(config) | origin | {"zero": options.zero, "torch": torch.__version__}, mesh
        )
        resumed = goes_on(output, mesh)
        if not resumed:
            check_same_weights(self.model, mesh, "before the first step")
        set_recompute(self.model, config.recompute)
        if is_compiled(config, mesh):
            compile_layers(self.model)
        shard_over_data(self.model, mesh, config.precision, options.zero)
        self.optimizer = build_optimizer(self.model, config)
        self.stages = _pipeline(self.model, mesh, config, options)
        whole = WholeModel(self.model, mesh, options.zero, config.seed)
        self.schedule: Schedule = self.stages or whole
        self.loss_scale = LossScale(config) if config.precision == "fp16" else None
        # What a checkpoint must agree on: the shapes and everything that sets the course of the run.
        course = json.dumps({**origin, **config.significant()}, sort_keys=True)
        fingerprint = hashlib.sha256(course.encode()).hexdigest()
        self.checkpoints = Checkpoints(output / FOLDER, mesh, fingerprint, config, say)
        with watchdog.paused("loading a checkpoint"):
            self.done, facts = self.checkpoints.load_latest(self.model, self.optimizer)  # optimizer steps
        if self.done:
            loaded = self.checkpoints.folder(self.done)
            remedy = f"in {loaded}; remove this folder to go on from the checkpoint before"
            check_finite(self.model, self.optimizer, mesh, remedy)
            check_same_weights(self.model, mesh, f"as loaded from {loaded}")
        if self.loss_scale and facts:
            self.loss_scale.load(facts["loss_scale"])
        peak = device_peak(mesh, config.precision, options.measure_peak)
        self.meter = ThroughputMeter(self.model, config.recompute, mesh, peak, self.stages)
        self.reader = BatchReader(task, config, mesh)
        self.observers: list[Observer] = []

    def train(self, stop: StopRequest, observers: Sequence[Observer]) -> TrainingResult:
        """From the step after the checkpoint to the last one, or until something stops it."""
        with self._observed(observers), contextlib.closing(self.reader):
            if self.mesh.is_main:
                write_state(self.output, "running", self.done)
            if self.selection:
                self.selection.started(self.done)
            if self.done < self.config.steps:
                self._rehearse()
            reason = self._loop(stop)
            with self.watchdog.paused("at the end"):
                self.checkpoints.wait()
                finished = self.done == self.config.steps
                if finished:
                    self._check_weights()
                    (self.selection.deliver if self.selection else self.task.save)(self.output / "model")
        status = "finished" if finished else "stopped"
        if self.mesh.is_main:
            facts = {} if finished else {"reason": reason_name(reason)}
            write_state(self.output, status, self.done, **facts)
            if not finished:
                say(
                    f"stopped by {facts['reason']} after step {self.done}; the same command goes on from there"
                )
        return TrainingResult(status, self.done)

    def abandon(self) -> None:
        """The run ends with an error: let a save in flight end."""
        self.checkpoints.settle()

    @contextlib.contextmanager
    def _observed(self, observers: Sequence[Observer]) -> Iterator[None]:
        """Inside, observers hear of the run; they are told that it is over, however it ends."""
        config, done, meter = self.config, self.done, self.meter
        run = Run(self.output, done, config, self.model, self.mesh, meter.peak, meter.paused)
        if done and self.mesh.is_main:
            say(f"{self.options.title} resumes at step {done} of {config.steps}")
        with contextlib.ExitStack() as endings:
            standard = standard_observers(run, self.options) if self.mesh.is_main else ()
            for observer in itertools.chain(standard, observers):
                endings.callback(observer.ended)
                observer.started(run)
                self.observers.append(observer)
            yield

    def _rehearse(self) -> None:
        """One micro-batch forward and backward, of which nothing is kept: what cannot work shows at once."""
        self.watchdog.mark("rehearsing")
        batches, problem = self.reader.step(self.done)
        if self._largest(bool(problem)):
            raise bad_samples(problem, self.mesh)
        totals = global_counts(self.task, batches, self.mesh)
        self.schedule.train(batches[:1], totals, self.done, self._scale())
        self.optimizer.zero_grad(set_to_none=True)

    def _loop(self, stop: StopRequest) -> int:
        """Validate, save and measure at the top, so that the first and the last step share one path.

        Returns:
            why it stopped before the last step.
        """
        config = self.config
        saved = self.done
        self.meter.start()
        reason = int(self._largest(self._reason(stop, self.done)))
        while True:
            finished = self.done == config.steps
            if config.validation_interval and (finished or self.done % config.validation_interval == 0):
                with self.meter.paused():
                    self._validate()
            self.watchdog.mark(f"after step {self.done}, waiting for the next batch")
            batches, problem = ([], "") if finished else self.reader.step(self.done)
            stopping = reason != NO_REASON
            due = self.done % config.checkpoint_interval == 0 or stopping
            if due and self.done > saved and not finished:
                with self.meter.paused():
                    self._save()
                saved = self.done
            if reason == BAD_SAMPLES:
                raise bad_samples(problem, self.mesh)
            if stopping and not finished:
                return reason
            if self.selection and self.done in self.selection.steps:
                with self.meter.paused():
                    self._measure(self.selection)
            if finished:
                return reason
            reason = self._step(batches, stop)

    def _reason(self, stop: StopRequest, step: int) -> int:
        """Why this rank would not begin a step; its batches are waited for."""
        if step < self.config.steps and self.reader.step(step)[1]:
            return BAD_SAMPLES
        # A failed save ends the run as a signal does, but that `save` or, at the end, `wait` raises what failed.
        return SAVE_FAILED if self.checkpoints.failed else stop.reason()

    def _save(self) -> None:
        facts = {"loss_scale": self.loss_scale.state()} if self.loss_scale else {}
        self._check_weights()
        with self.watchdog.paused(f"after step {self.done}, saving"):
            self.checkpoints.save(self.done, self.model, self.optimizer, facts)
        for observer in self.observers:
            observer.checkpoint_taken(self.done)

    def _check_weights(self) -> None:
        """What is about to be kept must be worth it."""
        when = f"after step {self.done}"
        check_finite(self.model, self.optimizer, self.mesh, f"{when}; lower the learning rate")
        check_same_weights(self.model, self.mesh, when)

    def _validate(self) -> None:
        """Mean loss over the first validation batches, dropout off."""
        self.watchdog.mark(f"in the validation after step {self.done}")
        source, config, mesh = self.task.validation, self.config, self.mesh
        if source is None:
            return
        available = math.ceil(source.total_samples / config.global_batch)
        batches, problem = self.reader.steps(source, min(config.validation_batches, available))
        if self._largest(bool(problem)):
            raise bad_samples(problem, mesh)
        sums = self.schedule.evaluate(batches)
        counts = global_counts(source, batches, mesh)
        losses = global_means(sums, counts, mesh)
        if self._largest(not _finite(losses)):
            raise non_finite_loss(losses, sums, mesh, f"in the validation after step {self.done}")
        for observer in self.observers if losses else ():
            observer.validated({"step": self.done, "validation_loss": sum(losses.values())})

    def _measure(self, selection: Selection) -> None:
        with self.watchdog.paused(f"after step {self.done}, measuring"):
            record = {"step": self.done, "measured": selection.measured(self.done)}
        for observer in self.observers:
            observer.measured(record)

    def _largest(self, value: float) -> float:
        """The largest of all ranks' values."""
        values = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.mesh.control_group)
        return values.item()

    def _scale(self) -> float:
        return self.loss_scale.value if self.loss_scale else 1.0

    def _step(self, batches: list[WeightedBatch], stop: StopRequest) -> int:
        """Returns why some rank would not begin another step."""
        self.watchdog.mark(f"in step {self.done + 1}")
        for observer in self.observers:
            observer.step_started(self.done + 1)
        totals = global_counts(self.task, batches, self.mesh)
        rate = learning_rate(self.config, self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        overflows = 0
        while (outcome := self._passes(batches, totals, stop)).bad_gradient:
            self.optimizer.zero_grad(set_to_none=True)
            overflows += 1
        limit = self.config.clip_gradient_norm
        scale_gradients(self.model.parameters(), outcome.norm, limit, outcome.loss_scale)
        self.watchdog.mark(f"updating in step {self.done + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        self.meter.count(batches, 1 + overflows)
        facts = {"learning_rate": rate, "gradient_norm": outcome.norm}
        if self.loss_scale:
            facts |= {"loss_scale": self.loss_scale.value, "overflows": overflows}
        self._tell(outcome.losses, facts)
        return outcome.reason

    def _tell(self, losses: dict[str, float], facts: dict[str, float]) -> None:
        """A step is done."""
        self.watchdog.mark(f"telling of step {self.done}")
        due = self.done % self.config.log_interval == 0 or self.done == self.config.steps
        throughput = self.meter.window() if due else None
        record: dict[str, Any] = {"step": self.done, "loss": sum(losses.values())}
        if len(losses) > 1:
            record["losses"] = losses
        for observer in self.observers:
            observer.step_done(record | facts, throughput)

    def _passes(self, batches: list[WeightedBatch], totals: Totals, stop: StopRequest) -> Outcome:
        """Forward and backward: the gradients are then in the parameters, times the loss scale.

        Raises:
            NonFiniteLoss, NonFiniteGradient: on all ranks, whichever of them saw it.
        """
        mesh, scale = self.mesh, self._scale()
        sums = self.schedule.train(batches, totals, self.done, scale)
        self.watchdog.mark(f"after the passes of step {self.done + 1}")
        copies = self.stages.tied if self.stages and not mesh.has_first_stage else ()
        square = squared_norm(self.model.parameters(), mesh.pipeline_group if self.stages else None, copies)
        outcome = read_outcome(sums, totals, square, scale, self._reason(stop, self.done + 1), mesh)
        if outcome.bad_loss:
            raise non_finite_loss(outcome.losses, sums, mesh, f"at step {self.done + 1}")
        if self.loss_scale:
            self.loss_scale.update(outcome.bad_gradient)
        elif outcome.bad_gradient:
            raise non_finite_gradient(self.model, mesh, self.done + 1)
        return outcome


def _pipeline(model: nn.Module, mesh: Mesh, config: TrainingConfig, options: RunOptions) -> "Pipeline | None":
    if mesh.pipeline_size == 1:
        return None
    from core.training.pipeline import Pipeline  # torch's part of it takes half a second to import

    return Pipeline(model, mesh, config, options.zero, options.pipeline_schedule)


def _finite(losses: dict[str, float]) -> bool:
    return all(math.isfinite(value) for value in losses.values())
