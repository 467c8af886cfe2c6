"""Where ranks compute: a CUDA device each, or the CPU with a word about it."""

import pytest
import torch

from core.errors import UserError
from core.parallel import mesh


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
