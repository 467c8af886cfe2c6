"""Command line: `python -m finetune TASK …`, alone or under torchrun. A killed run goes on when called again."""

import core.program.with_torch  # noqa: F401  what follows needs it

# isort: split
import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from core.errors import ConfigurationError
from core.flags import add_flags, all_of, by_flag, from_flags
from core.parallel.mesh import initialize
from core.program.asked import from_main
from core.program.machine import tell_machine
from core.program.ranks import check_tokenizer, publish, read_model_config, run_on_ranks
from core.program.run_options import RunSettings
from core.program.task_options import add_model_options, add_task_options, use_own_tokenizer
from core.registry import add_plugin_option, attribute
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.tokenization.tokenizers import load_tokenizer
from finetune.predictions import write_ensemble
from finetune.tuner import RESULT_FILE, Tuning
from recipes.records import FINE_TUNING, FineTuning
from recipes.schema import FinetuningSettings

DESCRIPTION = """\
Fine-tune a pretrained model on a task (paper section 5.3, and harder ones), then score it. Ends by printing one JSON object.

  torchrun --nproc-per-node 2 -m finetune race --checkpoint bert --tokenizer vocab.txt --data RACE/ --output race

After each epoch the model is scored on the development set, and the best one is delivered and tested. The output holds
model/, metrics.jsonl, epochs.json, predictions/, submission/ (in the benchmark's own format), state.json and result.json. The
same command after an interruption goes on from the last checkpoint; a finished one only prints its result, and with other
settings, data or models is refused."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m finetune",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = parser.add_subparsers(dest="task", required=True, metavar="|".join(FINE_TUNING))
    for record in map(FINE_TUNING.__getitem__, FINE_TUNING):
        command = tasks.add_parser(record.name, help=record.title, description=record.note)
        command.set_defaults(run=functools.partial(finetune, record))
        add_model_options(command)
        add_task_options(command, BENCHMARKS[record.benchmark].file, f"finetune {record.name}")
        command.add_argument(
            "--output", type=Path, required=True, metavar="DIR", help="where model, metrics and result go"
        )
        command.add_argument(
            "--seed",
            type=int,
            default=1,
            metavar="N",
            help="of the new head, the order and dropout (default: %(default)s)",
        )
        add_flags(command, FinetuningSettings, leave_out=("seeds",))
        add_flags(command, RunSettings)
    _add_ensemble(tasks)
    return parser


def _add_ensemble(tasks: Any) -> None:
    """The command that needs no model: only what several runs have predicted."""
    command = tasks.add_parser(
        "ensemble",
        help="several runs of a task together",
        description="The plain mean of their probabilities.",
    )
    makers = [name for name in FINE_TUNING if FINE_TUNING[name].makes_ensembles]
    command.add_argument("of", choices=makers, metavar="|".join(makers), help="the runs' task")
    command.add_argument("--runs", type=Path, nargs="+", required=True, metavar="DIR", help="their outputs")
    command.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where predictions and result go"
    )
    add_plugin_option(command)
    command.set_defaults(run=ensemble)


def ensemble(arguments: argparse.Namespace) -> None:
    """Let several runs answer together."""
    numbers = write_ensemble(FINE_TUNING[arguments.of], arguments.runs, arguments.output)
    runs = {"task": arguments.of, "runs": len(arguments.runs)}
    publish({**runs, **numbers}, arguments.output / RESULT_FILE)


def finetune(record: FineTuning, arguments: argparse.Namespace) -> None:
    """Check everything cheap first, then run a task's fine-tuning on this rank."""
    settings, run = all_of(
        lambda: from_flags(FinetuningSettings, arguments, seeds=[arguments.seed]),
        lambda: from_flags(RunSettings, arguments),
    )
    use_own_tokenizer(arguments)
    tokenizer = load_tokenizer(arguments.tokenizer)
    config = read_model_config(arguments.checkpoint, tokenizer, arguments.tokenizer, causal=record.causal)
    if errors := record.errors(settings, config, ""):
        raise ConfigurationError(map(by_flag, errors))
    tuning = Tuning(
        name=record.name,
        program=attribute(record.program),
        checkpoint=arguments.checkpoint,
        tokenizer=tokenizer,
        data=arguments.data,
        output=arguments.output,
        settings=settings,
        seed=arguments.seed,
        config=config,
    )
    mesh = initialize(arguments.tensor_parallel, timeout=run.timeout, device=arguments.device)
    tell_machine(arguments.machine, mesh)
    tokenizer_is = from_main(mesh, lambda: check_tokenizer(arguments, tokenizer, load_tokenizer))
    tuning.run(mesh, arguments.title, arguments.controls, tokenizer_is, run.options())


if __name__ == "__main__":
    sys.exit(run_on_ranks(build_parser, lambda arguments: arguments.run(arguments)))
