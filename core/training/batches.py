"""Global batches: numbered samples dealt to the data ranks as micro-batches, and sums over them.

A global batch is a run of consecutive samples, counted by step, so it does not depend on the layout.
"""

import math
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist

from core.config import TrainingConfig
from core.parallel.mesh import Mesh

Batch = dict[str, torch.Tensor]
WeightedBatch = tuple[Batch, float]


class BatchSource(Protocol):
    """Numbered samples and how they become batches."""

    total_samples: int

    def batch(self, indices: np.ndarray) -> Batch:
        """The model's keyword arguments for these samples, as CPU tensors."""

    def counts(self, batch: Batch) -> dict[str, float]:
        """Scored items in a batch for each loss term the model returns."""


def micro_batches(source: BatchSource, step: int, config: TrainingConfig, mesh: Mesh) -> list[WeightedBatch]:
    """This data rank's micro-batches of the global batch of a step (0 is the first), each with weight 1.

    The last global batch may be short. A rank that has nothing left then takes part in the collectives with a batch
    of weight 0.

    Raises:
        RuntimeError: the samples ended before this step.
    """
    first = step * config.global_batch
    count = min(config.global_batch, source.total_samples - first)
    if count <= 0:
        raise RuntimeError(f"step {step + 1} has no samples left: {source.total_samples} in all")
    share = math.ceil(count / mesh.data_size)
    own = np.arange(first, first + count)[mesh.data_rank * share :][:share]
    result = []
    for start in range(0, share, config.micro_batch):
        indices = own[start : start + config.micro_batch]
        weight = 1.0 if len(indices) else 0.0
        result.append((source.batch(indices if len(indices) else np.array([first])), weight))
    return result


def global_counts(source: BatchSource, batches: list[WeightedBatch], mesh: Mesh) -> dict[str, float]:
    """Scored items per term over all ranks and micro-batches: losses are divided by these."""
    counts: dict[str, float] = {}
    for batch, weight in batches:
        for term, count in source.counts(batch).items():
            counts[term] = counts.get(term, 0.0) + weight * count
    summed = _sum_over_data(list(counts.values()), mesh)
    return {term: max(value, 1.0) for term, value in zip(counts, summed, strict=True)}


def global_means(sums: dict[str, torch.Tensor], totals: dict[str, float], mesh: Mesh) -> dict[str, float]:
    """Losses summed on each data rank, over all of them, divided by the global counts."""
    summed = _sum_over_data([value.item() for value in sums.values()], mesh)
    return {term: value / totals[term] for term, value in zip(sums, summed, strict=True)}


def add_losses(sums: dict[str, torch.Tensor], terms: dict[str, torch.Tensor], weight: float) -> None:
    """Add a micro-batch's loss sums to the running ones, in float64 and where they are: nothing waits for the device."""
    for term, value in terms.items():
        added = weight * value.detach().double()
        sums[term] = sums[term] + added if term in sums else added


def _sum_over_data(values: list[float], mesh: Mesh) -> list[float]:
    if mesh.data_size == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=mesh.device)
    dist.all_reduce(tensor, group=mesh.data_group)
    return tensor.tolist()
