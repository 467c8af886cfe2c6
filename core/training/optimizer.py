"""AdamW, its learning-rate schedule and the global gradient norm (paper section 4.2)."""

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from core.config import TrainingConfig


class LocalAdamW(torch.optim.AdamW):
    """torch's AdamW, handed this rank's parts: what it computes value by value needs no word about where the others are,
    and finding that out anew takes the host 20 µs a parameter. State and parameters stay DTensors for checkpoints."""

    def _init_group(self, group: dict[str, Any], *lists: list[torch.Tensor]) -> bool:
        has_complex = bool(super()._init_group(group, *lists))  # fills the lists
        for tensors in lists:
            tensors[:] = [one._local_tensor if isinstance(one, DTensor) else one for one in tensors]
        return has_complex


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices and embeddings, none on biases and LayerNorm."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    optimizer = LocalAdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_eps,
        fused=True,
    )
    for parameter in [*matrices, *vectors]:  # as torch does at the first step: memory is taken before it
        zeros = (torch.zeros_like(parameter, memory_format=torch.preserve_format) for _ in range(2))
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            **dict(zip(("exp_avg", "exp_avg_sq"), zeros, strict=True)),
        }
    return optimizer


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The rate of the step with this index (0 is the first): linear warm-up, then the configured decay."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    remaining = {
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        "linear": 1.0 - progress,
        "constant": 1.0,
    }[config.schedule]
    lowest = config.minimum_learning_rate
    return lowest + (config.learning_rate - lowest) * remaining


@torch.no_grad()
def squared_norm(
    parameters: Iterable[torch.Tensor],
    pipeline: dist.ProcessGroup | None = None,
    copies: Iterable[torch.Tensor] = (),
) -> torch.Tensor:
    """The square of the gradients' global norm, a float64 scalar on the device, which the host does not wait for.

    Shards are counted once each, replicated parameters once: one all-reduce of one number over every mesh
    dimension that some gradient is split on, and in a pipeline one over its stages.

    Args:
        pipeline: the stages' group.
        copies: parameters that another stage counts.
    """
    counted_elsewhere = {id(parameter) for parameter in copies}
    given = [(parameter, parameter.grad) for parameter in parameters if isinstance(parameter.grad, DTensor)]
    mesh = given[0][1].device_mesh
    norms = torch._foreach_norm([gradient._local_tensor for _, gradient in given])
    # Sum what is split over exactly the same mesh dimensions, then reduce over those dimensions.
    of_dimensions: dict[tuple[int, ...], list[int]] = {}
    for index, (parameter, gradient) in enumerate(given):
        if id(parameter) in counted_elsewhere:
            continue
        split = tuple(i for i, placement in enumerate(gradient.placements) if not placement.is_replicate())
        of_dimensions.setdefault(split, []).append(index)
    by_dimensions: dict[tuple[int, ...], torch.Tensor] = {}
    for split in sorted(of_dimensions):
        of_split = torch.stack([norms[index] for index in of_dimensions[split]])
        by_dimensions[split] = of_split.double().square().sum()
        for dimension in split:
            if mesh.size(dimension) > 1:
                dist.all_reduce(by_dimensions[split], group=mesh.get_group(dimension))
    total = torch.stack(list(by_dimensions.values())).sum()
    if pipeline is not None:
        dist.all_reduce(total, group=pipeline)
    return total


@torch.no_grad()
def scale_gradients(
    parameters: Iterable[torch.Tensor], norm: float, maximum: float, loss_scale: float = 1.0
) -> None:
    """Divide the gradients by the loss scale, and scale them so that their global norm is at most `maximum` (0: no limit).

    Args:
        norm: of the gradients without the loss scale.
    """
    factor = maximum / (norm + 1e-6) if 0 < maximum < norm else 1.0
    if factor != 1.0 or loss_scale != 1.0:
        gradients = [p.grad._local_tensor for p in parameters if isinstance(p.grad, DTensor)]
        torch._foreach_mul_(gradients, factor / loss_scale)
