"""The paper's conjugate operators f and g (section 3, figure 3): the only collectives on activations.

f: forward identity,   backward all-reduce
g: forward all-reduce, backward identity

Under sequence parallelism (Korthikanti et al. 2022, section 4.2) the values outside tensor-parallel regions are split
along the sequence, and the two halves of each all-reduce take the operators' places; a ring sends the same bytes:

gather_sequence:  forward all-gather,     backward reduce-scatter  (for f)
scatter_sequence: forward reduce-scatter, backward all-gather      (for g)
whole_sequence:   forward all-gather,     backward own part        (before what every rank computes whole)

Every one of them moves a tensor of [batch, sequence, hidden] once, counted whole. A layer has two f and two g: 2
all-reduces each way, or 2 all-gathers and 2 reduce-scatters each way. What a column-parallel layer gathered it gathers
again in the backward pass, instead of keeping it (`core.parallel.column_product`): 2 all-gathers more.
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
        if torch.compiler.is_compiling() or not activations.is_contiguous():
            return _all_reduced(activations, group)
        ctx.mark_dirty(activations)
        return all_reduce(activations, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


class _GatherSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return _gathered(activations, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _reduce_scattered(gradient, ctx.group), None


class _ScatterSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return _reduce_scattered(activations, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _gathered(gradient, ctx.group), None


class _WholeSequence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return _gathered(activations, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient.chunk(ctx.group.size(), dim=1)[ctx.group.rank()], None


def f(activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Enter a tensor-parallel region: the input is whole on every rank, its gradient is summed over ranks."""
    return activations if group.size() == 1 else _F.apply(activations, group)


def g(activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Leave a tensor-parallel region: the ranks' partial sums are added, where they are (nothing else may need them), the
    gradient passes unchanged."""
    return activations if group.size() == 1 else _G.apply(activations, group)


def gather_sequence(activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Enter a tensor-parallel region from values split along the sequence: [batch, sequence / tp, ...] → whole."""
    return activations if group.size() == 1 else _GatherSequence.apply(activations, group)


def scatter_sequence(activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """Leave a tensor-parallel region for the split sequence: the ranks' partial sums [batch, sequence, ...] are
    added, each rank keeps its part [batch, sequence / tp, ...]."""
    return activations if group.size() == 1 else _ScatterSequence.apply(activations, group)


def whole_sequence(activations: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """[batch, sequence / tp, ...] → [batch, sequence, ...] for computations that are the same on every rank, whose
    gradients therefore need no sum."""
    return activations if group.size() == 1 else _WholeSequence.apply(activations, group)


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


def _gathered(values: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """The ranks' parts of the sequence (dimension 1), joined."""
    return Gathering(values, group).wait()


class Gathering:
    """The ranks' parts of the sequence (dimension 1) on their way to all."""

    def __init__(self, values: torch.Tensor, group: dist.ProcessGroup) -> None:
        batch, *rest = values.shape
        self._parts = values.new_empty((group.size() * batch, *rest))  # rank by rank
        self._ranks = group.size()
        self._values = values.contiguous()  # kept while it is sent
        self._work = dist.all_gather_into_tensor(self._parts, self._values, group=group, async_op=True)

    def wait(self) -> torch.Tensor:
        """[batch, sequence, ...]."""
        self._work.wait()
        return torch.cat(self._parts.chunk(self._ranks), dim=1)


def _reduce_scattered(values: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """The ranks' sum, of which this rank gets its part of the sequence (dimension 1)."""
    result, work = start_reduce_scatter(values, group)
    work.wait()
    return result


def start_reduce_scatter(values: torch.Tensor, group: dist.ProcessGroup) -> tuple[torch.Tensor, dist.Work]:
    """[batch, sequence, ...] → where this rank's part of the ranks' sum will be, [batch, sequence / tp, ...], and what to
    wait for."""
    parts = torch.cat(values.chunk(group.size(), dim=1))  # rank by rank
    result = parts.new_empty((values.shape[0], *parts.shape[1:]))
    return result, dist.reduce_scatter_tensor(result, parts, group=group, async_op=True)
