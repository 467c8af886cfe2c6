"""The highest rate of matrix products that a device can reach: known by its name, or measured."""

import functools
import re
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

from core.parallel.mesh import Mesh
from core.tf32 import is_tf32

_TYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SIZES = {"cuda": (4096, 8192), "cpu": (256, 2048)}  # of the first products, and of the largest
_SECONDS = 0.3  # how long is measured, after a product that warms up
_LARGE_ENOUGH_SECONDS = 0.02  # of one product: larger ones would only take longer


@dataclass(frozen=True)
class _Rates:
    """Dense TFLOP/s, from the vendor's data sheets; None: not in hardware, or not stated."""

    bf16: float | None
    fp16: float
    tf32: float | None
    fp32: float


# The words that a device's name holds, the more special before the more general.
_DEVICES: tuple[tuple[frozenset[str], _Rates], ...] = tuple(
    (frozenset(words.split()), rates)
    for words, rates in (
        ("V100 PCIE", _Rates(None, 112.0, None, 14.0)),
        ("V100", _Rates(None, 125.0, None, 15.7)),
        ("T4", _Rates(None, 65.0, None, 8.1)),
        ("A30", _Rates(165.0, 165.0, 82.0, 10.3)),
        ("A100", _Rates(312.0, 312.0, 156.0, 19.5)),
        ("A800", _Rates(312.0, 312.0, 156.0, 19.5)),
        ("L4", _Rates(121.0, 121.0, 60.0, 30.3)),
        ("L40S", _Rates(362.0, 362.0, 183.0, 91.6)),
        ("H100 PCIe", _Rates(756.0, 756.0, 378.0, 51.0)),
        ("H100 NVL", _Rates(835.0, 835.0, 417.0, 60.0)),
        ("H100", _Rates(989.0, 989.0, 494.0, 67.0)),
        ("H200 NVL", _Rates(835.0, 835.0, 417.0, 60.0)),
        ("H200", _Rates(989.0, 989.0, 494.0, 67.0)),
        ("GH200", _Rates(989.0, 989.0, 494.0, 67.0)),
        ("B200", _Rates(2250.0, 2250.0, 1125.0, 75.0)),
    )
)


@dataclass(frozen=True)
class Peak:
    """FLOP/s of one device (on CPU: one process), and where the figure is from: "table" or "measured"."""

    flops_per_second: float
    source: str


def known_peak(device_name: str, precision: str, tf32: bool = False) -> float | None:
    """FLOP/s by the table; None for a device, a slice of one (MIG) or a precision that is not in it.

    Args:
        device_name: as `torch.cuda.get_device_name` gives it.
        tf32: fp32 products may be computed in TF32.
    """
    words = frozenset(re.split(r"[^A-Za-z0-9]+", device_name))
    if "MIG" in words:
        return None
    for wanted, rates in _DEVICES:
        if wanted <= words:
            rate = getattr(rates, "tf32" if precision == "fp32" and tf32 and rates.tf32 else precision)
            return rate * 1e12 if rate else None
    return None


def device_peak(mesh: Mesh, precision: str, measure: bool = False) -> Peak:
    """The peak in the precision of a run, the same on every rank; all ranks call it.

    Args:
        measure: do not look at the table.
    """
    rate = None
    if mesh.device.type == "cuda" and not measure:
        rate = known_peak(torch.cuda.get_device_name(mesh.device), precision, is_tf32())
    facts = torch.tensor([rate or 0.0, float(rate is None)], dtype=torch.float64)
    if rate is None:
        facts[0] = measured_peak(mesh.device, precision)
    dist.all_reduce(facts, group=mesh.control_group)
    return Peak(float(facts[0]) / mesh.world_size, "measured" if facts[1] else "table")


@functools.cache
@torch.no_grad()
def measured_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of the best of some square matrix products, of growing sizes; measured once a process."""
    size, largest = _SIZES[device.type]
    best = 0.0
    left, right = _factors(size, device, precision)
    deadline = time.monotonic() + _SECONDS
    while best == 0.0 or time.monotonic() < deadline:
        _synchronize(device)
        started = time.perf_counter()
        torch.mm(left, right)
        _synchronize(device)
        seconds = time.perf_counter() - started
        best = max(best, 2.0 * size**3 / seconds)
        if seconds < _LARGE_ENOUGH_SECONDS and size < largest:
            size *= 2
            left, right = _factors(size, device, precision)
    return best


def _factors(size: int, device: torch.device, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two matrices, which have been multiplied once."""
    left, right = (torch.randn(size, size, device=device, dtype=_TYPES[precision]) for _ in range(2))
    torch.mm(left, right)
    return left, right


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
