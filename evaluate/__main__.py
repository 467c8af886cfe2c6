"""Command line: `python -m evaluate wikitext103|lambada|generate …`, alone or under torchrun."""

import argparse
import sys
from pathlib import Path
from typing import Any

from core.config import ModelConfig
from core.model_directory import build_model, load_model
from core.models.gpt2 import GPT2Model
from core.parallel.mesh import Mesh, initialize
from core.program.ranks import positive, publish, read_model_config, run_on_ranks
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from evaluate.generate import add_arguments, generate_texts, read_prompts, typed_prompts
from evaluate.lambada import Lambada
from evaluate.sampling import Sampling
from evaluate.wikitext103 import WikiText103

DESCRIPTION = """\
Zero-shot evaluation of GPT-2 models (paper section 5.3), which ends by printing one JSON object; and their text.

  python -m evaluate wikitext103 --checkpoint out --tokenizer tokenizer.json --data wiki.test.tokens
  torchrun --nproc-per-node 4 -m evaluate lambada --checkpoint out --tokenizer tokenizer.json \\
      --data lambada_test.jsonl --tensor-parallel 2
  python -m evaluate generate --checkpoint out --tokenizer tokenizer.json --prompt 'Once upon a time'

An evaluation's processes beyond the tensor-parallel group share the work; results are exact for any number of them."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = parser.add_subparsers(dest="task", required=True, metavar="wikitext103|lambada|generate")
    wikitext = tasks.add_parser(
        "wikitext103",
        help="perplexity of the WikiText-103 test (or validation) set",
        description="Perplexity of a WikiText-103 .tokens file, per word of the file and per token, from windows "
        "of the model's sequence length that overlap.",
    )
    lambada = tasks.add_parser(
        "lambada",
        help="accuracy of predicting the last word",
        description="Accuracy on LAMBADA: the last word of each passage, right at every one of its tokens.",
    )
    generate = tasks.add_parser(
        "generate",
        help="text that goes on from prompts",
        description="Show each prompt and the text that a model writes after it, as it comes. A text is the same on "
        "any number of tensor-parallel processes. A model that has filled its sequence length reads the last half of "
        "it again and goes on.",
    )
    for task in (wikitext, lambada):
        _add_common_arguments(task, "write the result's JSON object here, too")
    _add_common_arguments(
        generate, "at the end, write prompts, texts and settings here as a JSON object, and print it"
    )
    _add_scoring_arguments(wikitext, 'the benchmark\'s word-tokenized text, such as "wiki.test.tokens"')
    _add_scoring_arguments(lambada, 'one {"text": ...} a line, such as "lambada_test.jsonl"')
    add_arguments(generate)
    wikitext.add_argument(
        "--stride",
        type=positive,
        default=32,
        metavar="TOKENS",
        help="targets that each window after the first scores, from 1 to the model's sequence length; larger is "
        "faster and gives a worse perplexity (default: %(default)s, the paper's)",
    )
    return parser


def _add_common_arguments(parser: argparse.ArgumentParser, output_help: str) -> None:
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
        help="the tokenizer.json the model was trained with, or a folder with vocab.json and merges.txt",
    )
    parser.add_argument(
        "--tensor-parallel",
        type=positive,
        default=1,
        metavar="N",
        help="processes that share one copy of the model (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help=output_help)


def _add_scoring_arguments(parser: argparse.ArgumentParser, data_help: str) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help=data_help)
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=8,
        metavar="N",
        help="sequences of the model's full length in one forward pass, and as many more of shorter ones as take "
        "the same room (default: %(default)s)",
    )
    parser.add_argument(
        "--controls",
        action="store_true",
        help="also score an untrained model of the same shape and, for LAMBADA, contexts swapped between rows",
    )
    parser.add_argument("--title", default="", help="description of the progress bar (default: the task)")


def run(arguments: argparse.Namespace) -> None:
    """The command's task, on this rank."""
    if arguments.task == "generate":
        generate(arguments)
    else:
        evaluate(arguments)


def generate(arguments: argparse.Namespace) -> None:
    """Generate, and publish the texts when there is a file for them."""
    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.top_p, arguments.seed)
    prompts = read_prompts(arguments) or typed_prompts()
    tokenizer = load_tokenizer(arguments.tokenizer)
    read_model_config(arguments.checkpoint, tokenizer, arguments.tokenizer, causal=True)
    mesh = initialize(arguments.tensor_parallel)
    model = _load(arguments.checkpoint, mesh)
    result = generate_texts(model, tokenizer, mesh, prompts, arguments.tokens, sampling)
    if mesh.is_main and arguments.output is not None:
        publish(result, arguments.output)


def evaluate(arguments: argparse.Namespace) -> None:
    """Load, score, and publish the result."""
    tokenizer = load_tokenizer(arguments.tokenizer)
    config = read_model_config(arguments.checkpoint, tokenizer, arguments.tokenizer, causal=True)
    mesh = initialize(arguments.tensor_parallel)
    score = _evaluate_wikitext103 if arguments.task == "wikitext103" else _evaluate_lambada
    result = score(arguments, config, tokenizer, mesh)
    if mesh.is_main:
        publish(result, arguments.output)


def _evaluate_wikitext103(
    arguments: argparse.Namespace, config: ModelConfig, tokenizer: Tokenizer, mesh: Mesh
) -> dict[str, Any]:
    benchmark = WikiText103(arguments.data, tokenizer, config.sequence_length, arguments.stride)
    batch_size, title = arguments.batch_size, arguments.title or "evaluate wikitext103"
    result = benchmark.evaluate(_load(arguments.checkpoint, mesh), mesh, batch_size, title)
    if arguments.controls:
        untrained = _build(config, mesh)
        result |= benchmark.controls(untrained, mesh, batch_size, f"{title} (untrained)")
    return result


def _evaluate_lambada(
    arguments: argparse.Namespace, config: ModelConfig, tokenizer: Tokenizer, mesh: Mesh
) -> dict[str, Any]:
    benchmark = Lambada(arguments.data, tokenizer, config.sequence_length)
    batch_size, title = arguments.batch_size, arguments.title or "evaluate lambada"
    model = _load(arguments.checkpoint, mesh)
    result = benchmark.evaluate(model, mesh, batch_size, title)
    if arguments.controls:
        untrained = _build(config, mesh)
        result |= benchmark.controls(model, untrained, mesh, batch_size, f"{title} (controls)")
    return result


def _load(checkpoint: Path, mesh: Mesh) -> GPT2Model:
    model = load_model(checkpoint, mesh)
    assert isinstance(model, GPT2Model), "the family was checked"
    return model


def _build(config: ModelConfig, mesh: Mesh) -> GPT2Model:
    model = build_model(config, mesh)
    assert isinstance(model, GPT2Model), "the family was checked"
    return model


if __name__ == "__main__":
    sys.exit(run_on_ranks(build_parser, run))
