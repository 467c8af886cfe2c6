"""Command line: `python -m benchmarks NAME`, from the checkout."""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.harness import Report
from core.errors import UserError
from core.files import write_json
from core.flags import add_flags, from_flags

NAMES = (
    "checkpoint-stall",
    "device",
    "finetuning",
    "host",
    "many-files",
    "memory",
    "near-duplicates",
    "pipeline",
    "pipeline-parallel",
    "precisions",
    "ranks",
    "sample-index",
    "scaling",
    "tensor-parallel",
    "tokenization",
    "training",
    "workflow",
    "zero-shot",
)


def main() -> int:
    modules = {name: importlib.import_module(f"benchmarks.{name.replace('-', '_')}") for name in NAMES}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in modules.items():
        command = commands.add_parser(name, help=module.__doc__.split("\n")[0], description=module.__doc__)
        add_flags(command, module.Settings, texts={"turns": "measurements of each side, in turn"})
        command.add_argument("--json", type=Path, metavar="PATH", help="write what was measured there, too")
    arguments = parser.parse_args()
    module = modules[arguments.name]
    try:
        settings = from_flags(module.Settings, arguments)
        report = Report(arguments.name, settings)
        module.run(settings, report)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        write_json(arguments.json, report.content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
