"""Data parallelism by torch's `fully_shard`, around layers that do their tensor parallelism themselves.

What a step of M micro-batches sends between D data ranks (D > 1), in collectives on units: layers that follow each other
are one until they are large enough to be worth what a unit costs the host, and all else (embeddings, heads) is one more.
Gradients are fp32, weights of the precision of the computation:

zero 0: an all-reduce of each unit's gradients, after the last micro-batch; every rank keeps everything
zero 1: an all-gather of each unit's weights, before the first micro-batch, and a reduce-scatter of its gradients,
        after the last; optimizer state and weights outside of the passes are split
zero 2: the same, but a reduce-scatter after every micro-batch: between them gradients are split as well
zero 3: as 2, and a layer's weights are gathered for each pass and freed after it: each layer is a unit, of 2 M
        all-gathers (M of the rest, which is used at both ends and stays from the forward to the backward pass)
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from core.models.transformer import TransformerStack
from core.parallel.mesh import Mesh
from core.parallel.parts import compute_in, own_part

COMPUTE_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Parameters that make a unit large enough: a millisecond of computation on a fast GPU, 128 MiB of fp32 on their way.
_UNIT_VALUES = 1 << 25


def shard_over_data(model: nn.Module, mesh: Mesh, precision: str, zero: int = 1) -> None:
    """Make `fully_shard` the data-parallel engine: gradients reduced and state split over data ranks.

    With one data rank there is nothing to reduce or to split, and in fp32 it would keep a second copy of the weights.
    """
    if mesh.data_size == 1:
        if precision in COMPUTE_TYPES:
            compute_in(model, COMPUTE_TYPES[precision])
        return
    policy = MixedPrecisionPolicy()
    if precision in COMPUTE_TYPES:
        policy = MixedPrecisionPolicy(param_dtype=COMPUTE_TYPES[precision], reduce_dtype=torch.float32)
    data_mesh = mesh.device_mesh["dp", "shard"] if zero == 0 else mesh.device_mesh["dp"]
    for unit in _units(model, 0 if zero == 3 else _UNIT_VALUES):
        fully_shard(unit, mesh=data_mesh, mp_policy=policy, reshard_after_forward=zero == 3)
    fully_shard(model, mesh=data_mesh, mp_policy=policy, reshard_after_forward=False)


def _units(model: nn.Module, enough: int) -> Iterator[list[nn.Module]]:
    """Layers that follow each other in one stage: as many as have `enough` of this rank's values."""
    for stack in model.modules():
        if not isinstance(stack, TransformerStack):
            continue
        for part in stack.parts:
            unit: list[nn.Module] = []
            values = 0
            for number in part:
                unit.append(stack.layers[str(number)])
                values += sum(own_part(parameter).numel() for parameter in unit[-1].parameters())
                if values >= enough or number == part[-1]:
                    yield unit
                    unit, values = [], 0


def prepare_backward(model: nn.Module, zero: int, last: bool) -> None:
    """Say, before a micro-batch, whether it is the `last` of its step: see above what happens when."""
    for module in model.modules() if isinstance(model, FSDPModule) else ():
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(last or zero >= 2, recurse=False)
            module.set_reshard_after_backward(last or zero == 3, recurse=False)
            module.set_is_last_backward(last)


def reshard(model: nn.Module) -> None:
    """After a forward pass without a backward, which leaves the parameters gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def complete_gradients(model: nn.Module, mesh: Mesh) -> None:
    """Add up over the tensor ranks what sequence parallelism left in parts: one all-reduce in fp32, of what this data rank
    keeps of these gradients.

    Call it once, after the last backward pass of a step and all that `fully_shard` does in it.
    """
    if not mesh.sequence_parallel:
        return
    gradients = [
        gradient.to_local()
        for module in model.modules()
        for name in getattr(module, "partial_gradients", ())
        if isinstance(gradient := getattr(module, name).grad, DTensor)
    ]
    flat = torch.cat([gradient.float().flatten() for gradient in gradients])
    dist.all_reduce(flat, group=mesh.tensor_group)
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(one) for part, one in zip(parts, gradients, strict=True)])
