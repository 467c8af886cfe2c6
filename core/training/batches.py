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


def global_counts(source: BatchSource, batches: list[WeightedBatch], mesh: Mesh) -> dict[str, torch.Tensor]:
    """Scored items per term over all ranks and micro-batches, which losses are divided by: float64 scalars on the device,
    which the host does not wait for."""
    counts: dict[str, float] = {}
    for batch, weight in batches:
        for term, count in source.counts(batch).items():
            counts[term] = counts.get(term, 0.0) + weight * count
    own = torch.tensor(list(counts.values()), dtype=torch.float64)
    if mesh.device.type == "cuda":  # from other memory the copy would wait for what the device is at
        own = own.pin_memory().to(mesh.device, non_blocking=True)
    return dict(zip(counts, sum_over_data(own, mesh).clamp(min=1.0), strict=True))


def global_means(
    sums: dict[str, torch.Tensor], totals: dict[str, torch.Tensor], mesh: Mesh
) -> dict[str, float]:
    """Losses summed on each data rank, over all of them, divided by the global counts."""
    if not sums:
        return {}
    both = torch.stack(
        [torch.stack([*sums.values()]).to(mesh.device), torch.stack([totals[term] for term in sums])]
    )
    both[0] = sum_over_data(both[0].clone(), mesh)
    return {term: value / total for term, value, total in zip(sums, *both.tolist(), strict=True)}


def add_losses(sums: dict[str, torch.Tensor], terms: dict[str, torch.Tensor], weight: float) -> None:
    """Add a micro-batch's loss sums to the running ones, in float64 and where they are: nothing waits for the device."""
    for term, value in terms.items():
        added = weight * value.detach().double()
        sums[term] = sums[term] + added if term in sums else added


def sum_over_data(values: torch.Tensor, mesh: Mesh) -> torch.Tensor:
    """The data ranks' sum, in place and where the values are."""
    if mesh.data_size > 1:
        dist.all_reduce(values, group=mesh.data_group)
    return values
