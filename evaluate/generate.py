"""`python -m evaluate generate`: prompts in, text out, shown as it comes, or a batch at a time. How tokens are chosen is
in `core.generation`."""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.distributed as dist

from core.errors import ConfigurationError, UserError
from core.flags import add_flags, all_of, from_flags
from core.generation.batches import Method, generate_all, generate_tokens, longest_prompt
from core.generation.beams import BeamSearch
from core.generation.sampling import Sampling
from core.model_directory import Network, load_model
from core.parallel.mesh import Mesh, initialize
from core.program.asked import from_main
from core.program.ranks import check_tokenizer, positive, publish, read_model_config
from data_pipeline.text_files import half_pair, read_text
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer

_INCOMPLETE = "\ufffd"  # what a decoder puts for bytes that are no complete character


class TextStream:
    """Tokens in, text out: complete characters only, which may need the bytes of several tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """The text that can be shown now."""
        self._held.append(token)
        text = self._tokenizer.decode(self._held)
        if text.endswith(_INCOMPLETE):
            return ""
        self._held.clear()
        return text

    def end(self) -> str:
        """What is left when no token follows."""
        text = self._tokenizer.decode(self._held)
        self._held.clear()
        return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m evaluate generate`, beside those that name a model."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="go on from this text, which may be empty and have several lines; can be repeated (default: each line of "
        "the standard input is a prompt, until Ctrl-D)",
    )
    source.add_argument("--prompt-file", type=Path, metavar="FILE", help="one prompt a line")
    parser.add_argument(
        "--tokens",
        type=positive,
        default=100,
        metavar="N",
        help="longest text; it ends before at the end of a document (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="at the end, write prompts, texts and settings here as a JSON object, and print it",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=1,
        metavar="N",
        help="texts at a time; more than one are shown when all of them have ended, and processes beyond the "
        "tensor-parallel group share them (default: %(default)s, shown as it comes)",
    )
    add_flags(parser, Sampling)
    add_flags(parser, BeamSearch)


def chosen_method(arguments: argparse.Namespace) -> Sampling | BeamSearch:
    """How tokens are chosen, by the flags.

    Raises:
        ConfigurationError: values out of range, or that contradict each other.
    """
    sampling, search = all_of(
        lambda: from_flags(Sampling, arguments), lambda: from_flags(BeamSearch, arguments)
    )
    if search.beams == 1:
        if search != BeamSearch():
            raise ConfigurationError(["--beams: must be 2 or more for --length-penalty and --early-stopping"])
        return sampling
    if sampling.temperature:
        raise ConfigurationError(["--beams: looks for the likeliest text; leave --temperature out"])
    return search


def generate(arguments: argparse.Namespace) -> None:
    """The command: generate, and publish the texts when there is a file for them."""
    method = chosen_method(arguments)
    prompts = read_prompts(arguments) or typed_prompts()
    tokenizer = load_tokenizer(arguments.tokenizer)
    config = read_model_config(arguments.checkpoint, tokenizer, arguments.tokenizer, causal=True)
    mesh = initialize(arguments.tensor_parallel, device=arguments.device, trains=False)
    from_main(mesh, lambda: check_tokenizer(arguments, tokenizer, load_tokenizer))
    model = load_model(arguments.checkpoint, mesh, config)
    result = generate_texts(model, tokenizer, mesh, prompts, arguments.tokens, method, arguments.batch_size)
    if mesh.is_main and arguments.output is not None:
        publish(result, arguments.output)


def read_prompts(arguments: argparse.Namespace) -> Iterator[str] | None:
    """The prompts that the options name, or None for the standard input.

    Raises:
        UserError: the file cannot be read or is empty, or a prompt is not UTF-8 text.
    """
    if arguments.prompt is not None:
        for number, prompt in enumerate(arguments.prompt, start=1):
            if half_pair(prompt) is not None:  # what stands for a byte that the system could not decode
                raise UserError(f"--prompt, number {number}: is not UTF-8 text")
        return iter(arguments.prompt)
    path = arguments.prompt_file
    if path is None:
        return None
    text = read_text(path)
    if not text:
        raise UserError(f"{path}: is empty; one prompt a line is expected")
    return iter(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))


def typed_prompts() -> Iterator[str]:
    """Lines of the standard input, as they come.

    Raises:
        UserError: one that is not UTF-8 text.
    """
    asks = sys.stdin.isatty()
    for number in itertools.count(1):
        if asks:
            print("prompt> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline()
        if not line:
            return
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: is not UTF-8 text ({error})") from error
        yield (text.removeprefix("\ufeff") if number == 1 else text).rstrip("\r\n")


def generate_texts(
    model: Network,
    tokenizer: Tokenizer,
    mesh: Mesh,
    prompts: Iterator[str],
    tokens: int,
    method: Sampling | BeamSearch,
    batch_size: int = 1,
) -> dict[str, Any]:
    """Generate for each prompt, and show prompt and text on the main rank's standard output: one drawn text at a time as
    it comes, else a batch when all its texts have ended.

    Args:
        prompts: used on the main rank, which tells the others.

    Returns:
        the content of the JSON object that the command prints with --output.

    Raises:
        UserError: there are ranks that would have nothing to do, or the model's logits are not finite.
    """
    texts: list[dict[str, Any]] = []
    settings = {"tokens": tokens, **asdict(method)}
    if isinstance(method, BeamSearch) or batch_size > 1:
        for batch in _shared(prompts, mesh, batch_size):
            texts += _generate_batch(model, tokenizer, mesh, batch, tokens, method, len(texts))
        return {"task": "generate", "texts": texts, "settings": settings}
    if mesh.data_size > 1:
        raise UserError(
            f"{mesh.world_size} processes for --tensor-parallel {mesh.tensor_size}: a text is generated by one tensor "
            "group; start as many processes as --tensor-parallel says, or share texts by --batch-size"
        )
    for number, (prompt,) in enumerate(_shared(prompts, mesh, 1)):
        texts.append(_generate_text(model, tokenizer, mesh, prompt, tokens, method, number))
    return {"task": "generate", "texts": texts, "settings": settings}


def _shared(prompts: Iterator[str], mesh: Mesh, count: int) -> Iterator[list[str]]:
    """The main rank's prompts on every rank, `count` at a time."""
    while True:
        item = [list(itertools.islice(prompts, count)) if mesh.is_main else []]
        dist.broadcast_object_list(item, src=0, group=mesh.control_group)
        if not item[0]:
            return
        yield item[0]


def _generate_batch(
    model: Network,
    tokenizer: Tokenizer,
    mesh: Mesh,
    prompts: list[str],
    tokens: int,
    method: Method,
    first: int,
) -> list[dict[str, Any]]:
    contexts = [tokenizer.encode(prompt) for prompt in prompts]
    room = longest_prompt(model.config.sequence_length, method, tokens)
    for number, context in enumerate(contexts, start=first):
        _warn_of_cut(mesh, number, len(context), room)
    started = time.perf_counter()
    end = tokenizer.end_of_document
    produced = generate_all(
        model,
        mesh,
        [context or [end] for context in contexts],
        tokens,
        stop=end,
        method=method,
        places=-(-len(prompts) // mesh.data_size),
        first=first,
    )
    records = []
    for prompt, context, text in zip(prompts, contexts, produced, strict=True):
        records.append(
            _record(prompt, context, room, tokenizer.decode(text.tokens), len(text.tokens), tokens)
        )
        if text.score is not None:
            records[-1]["score"] = text.score
        _show(mesh, prompt + records[-1]["text"] + "\n")
    count, seconds = sum(len(text.tokens) for text in produced), time.perf_counter() - started
    _say(mesh, f"{len(prompts)} texts, {count} tokens, {count / seconds:.1f} a second")
    return records


def _generate_text(
    model: Network,
    tokenizer: Tokenizer,
    mesh: Mesh,
    prompt: str,
    tokens: int,
    sampling: Sampling,
    number: int,
) -> dict[str, Any]:
    context = tokenizer.encode(prompt)
    room = model.config.sequence_length
    _warn_of_cut(mesh, number, len(context), room)
    _show(mesh, prompt)
    stream = TextStream(tokenizer)
    pieces: list[str] = []
    started = time.perf_counter()
    produced = generate_tokens(
        model,
        mesh,
        context or [tokenizer.end_of_document],
        tokens,
        stop=tokenizer.end_of_document,
        sampling=sampling,
        number=number,
    )
    for token in produced:
        pieces.append(stream.add(token))
        _show(mesh, pieces[-1])
    count, seconds = len(pieces), time.perf_counter() - started
    pieces.append(stream.end())
    _show(mesh, pieces[-1] + "\n")
    _say(mesh, f"{count} tokens, {count / seconds:.1f} a second")
    return _record(prompt, context, room, "".join(pieces), count, tokens)


def _warn_of_cut(mesh: Mesh, number: int, length: int, room: int) -> None:
    if length > room:
        _say(
            mesh,
            f"warning: prompt {number + 1} has {length} tokens, the model reads {room}: the first {length - room} are "
            "left out",
        )


def _record(prompt: str, context: list[int], room: int, text: str, count: int, tokens: int) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "text": text,
        "prompt_tokens": len(context),
        "prompt_tokens_left_out": max(0, len(context) - room),
        "tokens": count,
        "end": "length" if count == tokens else "end of document",
    }


def _show(mesh: Mesh, text: str) -> None:
    if mesh.is_main:
        sys.stdout.write(text)
        sys.stdout.flush()


def _say(mesh: Mesh, line: str) -> None:
    if mesh.is_main:
        print(line, file=sys.stderr, flush=True)
