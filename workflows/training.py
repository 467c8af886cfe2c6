"""The stages that train: pretraining of GPT-2 and BERT, and the base for any stage that torchrun's ranks write.

Rank 0 holds the artifact's lock while it writes, so that a training started by hand on the same directory is safe too;
the stage takes the lock before it starts, to look, and after, to finish.
"""

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from core.files import exclusive, read_json
from recipes.schema import Model
from workflows import console
from workflows.launch import failure, run_ranks
from workflows.stage import Pipeline, RunRecord, Stage
from workflows.tokenization import TokenizeCorpus, TrainTokenizer

CORE_SOURCES = (
    "core/config.py",
    "core/parallel",
    "core/models",
    "core/training/trainer.py",
    "core/training/batches.py",
    "core/training/data_parallel.py",
    "core/training/loss_scale.py",
    "core/training/optimizer.py",
    "core/model_directory.py",
)


class RanksStage(Stage):
    """A stage whose work is a program run by torchrun."""

    library_names = ("torch", "numpy")

    def layout(self) -> dict[str, int]:
        return dataclasses.asdict(self.settings.parallel)

    def processes(self) -> int:
        return self.settings.parallel.world_size

    def ranks_arguments(self) -> list[str]:
        return [
            "--tensor-parallel",
            str(self.settings.parallel.tensor_parallel),
            "--title",
            console.stage_title(self),
        ]

    def log(self, directory: Path) -> Path:
        return directory / "logs" / f"{self.stage}.log"


class TrainingStage(RanksStage):
    """A stage that trains a model with `core`'s trainer: resumes from checkpoints, leaves `state.json`."""

    def program(self, directory: Path) -> tuple[str, list[str]]:
        """(module, arguments) of the training program that writes `directory`."""
        raise NotImplementedError

    def collect(self, directory: Path) -> Mapping[str, Any]:
        """The summary of a finished training."""
        raise NotImplementedError

    def make(self) -> bool:
        with exclusive(self.directory, waiting=console.say):
            if self.artifact.is_complete():
                return False
            partial = self.artifact.start()
            record = RunRecord(partial, self.layout())
        module, arguments = self.program(partial)
        log = self.log(partial)
        run_ranks(module, arguments, ranks=self.settings.parallel.world_size, log=log)
        with exclusive(self.directory, waiting=console.say):
            if self.artifact.is_complete():
                return False
            self._check_state(partial, log)
            summary = self.collect(partial)
            shutil.rmtree(partial / "checkpoints", ignore_errors=True)
            self.artifact.finish(summary, record.finished())
        return True

    def _check_state(self, partial: Path, log: Path) -> None:
        path = partial / "state.json"
        state = read_json(path) if path.exists() else {"status": "failed before its first step", "step": 0}
        if state["status"] != "finished":
            reason = f": {state['error']}" if "error" in state else ""
            raise failure(f"training {state['status']} at step {state['step']}{reason}", log)


class Pretrain(TrainingStage):
    """Pretraining of one model of the recipe."""

    stage = "pretrain"
    version = 2
    selectors = ("model",)
    model = luigi.Parameter(default="", description="one model of the recipe (default: all of the family)")
    family: str

    def choices(self) -> list[dict[str, str]]:
        return [{"model": name} for name in self.settings.models_of(self.family)]

    def label(self) -> str:
        return f"pretrain {self.model}"

    @property
    def specification(self) -> Model:
        return self.settings.models[self.model]

    def inputs(self) -> dict[str, Stage]:
        return {
            "data": self.clone(TokenizeCorpus, family=self.family),
            "tokenizer": self.clone(TrainTokenizer, family=self.family),
        }

    def parameters(self) -> dict[str, Any]:
        shape = dataclasses.asdict(self.specification.config)
        del shape["vocabulary_size"]  # the tokenizer's
        return {"model": shape, "training": self.specification.training.significant()}

    def program(self, directory: Path) -> tuple[str, list[str]]:
        inputs = self.inputs()
        arguments = [self.family, "--recipe", str(self.settings.path), "--model", self.model]
        arguments += ["--data", str(inputs["data"].directory)]
        arguments += ["--tokenizer", str(inputs["tokenizer"].directory), "--output", str(directory)]
        arguments += ["--zero", str(self.settings.parallel.zero)]
        if self.settings.parallel.sequence_parallel:
            arguments.append("--sequence-parallel")
        return "pretrain", arguments + self.ranks_arguments()

    def collect(self, directory: Path) -> Mapping[str, Any]:
        return {
            "step": read_json(directory / "state.json")["step"],
            "loss": last_loss(directory),
            "parameters": count_parameters(directory / "model"),
        }

    def facts(self, summary: Mapping[str, Any]) -> str:
        loss = summary["loss"]
        return f"step {summary['step']}" + (f", loss {loss:.3f}" if loss is not None else "")


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The lines of a training's `metrics.jsonl`, in order."""
    path = directory / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def last_loss(directory: Path) -> float | None:
    """The training loss of the last step."""
    losses = [record["loss"] for record in read_metrics(directory) if "loss" in record]
    return losses[-1] if losses else None


def count_parameters(model: Path) -> int:
    """Numbers in a model directory, the embedding's padding rows included; from the headers of its safetensors."""
    total = 0
    for path in model.glob("*.safetensors"):
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        total += sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    return total


class PretrainGPT2(Pretrain):
    """GPT-2 (paper section 4)."""

    family = "gpt2"
    sources = (
        *CORE_SOURCES,
        "pretrain/gpt2.py",
        "data_pipeline/indexed/samples.py",
        "data_pipeline/indexed/blends.py",
        "data_pipeline/indexed/array_cache.py",
    )


class PretrainBERT(Pretrain):
    """BERT (paper section 4)."""

    family = "bert"
    sources = (*CORE_SOURCES, "pretrain/bert.py", "pretrain/masking.py", "data_pipeline/indexed/samples.py")


class PretrainingPipeline(Pipeline):
    """Raw text to trained models."""

    def requires(self) -> list[luigi.Task]:
        return [
            self.clone(task)
            for task, family in ((PretrainGPT2, "gpt2"), (PretrainBERT, "bert"))
            if self.settings.models_of(family)
        ]
