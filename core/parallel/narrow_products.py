"""Matrix products of bf16 and fp16 on processors that have no instructions for them.

Such a processor multiplies in scalar code, tens of times slower than fp32. It is fp32 that the hardware of others adds
up in, too: widening the factors, multiplying, and rounding the result once gives what they give.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F


class Widened(torch.autograd.Function):
    """Y = X A + b in fp32; what is kept for the backward pass stays narrow."""

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(values, weight)
        wide_bias = None if bias is None else bias.float()
        return F.linear(values.float(), weight.float(), wide_bias).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        values, weight = ctx.saved_tensors
        wide = gradient.float()
        rows = wide.flatten(0, -2)  # [tokens, out]
        of_weight = rows.T @ values.float().flatten(0, -2)
        of_bias = rows.sum(dim=0).to(gradient.dtype) if ctx.needs_input_grad[2] else None
        return (wide @ weight.float()).to(values.dtype), of_weight.to(weight.dtype), of_bias


def linear(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """[..., in] → [..., out], as `torch.nn.functional.linear`, but never in scalar code."""
    if values.device.type == "cpu" and not has_products(values.dtype):
        return Widened.apply(values, weight, bias)
    return F.linear(values, weight, bias)


@functools.cache
def has_products(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies matrices of the type by instructions of its own."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return True
