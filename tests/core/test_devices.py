"""Where ranks compute: a CUDA device each, or the CPU with a word about it; and what is settled by that."""

import shutil
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from core.config import ModelConfig, ParallelConfig, TrainingConfig
from core.errors import ConfigurationError, UserError
from core.evaluation import precision_of
from core.parallel import mesh
from core.tf32 import is_tf32, tf32, tf32_errors
from core.training import preparation
from core.training.peak import known_peak
from evaluate.scoring import in_precision


def _chosen(monkeypatch, devices: int, asked: str, rank: int, here: int, everywhere: int) -> torch.device:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    given = {"LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": here, "WORLD_SIZE": everywhere}
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    return mesh._device(asked)


@pytest.mark.parametrize(
    ("devices", "asked", "rank", "here", "everywhere", "wanted"),
    [
        (8, "auto", 3, 8, 8, "cuda:3"),
        (8, "auto", 1, 2, 2, "cuda:1"),
        (8, "cuda", 7, 8, 16, "cuda:7"),
        (1, "auto", 0, 1, 1, "cuda:0"),
        (1, "auto", 0, 2, 2, "cpu"),  # not only the rank that finds no device
        (1, "auto", 1, 2, 2, "cpu"),
        (4, "auto", 5, 8, 8, "cpu"),
        (0, "auto", 1, 2, 2, "cpu"),
        (8, "cpu", 0, 1, 1, "cpu"),
    ],
)
def test_all_ranks_of_a_host_compute_on_devices_of_their_own_or_on_the_cpu(
    monkeypatch, capfd, devices, asked, rank, here, everywhere, wanted
):
    assert _chosen(monkeypatch, devices, asked, rank, here, everywhere) == torch.device(wanted)
    note = f"note: {here} processes on this host, CUDA devices: {devices}; computing on the CPU"
    says = wanted == "cpu" and asked == "auto" and devices > 0 and rank == 0
    assert capfd.readouterr().err.startswith(note) == says


@pytest.mark.parametrize(
    ("devices", "asked", "rank", "here", "everywhere"),
    [(1, "cuda", 0, 2, 2), (1, "cuda", 1, 2, 2), (0, "cuda", 0, 1, 1), (4, "auto", 0, 8, 16)],
)
def test_too_few_devices_are_an_error_where_the_cpu_is_not_meant(
    monkeypatch, devices, asked, rank, here, everywhere
):
    with pytest.raises(
        UserError, match=f"{here} processes on this host, CUDA devices: {devices}; start as many"
    ):
        _chosen(monkeypatch, devices, asked, rank, here, everywhere)


CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)
TRAINING = TrainingConfig(steps=1, global_batch=1, micro_batch=1, learning_rate=1.0)


@pytest.mark.parametrize(
    ("asked", "device", "tensor", "release", "compiler", "others", "wanted"),
    [
        (None, CPU, 1, "2.13.0", True, 1, False),
        (None, CUDA, 1, "2.13.0", True, 1, True),
        (None, CUDA, 2, "2.13.0", True, 1, True),
        (None, CUDA, 1, "2.11.0", True, 1, True),
        (None, CUDA, 2, "2.11.0", True, 1, False),
        (None, CUDA, 1, "2.13.0", False, 1, False),
        (None, CUDA, 1, "2.13.0", True, 0, False),
        (False, CUDA, 1, "2.13.0", True, 1, False),
        (True, CPU, 1, "2.13.0", False, 0, True),
    ],
)
def test_layers_are_compiled_on_cuda_where_all_ranks_can(
    monkeypatch, capsys, asked, device, tensor, release, compiler, others, wanted
):
    monkeypatch.setattr(torch, "__version__", release)
    monkeypatch.setattr(preparation.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/cc" if compiler and name == "cc" else None)
    monkeypatch.setattr(
        preparation.dist, "all_reduce", lambda able, op, group: able.mul_(others)
    )  # the least of 0 and 1
    ranks: Any = SimpleNamespace(device=device, tensor_size=tensor, control_group=None)
    config = TrainingConfig(steps=1, global_batch=1, micro_batch=1, learning_rate=1.0, compile=asked)
    assert preparation.is_compiled(config, ranks) is wanted
    lacks = asked is None and device is CUDA and (not compiler or (tensor, release) == (2, "2.11.0"))
    assert capsys.readouterr().err.startswith("note: layers are not compiled: ") == lacks


def test_to_leave_compiling_to_the_device_is_no_other_run():
    assert TRAINING.compile is None
    facts = TRAINING.significant(drops=True)
    assert facts["compile"] is False
    assert "compile" not in TRAINING.significant()


@pytest.mark.parametrize(
    ("asked", "tensor", "length", "device", "wanted"),
    [
        (None, 2, 8, CUDA, True),
        (None, 2, 8, CPU, False),
        (None, 2, 9, CUDA, False),
        (None, 1, 8, CUDA, False),
        (False, 2, 8, CUDA, False),
        (True, 2, 8, CPU, True),
        (True, 1, 8, CPU, False),
    ],
)
def test_sequences_are_split_on_cuda_where_they_divide(asked, tensor, length, device, wanted):
    shape = ModelConfig("gpt2", 2, 32, 4, length, 131)
    layout = ParallelConfig(tensor_parallel=tensor, sequence_parallel=asked)
    assert mesh._is_split(shape.sequence_parallel(layout), tensor, device) is wanted


@pytest.mark.parametrize(("device", "wanted"), [(CPU, ("gloo", None)), (CUDA, ("nccl", CUDA))])
def test_nccl_is_told_the_device(monkeypatch, device, wanted):
    given = []
    monkeypatch.setattr(
        mesh.dist,
        "init_process_group",
        lambda backend, **settings: given.append((backend, settings["device_id"])),
    )
    for rank in ({}, {"RANK": "0"}):
        monkeypatch.delenv("RANK", raising=False)
        for name, value in rank.items():
            monkeypatch.setenv(name, value)
        mesh._join(device, mesh.DEFAULT_TIMEOUT)
    assert given == [wanted, wanted]


def test_tf32_is_for_devices_that_have_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7 + device.index, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    assert not tf32_errors("fp32", CPU, "p") and not tf32_errors("tf32", CUDA, "p")
    assert "not of the CPU" in tf32_errors("tf32", CPU, "training.precision")[0]
    assert "not of Tesla V100" in tf32_errors("tf32", torch.device("cuda", 0), "p")[0]
    with pytest.raises(ConfigurationError, match="precision"):
        in_precision(cast(Any, torch.nn.Linear(1, 1)), "tf32")
    assert known_peak("NVIDIA A100-PCIE-40GB", "tf32") == 156e12
    assert known_peak("Tesla V100-SXM2-16GB", "tf32") is None, "to be measured"


def test_tf32_ends_with_what_asked_for_it_and_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    weights = SimpleNamespace(dtype=torch.float32, device=CUDA)
    model: Any = SimpleNamespace(parameters=lambda: iter([weights]))
    for asked in (False, True):
        with tf32(asked):
            assert is_tf32() == asked and precision_of(model) == ("tf32" if asked else "fp32")
    assert not is_tf32() and precision_of(torch.nn.Linear(1, 1)) == "fp32"
    with tf32(False):  # what an evaluation sets stays
        assert in_precision(model, "tf32") is model and precision_of(model) == "tf32"
