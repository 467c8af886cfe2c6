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
        of_bias = bias_gradient(gradient) if ctx.needs_input_grad[2] else None
        return input_gradient(gradient, weight), weight_gradient(gradient, values), of_bias


def linear(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """[..., in] → [..., out], as `torch.nn.functional.linear`, but never in scalar code."""
    return Widened.apply(values, weight, bias) if _is_scalar(values) else F.linear(values, weight, bias)


def input_gradient(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Of `linear`: [..., out] → [..., in]."""
    if _is_scalar(gradient):
        return (gradient.float() @ weight.float()).to(gradient.dtype)
    return gradient @ weight


def weight_gradient(gradient: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Of `linear`: [..., out] and [..., in] → [out, in]."""
    rows, inputs = gradient.flatten(0, -2), values.flatten(0, -2)
    if _is_scalar(gradient):
        return (rows.float().T @ inputs.float()).to(gradient.dtype)
    return rows.T @ inputs


def bias_gradient(gradient: torch.Tensor) -> torch.Tensor:
    """Of `linear`: [..., out] → [out]."""
    rows = gradient.flatten(0, -2)
    return rows.float().sum(dim=0).to(gradient.dtype) if _is_scalar(gradient) else rows.sum(dim=0)


def _is_scalar(values: torch.Tensor) -> bool:
    """Whether this processor would multiply such matrices number by number."""
    return values.device.type == "cpu" and not has_products(values.dtype)


@functools.cache
def has_products(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies matrices of the type by instructions of its own."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return True
