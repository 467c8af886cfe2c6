"""Command line: `python -m evaluate TASK …`, alone or under torchrun: a command for each record, and `generate`."""

import core.program.with_torch  # noqa: F401  what follows needs it

# isort: split
import argparse
import functools
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from core.errors import ConfigurationError
from core.evaluation import precision_of
from core.files import content_hash
from core.flags import add_flags, by_flag, from_flags
from core.model_directory import build_model, load_model, model_fingerprint
from core.parallel.mesh import initialize
from core.program.asked import ASKED, finished_result, from_main
from core.program.machine import tell_machine
from core.program.ranks import check_tokenizer, publish, read_model_config, run_on_ranks
from core.program.task_options import add_model_options, add_task_options
from core.registry import attribute
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.benchmarks.identity import identified
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from evaluate.generate import add_arguments, generate
from evaluate.scoring import Program, Scorer
from recipes.records import ZERO_SHOT, ZeroShot
from recipes.schema import EvaluationSettings

DESCRIPTION = """\
Zero-shot evaluation of causal models (paper section 5.2), which ends by printing one JSON object; and their text.

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
    tasks = parser.add_subparsers(dest="task", required=True, metavar="|".join([*ZERO_SHOT, "generate"]))
    for record in map(ZERO_SHOT.__getitem__, ZERO_SHOT):
        command = tasks.add_parser(record.name, help=record.title, description=record.note)
        command.set_defaults(run=functools.partial(evaluate, record))
        add_model_options(command)
        add_task_options(command, BENCHMARKS[record.benchmark].file, f"evaluate {record.name}")
        command.add_argument(
            "--output",
            type=Path,
            metavar="FILE",
            help="write the result's JSON object here, too; a finished one is printed, and one that was asked with other "
            "settings, data or models is an error",
        )
        others = {field.name for field in fields(EvaluationSettings)} - set(record.settings)
        add_flags(command, EvaluationSettings, leave_out=others)
    command = tasks.add_parser(
        "generate",
        help="text that goes on from prompts",
        description="Show each prompt and the text that a model writes after it, as it comes. A text is the same on "
        "any number of tensor-parallel processes. A model that has filled its sequence length reads the last half of "
        "it again and goes on.",
    )
    command.set_defaults(run=generate)
    add_model_options(command)
    add_arguments(command)
    return parser


def evaluate(record: ZeroShot, arguments: argparse.Namespace) -> None:
    """Load, score, and publish a task's result, on this rank."""
    settings = from_flags(EvaluationSettings, arguments)
    tokenizer = load_tokenizer(arguments.tokenizer)
    config = read_model_config(arguments.checkpoint, tokenizer, arguments.tokenizer, causal=record.causal)
    if errors := record.errors(settings, config, ""):
        raise ConfigurationError(map(by_flag, errors))
    mesh = initialize(arguments.tensor_parallel, device=arguments.device)
    tell_machine(arguments.machine, mesh)
    tokenizer_is = from_main(mesh, lambda: check_tokenizer(arguments, tokenizer, load_tokenizer))
    asked = from_main(mesh, lambda: _asked(record, arguments, settings, tokenizer))
    remedy = "remove it to evaluate anew"
    if arguments.output and (
        done := from_main(mesh, lambda: finished_result(arguments.output, asked, remedy))
    ):
        if mesh.is_main:
            publish(done, None)
        return
    program: type[Program] = attribute(record.program)
    task = program(arguments.data, tokenizer, config.sequence_length, settings)
    model = load_model(arguments.checkpoint, mesh, config)
    score = Scorer(model, mesh, settings.batch_size, arguments.title)
    result = {"task": record.name, **task.evaluate(score)}
    if arguments.controls:
        title = f"{arguments.title} (controls)"
        controls = Scorer(model, mesh, settings.batch_size, title)
        untrained = Scorer(build_model(config, mesh), mesh, settings.batch_size, title)
        result |= task.controls(controls, untrained)
    if mesh.is_main:
        if "normalised" in result:
            found = result["normalised"]
            print(f"warning: {arguments.data}: {found}, read as the published file's", file=sys.stderr)
        result["data"] = identified(BENCHMARKS[record.benchmark], arguments.data, asked["data"])
        result |= {"precision": precision_of(model), "tokenizer_is": tokenizer_is}
        publish({**result, ASKED: asked}, arguments.output)


def _asked(
    record: ZeroShot, arguments: argparse.Namespace, settings: EvaluationSettings, tokenizer: Tokenizer
) -> dict[str, Any]:
    """All that a result depends on, besides software and rounding."""
    plugin = ZERO_SHOT.plugin(record.name)
    return {
        "task": record.name,
        "settings": {name: getattr(settings, name) for name in record.settings},
        "controls": arguments.controls,
        "data": content_hash(arguments.data),
        "model": model_fingerprint(arguments.checkpoint),
        "tokenizer": tokenizer.fingerprint,
        **({"plugin": plugin} if plugin else {}),
    }


if __name__ == "__main__":
    sys.exit(run_on_ranks(build_parser, lambda arguments: arguments.run(arguments)))
