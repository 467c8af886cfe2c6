"""Command line: `python -m pretrain FAMILY …`, alone or under torchrun. A killed run goes on when called again."""

import core.program.with_torch  # noqa: F401  what follows needs it

# isort: split
import argparse
import hashlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.config import ModelConfig, ParallelConfig, TrainingConfig
from core.errors import ConfigurationError, UserError
from core.families import FAMILIES
from core.files import canonical_json, content_hash
from core.flags import add_flags, all_of, from_flags
from core.parallel.layers import without_initial_values
from core.parallel.mesh import initialize
from core.program.asked import check_asked, from_main
from core.program.machine import add_machine_option, tell_machine
from core.program.output import writing
from core.program.ranks import run_on_ranks
from core.program.run_options import RunSettings
from core.registry import add_plugin_option, attribute
from core.training.checkpoint import goes_on
from core.training.trainer import RunOptions, train
from data_pipeline.indexed.blends import corpus_facts, corpus_prefix, load_blend
from data_pipeline.indexed.dataset import bin_path, index_path
from data_pipeline.inspection.indexed import facts_of_unknown
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from recipes.models import read_model
from recipes.overrides import SET, SET_HELP
from recipes.records import PRETRAININGS, Pretraining

DESCRIPTION = """\
Pretrain a model of a recipe on a tokenized corpus (paper section 4.2).

  torchrun --nproc-per-node 2 -m pretrain gpt2 --recipe sample --model gpt2-small --data data/mine \\
      --tokenizer data/mine --output out --tensor-parallel 2

The output holds model/ (when finished), metrics.jsonl, state.json (finished, stopped or failed, and the step),
checkpoints/, and logs/ (throughput.jsonl and model.txt). The same command after an interruption goes on from the last checkpoint, on the same or another number
of processes, and with other settings or data is refused; SIGTERM, SIGINT and SIGHUP finish the step and save first
(torchrun kills after 30 s: --shutdown-timeout)."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pretrain",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    families = parser.add_subparsers(dest="family", required=True, metavar="|".join(PRETRAININGS))
    for name in PRETRAININGS:
        title = PRETRAININGS[name].title
        command = families.add_parser(name, help=title, description=f"{title[0].upper()}{title[1:]}.")
        _add_arguments(command, PRETRAININGS[name])
    return parser


def _add_arguments(command: argparse.ArgumentParser, pretraining: Pretraining) -> None:
    def add_path(name: str, metavar: str, text: str) -> None:
        command.add_argument(name, type=Path, required=True, metavar=metavar, help=text)

    command.add_argument("--recipe", default="sample", help="name or .toml file (default: %(default)s)")
    command.add_argument(SET, default="", metavar="KEY=VALUE,…", help=SET_HELP)
    command.add_argument("--model", required=True, help="a model of the recipe")
    blend = ", or a blend file" if pretraining.blends else ""
    add_path(
        "--data",
        "PATH",
        "folder with corpus.bin and corpus.idx, or the path of others without .bin and .idx" + blend,
    )
    add_path("--tokenizer", "PATH", "what the corpus was tokenized with")
    add_path("--output", "DIR", "where model and records go")
    add_flags(command, ParallelConfig, leave_out=("data_parallel",))
    add_flags(command, RunSettings)
    command.add_argument("--title", default="", help="before the progress bar (default: the model's name)")
    add_plugin_option(command)
    add_machine_option(command)


def pretrain(arguments: argparse.Namespace) -> None:
    """Check everything cheap first, then train."""
    parallel, run = all_of(
        lambda: from_flags(ParallelConfig, arguments), lambda: from_flags(RunSettings, arguments)
    )
    tokenizer = load_tokenizer(arguments.tokenizer)
    shape, training = read_model(arguments.recipe, arguments.model, tokenizer.vocabulary_size, arguments.set)
    if shape.family != arguments.family:
        raise UserError(
            f"model {arguments.model} of {arguments.recipe} is a {shape.family}: use that command"
        )
    pretraining = PRETRAININGS[shape.family]
    corpus, identity = corpus_and_identity(arguments.data, pretraining, tokenizer)
    tensor, split = parallel.tensor_parallel, shape.sequence_parallel(parallel)
    if errors := shape.layout_errors(tensor, f"model {arguments.model}", split, parallel.stages):
        raise ConfigurationError(errors)
    stages, chunks = parallel.pipeline_parallel, parallel.pipeline_chunks
    mesh = initialize(tensor, split, run.timeout, parallel.device, stages, chunks)
    if errors := training.layout_errors(mesh.data_size, f"{arguments.model}.training", stages, chunks):
        raise ConfigurationError(errors)
    tell_machine(arguments.machine, mesh)
    with writing(arguments.output, mesh) as finished:
        if not finished:
            title = arguments.title or f"pretrain {arguments.model}"
            asked = from_main(mesh, lambda: _asked(shape, training, corpus, tokenizer))
            from_main(mesh, lambda: check_asked(arguments.output, asked))
            options = RunOptions(title, identity, parallel.zero, parallel.pipeline_schedule, **run.options())
            with without_initial_values(goes_on(arguments.output, mesh)):
                task = attribute(pretraining.task)(shape, training, corpus, tokenizer, mesh)
            train(task, mesh, training, arguments.output, options)


def _asked(
    shape: ModelConfig, training: TrainingConfig, corpus: Path, tokenizer: Tokenizer
) -> dict[str, Any]:
    """All that a training depends on, besides software and rounding."""
    plugins = {FAMILIES.plugin(shape.family), PRETRAININGS.plugin(shape.family)} - {""}
    return {
        "model": asdict(shape),
        "training": training.significant(shape.drops),
        "data": _data_hash(corpus),
        "tokenizer": tokenizer.fingerprint,
        **({"plugins": sorted(plugins)} if plugins else {}),
    }


def _data_hash(corpus: Path) -> str:
    """sha256 that tells a corpus, by its prefix, or a blend, by its file, from any other; names and places are free."""
    if index_path(corpus).is_file():
        parts: Any = [content_hash(bin_path(corpus)), content_hash(index_path(corpus))]
    else:
        blend = load_blend(corpus)
        parts = {"parts": [_data_hash(prefix) for prefix in blend.prefixes], "weights": blend.weights}
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def corpus_and_identity(data: Path, pretraining: Pretraining, tokenizer: Tokenizer) -> tuple[Path, str]:
    """Prefix of the indexed files, or blend file, checked to fit the tokenizer; and what identifies the content."""
    prefix = corpus_prefix(data)
    if data.is_dir() or index_path(prefix).is_file():
        return prefix, canonical_json(_facts(prefix, tokenizer))
    if not pretraining.blends:
        raise UserError(
            f"{data}: no corpus with .bin and .idx; {pretraining.family} reads one corpus: merge several first"
        )
    blend = load_blend(data)
    parts = [_facts(part, tokenizer) for part in blend.prefixes]
    return data, canonical_json({"parts": parts, "weights": blend.weights})


def _facts(prefix: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """What is known of a corpus; one of others, of which nothing is, is read to see that it fits the tokenizer."""
    facts = corpus_facts(prefix)
    if "tokenizer_fingerprint" not in facts:
        return facts_of_unknown(prefix, tokenizer)
    if facts["tokenizer_fingerprint"] != tokenizer.fingerprint:
        raise UserError(f"{prefix}: was tokenized with another tokenizer than the one given by --tokenizer")
    return facts


if __name__ == "__main__":
    sys.exit(run_on_ranks(build_parser, pretrain))
