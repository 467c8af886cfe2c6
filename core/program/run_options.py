"""Options of every command that trains: when it stops by itself, how long it waits, what it shows and records."""

import argparse
import datetime
import re
from typing import Any

from core.parallel.mesh import DEFAULT_TIMEOUT
from core.program.ranks import positive


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options of a run that change nothing of what it computes."""
    parser.add_argument(
        "--exit-after-minutes",
        type=float,
        default=0.0,
        metavar="M",
        help="save and stop after so many minutes, for batch systems; the same command goes on (default: no limit)",
    )
    parser.add_argument(
        "--timeout-minutes",
        type=positive,
        default=DEFAULT_TIMEOUT // datetime.timedelta(minutes=1),
        metavar="M",
        help="how long processes wait for one that hangs before they name it and stop (default: %(default)s)",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write event files to logs/tensorboard: losses, learning rate, gradient norm, throughput (needs the package "
        "tensorboard)",
    )
    parser.add_argument(
        "--profile-steps",
        type=_step_range,
        metavar="FIRST:LAST",
        help="trace these steps (from 1, both included) on the first process by torch's profiler, which slows them, into "
        "logs/trace-rank0.json, for Perfetto or chrome://tracing",
    )
    parser.add_argument(
        "--measure-peak",
        action="store_true",
        help="measure the device's peak by a matrix product in the run's precision, as the base of MFU, instead of "
        "looking it up by the device's name (CPUs and unknown devices are always measured)",
    )


def run_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_run_options` added, as arguments of `RunOptions`."""
    names = ("exit_after_minutes", "tensorboard", "profile_steps", "measure_peak")
    return {name: getattr(arguments, name) for name in names}


def timeout(arguments: argparse.Namespace) -> datetime.timedelta:
    return datetime.timedelta(minutes=arguments.timeout_minutes)


def _step_range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= first <= last:
        raise argparse.ArgumentTypeError(f"must be FIRST:LAST with 1 ≤ FIRST ≤ LAST, as 10:13, is {text!r}")
    return first, last
