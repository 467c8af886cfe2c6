"""Options of every command that trains: when it gives up waiting, and when it stops by itself."""

import argparse
import datetime

from core.parallel.mesh import DEFAULT_TIMEOUT
from evaluate.command import positive


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


def timeout(arguments: argparse.Namespace) -> datetime.timedelta:
    return datetime.timedelta(minutes=arguments.timeout_minutes)
