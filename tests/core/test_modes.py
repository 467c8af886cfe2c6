"""Sequence parallelism, recomputation and the zero levels on every layout, with and without accumulation: the numbers
of a plain single-process model, by the trainer itself, and each mode's collectives."""

import json
import pickle
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from distributed import run_distributed
from gpu import needs_gpu, run_on
from objectives import BERT, GPT2, POST_NORM_BERT, RandomTask, descend, random_batch, whole
from reference import bert_loss, gpt2_loss
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.utils._python_dispatch import TorchDispatchMode

import core.training.data_parallel as data_parallel
import core.training.trainer as trainer
from core.config import ModelConfig, TrainingConfig
from core.errors import ConfigurationError
from core.model_directory import build_model
from core.parallel.mesh import Mesh, initialize
from core.training.schedule import WholeModel
from core.training.trainer import RunOptions, train

LAYOUTS = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 4)]  # (data, tensor)
CONFIGS = {"gpt2": GPT2, "bert": BERT, "post-norm bert": POST_NORM_BERT}
ODD = ModelConfig("gpt2", 1, 40, 5, 1, 131, vocabulary_multiple=1, dropout=0.0, attention_dropout=0.0)
ODD_CONFIGS = {
    "odd": ODD,
    "odd, split": replace(ODD, sequence_length=3, vocabulary_multiple=5),
    "odd bert": replace(ODD, family="bert", sequence_length=7),
    "odd post-norm bert": replace(
        POST_NORM_BERT, heads=1, hidden=40, sequence_length=1, vocabulary_multiple=1
    ),
}
SGD_RATE = 0.5
STEPS, BATCH = 2, 8
TRAINING = TrainingConfig(
    steps=STEPS, global_batch=BATCH, micro_batch=1, learning_rate=SGD_RATE, schedule="constant",
    clip_gradient_norm=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Mode:
    sequence_parallel: bool = False
    recompute: str = "none"
    zero: int = 1
    accumulation: int = 1


SPLIT = Mode(sequence_parallel=True)
MODES = {
    "gpt2": [
        Mode(),
        SPLIT,
        Mode(recompute="selective"),
        Mode(recompute="full"),
        Mode(zero=0),
        Mode(zero=2),
        Mode(zero=3),
        Mode(True, "full", zero=3),
    ],
    "bert": [SPLIT, replace(SPLIT, recompute="full")],
    "post-norm bert": [SPLIT],
}
ACCUMULATIONS = (1, 4)


def _modes(name: str, data: int) -> list[Mode]:
    """One data rank shards nothing, whatever the level."""
    modes = [mode for mode in MODES[name] if data > 1 or mode.zero == 1]
    return [replace(mode, accumulation=n) for mode in modes for n in ACCUMULATIONS]


class _RecordingSGD(torch.optim.SGD):
    """Keeps this rank's parts of the gradients of every step."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model.parameters(), lr=SGD_RATE)
        self.model, self.seen = model, []

    def step(self, closure=None):
        self.seen.append({name: _part(p.grad) for name, p in self.model.named_parameters()})
        descend(self)


def _part(value: DTensor) -> tuple[tuple[int, ...], tuple[int, ...], np.ndarray]:
    """The shape of the whole, and where in it this rank's part begins, and the part."""
    local = value.detach().to_local()
    shape, start = compute_local_shape_and_global_offset(value.shape, value.device_mesh, value.placements)
    assert tuple(shape) == tuple(local.shape) and not any(p.is_partial() for p in value.placements)
    return tuple(value.shape), tuple(start), local.cpu().numpy().copy()


def _gathered(own: list[dict], mesh: Mesh) -> list[dict[str, np.ndarray]] | None:
    """By step the whole gradients, on the main rank, from all ranks' parts: of all at once, where a collective for each
    would take longer than all that is tested. Collective."""
    ranks: list = [None] * mesh.world_size
    dist.gather_object(own, ranks if mesh.is_main else None, group=mesh.control_group)
    if not mesh.is_main:
        return None
    steps: list[dict[str, np.ndarray]] = [{} for _ in own]
    for parts in ranks:
        for gradients, step in zip(steps, parts, strict=True):
            for name, (shape, start, part) in step.items():
                gradient = gradients.setdefault(name, np.full(shape, np.nan, np.float32))
                there = gradient[tuple(slice(at, at + n) for at, n in zip(start, part.shape, strict=True))]
                assert np.isnan(there).all() or np.allclose(there, part, 1e-5, 1e-7), f"{name}: ranks differ"
                there[...] = part
    return steps


def _train(config: ModelConfig, training: TrainingConfig, mode: Mode, mesh: Mesh, output: Path, samples=1000):
    """Losses and gradients of the first steps, by the trainer with plain SGD."""
    task = RandomTask(config, mesh, samples)
    task.save = lambda directory: None
    optimizers = []

    def build_optimizer(model, config):
        optimizers.append(_RecordingSGD(model))
        return optimizers[0]

    trainer.build_optimizer = build_optimizer
    train(task, mesh, training, output, RunOptions(zero=mode.zero))
    gradients = _gathered(optimizers[0].seen, mesh)
    if not mesh.is_main:
        return None
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {"losses": [line["loss"] for line in lines], "gradients": gradients}


def train_in_modes(data: int, tensor: int, output: Path, **training_too: Any) -> dict:
    """Losses and gradients by model and mode, on the main rank."""
    results = {}
    meshes = {split: initialize(tensor, split) for split in (False, True)}
    for name, config in CONFIGS.items():
        for mode in _modes(name, data):
            training = replace(
                TRAINING, micro_batch=BATCH // data // mode.accumulation, recompute=mode.recompute, **training_too
            )  # fmt: skip
            folder = output / f"{name} {mode}"
            results[name, mode] = _train(config, training, mode, meshes[mode.sequence_parallel], folder)
    return results


def _initial_weights() -> dict:
    mesh = initialize(1)
    models = {**CONFIGS, **ODD_CONFIGS}
    return {
        name: {k: whole(p) for k, p in RandomTask(config, mesh).model.named_parameters()}
        for name, config in models.items()
    }


def _reference(config: ModelConfig, initial: dict, samples: int) -> dict:
    """Losses and gradients of the same steps by the plain model."""
    weights = {k: torch.from_numpy(v).clone().requires_grad_() for k, v in initial.items()}
    loss_of = gpt2_loss if config.family == "gpt2" else bert_loss
    result: dict = {"losses": [], "gradients": []}
    for step in range(STEPS):
        batch = random_batch(config, np.arange(step * BATCH, min((step + 1) * BATCH, samples)))
        loss = loss_of(weights, config, batch)
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        result["losses"].append(loss.item())
        result["gradients"].append({k: g.numpy() for k, g in zip(weights, gradients, strict=True)})
        with torch.no_grad():
            for value, gradient in zip(weights.values(), gradients, strict=True):
                value -= SGD_RATE * gradient
    return result


@pytest.fixture(scope="module")
def expected() -> dict:
    initial = run_distributed(_initial_weights, 1)[0]
    results = {name: _reference(config, initial[name], 1000) for name, config in CONFIGS.items()}
    odd = {name: _reference(config, initial[name], BATCH + 1) for name, config in ODD_CONFIGS.items()}
    return {**results, **odd}


def _assert_same(result: dict, wanted: dict, what: str) -> None:
    np.testing.assert_allclose(result["losses"], wanted["losses"], rtol=1e-5, err_msg=what)
    for step, gradients in enumerate(wanted["gradients"]):
        assert result["gradients"][step].keys() == gradients.keys()
        for name, gradient in gradients.items():
            error = np.linalg.norm(result["gradients"][step][name] - gradient)
            error /= max(np.linalg.norm(gradient), 1e-3)
            assert error < 1e-5, f"{what}, step {step + 1}: gradient of {name} is off by {error:.1e}"


def _assert_all_same(results: dict, data: int, expected: dict) -> None:
    assert len(results) == sum(len(_modes(name, data)) for name in CONFIGS)
    for (name, mode), result in results.items():
        _assert_same(result, expected[name], f"{name}, {mode}")


@pytest.mark.parametrize(("data", "tensor"), LAYOUTS)
def test_every_mode_agrees_with_a_plain_model(data, tensor, expected, tmp_path):
    _assert_all_same(
        run_distributed(train_in_modes, data * tensor, data, tensor, tmp_path)[0], data, expected
    )


@needs_gpu
@pytest.mark.parametrize("layers", ["eager", "compiled"])
def test_every_mode_agrees_with_a_plain_model_on_a_gpu(layers, expected, tmp_path):
    done = run_on("cuda", "modes_on_device.py", str(tmp_path), layers)
    assert done.returncode == 0, done.stderr
    device, backend, results = pickle.loads((tmp_path / "results").read_bytes())
    assert (device, backend) == ("cuda", "nccl")
    _assert_all_same(results, 1, expected)


def _train_odd(tensor: int, names: list[str], zero: int, output: Path) -> dict:
    """5 heads or 1, a vocabulary of 131, sequences of 1, 3 or 7, micro-batches of 1, and a last batch of 1."""
    mesh = initialize(tensor)
    return {
        name: _train(ODD_CONFIGS[name], TRAINING, Mode(zero=zero), mesh, output / name, BATCH + 1)
        for name in names
    }


@pytest.mark.parametrize(("data", "tensor", "zero"), [(1, 1, 1), (2, 1, 1), (2, 1, 3), (1, 5, 1)])
def test_odd_sizes_agree_with_a_plain_model(data, tensor, zero, expected, tmp_path):
    # Of two data ranks one has nothing left in the last batch; five tensor ranks take a head and 27 tokens each.
    names = [name for name, config in ODD_CONFIGS.items() if not config.layout_errors(tensor)]
    results = run_distributed(_train_odd, data * tensor, tensor, names, zero, tmp_path)[0]
    assert results.keys() == ({"odd, split"} if tensor == 5 else ODD_CONFIGS.keys())
    for name, result in results.items():
        _assert_same(result, expected[name], name)


COLLECTIVES = {
    "allreduce_": "all-reduce", "all_reduce": "all-reduce", "_allgather_base_": "all-gather",
    "_reduce_scatter_base_": "reduce-scatter",
}  # fmt: skip


class _CollectiveCounter(TorchDispatchMode):
    """Counts the collectives and the bytes of the whole tensors they move, whoever starts them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()
        self.bytes: Counter = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        namespace, name = function._schema.name.split("::")
        if namespace in ("c10d", "_c10d_functional") and name != "wait_tensor":
            kind = COLLECTIVES[name]  # no other may appear
            tensors = [t for a in arguments[:2] for t in (a if isinstance(a, list) else [a])]
            self.calls[kind] += 1
            self.bytes[kind] += max(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
        return function(*arguments, **(keywords or {}))


def _activation_collectives(
    sequence_parallel: bool, recompute: str, dropout: float
) -> tuple[Counter, Counter]:
    mesh = initialize(2, sequence_parallel)
    task = RandomTask(replace(GPT2, dropout=dropout), mesh)
    trainer.set_recompute(task.model.train(), recompute)
    with _CollectiveCounter() as counter:
        task.model(**task.batch(np.arange(2)))["language_model"].backward()
    return counter.calls, counter.bytes


def test_sequence_parallelism_turns_each_all_reduce_into_two_halves():
    # GPT-2 with L layers: forward g at the embedding, 2 f and 2 g a layer, f at the tied output; the same backward.
    calls, moved = run_distributed(_activation_collectives, 2, True, "none", 0.0)[0]
    layers, rows, activation = GPT2.layers, 2 * 16, 2 * 16 * 32 * 4
    halves = 2 * (2 * layers + 1)
    gathers = (
        halves + 2 * layers + 1
    )  # what each f gathered is gathered again for the gradients of its weights
    assert calls == {"all-gather": gathers, "reduce-scatter": halves, "all-reduce": 2}
    assert moved["all-gather"] == gathers * activation
    assert moved["reduce-scatter"] == halves * activation
    assert moved["all-reduce"] == 3 * rows * 4, "the loss: a maximum, then two sums for each token"


@pytest.mark.parametrize(
    ("recompute", "dropout", "a_layer"),
    [("none", 0.1, 4), ("selective", 0.1, 4), ("full", 0.1, 6), ("full", 0.0, 5)],
)
def test_collectives_of_recomputation(recompute, dropout, a_layer):
    # Without dropout nothing after the last g is needed again, and the recomputation stops before it.
    calls, moved = run_distributed(_activation_collectives, 2, False, recompute, dropout)[0]
    layers, rows, activation = GPT2.layers, 2 * 16, 2 * 16 * 32 * 4
    whole_activations = a_layer * layers + 2  # the embedding's g, the output's f
    assert calls == {"all-reduce": whole_activations + 2}
    assert moved["all-reduce"] == whole_activations * activation + 3 * rows * 4


def _data_collectives(zero: int, enough: list[int], output: Path) -> list[tuple[Counter, Counter, int]]:
    """Of the second step's passes, and the bytes of all weights in fp32, with layers in units of `enough` values."""
    return [_counted(zero, values, output / str(values)) for values in enough]


def _counted(zero: int, enough: int, output: Path) -> tuple[Counter, Counter, int]:
    mesh = initialize(1)
    task = RandomTask(GPT2, mesh)
    size = sum(parameter.numel() * 4 for parameter in task.model.parameters())
    passes, counters = WholeModel.train, []

    def counting(*arguments):
        with _CollectiveCounter() as counter:
            sums = passes(*arguments)
        counters.append(counter)
        return sums

    with (
        mock.patch.object(WholeModel, "train", counting),
        mock.patch.object(data_parallel, "_UNIT_VALUES", enough),
    ):
        train(task, mesh, replace(TRAINING, micro_batch=BATCH // 4), output, RunOptions(zero=zero))
    return counters[1].calls, counters[1].bytes, size


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_collectives_of_the_zero_levels(zero, tmp_path):
    layer = 12 * GPT2.hidden**2 + 13 * GPT2.hidden  # values
    sizes = {
        1: 2,
        layer: 2,
        layer + 1: 1,
        1 << 25: 1,
    }  # of what is enough for a unit, and the units of both layers
    results = run_distributed(_data_collectives, 2, zero, list(sizes), tmp_path)[0]
    layers, micro_batches = GPT2.layers, 2
    for (calls, moved, size), of_layers in zip(results, sizes.values(), strict=True):
        units = (layers if zero == 3 else of_layers) + 1
        if zero == 0:
            assert calls == {"all-reduce": units}
            assert moved == {"all-reduce": size}
            continue
        reductions = 1 if zero == 1 else micro_batches
        gathers = units if zero < 3 else micro_batches * (2 * layers + 1)
        assert calls == {"all-gather": gathers, "reduce-scatter": reductions * units}
        assert moved["reduce-scatter"] == reductions * size
        if zero < 3:
            assert moved["all-gather"] == size


def _too_odd() -> tuple[str, str]:
    mesh = initialize(2, True)
    with pytest.raises(ConfigurationError) as configured:
        build_model(replace(GPT2, sequence_length=15), mesh)
    with pytest.raises(ValueError, match="divide evenly") as given:
        build_model(GPT2, mesh)(torch.zeros(1, 7, dtype=torch.int64))
    return str(configured.value), str(given.value)


def test_sequences_that_cannot_be_split_are_refused():
    configured, given = run_distributed(_too_odd, 2)[0]
    assert "sequence_length 15 is not divisible by tensor_parallel 2" in configured
    assert "7 tokens" in given
