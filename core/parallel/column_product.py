"""The product of a column-parallel layer with what is sent for it, so that in the backward pass both happen at once.

The gradient of the input is ready after one of two products, and on its way to the other tensor ranks during the
second. Under sequence parallelism only this rank's part of the input is kept, and gathered again for the second product
while the first runs (Korthikanti et al. 2022, section 4.2.2): a layer keeps tp - 1 parts less of each of its two inputs,
for one all-gather more.
"""

from typing import Any, cast

import torch
import torch.distributed as dist

from core.parallel.collectives import Gathering, f, gather_sequence, start_reduce_scatter
from core.parallel.narrow_products import bias_gradient, input_gradient, linear, weight_gradient


class _ColumnProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        group: dist.ProcessGroup,
        split: bool,
    ) -> torch.Tensor:
        ctx.group, ctx.split = group, split
        ctx.save_for_backward(values, weight)
        return linear(Gathering(values, group).wait() if split else values, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        of_values, of_weight, of_bias, *_ = ctx.needs_input_grad
        gathering = Gathering(values, ctx.group) if ctx.split and of_weight else None
        sent = None
        if of_values:
            whole = input_gradient(gradient, weight)
            if ctx.split:
                sent = start_reduce_scatter(whole, ctx.group)
            else:
                sent = whole, dist.all_reduce(whole, group=ctx.group, async_op=True)
        weights = weight_gradient(gradient, gathering.wait() if gathering else values) if of_weight else None
        biases = bias_gradient(gradient) if of_bias else None
        if sent:
            sent[1].wait()
        return sent[0] if sent else None, weights, biases, None, None


def column_product(
    values: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    group: dist.ProcessGroup,
    split: bool,
) -> torch.Tensor:
    """f, or under sequence parallelism its half, and then X A + b of this rank's columns (the paper's figure 3).

    Args:
        values: [..., in], whole, or with `split` this rank's part of the sequence, [batch, sequence / tp, in].
        weight: [out / tp, in].
        bias: [out / tp].

    Returns:
        [..., out / tp].
    """
    if group.size() == 1:
        return linear(values, weight, bias)
    if torch.compiler.is_compiling():  # it cannot see through a collective that is waited for later
        return linear((gather_sequence if split else f)(values, group), weight, bias)
    return cast(torch.Tensor, _ColumnProduct.apply(values, weight, bias, group, split))
