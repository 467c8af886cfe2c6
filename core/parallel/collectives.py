"""The paper's conjugate operators f and g (section 3, figure 3): the only collectives on activations.

f: forward identity,   backward all-reduce
g: forward all-reduce, backward identity
"""

from typing import Any

import torch
import torch.distributed as dist


class _F(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return activations.view_as(activations)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _all_reduced(gradient, ctx.group), None


class _G(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        return _all_reduced(activations, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def f(activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Enter a tensor-parallel region: the input is whole on every rank, its gradient is summed over ranks."""
    return activations if group.size() == 1 else _F.apply(activations, group)


def g(activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Leave a tensor-parallel region: the ranks' partial sums are added, the gradient passes unchanged."""
    return activations if group.size() == 1 else _G.apply(activations, group)


def all_reduce(
    values: torch.Tensor, group: dist.ProcessGroup, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM
) -> torch.Tensor:
    """All-reduce in place, outside autograd; nothing is sent in a group of one. Returns `values`."""
    if group.size() > 1:
        dist.all_reduce(values, op=operation, group=group)
    return values


def _all_reduced(values: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    # The collective works in place; the argument may be shared with other parts of the graph.
    result = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(result, group=group)
    return result
