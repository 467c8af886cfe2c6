"""Data parallelism by torch's `fully_shard`, around layers that do their tensor parallelism themselves."""

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from core.models.transformer import TransformerLayer
from core.parallel.mesh import Mesh


def shard_over_data(model: nn.Module, mesh: Mesh, precision: str) -> None:
    """Make `fully_shard` the data-parallel engine: gradients reduced and optimizer state split over data ranks.

    With one data rank and fp32 there is nothing to do, and it would keep a second copy of the weights.
    """
    if mesh.data_size == 1 and precision == "fp32":
        return
    policy = MixedPrecisionPolicy()
    if precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    data_mesh = mesh.device_mesh["dp"]
    for module in model.modules():
        if isinstance(module, TransformerLayer):
            fully_shard(module, mesh=data_mesh, mp_policy=policy, reshard_after_forward=False)
    fully_shard(model, mesh=data_mesh, mp_policy=policy, reshard_after_forward=False)


def prepare_backward(model: nn.Module, last: bool) -> None:
    """Reduce gradients over the data ranks after the `last` micro-batch only."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        model.set_reshard_after_backward(last)
        model.set_is_last_backward(last)


def complete_gradients(model: nn.Module) -> None:
    """Add up over the tensor ranks what sequence parallelism left in parts: one small all-reduce a parameter.

    Call it after the last backward pass of a step. `fully_shard` has done it already in its reduction.
    """
    for parameter in model.parameters():
        gradient = parameter.grad
        if isinstance(gradient, DTensor) and any(placement.is_partial() for placement in gradient.placements):
            assert isinstance(parameter, DTensor)
            parameter.grad = gradient.redistribute(placements=parameter.placements)
