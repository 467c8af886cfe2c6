"""Command line: `python -m pretrain gpt2|bert …`, alone or under torchrun. A killed run goes on when called again."""

import argparse
import sys
from pathlib import Path

from core.config import ConfigurationError, ModelConfig, TrainingConfig
from core.parallel.mesh import Mesh, initialize
from core.training.checkpoint import CheckpointError
from core.training.trainer import NonFiniteLoss, train
from data_pipeline.artifacts import canonical_json, read_json
from data_pipeline.tokenizers import Tokenizer, load_tokenizer
from evaluate.command import positive, run_on_ranks
from pretrain.bert import BertTask
from pretrain.gpt2 import GPT2Task
from pretrain.output import writing
from pretrain.recipe import read_model, recipe_path

DESCRIPTION = """\
Pretrain a model of a recipe on a tokenized corpus (paper section 4).

  torchrun --nproc-per-node 2 -m pretrain gpt2 --recipe sample --model gpt2-small --data data/mine \\
      --tokenizer data/mine/tokenizer --output out --tensor-parallel 2

The output holds model/ (when finished), metrics.jsonl, state.json (finished, stopped or failed, and the step) and
checkpoints/. The same command after an interruption goes on from the last checkpoint, on the same or another number
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
            "--data", type=Path, required=True, metavar="DIR", help="folder with corpus.bin and corpus.idx"
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
            "--title", default="", help="before the progress bar (default: the model's name)"
        )
    return parser


def pretrain(arguments: argparse.Namespace) -> None:
    """Check everything cheap first, then train."""
    tokenizer = load_tokenizer(arguments.tokenizer)
    shape, training = read_model(recipe_path(arguments.recipe), arguments.model, tokenizer.vocabulary_size)
    if shape.family != arguments.family:
        raise ValueError(
            f"model {arguments.model} of {arguments.recipe} is a {shape.family}: use that command"
        )
    corpus = _corpus(arguments.data, tokenizer)
    if errors := shape.layout_errors(arguments.tensor_parallel, f"model {arguments.model}"):
        raise ConfigurationError(errors)
    mesh = initialize(arguments.tensor_parallel)
    with writing(arguments.output, mesh) as finished:
        if not finished:
            title = arguments.title or f"pretrain {arguments.model}"
            task = _task(shape, training, corpus, tokenizer, mesh)
            identity = canonical_json(read_json(arguments.data / "corpus.json"))
            train(task, mesh, training, arguments.output, title, identity)


def _corpus(directory: Path, tokenizer: Tokenizer) -> Path:
    """The prefix of the corpus's indexed files, checked to fit the tokenizer."""
    facts = read_json(directory / "corpus.json")
    if facts.get("tokenizer_fingerprint") != tokenizer.fingerprint:
        raise ValueError(
            f"{directory}: was tokenized with another tokenizer than the one given by --tokenizer"
        )
    return directory / "corpus"


def _task(
    shape: ModelConfig, training: TrainingConfig, corpus: Path, tokenizer: Tokenizer, mesh: Mesh
) -> GPT2Task | BertTask:
    if shape.family == "gpt2":
        return GPT2Task(shape, training, corpus, mesh)
    return BertTask(shape, training, corpus, tokenizer, mesh)


if __name__ == "__main__":
    sys.exit(run_on_ranks(build_parser(), pretrain, (NonFiniteLoss, CheckpointError)))
