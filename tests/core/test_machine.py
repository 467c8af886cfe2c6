"""What ranks say they compute on is what torch says."""

import json
import socket
from pathlib import Path

import torch
from distributed import run_distributed

from core.parallel.mesh import initialize
from core.program.machine import tell_machine


def _tell(file: Path) -> None:
    mesh = initialize(2)
    torch.set_num_threads(1 + mesh.rank)
    tell_machine(file, mesh)
    tell_machine(None, mesh)


def test_all_ranks_say_what_they_compute_on(tmp_path: Path) -> None:
    run_distributed(_tell, 2, tmp_path / "machine.json")
    assert json.loads((tmp_path / "machine.json").read_text()) == {
        "device": "cpu",
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": "1, 2",
        "torch": torch.__version__,
        "hosts": socket.gethostname(),
        "devices": 0,
    }
