"""What the programs on ranks share: one message from many ranks, a model that fits its tokenizer, and the result."""

import argparse
import contextlib
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch.distributed as dist

from core.config import ModelConfig
from core.errors import UserError, message_for_user
from core.families import FAMILIES
from core.files import write_json
from core.model_directory import own_tokenizer, read_config, read_tokenizer_fingerprint
from core.processes import die_with_parent
from core.registry import load_typed_plugins

_SPEAKER_SECONDS = 2.0  # between the failures of ranks that all fail
# torchrun gives each rank one, in a folder of its own below the attempt's.
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def run_on_ranks(
    build_parser: Callable[[], argparse.ArgumentParser], command: Callable[[argparse.Namespace], None]
) -> int:
    """Load the plug-ins, parse the command line and run `command` on this rank; returns the exit code.

    What a user can cause (a wrong option, a missing or damaged file, a model that does not fit) is printed once a
    host, as one message without a traceback; anything else is a bug and keeps its traceback. torchrun ends all ranks
    when the first has failed: so another rank than the one that speaks stays a moment, and if it is not ended by then,
    and nobody has spoken, it alone knows of the error and says it.
    """
    gc.freeze()  # what was imported stays
    gc.enable()
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
        speak(message)
        return getattr(error, "exit_code", 1)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def speak(message: str) -> None:
    """Say the error that ends this program, unless another rank of this host has said its own."""
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"
    error_file = os.environ.get(_ERROR_FILE)
    if not speaks and error_file:
        time.sleep(_SPEAKER_SECONDS)
    if _first_to_speak(Path(error_file).parents[1]) if error_file else speaks:
        program = sys.modules["__main__"].__package__
        print(f"python -m {program}: error: {message}", file=sys.stderr, flush=True)


def _first_to_speak(attempt: Path) -> bool:
    """Whether no other rank of this host and attempt has said its error; `attempt`: torchrun's folder for both."""
    try:
        (attempt / "message").open("x").close()
    except FileExistsError:
        return False
    except OSError:  # gone or full: better twice than not at all
        pass
    return True


class Vocabulary(Protocol):
    """What is asked of a tokenizer here."""

    @property
    def kind(self) -> str: ...

    vocabulary_size: int

    @property
    def fingerprint(self) -> str: ...


def read_model_config(checkpoint: Path, vocabulary: Vocabulary, source: Path, *, causal: bool) -> ModelConfig:
    """The model's shape, checked to fit the task and the tokenizer before anything slow starts.

    Rows of its embedding beyond the tokenizer's tokens (of 30592 rows for 30522 tokens, say) count as padding.

    Args:
        source: the tokenizer's file, for messages.
        causal: whether the task scores or generates next tokens; else it reads whole texts.

    Raises:
        UserError: no model, one that reads the other way, or a vocabulary of another kind, or of more tokens than the model has.
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
    if vocabulary.vocabulary_size > config.vocabulary_size:
        raise UserError(
            f"{source}: has {vocabulary.vocabulary_size} tokens, the model in {checkpoint} has rows for "
            f"{config.vocabulary_size} only, so it was trained with another tokenizer: give that one"
        )
    return config.for_tokens(vocabulary.vocabulary_size)


def check_tokenizer(
    arguments: argparse.Namespace, vocabulary: Vocabulary, load: Callable[[Path], Vocabulary]
) -> str:
    """Compare a tokenizer with what is known of the one that the model was made with.

    Args:
        arguments: of `core.program.task_options.add_model_options`.
        load: reads a tokenizer; an imported model's own may lie in its directory.

    Returns:
        "the model's"; "accepted" where it is another; "not known" where the model does not say which is its own.

    Raises:
        UserError: it is another, and the user does not insist on it.
    """
    checkpoint, source = arguments.checkpoint, arguments.tokenizer
    known = read_tokenizer_fingerprint(checkpoint)
    folder = own_tokenizer(checkpoint)
    if not known and folder is not None:
        try:
            known = load(folder).fingerprint
        except UserError as error:
            print(f"warning: the model's own tokenizer is not known: {error}", file=sys.stderr, flush=True)
    if not known:
        print(
            f"warning: {checkpoint} does not say which tokenizer it was trained with; that it is {source} is not "
            "checked",
            file=sys.stderr,
            flush=True,
        )
        return "not known"
    if known == vocabulary.fingerprint:
        return "the model's"
    if arguments.accept_tokenizer:
        return "accepted"
    raise UserError(
        f"{source}: is not the tokenizer that the model in {checkpoint} was trained with (fingerprint "
        f"{vocabulary.fingerprint[:12]}, the model's {known[:12]}): the same text has other ids, so its numbers would "
        "mean nothing. Give the model's tokenizer, or --accept-tokenizer to insist"
    )


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
