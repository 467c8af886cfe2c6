"""Command line: `python -m evaluate TASK …`, alone or under torchrun: a command for each record, `all`, and `generate`."""

import core.program.with_torch  # noqa: F401  what follows needs it

# isort: split
import argparse
import functools
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

from core.errors import ConfigurationError, UserError
from core.flags import add_flags, from_flags
from core.interop.settings import importable
from core.parallel.mesh import initialize
from core.program.machine import tell_machine
from core.program.ranks import publish, run_on_ranks
from core.program.task_options import (
    add_layout_options,
    add_model_options,
    add_scoring_options,
    add_task_options,
    use_own_tokenizer,
)
from data_pipeline.benchmarks import BENCHMARKS
from evaluate.generate import add_arguments, generate
from evaluate.measuring import Measuring, Model, Options, Pair, named
from recipes.records import ZERO_SHOT, ZeroShot
from recipes.schema import EvaluationSettings

DESCRIPTION = """\
Zero-shot evaluation of causal models (paper section 5.2), which ends by printing one JSON object; and their text.

  python -m evaluate wikitext103 --checkpoint out --tokenizer tokenizer.json --data wiki.test.tokens
  torchrun --nproc-per-node 4 -m evaluate lambada --checkpoint out --tokenizer tokenizer.json \\
      --data lambada_test.jsonl --tensor-parallel 2
  python -m evaluate lambada --hf gpt2 --data lambada_test.jsonl
  python -m evaluate all --checkpoint out --hf gpt2 --tasks wikitext103=wiki.test.tokens lambada=lambada_test.jsonl \\
      --output results
  python -m evaluate generate --checkpoint out --tokenizer tokenizer.json --prompt 'Once upon a time'

An evaluation's processes beyond the tensor-parallel group share the work; results are exact for any number of them. A
killed evaluation with an --output goes on when called again."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = parser.add_subparsers(
        dest="task", required=True, metavar="|".join([*ZERO_SHOT, "all", "generate"])
    )
    for record in map(ZERO_SHOT.__getitem__, ZERO_SHOT):
        command = tasks.add_parser(record.name, help=record.title, description=record.note)
        command.set_defaults(run=functools.partial(evaluate, record))
        add_model_options(command)
        add_task_options(command, BENCHMARKS[record.benchmark].file, f"evaluate {record.name}")
        command.add_argument(
            "--output",
            type=Path,
            metavar="FILE",
            help="write the result's JSON object here, too; a finished one is printed, a killed one goes on, and one "
            "that was asked with other settings, data or models is an error",
        )
        command.add_argument(
            "--predictions",
            type=Path,
            metavar="FILE.parquet",
            help="write a row for each answer: row, target, prediction, log_probability, right",
        )
        others = {field.name for field in fields(EvaluationSettings)} - {*record.settings, "batch_size"}
        add_flags(command, EvaluationSettings, leave_out=others)
    _add_all(tasks.add_parser("all", help="several models and tasks in one launch"))
    command = tasks.add_parser(
        "generate",
        help="text that goes on from prompts",
        description="Show each prompt and the text that a model writes after it, as it comes. A text is the same on "
        "any number of tensor-parallel processes. A model that has filled its sequence length reads the last half of "
        "it again and goes on.",
    )
    command.set_defaults(run=_generate)
    add_model_options(command)
    add_arguments(command)
    return parser


def _add_all(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Measure each model on each task, as a launch of its own would, and write each result when it is there: "
        "OUTPUT/MODEL/TASK.json. A model is called as its directory, or NAME by NAME=DIR."
    )
    command.set_defaults(run=evaluate_all)
    models = {"dest": "models", "action": "append", "metavar": "[NAME=]DIR"}
    command.add_argument("--checkpoint", help="a model directory, or a training stage's output", **models)  # type: ignore[arg-type]
    command.add_argument(
        "--hf",
        help=f"a directory of Hugging Face's as it is ({', '.join(importable())}; safetensors)",
        **models,  # type: ignore[arg-type]
    )
    command.add_argument(
        "--tokenizer",
        type=Path,
        action="append",
        metavar="PATH",
        help="of all models; or one for each, in their order (default: the files in each model's directory)",
    )
    command.add_argument(
        "--tasks",
        nargs="+",
        required=True,
        metavar="TASK=PATH",
        help=f"each with its data: {', '.join(ZERO_SHOT)}; of a task with several files each result is called "
        "TASK-FILE.json",
    )
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the results go")
    command.add_argument(
        "--predictions",
        action="store_true",
        help="write a row for each answer beside each result, TASK.parquet",
    )
    add_layout_options(command)
    add_scoring_options(command, "evaluate")
    add_flags(command, EvaluationSettings)


def _generate(arguments: argparse.Namespace) -> None:
    use_own_tokenizer(arguments)
    generate(arguments)


def evaluate(record: ZeroShot, arguments: argparse.Namespace) -> None:
    """Load, score, and publish a task's result, on this rank."""
    model = Model(arguments.checkpoint, arguments.tokenizer)
    pair = Pair(model, record, arguments.data, arguments.output, arguments.predictions, arguments.title)
    _measure([pair], arguments, lambda pair, result: publish(result, None))


def evaluate_all(arguments: argparse.Namespace) -> None:
    """Each model on each task; at the end all results are printed as one object."""
    models = _models(arguments)
    tasks = tasks_by_name(arguments.tasks)
    pairs = [
        Pair(
            model,
            record,
            data,
            arguments.output / model.name / f"{name}.json",
            arguments.output / model.name / f"{name}.parquet" if arguments.predictions else None,
            f"{arguments.title} {name} of {model.name}",
        )
        for model in models
        for name, (record, data) in tasks.items()
    ]
    results: list[dict[str, Any]] = []

    def said(pair: Pair, result: dict[str, Any]) -> None:
        results.append({"model": pair.model.name, "output": str(pair.output), **result})
        print(f"{pair.output}: {pair.record.facts(result)}", file=sys.stderr, flush=True)
        if len(results) == len(pairs):
            publish({"task": "all", "results": results}, None)

    _measure(pairs, arguments, said)


def _measure(pairs: list[Pair], arguments: argparse.Namespace, said: Any) -> None:
    settings = from_flags(EvaluationSettings, arguments)
    measuring = Measuring(pairs, Options(settings, arguments.controls, arguments.accept_tokenizer))
    mesh = initialize(arguments.tensor_parallel, device=arguments.device, trains=False)
    tell_machine(arguments.machine, mesh)
    measuring.run(mesh, said)


def _models(arguments: argparse.Namespace) -> list[Model]:
    if not arguments.models:
        raise ConfigurationError(["--checkpoint: give one model or more, by --checkpoint or --hf"])
    found = named(arguments.models)
    tokenizers = arguments.tokenizer or [None]
    if len(tokenizers) not in (1, len(found)):
        raise ConfigurationError(
            [
                f"--tokenizer: give one for all models or one for each, in their order: {len(tokenizers)} for {len(found)}"
            ]
        )
    each = tokenizers * len(found) if len(tokenizers) == 1 else tokenizers
    return [Model(path, tokenizer, name) for (name, path), tokenizer in zip(found.items(), each, strict=True)]


def tasks_by_name(asked: list[str]) -> dict[str, tuple[ZeroShot, Path]]:
    """Records and data by the name of their results' files."""
    typed = [text.partition("=") for text in asked]
    if wrong := [text for text, (_, _, path) in zip(asked, typed, strict=True) if not path]:
        raise ConfigurationError([f"--tasks: {text!r} must be TASK=PATH" for text in wrong])
    count = Counter(name for name, _, _ in typed)
    found: dict[str, tuple[ZeroShot, Path]] = {}
    for name, _, path in typed:
        label = name if count[name] == 1 else f"{name}-{Path(path).name}"
        if label in found:
            raise UserError(f"--tasks: {name} is asked twice of files called {Path(path).name}")
        found[label] = (ZERO_SHOT[name], Path(path))
    return found


if __name__ == "__main__":
    sys.exit(run_on_ranks(build_parser, lambda arguments: arguments.run(arguments)))
