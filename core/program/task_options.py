"""Options of every program that takes a pretrained model to a task. What is a setting has its flag from its class."""

import argparse
from pathlib import Path

from core.config import ParallelConfig
from core.flags import add_flags
from core.program.machine import add_machine_option
from core.program.ranks import positive
from core.registry import add_plugin_option
from core.tables import in_tables

_FOR_TASKS = ("device",)  # of the layout's settings; how many processes share a model is said below


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The model, its tokenizer, and how it is laid over processes."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="DIR",
        help="a model directory, or a training stage's output that holds one",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        required=True,
        metavar="PATH",
        help="what the model was trained with: tokenizer.json, vocab.txt, or a folder with vocab.json and merges.txt",
    )
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
    parser.add_argument(
        "--controls",
        action="store_true",
        help="also score what must do worse: a model without training, inputs that hide the answer",
    )
    add_machine_option(parser)
    parser.add_argument("--title", default=title, help="before the progress bar (default: %(default)s)")
