"""What the command lines of `evaluate` and `finetune` share: one message from many ranks, models with their
tokenizers, and the result."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from core.config import ModelConfig
from core.model_directory import read_config
from data_pipeline.engine.artifacts import ArtifactError, write_json
from data_pipeline.engine.processes import die_with_parent
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer


def run_on_ranks(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], None],
    expected: tuple[type[Exception], ...] = (),
) -> int:
    """Parse the command line and run `command` on this rank; returns the exit code.

    What a user can cause (a wrong option, a missing or damaged file, a model that does not fit) is printed once a
    host, as one message without a traceback; anything else is a bug and keeps its traceback.

    Args:
        expected: further exceptions whose message is for the user.
    """
    die_with_parent()
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"
    with contextlib.ExitStack() as silence:
        if not speaks:
            nowhere = silence.enter_context(open(os.devnull, "w"))
            silence.enter_context(contextlib.redirect_stdout(nowhere))
            silence.enter_context(contextlib.redirect_stderr(nowhere))
        arguments = parser.parse_args()
    for_the_user: tuple[type[Exception], ...] = (ValueError, OSError, ArtifactError, *expected)
    try:
        command(arguments)
    except for_the_user as error:
        if speaks:
            print(f"{parser.prog}: error: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def read_model_inputs(checkpoint: Path, tokenizer: Path, family: str) -> tuple[ModelConfig, Tokenizer]:
    """The model's shape and its tokenizer, checked to belong together before anything slow starts.

    Raises:
        ValueError: no model, a model of another family, or a vocabulary of another kind or size.
    """
    config = read_config(checkpoint)
    if config.family != family:
        raise ValueError(f"{checkpoint}: holds a {config.family} model, this task needs a {family} model")
    vocabulary = load_tokenizer(tokenizer)
    if vocabulary.kind != family:
        raise ValueError(f"{tokenizer}: is a {vocabulary.kind} tokenizer, the model needs a {family} one")
    if vocabulary.vocabulary_size != config.vocabulary_size:
        raise ValueError(
            f"{tokenizer}: has {vocabulary.vocabulary_size} tokens, the model in {checkpoint} was made for "
            f"{config.vocabulary_size}; give the tokenizer it was trained with"
        )
    return config, vocabulary


def positive(text: str) -> int:
    """An argument type: an integer of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, is {value}")
    return value


def publish(result: dict[str, Any], output: Path | None) -> None:
    """Print the result as one JSON object and, with `output`, write it there too; the main rank calls it."""
    if output is not None:
        write_json(output, result)
    print(json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False), flush=True)
