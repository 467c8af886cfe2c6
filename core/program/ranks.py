"""What the programs on ranks share: one message from many ranks, a model that fits its tokenizer, and the result."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch.distributed as dist

from core.config import ModelConfig
from core.errors import UserError, message_for_user
from core.families import FAMILIES
from core.files import write_json
from core.model_directory import read_config
from core.processes import die_with_parent
from core.registry import load_typed_plugins


def run_on_ranks(
    build_parser: Callable[[], argparse.ArgumentParser], command: Callable[[argparse.Namespace], None]
) -> int:
    """Load the plug-ins, parse the command line and run `command` on this rank; returns the exit code.

    What a user can cause (a wrong option, a missing or damaged file, a model that does not fit) is printed once a
    host, as one message without a traceback; anything else is a bug and keeps its traceback.
    """
    die_with_parent()
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        with contextlib.ExitStack() as silence:
            if not speaks:
                nowhere = silence.enter_context(open(os.devnull, "w"))
                silence.enter_context(contextlib.redirect_stdout(nowhere))
                silence.enter_context(contextlib.redirect_stderr(nowhere))
            load_typed_plugins()
            arguments = build_parser().parse_args()
        command(arguments)
    except Exception as error:
        message = message_for_user(error)
        if message is None:
            raise
        if speaks:
            program = sys.modules["__main__"].__package__
            print(f"python -m {program}: error: {message}", file=sys.stderr, flush=True)
        return getattr(error, "exit_code", 1)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


class Vocabulary(Protocol):
    """What is asked of a tokenizer here."""

    @property
    def kind(self) -> str: ...

    vocabulary_size: int


def read_model_config(checkpoint: Path, vocabulary: Vocabulary, source: Path, *, causal: bool) -> ModelConfig:
    """The model's shape, checked to fit the task and the tokenizer before anything slow starts.

    Args:
        source: the tokenizer's file, for messages.
        causal: whether the task scores or generates next tokens; else it reads whole texts.

    Raises:
        UserError: no model, one that reads the other way, or a vocabulary of another kind or size.
    """
    config = read_config(checkpoint)
    family = FAMILIES[config.family]
    if family.causal != causal:
        needed = ", ".join(name for name in FAMILIES if FAMILIES[name].causal == causal)
        raise UserError(
            f"{checkpoint}: holds a {family.name} model, this task needs one of another family ({needed})"
        )
    if vocabulary.kind != family.tokenizer:
        raise UserError(
            f"{source}: is a {vocabulary.kind} tokenizer, the model needs a {family.tokenizer} one"
        )
    if vocabulary.vocabulary_size != config.vocabulary_size:
        raise UserError(
            f"{source}: has {vocabulary.vocabulary_size} tokens, the model in {checkpoint} was made for "
            f"{config.vocabulary_size}; give the tokenizer it was trained with"
        )
    return config


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
