"""Command line: `python -m pretrain gpt2|bert …`, alone or under torchrun. A killed run goes on when called again."""

import argparse
import sys
from pathlib import Path
from typing import Any

from core.config import ZERO_LEVELS, ModelConfig, TrainingConfig
from core.errors import ConfigurationError, UserError
from core.files import canonical_json, read_json
from core.flags import add_flags, from_flags
from core.parallel.mesh import Mesh, initialize
from core.program.output import writing
from core.program.ranks import add_plugin_option, positive, run_on_ranks
from core.program.run_options import RunSettings
from core.training.trainer import RunOptions, train
from data_pipeline.indexed.blends import corpus_facts, load_blend
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from pretrain.bert import BertTask
from pretrain.gpt2 import GPT2Task
from recipes.reader import read_model, recipe_path

DESCRIPTION = """\
Pretrain a model of a recipe on a tokenized corpus (paper section 4).

  torchrun --nproc-per-node 2 -m pretrain gpt2 --recipe sample --model gpt2-small --data data/mine \\
      --tokenizer data/mine/tokenizer --output out --tensor-parallel 2

The output holds model/ (when finished), metrics.jsonl, state.json (finished, stopped or failed, and the step),
checkpoints/, and logs/ (throughput.jsonl and model.txt). The same command after an interruption goes on from the last checkpoint, on the same or another number
of processes; SIGTERM and SIGINT finish the step and save first."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pretrain",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    families = parser.add_subparsers(dest="family", required=True, metavar="gpt2|bert")
    for family, help_text in (
        ("gpt2", "next-token prediction"),
        ("bert", "masked whole words and sentence order"),
    ):
        command = families.add_parser(family, help=help_text, description=help_text.capitalize() + ".")
        command.add_argument("--recipe", default="sample", help="name or .toml file (default: %(default)s)")
        command.add_argument("--model", required=True, help="a model of the recipe")
        command.add_argument(
            "--data",
            type=Path,
            required=True,
            metavar="PATH",
            help="folder with corpus.bin and corpus.idx" + ("" if family == "bert" else ", or a blend file"),
        )
        command.add_argument(
            "--tokenizer", type=Path, required=True, metavar="PATH", help="what the corpus was tokenized with"
        )
        command.add_argument(
            "--output", type=Path, required=True, metavar="DIR", help="where model and records go"
        )
        command.add_argument(
            "--tensor-parallel",
            type=positive,
            default=1,
            metavar="N",
            help="processes that share one copy of the model; the others are data-parallel (default: %(default)s)",
        )
        command.add_argument(
            "--sequence-parallel",
            action="store_true",
            help="split what lies between tensor-parallel regions along the sequence: less memory, the same numbers",
        )
        command.add_argument(
            "--zero",
            type=int,
            choices=ZERO_LEVELS,
            default=1,
            help="split over the data-parallel processes: 0 nothing, 1 optimizer state, 2 gradients too, 3 weights too "
            "(default: %(default)s)",
        )
        add_flags(command, RunSettings)
        add_plugin_option(command)
        command.add_argument(
            "--title", default="", help="before the progress bar (default: the model's name)"
        )
    return parser


def pretrain(arguments: argparse.Namespace) -> None:
    """Check everything cheap first, then train."""
    run = from_flags(RunSettings, arguments)
    tokenizer = load_tokenizer(arguments.tokenizer)
    shape, training = read_model(recipe_path(arguments.recipe), arguments.model, tokenizer.vocabulary_size)
    if shape.family != arguments.family:
        raise UserError(
            f"model {arguments.model} of {arguments.recipe} is a {shape.family}: use that command"
        )
    corpus, identity = _corpus(arguments.data, shape.family, tokenizer)
    tensor, split = arguments.tensor_parallel, arguments.sequence_parallel
    if errors := shape.layout_errors(tensor, f"model {arguments.model}", split):
        raise ConfigurationError(errors)
    mesh = initialize(tensor, split, timeout=run.timeout)
    with writing(arguments.output, mesh) as finished:
        if not finished:
            title = arguments.title or f"pretrain {arguments.model}"
            options = RunOptions(title, identity, arguments.zero, **run.options())
            task = _task(shape, training, corpus, tokenizer, mesh)
            train(task, mesh, training, arguments.output, options)


def _corpus(data: Path, family: str, tokenizer: Tokenizer) -> tuple[Path, str]:
    """Prefix of the indexed files, or blend file, checked to fit the tokenizer; and what identifies the content."""
    if data.is_dir():
        facts = read_json(data / "corpus.json")
        _check_fingerprint(data, facts, tokenizer)
        return data / "corpus", canonical_json(facts)
    if family != "gpt2":
        raise UserError(f"{data}: not a folder; {family} reads one corpus: merge several first")
    blend = load_blend(data)
    facts = [corpus_facts(prefix) for prefix in blend.prefixes]
    for prefix, described in zip(blend.prefixes, facts, strict=True):
        _check_fingerprint(prefix, described, tokenizer)
    return data, canonical_json({"parts": facts, "weights": blend.weights})


def _check_fingerprint(corpus: Path, facts: dict[str, Any], tokenizer: Tokenizer) -> None:
    if facts.get("tokenizer_fingerprint") != tokenizer.fingerprint:
        raise UserError(f"{corpus}: was tokenized with another tokenizer than the one given by --tokenizer")


def _task(
    shape: ModelConfig, training: TrainingConfig, corpus: Path, tokenizer: Tokenizer, mesh: Mesh
) -> GPT2Task | BertTask:
    if shape.family == "gpt2":
        return GPT2Task(shape, training, corpus, mesh)
    return BertTask(shape, training, corpus, tokenizer, mesh)


if __name__ == "__main__":
    sys.exit(run_on_ranks(build_parser, pretrain))
