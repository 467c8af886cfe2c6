"""The output directory of a training program: one writer at a time, nothing done twice, and options about the records
in it."""

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from core.parallel.mesh import Mesh
from data_pipeline.artifacts import MANIFEST, exclusive

PARTIAL_SUFFIX = ".partial"


@contextlib.contextmanager
def writing(output: Path, mesh: Mesh) -> Iterator[bool]:
    """Hold the output's lock on the main rank, which writes. Yields True when a `….partial` output has become a
    finished artifact in the meantime, and nothing is left to do. Collective."""
    final = output.with_name(output.name.removesuffix(PARTIAL_SUFFIX))
    with contextlib.ExitStack() as held:
        if mesh.is_main:
            held.enter_context(
                exclusive(final, waiting=lambda line: print(line, file=sys.stderr, flush=True))
            )
        yield on_main(mesh, final != output and (final / MANIFEST).exists())


def on_main(mesh: Mesh, fact: bool) -> bool:
    """What the main rank found, on every rank; waits for it."""
    value = torch.tensor([float(fact)])
    dist.broadcast(value, src=0, group=mesh.control_group)
    return bool(value.item())


def add_record_options(command: argparse.ArgumentParser) -> None:
    """Options of `RunOptions` that say what a training shows and records."""
    command.add_argument(
        "--tensorboard",
        action="store_true",
        help="write event files to logs/tensorboard: losses, learning rate, gradient norm, throughput (needs the package "
        "tensorboard)",
    )
    command.add_argument(
        "--profile-steps",
        type=_step_range,
        metavar="FIRST:LAST",
        help="trace these steps (from 1, both included) on the first process by torch's profiler, which slows them, into "
        "logs/trace-rank0.json, for Perfetto or chrome://tracing",
    )
    command.add_argument(
        "--measure-peak",
        action="store_true",
        help="measure the device's peak by a matrix product in the run's precision, as the base of MFU, instead of "
        "looking it up by the device's name (CPUs and unknown devices are always measured)",
    )


def record_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_record_options` added, as arguments of `RunOptions`."""
    return {name: getattr(arguments, name) for name in ("tensorboard", "profile_steps", "measure_peak")}


def _step_range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= first <= last:
        raise argparse.ArgumentTypeError(f"must be FIRST:LAST with 1 ≤ FIRST ≤ LAST, as 10:13, is {text!r}")
    return first, last
