"""`python -m workflows run TASK …`: luigi's own command, which takes `--local-scheduler=false`, too.

The `luigi` command refuses it before it has read anything of ours: there the option is a switch, without a value.
"""

import argparse
from typing import Any

import luigi
import luigi.interface
from luigi.cmdline import luigi_run


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="run a task, as `luigi --module workflows TASK` does",
        description="Luigi's own command; TASK --help says more.",
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="TASK [options]")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    switch: Any = luigi.interface.core.local_scheduler
    switch.parsing = luigi.BoolParameter.EXPLICIT_PARSING
    luigi_run(["--module", "workflows", *arguments.words])
    return 0  # luigi itself ends with its code
