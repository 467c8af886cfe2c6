"""Matrix products on CPUs, by what does them best there.

bf16 and fp16 on processors that have no instructions for them: such a processor multiplies in scalar code, tens of times
slower than fp32. It is fp32 that the hardware of others adds up in, too: widening the factors, multiplying, and rounding
the result once gives what they give.

fp32 where no gradient is wanted: oneDNN's product reads the weights as they are stored, torch's usual one lays them out
anew in each call. That is a fifth faster on AMD's processors, and much faster for few rows of a large output layer; a row's
digits do not depend on how many other rows there are, from a few on (with large factors in recent releases only).
"""

from typing import Any

import torch
import torch.nn.functional as F

_HAS_PRODUCTS = {  # asked once, for compiled code sees a constant then
    torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported(),
}
_FEWEST_ROWS = 16  # for oneDNN; fewer, as generation has, are no matter of seconds


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
    if _is_scalar(values):
        return Widened.apply(values, weight, bias)
    if values.device.type == "cpu" and _is_for_onednn(values):
        return torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")
    return F.linear(values, weight, bias)


def linear_gelu(
    values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, approximate: str
) -> torch.Tensor:
    """GeLU(X A + b), [..., in] → [..., out]: in one pass over the result where oneDNN computes it."""
    if values.device.type == "cpu" and _is_for_onednn(values):
        return torch.ops.mkldnn._linear_pointwise(values, weight, bias, "gelu", [], approximate)
    return F.gelu(linear(values, weight, bias), approximate=approximate)


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


def _is_for_onednn(values: torch.Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # which asks for gradients, and would break the graph at the next question
        and torch.is_inference_mode_enabled()
        and values.dtype == torch.float32
        and values.numel() >= _FEWEST_ROWS * values.shape[-1]
        and torch.backends.mkldnn.is_available()
    )


def has_products(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies matrices of the type by instructions of its own."""
    return _HAS_PRODUCTS.get(dtype, True)
