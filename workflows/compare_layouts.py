"""`python -m workflows compare-layouts`: whether a model's own layouts compute the same.

Sums of floating-point numbers in another order differ in the last places; users of parallel layouts ask which
difference is normal. Here the first steps of a recipe's model run on each layout, and every layer's values for the
first sample and every whole gradient of the first step are laid beside the first layout's. A layer adds its own
rounding; a layer that does something else shows at once, and it is the first that does.
"""

import argparse
import dataclasses
import json
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from core.config import ModelConfig, ParallelConfig, TrainingConfig
from core.errors import ConfigurationError, UserError
from core.flags import by_flag, to_flags
from recipes.overrides import SET
from recipes.schema import Recipe
from workflows.arguments import add_recipe, add_runs
from workflows.launch import failure, run_ranks
from workflows.stage import Stage
from workflows.tasks import Pretrain
from workflows.training import recipe_arguments

# The largest relative difference that is rounding: some hundred times the spacing of the numbers that are computed with.
TOLERANCES = {"fp32": 1e-4, "tf32": 0.02, "bf16": 0.1, "fp16": 0.02}
_SMALLEST = 1e-6  # of the largest norm of its kind: what is smaller is compared with that
_SHOWN_LOSSES = 3
_LAYER, _GRADIENT = "layer ", "gradient "


DESCRIPTION = """Run the first steps of a recipe's model, dropout off, on each layout; print the losses and the largest relative
differences of layers and gradients to the first layout's, and whether they are rounding or from which layer on another
thing is computed. The corpus must be made. Ends with 1 where more than rounding differs."""
EPILOG = """example:
  python -m workflows compare-layouts --model gpt2-small --layouts 1,1,1 2,1,1
"""


@dataclass(frozen=True)
class Layout:
    """Sizes of the three kinds of parallelism."""

    pipeline: int
    data: int
    tensor: int

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """From "PIPELINE,DATA,TENSOR".

        Raises:
            ArgumentTypeError: the text says nothing of the kind.
        """
        if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*){2}", text):
            raise argparse.ArgumentTypeError(f"{text!r} is not PIPELINE,DATA,TENSOR, such as 1,2,1 or 2,1,2")
        return cls(*map(int, text.split(",")))

    @property
    def ranks(self) -> int:
        return self.pipeline * self.data * self.tensor

    def __str__(self) -> str:
        return f"{self.pipeline},{self.data},{self.tensor}"


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "compare-layouts",
        help="run a model's first steps on several layouts, and say whether what differs is rounding",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="a model of the recipe")
    parser.add_argument(
        "--layouts",
        nargs="+",
        type=Layout.parse,
        default=[Layout(1, 1, 1), Layout(1, 1, 2), Layout(1, 2, 1), Layout(2, 1, 1)],
        metavar="P,D,T",
        help="pipeline, data and tensor parallel sizes; the others are compared with the first (default: 1,1,1 1,1,2 "
        "1,2,1 2,1,1)",
    )
    parser.add_argument(
        "--steps", type=int, default=3, metavar="N", help="steps on each (default: %(default)s)"
    )
    parser.add_argument(
        "--micro-batch",
        type=int,
        default=0,
        metavar="N",
        help="instead of the recipe's: a pipeline needs as many micro-batches as stages",
    )
    add_recipe(parser)
    add_runs(parser)
    parser.set_defaults(function=_command)


def _command(given: argparse.Namespace) -> int:
    face: Any = Pretrain  # Luigi's parameters are keywords that no type checker knows
    stage = face(recipe=given.recipe, set=given.set, runs=given.runs, model=given.model)
    return 0 if compare_layouts(stage, given.model, given.layouts, given.steps, given.micro_batch) else 1


@dataclass(frozen=True)
class Record:
    """What a layout computed.

    Attributes:
        losses: of each step.
        layers: by number, the values of the first sample, [sequence, hidden].
        gradients: by parameter, whole.
    """

    losses: list[float]
    layers: dict[int, np.ndarray]
    gradients: dict[str, np.ndarray]

    @classmethod
    def read(cls, directory: Path) -> "Record":
        """What `pretrain.layout_record` wrote."""
        lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses = [record["loss"] for record in map(json.loads, lines) if "loss" in record]
        layers: dict[int, np.ndarray] = {}
        gradients: dict[str, np.ndarray] = {}
        for path in sorted(directory.glob("stage-*.safetensors")):
            with safe_open(path, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    if name.startswith(_LAYER):
                        layers[int(name.removeprefix(_LAYER))] = tensors.get_tensor(name)
                    else:
                        gradients[name.removeprefix(_GRADIENT)] = tensors.get_tensor(name)
        return cls(losses, dict(sorted(layers.items())), gradients)


@dataclass(frozen=True)
class Comparison:
    """One record beside another.

    Attributes:
        losses: the largest relative difference.
        layers, gradients: by layer or parameter, the relative difference.
        tolerance: up to where a difference is rounding.
    """

    losses: float
    layers: dict[int, float]
    gradients: dict[str, float]
    tolerance: float

    @classmethod
    def of(cls, record: Record, reference: Record, tolerance: float) -> "Comparison":
        pairs = zip(record.losses, reference.losses, strict=True)
        return cls(
            max(abs(one - other) / abs(other) for one, other in pairs),
            dict(_differences(record.layers, reference.layers)),
            dict(_differences(record.gradients, reference.gradients)),
            tolerance,
        )

    @property
    def verdict(self) -> str:
        """ "rounding", or the first layer that computes something else, or else the gradients that do."""
        for number, difference in self.layers.items():
            if not difference <= self.tolerance:
                return f"differs from layer {number} on, by {difference:.1e}"
        names = [name for name, difference in self.gradients.items() if not difference <= self.tolerance]
        if names:
            worst = max(names, key=lambda name: self.gradients[name])
            return f"{len(names)} gradients differ, most that of {worst}, by {self.gradients[worst]:.1e}"
        return "rounding"


def _differences(one: dict, other: dict) -> Iterator[tuple]:
    """By name, |one - other| / |other| of each tensor."""
    if one.keys() != other.keys():
        raise UserError(f"the layouts recorded other things: {sorted(one.keys() ^ other.keys())}")
    norms = {name: float(np.linalg.norm(values)) for name, values in other.items()}
    smallest = _SMALLEST * max(norms.values())
    for name, values in one.items():
        difference = float(np.linalg.norm(values.astype(np.float64) - other[name]))
        yield name, difference / max(norms[name], smallest)


def compare_layouts(
    stage: Stage, model: str, layouts: Sequence[Layout], steps: int, micro_batch: int = 0
) -> bool:
    """Run the first steps on each layout and print how far each is from the first.

    Args:
        stage: of the model's pretraining.
        micro_batch: instead of the recipe's; a pipeline needs as many micro-batches as stages.

    Returns:
        whether all differences are rounding.

    Raises:
        UserError: the model's corpus is not made yet, or a layout could not be run.
    """
    recipe, store = stage.settings, stage.store
    paths = {}
    for role in ("data", "tokenizer"):
        step = stage.step.inputs[role]
        if not store.is_complete(step):
            task = f"luigi --module workflows {type(stage.face_of(step)).__name__}"
            told = f"--recipe {stage.recipe} --runs {stage.runs}"
            told += f" {SET} {shlex.quote(stage.set)}" if stage.set else ""
            raise UserError(f"{step.label}: is not made yet; run {task} {told}")
        paths[role] = store.directory(step)
    shape, training = recipe.models[model].config, recipe.models[model].training
    training = dataclasses.replace(training, micro_batch=micro_batch or training.micro_batch)
    training = dataclasses.replace(training, steps=steps, warmup_steps=0)
    errors = [by_flag(error) for error in training.errors("")]
    parallel = recipe.models[model].parallel
    errors += [error for layout in layouts for error in _errors(shape, training, parallel, layout)]
    if errors:
        raise ConfigurationError(list(dict.fromkeys(errors)))
    tolerance = TOLERANCES[training.precision]
    print(
        f"{model}: {steps} steps in {training.precision}, dropout off; relative differences to {layouts[0]} (pipeline, "
        f"data, tensor), up to {tolerance:g} is rounding"
    )
    alike, reference = True, None
    with tempfile.TemporaryDirectory(prefix="compare-layouts-") as folder:
        for layout in layouts:
            directory = Path(folder) / str(layout)
            _run(
                recipe,
                model,
                layout,
                ["--steps", str(steps), "--micro-batch", str(training.micro_batch)],
                paths,
                directory,
            )
            record = Record.read(directory)
            losses = ", ".join(f"{loss:.7f}" for loss in record.losses[:_SHOWN_LOSSES])
            print(
                f"\n{layout}: losses {losses}{', …' if len(record.losses) > _SHOWN_LOSSES else ''}",
                flush=True,
            )
            if reference is None:
                reference = record
                continue
            comparison = Comparison.of(record, reference, tolerance)
            alike &= comparison.verdict == "rounding"
            _print(comparison)
    return alike


def _errors(
    shape: ModelConfig, training: TrainingConfig, parallel: ParallelConfig, layout: Layout
) -> list[str]:
    """Why the model cannot be trained so."""
    where = f"layout {layout}"
    chosen = _parallel(parallel, layout)
    problems = chosen.errors(where)
    problems += shape.layout_errors(layout.tensor, where, chosen.sequence_parallel, chosen.stages)
    return problems + training.layout_errors(
        layout.data, where, pipeline_parallel=layout.pipeline, pipeline_chunks=chosen.pipeline_chunks
    )


def _parallel(parallel: ParallelConfig, layout: Layout) -> ParallelConfig:
    """The recipe's settings on another layout; what only several stages have is left out for one."""
    return dataclasses.replace(
        parallel,
        pipeline_parallel=layout.pipeline,
        data_parallel=layout.data,
        tensor_parallel=layout.tensor,
        pipeline_chunks=parallel.pipeline_chunks if layout.pipeline > 1 else 1,
    )


def _run(
    recipe: Recipe,
    model: str,
    layout: Layout,
    told: Sequence[str],
    paths: Mapping[str, Path],
    directory: Path,
) -> None:
    log = directory / "log"
    line = [*recipe_arguments(recipe, model), *told, "--output", str(directory)]
    line += ["--data", str(paths["data"]), "--tokenizer", str(paths["tokenizer"])]
    line += to_flags(_parallel(recipe.models[model].parallel, layout), leave_out=("data_parallel",))
    for plugin in recipe.plugins:
        line += ["--plugin", plugin]
    if run_ranks("pretrain.layout_record", line, ranks=layout.ranks, log=log):
        raise failure(f"layout {layout} failed", log)


def _print(comparison: Comparison) -> None:
    print(f"  {comparison.verdict}")
    print(f"  losses     {comparison.losses:.1e} at most")
    for what, differences in (("layers", comparison.layers), ("gradients", comparison.gradients)):
        name, most = max(differences.items(), key=lambda item: item[1])
        print(f"  {what:10} {most:.1e} at most: {name}", flush=True)
