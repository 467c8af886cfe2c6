"""Options of every program that takes a pretrained model to a task. What is a setting has its flag from its class."""

import argparse
from pathlib import Path

from core.config import ParallelConfig
from core.errors import UserError
from core.flags import add_flags
from core.interop.settings import importable
from core.model_directory import own_tokenizer
from core.program.machine import add_machine_option
from core.program.ranks import positive
from core.registry import add_plugin_option
from core.tables import in_tables

_FOR_TASKS = ("device",)  # of the layout's settings; how many processes share a model is said below


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The model, its tokenizer, and the options of `add_layout_options`."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="a model directory, or a training stage's output that holds one",
    )
    model.add_argument(
        "--hf",
        type=Path,
        dest="checkpoint",
        metavar="DIR",
        help=f"a directory of Hugging Face's as it is ({', '.join(importable())}; safetensors), on this disk",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help="what the model was trained with: tokenizer.json, vocab.txt, or a folder with vocab.json and merges.txt "
        "(default: the files in the model's directory)",
    )
    add_layout_options(parser)


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """How a model is laid over processes, and what goes for any of them."""
    parser.add_argument(
        "--accept-tokenizer",
        action="store_true",
        help="take this tokenizer even if the model was made with another one",
    )
    parser.add_argument(
        "--tensor-parallel",
        type=positive,
        default=1,
        metavar="N",
        help="processes that share one copy of the model (default: %(default)s)",
    )
    add_flags(parser, ParallelConfig, leave_out=set(in_tables(ParallelConfig)).difference(_FOR_TASKS))
    add_plugin_option(parser)


def use_own_tokenizer(arguments: argparse.Namespace) -> None:
    """Without --tokenizer, take the tokenizer that lies in the model's directory.

    Raises:
        UserError: there is none, or no model.
    """
    if arguments.tokenizer is None:
        arguments.tokenizer = tokenizer_in(arguments.checkpoint)


def tokenizer_in(checkpoint: Path) -> Path:
    """The tokenizer in a model's directory.

    Raises:
        UserError: there is none, or no model.
    """
    own = own_tokenizer(checkpoint)
    if own is None:
        raise UserError(
            f"{checkpoint}: holds no tokenizer; give the one that the model was trained with by --tokenizer"
        )
    return own


def add_task_options(parser: argparse.ArgumentParser, file: str, title: str) -> None:
    """The task's data and what is asked beside its number.

    Args:
        file: what the data is called in the authors' format.
        title: before the progress bar.
    """
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help=f'the benchmark in its authors\' format, such as "{file}"',
    )
    add_scoring_options(parser, title)


def add_scoring_options(parser: argparse.ArgumentParser, title: str) -> None:
    """What is asked beside a number, and how the program shows itself."""
    parser.add_argument(
        "--controls",
        action="store_true",
        help="also score what must do worse: a model without training, inputs that hide the answer",
    )
    add_machine_option(parser)
    parser.add_argument("--title", default=title, help="before the progress bar (default: %(default)s)")
