"""The forward and backward passes of one global batch: in which order a rank does what. Not here: the optimizer's step.

A schedule is all that the trainer knows of how a batch goes through the layers; that of layers dealt to a pipeline of
ranks is `core.training.pipeline`'s.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import nn

from core.parallel.mesh import Mesh
from core.parallel.parts import refresh
from core.training.batches import Batch, WeightedBatch, add_losses
from core.training.data_parallel import complete_gradients, prepare_backward, reshard

LossSums = dict[str, torch.Tensor]
Totals = Mapping[str, torch.Tensor]  # float64 scalars


class Schedule(Protocol):
    """Passes over micro-batches. All ranks call the same method with as many micro-batches."""

    def train(self, batches: list[WeightedBatch], totals: Totals, step: int, loss_scale: float) -> LossSums:
        """Forward and backward; the gradients of the global batch's mean loss are then in the parameters.

        Args:
            batches: this data rank's.
            totals: what each loss term's sum over all ranks is divided by.
            step: steps done before; seeds dropout.
            loss_scale: the gradients are multiplied by it.

        Returns:
            the summed losses of this data rank, by term.
        """

    def evaluate(self, batches: Iterable[WeightedBatch]) -> LossSums:
        """Forward, dropout off, without gradients; the summed losses of this data rank, by term."""


class WholeModel:
    """Every rank has all layers (or its tensor-parallel part of them all): one micro-batch after the other."""

    def __init__(self, model: nn.Module, mesh: Mesh, zero: int, seed: int) -> None:
        self.model, self.mesh, self.zero, self.seed = model, mesh, zero, seed

    def train(
        self, batches: list[WeightedBatch], totals: Totals, step: int, loss_scale: float = 1.0
    ) -> LossSums:
        sums: LossSums = {}
        refresh(self.model)
        for number, (batch, weight) in enumerate(batches):
            prepare_backward(self.model, self.zero, last=number == len(batches) - 1)
            self.mesh.streams.start_micro_batch(self.seed, step, number)
            terms = self.model(**self._on_device(batch))
            weighted_loss(terms, totals, weight * self.mesh.data_size, loss_scale).backward()
            add_losses(sums, terms, weight)
        complete_gradients(self.model, self.mesh)
        return sums

    @torch.no_grad()
    def evaluate(self, batches: Iterable[WeightedBatch]) -> LossSums:
        sums: LossSums = {}
        refresh(self.model)
        self.model.eval()
        for batch, weight in batches:
            add_losses(sums, self.model(**self._on_device(batch)), weight)
        self.model.train()
        reshard(self.model)
        return sums

    def _on_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.mesh.device, non_blocking=True) for name, value in batch.items()}


def weighted_loss(
    terms: Mapping[str, torch.Tensor], totals: Totals, weight: float, loss_scale: float
) -> torch.Tensor:
    """What the backward pass of a micro-batch begins with.

    Args:
        terms: its summed losses.
        totals: what each is divided by, for the global mean.
        weight: times the number of data ranks, over which `fully_shard` averages gradients.
    """
    loss = torch.stack([value * (weight / totals[term]).float() for term, value in terms.items()]).sum()
    return loss if loss_scale == 1.0 else loss * loss_scale
