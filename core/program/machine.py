"""What the processes of a program on ranks compute on: the last digits of their sums depend on it."""

import argparse
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from core.files import write_json
from core.parallel.mesh import Mesh


def add_machine_option(parser: argparse.ArgumentParser) -> None:
    """Every program that computes numbers takes the option."""
    parser.add_argument(
        "--machine",
        type=Path,
        metavar="FILE",
        help="write here, as JSON, what computes: torch's instruction set, threads, device (a workflow keeps it in run.json)",
    )


def tell_machine(file: Path | None, mesh: Mesh) -> None:
    """Write what all ranks compute on, each kind once; collective where there is a file."""
    if file is None:
        return
    found: list[Any] = [None] * mesh.world_size
    dist.all_gather_object(found, _facts(mesh.device), group=mesh.control_group)
    if mesh.is_main:
        kinds: dict[str, Any] = {
            key: ", ".join(dict.fromkeys(str(facts[key]) for facts in found)) for key in found[0]
        }
        kinds["devices"] = mesh.world_size if mesh.device.type == "cuda" else 0
        write_json(file, kinds)


def _facts(device: torch.device) -> dict[str, Any]:
    return {
        "hosts": socket.gethostname(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
    }
