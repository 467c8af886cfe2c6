"""TF32: products of fp32 matrices with factors of 10 bits after the point, added up in fp32, several times as fast on NVIDIA
devices from Ampere on. Never used where it is not asked for."""

import contextlib
from collections.abc import Iterator

import torch

NAME = "tf32"  # as a precision
_FIRST = (8, 0)  # compute capability


def tf32_errors(precision: str, device: torch.device, where: str) -> list[str]:
    """Why a device cannot compute in the precision, if that is TF32."""
    if precision != NAME:
        return []
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FIRST:
        return []
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    return [f'{where}: "tf32" is of NVIDIA devices from Ampere on, not of {name}; choose "fp32"']


@contextlib.contextmanager
def tf32(asked: bool = True) -> Iterator[None]:
    """Inside, products of fp32 matrices on CUDA devices are computed in TF32; if not asked for, as they were."""
    before = torch.get_float32_matmul_precision()
    if asked:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def is_tf32() -> bool:
    """Whether products of fp32 matrices on CUDA devices are computed in TF32."""
    return torch.get_float32_matmul_precision() != "highest"
