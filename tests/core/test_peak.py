"""The peak of a device: by its name, or measured."""

import time

import pytest
import torch
from distributed import run_distributed

from core.parallel.mesh import initialize
from core.training.peak import device_peak, known_peak, measured_peak


@pytest.mark.parametrize(
    ("name", "precision", "tflops"),
    [
        ("Tesla V100-SXM2-16GB", "fp16", 125),
        ("Tesla V100-PCIE-16GB", "fp16", 112),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA H100 80GB HBM3", "bf16", 989),
        ("NVIDIA H100 80GB HBM3", "fp32", 67),
        ("NVIDIA H100 PCIe", "fp16", 756),
        ("NVIDIA H200", "bf16", 989),
        ("NVIDIA GH200 480GB", "bf16", 989),
        ("NVIDIA L4", "bf16", 121),
        ("NVIDIA L40S", "bf16", 362),
    ],
)
def test_known_devices(name, precision, tflops):
    assert known_peak(name, precision) == tflops * 1e12


def test_fp32_in_tf32_has_a_peak_of_its_own():
    assert known_peak("NVIDIA A100-PCIE-40GB", "fp32", tf32=True) == 156e12
    assert known_peak("Tesla V100-SXM2-16GB", "fp32", tf32=True) == 15.7e12


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("Tesla V100-SXM2-16GB", "bf16"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16"),
        ("NVIDIA GeForce RTX 2060", "fp16"),
        ("NVIDIA A1000", "fp16"),
    ],
)
def test_what_is_not_in_the_table_is_to_be_measured(name, precision):
    assert known_peak(name, precision) is None


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_measuring_on_a_cpu_is_quick(precision):
    started = time.monotonic()
    assert 1e8 < measured_peak(torch.device("cpu"), precision) < 1e14
    assert time.monotonic() - started < 3, "0.3 s where nothing else runs"


def _peak():
    measured_peak.cache_clear()  # of what ranks of tests begin with
    peak = device_peak(initialize(2), "fp32")
    return peak.flops_per_second, peak.source


def test_all_ranks_agree_on_a_measured_peak():
    first, second = run_distributed(_peak, 2)
    assert first == second and first[1] == "measured"
