"""`python -m workflows COMMAND`: looks at the chain of stages without running it. The work itself is started by `luigi
--module workflows …`. Each command is in a module of its own; here they are put together."""

import argparse
import os
import sys
from typing import Any

from core.errors import told_to_user
from workflows import adopt, compare_layouts, export, gc, init, luigi_command, show_plan, status, verify, why
from workflows.source_hashes import write_table

_COMMANDS = (init, luigi_command, show_plan, why, status, gc, adopt, compare_layouts, verify, export)
EPILOG = """examples:
  python -m workflows plan                           what the sample recipe would run, why, and what it costs
  python -m workflows plan --recipe my.toml --task EvaluateLambada
  python -m workflows init books/ --output my.toml   a recipe for text of your own
  python -m workflows why deduplicate --set deduplicate.threshold=0.8
  python -m workflows status --watch 5               what is running, how far, and who
  python -m workflows gc                             what nothing needs any more; --yes removes it
  python -m workflows adopt                          finished artifacts of other keys, and what differs
  python -m workflows adopt runs/pretrain/gpt2-small-0123456789ab
  python -m workflows compare-layouts --model gpt2-small --layouts 1,1,1 2,1,1
  python -m workflows report --export report.zip     the finished report in one file, to send to somebody
  python -m workflows verify --runs runs             sha256 of every file of every artifact
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflows",
        description="Look at the chain of stages without running it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands: Any = parser.add_subparsers(dest="command", required=True)
    for command in _COMMANDS:
        command.add_command(commands)
    refresh = commands.add_parser(
        "refresh-hashes", help="record the stages' sources as they are (for developers, after a version bump)"
    )
    refresh.set_defaults(function=lambda given: write_table())
    return parser


def main() -> int:
    given = build_parser().parse_args()
    try:
        code: int = given.function(given) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who read the lines has enough of them: head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return told_to_user(error)


if __name__ == "__main__":
    sys.exit(main())
