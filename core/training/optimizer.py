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
def clip_gradients(
    parameters: Iterable[torch.Tensor],
    maximum: float,
    loss_scale: float = 1.0,
    pipeline: dist.ProcessGroup | None = None,
    copies: Iterable[torch.Tensor] = (),
) -> float:
    """Divide the gradients by the loss scale, and scale them so that their global norm is at most `maximum` (0: no
    limit).

    Shards are counted once each, replicated parameters once: one all-reduce of one number over every mesh
    dimension that some gradient is split on, and in a pipeline one over its stages.

    Args:
        pipeline: the stages' group.
        copies: parameters that another stage counts.

    Returns:
        the norm before clipping; not finite when a gradient is not (or is so large that its square is not), and the
        gradients are then left as they are, of no use.
    """
    counted_elsewhere = {id(parameter) for parameter in copies}
    given = [(parameter, parameter.grad) for parameter in parameters if isinstance(parameter.grad, DTensor)]
    gradients = [gradient for _, gradient in given]
    local = [gradient._local_tensor for gradient in gradients]
    mesh = gradients[0].device_mesh
    norms = torch._foreach_norm(local)
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
    total = torch.stack(list(by_dimensions.values())).sum().item()  # the host waits for the device here
    if pipeline is not None:
        of_stages = torch.tensor([total], dtype=torch.float64, device=local[0].device)
        dist.all_reduce(of_stages, group=pipeline)
        total = of_stages.item()
    norm = math.sqrt(total) / loss_scale
    if not math.isfinite(norm):
        return norm
    factor = maximum / (norm + 1e-6) if 0 < maximum < norm else 1.0
    if factor != 1.0 or loss_scale != 1.0:
        torch._foreach_mul_(local, factor / loss_scale)
    return norm
