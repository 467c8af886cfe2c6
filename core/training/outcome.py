"""What a step's passes gave, as all ranks see it: read from the device at once, the only time in a step that the host waits."""

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist

from core.parallel.mesh import Mesh
from core.training.batches import sum_over_data
from core.training.schedule import LossSums, Totals

_BAD_GRADIENT, _BAD_LOSS = 1.0, 2.0  # the second is the worse: all else follows from it


@dataclass(frozen=True)
class Outcome:
    """Of the passes of a step.

    Attributes:
        losses: the global batch's means, by term.
        norm: of the gradients, without the loss scale.
        loss_scale: that the gradients carry.
        bad_loss, bad_gradient: on some rank the losses, or else the gradients, are no finite numbers.
        reason: why some rank would not begin another step, see `core.training.stopping`.
    """

    losses: dict[str, float]
    norm: float
    loss_scale: float
    bad_loss: bool
    bad_gradient: bool
    reason: int


def read_outcome(
    sums: LossSums, totals: Totals, square: torch.Tensor, loss_scale: float, reason: int, mesh: Mesh
) -> Outcome:
    """Two all-reduces, of the losses over the data ranks and of what is bad and the reason over all; then the host waits.

    Args:
        sums: the losses of this data rank, by term.
        totals: what their sums are divided by.
        square: of the gradients' norm, times that of the loss scale.
        reason: of this rank.
    """
    losses = sum_over_data(torch.stack([*sums.values()]), mesh)
    bad = torch.where(square.isfinite(), 0.0, _BAD_GRADIENT)
    bad = torch.where(losses.isfinite().all(), bad, _BAD_LOSS).double()
    agreed = torch.stack([bad, torch.full_like(bad, reason)])
    if mesh.world_size > 1:
        dist.all_reduce(agreed, op=dist.ReduceOp.MAX)
    divisors = torch.stack([totals[term] for term in sums])
    read = torch.cat([losses, divisors, square.view(1), agreed]).tolist()
    *_, total, worst, largest = read
    means = {term: read[number] / read[len(sums) + number] for number, term in enumerate(sums)}
    norm = math.sqrt(total) / loss_scale
    return Outcome(means, norm, loss_scale, worst == _BAD_LOSS, worst == _BAD_GRADIENT, int(largest))
