"""What stages will take: minutes and bytes as earlier ones of their kind took, device-hours where none was measured.

What was measured is in the `run.json` and the manifests of finished artifacts. It is scaled by the amount of work: FLOPs
of a training (`core.training.flops`), those of a token times the epochs of what scores or fine-tunes a model, bytes of
what a stage of the pipeline reads; never to more than a hundred times what was measured. A pretraining, and a
fine-tuning on published data, that nothing was measured for is estimated by what the paper's devices sustained. Every
estimate says what it stands on.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from core.config import ModelConfig, ParallelConfig
from core.errors import UserError
from core.families import FAMILIES
from core.files import read_json
from core.training.flops import sequence_flops
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.engine.artifacts import RUN_RECORD
from data_pipeline.engine.inventory import Entry
from data_pipeline.engine.steps import Step
from recipes.records import FINE_TUNING
from recipes.schema import FinetuningSettings, Model, Recipe
from workflows.survey import Standing

_FARTHEST = 100.0  # how many times the measured amount of work is still estimated by it
_BYTES_A_PARAMETER = 4  # of a model directory
_RANKS = ("data_parallel", "tensor_parallel", "pipeline_parallel")

# The paper's V100s (section 5.1): 39 TFLOP/s, recomputed passes counted, of 1.2 billion parameters on one; and how much
# of it is left in its weak scaling, by the size of a model-parallel group, without and with data parallelism.
PAPER_DEVICE, PAPER_TFLOPS = "V100", 39.0
MODEL_PARALLEL_SCALING = {1: 1.0, 2: 0.95, 4: 0.82, 8: 0.77}
DATA_PARALLEL_SCALING = {1: 0.96, 2: 0.83, 4: 0.79, 8: 0.74}


@dataclass(frozen=True)
class Estimate:
    """What a stage that is to run will take; None of what nothing is known.

    Attributes:
        seconds: as measured, on its layout.
        bytes: of its artifact.
        device_seconds: of all devices together, of a training that nothing was measured for.
        devices: how many these are.
        device: what they are.
        basis: what it stands on.
    """

    seconds: float | None = None
    bytes: int | None = None
    device_seconds: float | None = None
    devices: int = 1
    device: str = "device"
    basis: str = ""


@dataclass(frozen=True)
class _Work:
    """How much work a stage is, comparable among stages of one kind; 0 where that is not known."""

    amount: float
    devices: int = 1
    parameters: float = 0.0  # of the model that it writes


def estimate(
    standings: Sequence[Standing], entries: Sequence[Entry], tflops: float = 0.0
) -> dict[str, Estimate]:
    """Estimates of the stages that are to run, by their task's id.

    Args:
        standings: of a recipe's stages, inputs first.
        entries: what is in its folder of artifacts.
        tflops: what a device sustains in training, where that is known; else the paper's.
    """
    history = _History(entries)
    sizes: dict[Step, float] = {}  # of artifacts, bytes
    found: dict[str, Estimate] = {}
    for standing in standings:
        step = standing.stage.step
        if not standing.runs:
            sizes[step] = history.output_bytes(standing.stage.artifact.key) if standing.directory else 0.0
            continue
        work = _work_of_step(standing.stage.settings, step, sizes)
        guess = history.estimate(step, work) or _by_the_paper(standing.stage.settings, step, work, tflops)
        left = _share_left(standing)
        guess = replace(
            guess, seconds=_times(guess.seconds, left), device_seconds=_times(guess.device_seconds, left)
        )
        sizes[step] = float(guess.bytes or 0)
        found[standing.stage.task_id] = guess
    return found


def _times(value: float | None, share: float) -> float | None:
    return None if value is None else value * share


def _share_left(standing: Standing) -> float:
    progress = standing.progress
    if standing.status != "partial" or progress is None or not progress.total:
        return 1.0
    return 1.0 - (progress.done if progress.kept is None else progress.kept) / progress.total


class _History:
    """What finished artifacts took."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._finished = [entry for entry in entries if entry.condition == "finished"]
        self._by_key = {entry.key: entry for entry in self._finished}

    def output_bytes(self, key: str) -> float:
        entry = self._by_key.get(key)
        return (
            0.0 if entry is None else float(sum(file["bytes"] for file in entry.manifest["outputs"].values()))
        )

    def estimate(self, step: Step, work: _Work) -> Estimate | None:
        """As the last one of its stage took, of its own name if there is one; None where none is comparable."""
        own = [entry for entry in self._finished if entry.stage == step.kind.name]
        timed = [(entry, took) for entry in own if (took := _seconds(entry)) is not None]
        timed.sort(
            key=lambda pair: (pair[0].manifest["name"] == step.name, _finished_at(pair[0])), reverse=True
        )
        for entry, took in timed:
            then = self._work_of_entry(entry)
            ratio = work.amount / then.amount if work.amount and then.amount else 1.0
            if ratio <= _FARTHEST:
                size = self.output_bytes(entry.key)
                if not work.parameters:
                    size *= ratio
                elif _holds_a_model(entry) and then.parameters:
                    size *= work.parameters / then.parameters
                return Estimate(
                    took * ratio * then.devices / work.devices,
                    round(size),
                    basis=f"as {entry.stage}/{entry.path.name} took"
                    + (f", times {ratio:.3g} for the amount of work" if abs(ratio - 1) >= 0.005 else ""),
                )
        return None

    def _work_of_entry(self, entry: Entry) -> _Work:
        parameters = entry.manifest["parameters"]
        layout = _last_segment(entry).get("layout", {})
        devices = math.prod(layout.get(name, 1) for name in _RANKS)
        own, used = _shape(parameters, entry), self._by_key.get(entry.inputs.get("model", ""))
        if own is not None:
            return _Work(_training_flops(own, parameters["training"]), devices, _parameters(own))
        if used is not None and (shape := _shape(used.manifest["parameters"], used)) is not None:
            return _Work(_use_flops(shape, parameters), devices, _parameters(shape))
        return _Work(sum(map(self.output_bytes, entry.inputs.values())))


def _work_of_step(recipe: Recipe, step: Step, sizes: Mapping[Step, float]) -> _Work:
    model = recipe.models.get(step.selectors.get("model", ""))
    if model is None or step.layout is None or "data_parallel" not in step.layout:
        return _Work(sum(sizes.get(used, 0.0) for used in step.inputs.values()))
    shape = _shape_in(recipe, model)
    devices = math.prod(step.layout.get(name, 1) for name in _RANKS)
    if "training" in step.parameters:
        return _Work(_training_flops(shape, step.parameters["training"]), devices, _parameters(shape))
    return _Work(_use_flops(shape, step.parameters), devices, _parameters(shape))


def _shape_in(recipe: Recipe, model: Model) -> ModelConfig:
    """A model's shape with the vocabulary that it will have, as far as it is known: a given tokenizer's is taken for
    the one that was published."""
    settings = recipe.tokenizers.get(model.config.family)
    published = FAMILIES[model.config.family].vocabulary_size
    known = (
        published if settings is not None and settings.path and published else model.config.vocabulary_size
    )
    return ModelConfig(**{**_fields(model.config), "vocabulary_size": known})


def _shape(parameters: Mapping[str, Any], entry: Entry) -> ModelConfig | None:
    """The shape of a model that was pretrained, by its manifest and what it was asked with."""
    if "model" not in parameters or "training" not in parameters:
        return None
    asked: Mapping[str, Any] = {}
    with contextlib.suppress(UserError):
        asked = read_json(entry.path / "asked.json")["model"]
    with contextlib.suppress(TypeError):
        return ModelConfig(**{"vocabulary_size": 1, **parameters["model"], **asked})
    return None


def _fields(config: ModelConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}


def _training_flops(shape: ModelConfig, training: Mapping[str, Any], recompute: str = "none") -> float:
    from pretrain.masking import predictions_limit

    length = shape.sequence_length
    predicted = length if FAMILIES[shape.family].causal else predictions_limit(length)
    one = sequence_flops(shape, length, predicted, recompute)
    return float(training["steps"] * training["global_batch"] * one.hardware)


def _use_flops(shape: ModelConfig, parameters: Mapping[str, Any]) -> float:
    """Of a token in a forward pass, times the epochs of a fine-tuning: the data is the same."""
    length = shape.sequence_length
    return sequence_flops(shape, length, 0).model / length * float(parameters.get("epochs", 1))


def _parameters(shape: ModelConfig) -> float:
    """Without what is beside the layers and the embeddings."""
    hidden = shape.hidden
    layers = shape.layers * (12 * hidden**2 + 13 * hidden)
    return float(layers + (shape.padded_vocabulary_size + shape.sequence_length + 2) * hidden)


def _holds_a_model(entry: Entry) -> bool:
    return any(name.startswith("model/") for name in entry.manifest["outputs"])


def _seconds(entry: Entry) -> float | None:
    """What it took, all attempts together as far as they are told."""
    with contextlib.suppress(UserError, KeyError, TypeError):
        record = read_json(entry.path / RUN_RECORD)
        told = [segment["seconds"] for segment in record["segments"] if "seconds" in segment]
        return float(sum(told) if told else record["seconds"])
    return None


def _last_segment(entry: Entry) -> Mapping[str, Any]:
    with contextlib.suppress(UserError, KeyError, TypeError, IndexError):
        last: Mapping[str, Any] = read_json(entry.path / RUN_RECORD)["segments"][-1]
        return last
    return {}


def _finished_at(entry: Entry) -> str:
    return str(_last_segment(entry).get("started", ""))


def _by_the_paper(recipe: Recipe, step: Step, work: _Work, tflops: float) -> Estimate:
    """A pretraining or a fine-tuning by its FLOPs, on the recipe's layout, whatever this machine has; of other stages
    nothing is known."""
    model = recipe.models.get(step.selectors.get("model", ""))
    if model is None:
        return Estimate()
    shape, layout, examples = _shape_in(recipe, model), model.parallel, ""
    if "training" in step.parameters:
        flops = _training_flops(shape, step.parameters["training"], model.training.recompute)
    elif "seed" in step.selectors:
        settings = model.finetuning[step.selectors["task"]]
        layout = settings.layout(layout)
        flops = _finetuning_flops(shape, settings, _published_sequences(recipe, step.selectors["task"]))
        examples = "of the published training examples at full length, "
    else:
        return Estimate()
    if not flops:
        return Estimate()
    device = "device" if tflops else PAPER_DEVICE
    given = (tflops, f"{tflops:g} TFLOP/s a device, as given")
    sustained, basis = given if tflops else _sustained(layout)
    seconds = flops / (sustained * 1e12)
    size = round(_BYTES_A_PARAMETER * work.parameters) or None
    return Estimate(None, size, seconds, layout.world_size, device, f"FLOPs {examples}at {basis}")


def _published_sequences(recipe: Recipe, task: str) -> int:
    """What a model reads of a fine-tuning's training examples, where the recipe takes the published ones; 0 where it
    does not."""
    record = FINE_TUNING[task]
    origin, given = BENCHMARKS[record.benchmark].origin, recipe.benchmarks.get(record.benchmark)
    if origin is None or given is None or given.source != "huggingface":
        return 0
    parts = [counts for part, counts in origin.counts.items() if part.partition("/")[0] == "train"]
    return record.choices * sum(max(counts.values()) for counts in parts)


def _finetuning_flops(shape: ModelConfig, settings: FinetuningSettings, sequences: int) -> float:
    """Of sequences as long as they may be, which most are not."""
    length = settings.sequence_length or shape.sequence_length
    predicted = length if FAMILIES[shape.family].causal else 0
    one = sequence_flops(shape, length, predicted)
    return float(sequences * settings.epochs * one.hardware)


def _sustained(layout: ParallelConfig) -> tuple[float, str]:
    """TFLOP/s of one of the paper's devices on a layout, and how that is said."""
    group, copies = layout.tensor_parallel * layout.pipeline_parallel, layout.data_parallel
    scaling = DATA_PARALLEL_SCALING if copies > 1 else MODEL_PARALLEL_SCALING
    share = scaling[max(size for size in scaling if size <= group)]
    how = f"{group}-way model parallel" + (" with data parallelism" if copies > 1 else "")
    return PAPER_TFLOPS * share, (
        f"the paper's {PAPER_TFLOPS:g} TFLOP/s a {PAPER_DEVICE} × {share:.0%} (its weak scaling, {how})"
    )
