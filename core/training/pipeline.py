"""A pipeline of ranks: each has some of the layers, and the micro-batches of a step go from one to the next (Huang et
al. 2019; with one forward and one backward pass in turn Narayanan et al. 2019; with several parts of the model a rank
Narayanan et al. 2021). Which rank does what when is `torch.distributed.pipelining`'s.

What a step of M micro-batches sends between neighbouring stages: the activations of each micro-batch forward and their
gradients back, [micro-batch, sequence, hidden] in the precision of the computation (under sequence parallelism, each
tensor rank its part). Beyond that one all-reduce between the first and the last stage, which both hold the token
embedding; the losses, from the last stage; and one number of the gradients' norm.

All micro-batches have one shape, for the receivers wait for it: a short one is filled up with rows in which nothing is
predicted, a short step with micro-batches of such rows.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleInterleaved1F1B
from torch.distributed.tensor import DTensor

from core.config import TrainingConfig
from core.errors import UserError
from core.models.transformer import PretrainingObjective
from core.parallel.cross_entropy import IGNORED
from core.parallel.mesh import Mesh
from core.parallel.parts import refresh
from core.training.batches import Batch, WeightedBatch, add_losses
from core.training.data_parallel import COMPUTE_TYPES, complete_gradients, prepare_backward, reshard
from core.training.schedule import LossSums, Totals, weighted_loss
from core.training.stages import IdleTime, tied_parameters

# What a schedule logs of an error is the error, which is raised, and a table of all that every rank does.
logging.getLogger("torch.distributed.pipelining").setLevel(logging.CRITICAL)

SCHEDULES = {"1f1b": Schedule1F1B, "gpipe": ScheduleGPipe}


class Pipeline:
    """The schedule of a model whose layers are dealt to a pipeline.

    Args:
        model: this rank's part of the objective, sharded over the data ranks.
        zero: 0 or 1.
        order: "1f1b" or "gpipe".

    Attributes:
        tied: parameters that the first and the last stage hold both; their gradients are added up.

    Raises:
        ConfigurationError: the model cannot be computed in stages.
    """

    def __init__(self, model: nn.Module, mesh: Mesh, config: TrainingConfig, zero: int, order: str) -> None:
        assert isinstance(model, PretrainingObjective), "see stage_errors"
        self.model, self.mesh, self.config, self.zero, self.order = model, mesh, config, zero, order
        self.micro_batches = config.micro_batches(mesh.data_size)
        self.parts = len(model.network.transformer.parts)
        self.idle = IdleTime(mesh.device)
        self.tied = tied_parameters(model, mesh)
        self._ends = mesh.ends_group()
        self._schedules: dict[tuple[int, bool], Any] = {}
        self._passing = _Passing([], {}, 0, 1.0, False)

    def train(
        self, batches: list[WeightedBatch], totals: Totals, step: int, loss_scale: float = 1.0
    ) -> LossSums:
        refresh(self.model)
        prepare_backward(self.model, self.zero, last=False)
        with self.idle.passing():
            sums = self._pass(_Passing(batches, totals, step, loss_scale, True))
        complete_gradients(self.model, self.mesh)
        for parameter in self.tied:
            if parameter.grad is None:  # used at the other end only
                parameter.grad = torch.zeros_like(parameter)
            assert isinstance(parameter.grad, DTensor)
            dist.all_reduce(parameter.grad.to_local(), group=self._ends)
        values = torch.zeros(len(totals), dtype=torch.float64, device=self.mesh.device)
        if sums:
            values = torch.stack([sums[term] for term in totals])
        dist.broadcast(values, src=self._last_rank, group=self.mesh.pipeline_group)
        return dict(zip(totals, values, strict=True))

    @torch.no_grad()
    def evaluate(self, batches: Iterable[WeightedBatch]) -> LossSums:
        given, sums = list(batches), LossSums()
        refresh(self.model)
        self.model.eval()
        for start in range(0, len(given), self.micro_batches):
            chosen = given[start : start + self.micro_batches]
            for term, value in self._pass(_Passing(chosen, {}, 0, 1.0, False)).items():
                sums[term] = sums.get(term, 0.0) + value
        self.model.train()
        reshard(self.model)
        found = [{term: value.item() for term, value in sums.items()}]
        dist.broadcast_object_list(found, src=self._last_rank, group=self.mesh.pipeline_group)
        return {term: torch.tensor(value, dtype=torch.float64) for term, value in found[0].items()}

    def compute(self, part: int, number: int, received: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The forward pass of a micro-batch through a part of the model: what the next stage receives, or the loss that
        the backward pass begins with."""
        passing = self._passing
        batch, weight = passing.batches[number]
        if passing.training:
            self.mesh.streams.start_micro_batch(self.config.seed, passing.step, number)
        result = self.model(*received, part=part, **batch)
        if isinstance(result, torch.Tensor):
            return result
        add_losses(passing.sums, result, weight)
        if not passing.training:
            return torch.zeros((), device=self.mesh.device)
        return weighted_loss(result, passing.totals, weight * self.mesh.data_size, passing.loss_scale)

    def before_backward(self, part: int, last: bool) -> None:
        """Before each backward pass of a part; `last`: of its last micro-batch. A rank's first part comes last."""
        if last and part == 0:
            prepare_backward(self.model, self.zero, last=True)

    def _pass(self, passing: "_Passing") -> LossSums:
        """Run micro-batches through the pipeline; returns the losses on the last stage, nothing on the others."""
        lengths = {batch["tokens"].shape[1] for batch, _ in passing.batches}
        if len(lengths) > 1:
            raise UserError(
                f"micro-batches of {min(lengths)} and {max(lengths)} tokens cannot go through one pipeline: pad them to "
                "one length, or train with pipeline_parallel 1"
            )
        passing.batches = self._filled_up(passing.batches)
        schedule = self._schedule(lengths.pop(), passing.training)
        self._passing = passing
        if passing.training:
            schedule.step(target=torch.arange(self.micro_batches), return_outputs=False)
        else:
            schedule.eval(return_outputs=False)
        return passing.sums

    def _filled_up(self, batches: list[WeightedBatch]) -> list[WeightedBatch]:
        """As many micro-batches as a step has, of as many rows, on the device."""
        missing = self.micro_batches - len(batches)
        given = [*batches, *[(batches[0][0], 0.0)] * missing]
        return [(self._filled(batch, weight > 0), weight) for batch, weight in given]

    def _filled(self, batch: Batch, counts: bool) -> Batch:
        """A micro-batch of full size: the first row again and again, without targets. Without any where it does not
        count."""
        rows = len(batch["tokens"])
        missing = self.config.micro_batch - rows
        filled = {}
        for name, values in batch.items():
            values = torch.cat([values, values[:1].expand(missing, *values.shape[1:])])
            if name in self.model.targets:
                values[rows if counts else 0 :] = IGNORED
            filled[name] = values.to(self.mesh.device, non_blocking=True)
        return filled

    def _schedule(self, length: int, training: bool) -> Any:
        """torch's schedule for sequences of a length."""
        key = length, training
        if key not in self._schedules:
            stages = [_Stage(self, part, self._activations(length)) for part in range(self.parts)]
            order: Any = SCHEDULES[self.order] if self.parts == 1 else ScheduleInterleaved1F1B
            self._schedules[key] = order(
                stages[0] if self.parts == 1 else stages,
                self.micro_batches,
                loss_fn=_the_loss if training else None,
                scale_grads=False,
            )
        return self._schedules[key]

    def _activations(self, length: int) -> torch.Tensor:
        """What a stage sends to the next, on the meta device."""
        mesh = self.mesh
        width = length // mesh.tensor_size if mesh.sequence_parallel else length
        return torch.empty(
            (self.config.micro_batch, width, self.model.network.config.hidden),
            dtype=COMPUTE_TYPES.get(self.config.precision, torch.float32),
            device="meta",
            requires_grad=True,
        )

    @property
    def _last_rank(self) -> int:
        return dist.get_process_group_ranks(self.mesh.pipeline_group)[-1]


class _Passing:
    """Micro-batches on their way, and the losses of those that have arrived."""

    def __init__(
        self,
        batches: list[WeightedBatch],
        totals: Totals,
        step: int,
        loss_scale: float,
        training: bool,
    ) -> None:
        self.batches, self.totals, self.step = batches, totals, step
        self.loss_scale, self.training = loss_scale, training
        self.sums: LossSums = {}


class _Part(nn.Module):
    """A part of the model as torch's pipelining calls it. It has no parameters: those, and what `fully_shard` does with
    them, are the pipeline's own affair, for the parts of a rank are sharded together."""

    def __init__(self, compute: Callable[[tuple[torch.Tensor, ...]], torch.Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, *received: torch.Tensor) -> torch.Tensor:
        return self.compute(received)


class _Stage(PipelineStage):
    """A stage of the pipeline: a part of this rank's layers.

    Args:
        activations: what stages send each other.
    """

    def __init__(self, pipeline: Pipeline, part: int, activations: torch.Tensor) -> None:
        mesh = pipeline.mesh
        index, stages = part * mesh.pipeline_size + mesh.pipeline_rank, mesh.pipeline_size * pipeline.parts
        loss = torch.empty((), device="meta", requires_grad=True)
        super().__init__(
            _Part(lambda received: pipeline.compute(part, self.number, received)),
            index,
            stages,
            mesh.device,
            input_args=(activations,) if index else (),
            output_args=(activations if index < stages - 1 else loss,),
            group=mesh.pipeline_group,
        )
        self.pipeline, self.part, self.activations = pipeline, part, activations
        self.number = 0  # of the micro-batch on its way forward

    def get_fwd_recv_ops(self, fwd_chunk_id: int) -> Any:
        self._make_room(self.args_recv_info[fwd_chunk_id])
        return super().get_fwd_recv_ops(fwd_chunk_id)

    def get_bwd_recv_ops(self, bwd_chunk_id: int) -> Any:
        if self.has_backward:
            self._make_room(self.grad_recv_info[bwd_chunk_id])
        return super().get_bwd_recv_ops(bwd_chunk_id)

    def forward_one_chunk(self, fwd_chunk_id: int, *arguments: Any, **settings: Any) -> Any:
        self.number = fwd_chunk_id
        with self.pipeline.idle.computing(), _own_errors():
            result = super().forward_one_chunk(fwd_chunk_id, *arguments, **settings)
        if not self.has_backward:
            self._free(self.args_recv_info[fwd_chunk_id])
        return result

    def backward_one_chunk(
        self, bwd_chunk_id: int, loss: Any = None, full_backward: bool = True, last_backward: bool = False
    ) -> None:
        if not self.has_backward:
            return
        self.pipeline.before_backward(self.part, last_backward)
        with self.pipeline.idle.computing(), _own_errors():
            super().backward_one_chunk(bwd_chunk_id, loss, full_backward, last_backward)
        self._free(self.args_recv_info[bwd_chunk_id])
        self._free(self.grad_recv_info[bwd_chunk_id])

    def _make_room(self, received: tuple[Any, ...]) -> None:
        """For what is about to come. torch keeps room for all micro-batches of a step, whatever the schedule."""
        for place in received:
            if isinstance(getattr(place, "buffer", None), torch.Tensor):
                place.buffer = torch.empty_like(
                    self.activations, device=self.device, requires_grad=place.buffer.requires_grad
                )

    def _free(self, received: tuple[Any, ...]) -> None:
        for place in received:
            if isinstance(getattr(place, "buffer", None), torch.Tensor):
                place.buffer = place.buffer.new_empty(0, requires_grad=place.buffer.requires_grad)


def _the_loss(loss: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The last stage gives it already."""
    return loss


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """torch's pipelining wraps what a pass raises into an error that tells of shapes; what was raised says more."""
    try:
        yield
    except RuntimeError as error:
        if error.__cause__ is not None:
            raise error.__cause__ from None
        raise
