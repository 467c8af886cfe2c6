"""The steps that torchrun's ranks do: pretraining, and what every program on ranks shares.

Rank 0 holds the artifact's lock while it trains, so that a training started by hand on the same directory is safe too;
`make` takes the lock before, to look, and after, to finish.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.config import ParallelConfig
from core.errors import StoppedError, TransientError, UserError
from core.families import FAMILIES
from core.files import read_json
from core.flags import to_flags
from core.tensor_files import count_parameters
from data_pipeline.engine.hashes import ChangedFileError, hash_file
from data_pipeline.engine.run_record import MACHINE_FILE
from data_pipeline.engine.steps import StageKind, Step, Summary, Workplace, log_of
from recipes.overrides import SET, of_models
from recipes.records import PRETRAININGS
from recipes.schema import Recipe
from workflows.console import say
from workflows.devices import visible_devices
from workflows.launch import failure, run_ranks
from workflows.layout import described, layout_here

PRETRAIN = "pretrain"
LIBRARIES = ("torch", "numpy")
STATE = "state.json"  # of a training
_state_before: dict[
    Path, dict[str, Any] | None
] = {}  # the state of each training, when its last attempt began
_TRAINING_CODE = ("core.training.trainer", "core.model_directory")


def network_code(family: str) -> tuple[str, ...]:
    """The modules of a family of ours; a user's are in its plug-in, whose source is a parameter."""
    record = FAMILIES[family]
    if FAMILIES.plugin(family):
        return ()
    return (f"core.families.{family}", module_of(record.network))


def module_of(reference: str) -> str:
    """The module of "module:name"."""
    return reference.partition(":")[0]


def pretrain_kind(family: str) -> StageKind:
    """The stage of pretraining models of a family."""
    record = PRETRAININGS[family]
    own = () if PRETRAININGS.plugin(family) else (module_of(record.task),)
    return StageKind(PRETRAIN, 3, (*_TRAINING_CODE, *network_code(family), *own), LIBRARIES)


def plugin_parameters(*plugins: str) -> dict[str, Any]:
    """What a key says of the plug-ins that a step runs: nothing where it runs none."""
    used = sorted({plugin for plugin in plugins if plugin})
    return {"plugins": used} if used else {}


def pretrain(recipe: Recipe, name: str, data: Step, tokenizer: Step) -> Step:
    """Pretraining of one model of a recipe."""
    model = recipe.models[name]
    family = model.config.family
    shape = dataclasses.asdict(model.config)
    del shape["vocabulary_size"]  # the tokenizer's

    read = {file: hash_file(file) for file in recipe.files}

    def arguments(directory: Path, place: Workplace) -> list[str]:
        for file, digest in read.items():
            if hash_file(file) != digest:  # the ranks read it, too
                raise ChangedFileError(
                    f"{file}: was changed since this command began; the same command again takes it as it is now"
                )
        line = [family, *recipe_arguments(recipe, name)]
        line += ["--data", str(place.directory(data)), "--tokenizer", str(place.directory(tokenizer))]
        line += ["--output", str(directory)]
        return line + to_flags(layout, leave_out=("data_parallel", "tensor_parallel", "device"))

    def collect(directory: Path) -> Summary:
        return {
            "step": read_json(directory / STATE)["step"],
            "loss": last_loss(directory),
            "parameters": count_parameters(directory / "model"),
        }

    def facts(summary: Summary) -> str:
        loss = summary["loss"]
        return f"step {summary['step']}" + (f", loss {loss:.3f}" if loss is not None else "")

    layout = layout_here(recipe, model.parallel, model.layout_errors)
    kind = pretrain_kind(family)
    plugins = plugin_parameters(FAMILIES.plugin(family), PRETRAININGS.plugin(family))
    return Step(
        kind,
        name,
        trained(kind, collect),
        label=f"pretrain {name}",
        parameters={"model": shape, "training": model.training.significant(model.config.drops), **plugins},
        inputs={"data": data, "tokenizer": tokenizer},
        selectors={"model": name},
        facts=facts,
        layout=dataclasses.asdict(layout),
        ranks=program(kind, recipe, layout, "pretrain", arguments, model.parallel),
    )


def recipe_arguments(recipe: Recipe, model: str) -> list[str]:
    """What tells a program on ranks to take a model of a recipe."""
    overrides = of_models(recipe.overrides)
    return ["--recipe", str(recipe.path), "--model", model, *([SET, overrides] if overrides else [])]


def program(
    kind: StageKind,
    recipe: Recipe,
    layout: ParallelConfig,
    module: str,
    arguments: Callable[[Path, Workplace], list[str]],
    asked: ParallelConfig | None = None,
) -> Callable[[Path, Workplace], int]:
    """What runs one of our programs on the ranks of a layout, its output in the stage's log; returns its exit code.

    Args:
        asked: the recipe's layout, where that is another.
    """

    def run(directory: Path, place: Workplace) -> int:
        _state_before[directory] = _state(directory)
        if asked is not None and asked != layout:
            say(f"        {described(layout, asked, len(visible_devices()))}")
        line = [*arguments(directory, place), "--tensor-parallel", str(layout.tensor_parallel)]
        line += ["--device", layout.device]
        line += ["--title", place.title, "--machine", str(directory / MACHINE_FILE)]
        for plugin in recipe.plugins:
            line += ["--plugin", plugin]
        return run_ranks(
            module,
            line,
            ranks=layout.world_size,
            log=log_of(kind, directory),
            title=place.title,
            settings=recipe.launch,
            device=layout.device,
        )

    return run


def trained(
    kind: StageKind, collect: Callable[[Path], Summary]
) -> Callable[[Path, Workplace], Mapping[str, Any]]:
    """What a step does when its ranks have trained: look how they ended, and collect the summary."""

    def work(directory: Path, place: Workplace) -> Summary:
        state = _state(directory)
        if state is None or (state["status"] != "finished" and state == _state_before.get(directory)):
            state = {"status": "failed before its first step", "step": 0}
        if state["status"] != "finished":
            raise ended_early(state, log_of(kind, directory))
        summary = collect(directory)
        shutil.rmtree(directory / "checkpoints", ignore_errors=True)
        return summary

    return work


def _state(directory: Path) -> dict[str, Any] | None:
    """How a training stands; None before there is one."""
    path = directory / STATE
    return read_json(path) if path.exists() else None


def ended_early(state: Mapping[str, Any], log: Path) -> UserError:
    """The error of a training that is not finished, by its `state.json`: one that was stopped goes on as it is asked to,
    one that lost a rank may be begun again, and any other failed."""
    reason = f": {state['error']}" if "error" in state else ""
    how = (
        "broke off after" if state["status"] == "running" else f"{state['status']} at"
    )  # it said nothing more
    error = failure(f"training {how} step {state['step']}{reason}", log)
    if state["status"] == "stopped":
        return StoppedError(str(error))
    lost = state["status"] == "running" or state.get("lost")  # without a word, or a rank of it
    return TransientError(str(error)) if lost else error


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The lines of a training's `metrics.jsonl`, in order."""
    path = directory / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def last_loss(directory: Path) -> float | None:
    """The training loss of the last step."""
    losses = [record["loss"] for record in read_metrics(directory) if "loss" in record]
    return losses[-1] if losses else None
