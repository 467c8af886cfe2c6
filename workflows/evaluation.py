"""The stages that measure models: WikiText-103 perplexity, LAMBADA accuracy, RACE fine-tuning and accuracy."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import luigi

from core.files import read_json
from recipes.schema import FinetuningSettings
from workflows.fetching import benchmark_files, benchmark_inputs, benchmark_paths
from workflows.launch import failure, run_ranks
from workflows.stage import Pipeline, Stage
from workflows.tokenization import TrainTokenizer
from workflows.training import CORE_SOURCES, PretrainBERT, PretrainGPT2, RanksStage, TrainingStage

RESULT = "result.json"


class EvaluateZeroShot(RanksStage):
    """One zero-shot benchmark of one GPT-2, beside its controls."""

    selectors = ("model",)
    model = luigi.Parameter(default="", description="one GPT-2 of the recipe (default: all)")
    benchmark: ClassVar[str]

    def choices(self) -> list[dict[str, str]]:
        models = self.settings.models_of("gpt2") if self.benchmark in self.settings.benchmarks else []
        return [{"model": name} for name in models]

    def inputs(self) -> dict[str, Stage]:
        return {
            "model": self.clone(PretrainGPT2),
            "tokenizer": self.clone(TrainTokenizer, family="gpt2"),
            **benchmark_inputs(self, self.benchmark),
        }

    def parameters(self) -> dict[str, Any]:
        return {"batch_size": self.settings.evaluation.batch_size}

    def external_files(self) -> dict[str, Path]:
        return benchmark_files(self, self.benchmark)

    def options(self) -> list[str]:
        return []

    def work(self, directory: Path) -> Mapping[str, Any]:
        result, log = directory / RESULT, self.log(directory)
        inputs = self.inputs()
        arguments = [self.benchmark, "--checkpoint", str(inputs["model"].directory)]
        arguments += ["--tokenizer", str(inputs["tokenizer"].directory)]
        arguments += ["--data", str(benchmark_paths(self)[self.benchmark])]
        arguments += ["--batch-size", str(self.settings.evaluation.batch_size), "--controls"]
        arguments += ["--output", str(result), *self.options(), *self.ranks_arguments()]
        run_ranks("evaluate", arguments, ranks=self.settings.parallel.world_size, log=log)
        if not result.exists():
            raise failure(f"the evaluation ended without {RESULT}", log)
        return read_json(result)


class EvaluateWikiText103(EvaluateZeroShot):
    """Perplexity (paper section 5.2)."""

    stage = "wikitext103"
    benchmark = "wikitext103"
    sources = (
        "core/models",
        "core/parallel",
        "evaluate/wikitext103.py",
        "evaluate/scoring.py",
        "data_pipeline/benchmarks/wikitext103.py",
    )

    def label(self) -> str:
        return f"WikiText-103 of {self.model}"

    def parameters(self) -> dict[str, Any]:
        return dataclasses.asdict(self.settings.evaluation)

    def options(self) -> list[str]:
        return ["--stride", str(self.settings.evaluation.stride)]

    def facts(self, summary: Mapping[str, Any]) -> str:
        return f"perplexity {summary['perplexity']:.2f}"


class EvaluateLambada(EvaluateZeroShot):
    """Last-word accuracy (paper section 5.2)."""

    stage = "lambada"
    benchmark = "lambada"
    sources = (
        "core/models",
        "core/parallel",
        "evaluate/lambada.py",
        "evaluate/scoring.py",
        "data_pipeline/benchmarks/lambada.py",
    )

    def label(self) -> str:
        return f"LAMBADA of {self.model}"

    def facts(self, summary: Mapping[str, Any]) -> str:
        return f"accuracy {summary['accuracy']:.1%}"


class FinetuneRACE(TrainingStage):
    """Fine-tuning of one BERT on RACE with one seed, and its accuracy (paper section 5.3)."""

    stage = "race"
    sources = (*CORE_SOURCES, "finetune", "data_pipeline/benchmarks/race.py")
    selectors = ("model", "seed")
    model = luigi.Parameter(default="", description="one BERT of the recipe (default: all)")
    seed = luigi.Parameter(default="", description="one seed of the recipe (default: all)")

    def choices(self) -> list[dict[str, str]]:
        return [
            {"model": name, "seed": str(seed)}
            for name, model in self.settings.models.items()
            if model.race is not None
            for seed in model.race.seeds
        ]

    def label(self) -> str:
        seeds = f", seed {self.seed}" if len(self.race.seeds) > 1 else ""
        return f"fine-tune {self.model} on RACE{seeds}"

    @property
    def race(self) -> FinetuningSettings:
        settings = self.settings.models[self.model].race
        assert settings is not None  # `choices` has no other models
        return settings

    def artifact_name(self) -> str:
        return f"{self.model}-seed{self.seed}"

    def inputs(self) -> dict[str, Stage]:
        return {
            "model": self.clone(PretrainBERT),
            "tokenizer": self.clone(TrainTokenizer, family="bert"),
            **benchmark_inputs(self, "race"),
        }

    def parameters(self) -> dict[str, Any]:
        settings = dataclasses.asdict(self.race)
        del settings["seeds"], settings["micro_batch"]
        return {**settings, "seed": int(self.seed)}

    def external_files(self) -> dict[str, Path]:
        return benchmark_files(self, "race")

    def program(self, directory: Path) -> tuple[str, list[str]]:
        inputs, settings = self.inputs(), self.race
        arguments = ["race", "--checkpoint", str(inputs["model"].directory)]
        arguments += ["--tokenizer", str(inputs["tokenizer"].directory)]
        arguments += ["--data", str(benchmark_paths(self)["race"]), "--output", str(directory)]
        arguments += ["--epochs", str(settings.epochs), "--batch-size", str(settings.batch_size)]
        arguments += ["--micro-batch", str(settings.micro_batch)]
        arguments += ["--learning-rate", str(settings.learning_rate)]
        arguments += ["--warmup-fraction", str(settings.warmup_fraction), "--seed", self.seed, "--controls"]
        if settings.sequence_length:
            arguments += ["--sequence-length", str(settings.sequence_length)]
        return "finetune", arguments + self.ranks_arguments()

    def collect(self, directory: Path) -> Mapping[str, Any]:
        if not (directory / RESULT).exists():
            raise failure(f"the fine-tuning ended without {RESULT}", self.log(directory))
        return read_json(directory / RESULT)

    def facts(self, summary: Mapping[str, Any]) -> str:
        return f"accuracy {summary['accuracy']['all']:.1%}"


def evaluations(pipeline: Pipeline | Stage) -> list[Stage]:
    """All measurements that the recipe asks for."""
    settings = pipeline.settings
    tasks: list[Stage] = []
    if settings.models_of("gpt2"):
        if "wikitext103" in settings.benchmarks:
            tasks += pipeline.clone(EvaluateWikiText103).members()
        if "lambada" in settings.benchmarks:
            tasks += pipeline.clone(EvaluateLambada).members()
    if any(model.race is not None for model in settings.models.values()):
        tasks += pipeline.clone(FinetuneRACE).members()
    return tasks


class EvaluationPipeline(Pipeline):
    """Trained models to numbers."""

    def requires(self) -> list[luigi.Task]:
        return list(evaluations(self))
