"""The steps that measure models: zero-shot evaluations, and fine-tunings with their scores. One function each, for
every task that has a record."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.config import ParallelConfig
from core.families import FAMILIES
from core.files import read_json
from core.flags import to_flags
from data_pipeline.engine.steps import StageKind, Step, Summary, Workplace, log_of
from data_pipeline.step_inputs import BenchmarkFile
from recipes.records import FINE_TUNING, ZERO_SHOT, FineTuning, Task, ZeroShot
from recipes.schema import Recipe
from workflows.launch import failure
from workflows.layout import layout_here
from workflows.training import (
    LIBRARIES,
    module_of,
    network_code,
    plugin_parameters,
    program,
    trained,
)

EVALUATE, FINETUNE = "evaluate", "finetune"  # groups of stages
ENSEMBLE = "ensemble"
RESULT = "result.json"


def task_kind(
    record: Task, version: int, plugin: str, shared: Iterable[str], libraries: tuple[str, ...], group: str
) -> StageKind:
    """The stage of a task: its own code, that of the networks it takes, and what such tasks share."""
    networks = [
        code for name in FAMILIES if FAMILIES[name].causal == record.causal for code in network_code(name)
    ]
    own = () if plugin else (module_of(record.program),)
    code = (*own, *networks, *shared)
    return StageKind(record.name, version, code, (*libraries, *record.libraries), group=group)


def zero_shot_kind(record: ZeroShot) -> StageKind:
    plugin = ZERO_SHOT.plugin(record.name)
    return task_kind(record, 4, plugin, ("evaluate.measuring",), LIBRARIES, EVALUATE)


def fine_tuning_kind(record: FineTuning) -> StageKind:
    plugin = FINE_TUNING.plugin(record.name)
    return task_kind(record, 4, plugin, ("finetune.tuner",), (*LIBRARIES, "pyarrow"), FINETUNE)


def evaluate(
    recipe: Recipe, record: ZeroShot, model: str, trained_model: Step, tokenizer: Step, data: BenchmarkFile
) -> Step:
    """One zero-shot evaluation of one model, beside its controls."""
    kind, settings = zero_shot_kind(record), recipe.evaluation
    unused = {field.name for field in dataclasses.fields(settings)} - {*record.settings, "batch_size"}

    def arguments(directory: Path, place: Workplace) -> list[str]:
        line = [record.name, "--checkpoint", str(place.directory(trained_model))]
        line += ["--tokenizer", str(place.directory(tokenizer)), "--data", str(data.at(place))]
        line += ["--output", str(directory / RESULT), "--controls"]
        return line + to_flags(settings, leave_out=unused)

    config, asked = recipe.models[model].config, recipe.models[model].parallel
    layout = layout_here(recipe, asked, lambda found: config.layout_errors(found.tensor_parallel, model))
    run = program(kind, recipe, layout, "evaluate", arguments, asked)

    def work(directory: Path, place: Workplace) -> Summary:
        code = run(directory, place)
        if not (directory / RESULT).exists():
            raise failure(f"the evaluation ended without {RESULT}", log_of(kind, directory), code)
        return read_json(directory / RESULT)

    return Step(
        kind,
        model,
        work,
        label=f"{record.title} of {model}",
        parameters={
            **{name: getattr(settings, name) for name in record.settings},
            **plugin_parameters(ZERO_SHOT.plugin(record.name)),
        },
        inputs={"model": trained_model, "tokenizer": tokenizer, **data.inputs("benchmark")},
        files=data.files("benchmark"),
        selectors={"task": record.name, "model": model},
        facts=record.facts,
        layout=dataclasses.asdict(layout),
    )


def finetune(
    recipe: Recipe,
    record: FineTuning,
    model: str,
    seed: int,
    trained_model: Step,
    tokenizer: Step,
    data: BenchmarkFile,
) -> Step:
    """Fine-tuning of one model on a task with one seed, and its scores."""
    kind, settings = fine_tuning_kind(record), recipe.models[model].finetuning[record.name]

    def arguments(directory: Path, place: Workplace) -> list[str]:
        line = [record.name, "--checkpoint", str(place.directory(trained_model))]
        line += ["--tokenizer", str(place.directory(tokenizer)), "--data", str(data.at(place))]
        line += ["--output", str(directory), "--seed", str(seed), "--controls"]
        return line + to_flags(settings, leave_out=("seeds", "data_parallel"))

    def collect(directory: Path) -> Summary:
        if not (directory / RESULT).exists():
            raise failure(f"the fine-tuning ended without {RESULT}", log_of(kind, directory))
        return read_json(directory / RESULT)

    seeds = f", seed {seed}" if len(settings.seeds) > 1 else ""
    asked = settings.layout(recipe.models[model].parallel)
    config = recipe.models[model].config

    def errors(found: ParallelConfig) -> list[str]:
        return config.layout_errors(found.tensor_parallel, model) + settings.layout_errors(
            found.task_data_parallel, model
        )

    layout = layout_here(recipe, asked, errors)
    return Step(
        kind,
        f"{model}-seed{seed}",
        trained(kind, collect),
        label=f"fine-tune {model} on {record.title}{seeds}",
        parameters={
            **settings.significant(recipe.models[model].config.drops),
            "seed": seed,
            **plugin_parameters(FINE_TUNING.plugin(record.name)),
        },
        inputs={"model": trained_model, "tokenizer": tokenizer, **data.inputs("benchmark")},
        files=data.files("benchmark"),
        selectors={"task": record.name, "model": model, "seed": str(seed)},
        facts=record.facts,
        layout=dataclasses.asdict(layout),
        ranks=program(kind, recipe, layout, "finetune", arguments, asked),
    )


def ensemble_kind(record: FineTuning) -> StageKind:
    """The stage of ensembles of a task's seeds."""
    own = () if FINE_TUNING.plugin(record.name) else (module_of(record.program),)
    return StageKind(ENSEMBLE, 1, (*own, "finetune.predictions"), ("numpy", "pyarrow"))


def ensemble(record: FineTuning, model: str, seeds: Mapping[str, Step]) -> Step:
    """What all seeds of a model's fine-tuning say together: the mean of their probabilities (paper section 5.3)."""

    def work(directory: Path, place: Workplace) -> Summary:
        from finetune.predictions import write_ensemble

        outputs = [place.directory(step) for step in seeds.values()]
        return {**write_ensemble(record, outputs, directory), "seeds": sorted(map(int, seeds))}

    return Step(
        ensemble_kind(record),
        f"{model}-{record.name}",
        work,
        label=f"ensemble of {model} on {record.title}",
        parameters={"task": record.name, **plugin_parameters(FINE_TUNING.plugin(record.name))},
        inputs={f"seed {seed}": step for seed, step in seeds.items()},
        selectors={"task": record.name, "model": model},
        facts=record.facts,
        layout={"processes": 1},
    )
