"""Command line: `python -m core import-hf|export-hf …`: models to and from Hugging Face's format, on one process."""

import core.program.with_torch  # noqa: F401  what follows needs it

# isort: split
import argparse
import sys
from pathlib import Path

from core.errors import told_to_user
from core.interop.huggingface import Summary, export_model, import_model
from core.interop.settings import importable
from core.registry import add_plugin_option, load_typed_plugins

DESCRIPTION = """\
Models to and from Hugging Face's format, safetensors only: {kinds}.

  python -m core import-hf gpt2-medium/ imported     # config.json + model.safetensors, on this disk
  python -m core export-hf out exported              # what transformers' from_pretrained loads

Tensors go by one at a time: a model needs no more memory than a few copies of its largest tensor. `transformers` is not
needed. A tokenizer's files beside the weights go with an import, so that another tokenizer is refused."""


def build_parser() -> argparse.ArgumentParser:
    kinds = importable()
    architectures = ", ".join(kind.architecture for _, kind in kinds.values())
    parser = argparse.ArgumentParser(
        prog="python -m core",
        description=DESCRIPTION.format(kinds=", ".join(kinds)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="import-hf|export-hf")
    importing = commands.add_parser(
        "import-hf",
        help="make a model directory from Hugging Face's",
        description="Make a model directory, which trains, evaluates and generates in any layout. Weights stored as "
        "bf16 or fp16 become fp32, which holds them exactly.",
    )
    importing.add_argument(
        "source", type=Path, metavar="HF_DIR", help="with config.json and safetensors files"
    )
    importing.add_argument(
        "--vocabulary-multiple",
        type=int,
        default=1024,
        metavar="N",
        help="pad the vocabulary to a multiple of it, with zeros (default: %(default)s, as in the presets)",
    )
    exporting = commands.add_parser(
        "export-hf",
        help="make a directory that transformers loads",
        description=f"Make a directory for from_pretrained of the class it names (one of {architectures}), fp32. The "
        "vocabulary's padding is cut.",
    )
    exporting.add_argument(
        "source", type=Path, metavar="CHECKPOINT", help="a model directory, or a training stage's output"
    )
    for command in (importing, exporting):
        command.add_argument("output", type=Path, metavar="OUT", help="the new directory; must not exist")
        add_plugin_option(command)
    return parser


def main() -> int:
    parser = build_parser()
    arguments = parser.parse_args()
    try:
        load_typed_plugins()
        if arguments.command == "import-hf":
            summary = import_model(arguments.source, arguments.output, arguments.vocabulary_multiple)
        else:
            summary = export_model(arguments.source, arguments.output)
    except Exception as error:
        return told_to_user(error, f"{parser.prog}: error")
    print(_line(summary, arguments.output))
    return 0


def _line(summary: Summary, output: Path) -> str:
    config = summary.config
    line = (
        f"{output}: {summary.kind}, {config.layers} layers, hidden {config.hidden}, {config.heads} heads, "
        f"{config.vocabulary_size} tokens, {summary.parameters:,} parameters, fp32"
    )
    return line + (f" (converted from {' and '.join(summary.converted)})" if summary.converted else "")


if __name__ == "__main__":
    sys.exit(main())
