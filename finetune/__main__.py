"""Command line: `python -m finetune race …`, alone or under torchrun. A killed run goes on when called again."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config import ModelConfig
from core.errors import UserError
from core.files import read_json, write_json
from core.model_directory import quick_fingerprint
from core.parallel.mesh import Mesh, initialize
from core.program.output import on_main, writing
from core.program.ranks import positive, publish, read_model_config, run_on_ranks
from core.program.run_options import add_run_options, run_options, timeout
from core.training.records import read_state
from core.training.trainer import RunOptions, train
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from finetune.race import Accuracy, FinetuningSettings, MultipleChoiceModel, RaceTask, accuracy
from finetune.race_data import OPTIONS, SPLITS, EncodedSplit, Split, encode_split, read_split

RESULT_FILE = "result.json"
DESCRIPTION = """\
Fine-tune a pretrained BERT on a task of the paper's section 5.4, then score it. Ends by printing one JSON object.

  torchrun --nproc-per-node 2 -m finetune race --checkpoint bert --tokenizer vocab.txt --data RACE/ --output race

The output holds model/, metrics.jsonl, state.json and result.json. The same command after an interruption goes on
from the last checkpoint; a finished one only prints its result."""


def build_parser() -> argparse.ArgumentParser:
    defaults = FinetuningSettings()
    parser = argparse.ArgumentParser(
        prog="python -m finetune",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = parser.add_subparsers(dest="task", required=True, metavar="race")
    race = tasks.add_parser(
        "race",
        help="four-option reading questions",
        description="Train on RACE's train set, then answer its dev and test sets.",
    )

    def add(name: str, help_text: str, **settings: Any) -> None:
        if settings.get("default") is not None:
            help_text += " (default: %(default)s)"
        race.add_argument(name, help=help_text, **settings)

    required: dict[str, Any] = {"type": Path, "required": True}
    add("--checkpoint", "a BERT model directory, or a training stage's output", metavar="DIR", **required)
    add("--tokenizer", "its tokenizer.json or vocab.txt", metavar="PATH", **required)
    add("--data", "folder with {train,dev,test}/{middle,high}/*.txt", metavar="DIR", **required)
    add("--output", "where model, metrics and result go", metavar="DIR", **required)
    add("--epochs", "passes over the training questions", type=positive, default=defaults.epochs)
    add("--batch-size", "questions a step", type=positive, default=defaults.batch_size)
    add(
        "--micro-batch",
        f"questions, of {OPTIONS} sequences each, in a forward pass of one data rank: bounds its memory",
        type=positive,
        default=defaults.micro_batch,
    )
    add("--learning-rate", "the highest rate", type=float, default=defaults.learning_rate)
    add("--warmup-fraction", "share of all steps", type=float, default=defaults.warmup_fraction)
    add("--seed", "of the new head, the order and dropout", type=int, default=defaults.seed)
    add("--sequence-length", "longest input in tokens; the model's by default", type=positive)
    add("--tensor-parallel", "processes that share one copy of the model", type=positive, default=1)
    add("--controls", "also answer the test set with the passages left out", action="store_true")
    add_run_options(race)
    add("--title", "before the progress bar", default="finetune race")
    return parser


def finetune(arguments: argparse.Namespace) -> None:
    """Train (or go on), score, and publish the result."""
    settings = _settings(arguments)
    tokenizer = load_tokenizer(arguments.tokenizer)
    config = read_model_config(arguments.checkpoint, tokenizer, arguments.tokenizer, causal=False)
    length = _sequence_length(arguments, config)
    mesh = initialize(arguments.tensor_parallel, timeout=timeout(arguments))
    with writing(arguments.output, mesh) as finished:
        if finished:
            return
        result_path = arguments.output / RESULT_FILE
        if not on_main(mesh, result_path.exists()):
            # All three before the first step: a damaged test set must not show after hours of training.
            splits = {name: read_split(arguments.data, name) for name in SPLITS}
            data = _Data(splits, tokenizer, length)
            if not _train(arguments, settings, data, mesh):
                return
            result = _score(arguments, settings, data, mesh)
            if mesh.is_main:
                write_json(result_path, result)
        if mesh.is_main:
            publish(read_json(result_path), None)


def _settings(arguments: argparse.Namespace) -> FinetuningSettings:
    if not 0.0 <= arguments.warmup_fraction <= 1.0:
        raise UserError(f"--warmup-fraction: must be from 0 to 1, is {arguments.warmup_fraction}")
    return FinetuningSettings(
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        micro_batch=arguments.micro_batch,
        learning_rate=arguments.learning_rate,
        warmup_fraction=arguments.warmup_fraction,
        seed=arguments.seed,
    )


def _sequence_length(arguments: argparse.Namespace, config: ModelConfig) -> int:
    length = arguments.sequence_length or config.sequence_length
    if length > config.sequence_length:
        raise UserError(
            f"--sequence-length {length}: the model reads {config.sequence_length} tokens at most"
        )
    return length


@dataclass(frozen=True)
class _Data:
    """The three splits, read and checked; each is encoded when it is asked for."""

    splits: dict[str, Split]
    tokenizer: Tokenizer
    sequence_length: int

    def encoded(self, name: str) -> EncodedSplit:
        return encode_split(self.splits[name], self.tokenizer, self.sequence_length)


def _train(arguments: argparse.Namespace, settings: FinetuningSettings, data: _Data, mesh: Mesh) -> bool:
    """Train to the end unless that is done; False when a signal stopped it."""
    if on_main(mesh, read_state(arguments.output).get("status") == "finished"):
        return True
    split = data.encoded("train")
    model = MultipleChoiceModel.from_pretrained(arguments.checkpoint, mesh, settings.seed)
    task = RaceTask(model, split, mesh, settings.epochs, settings.seed)
    config = settings.training_config(len(split))
    start = quick_fingerprint(arguments.checkpoint)
    identity = f"{start} {data.sequence_length} {data.tokenizer.fingerprint}"
    options = RunOptions(arguments.title, identity, **run_options(arguments))
    return train(task, mesh, config, arguments.output, options).status == "finished"


def _score(
    arguments: argparse.Namespace, settings: FinetuningSettings, data: _Data, mesh: Mesh
) -> dict[str, Any]:
    """The content of result.json, from the model directory that training wrote."""
    model = MultipleChoiceModel.from_finetuned(arguments.output / "model", mesh)
    test = data.encoded("test")

    def answer(split: EncodedSplit, what: str) -> Accuracy:
        return accuracy(model, split, mesh, settings.micro_batch, f"{arguments.title} ({what})")

    on_test = answer(test, "test")
    result: dict[str, Any] = {
        "task": "race",
        "accuracy": on_test.share,
        "correct": on_test.correct,
        "total": on_test.total,
        "dev_accuracy": answer(data.encoded("dev"), "dev").share,
        "chance": 1 / OPTIONS,
    }
    if arguments.controls:
        result["blank_passage_accuracy"] = answer(test.without_passages(), "no passages").share
    return result


if __name__ == "__main__":
    sys.exit(run_on_ranks(build_parser, finetune))
