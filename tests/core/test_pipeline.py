"""Pipeline parallelism: the numbers of a plain single-process model on every layout, schedule and mode, by the trainer."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import RandomTask, descend, random_batch, whole
from reference import bert_loss, gpt2_loss
from staged import BATCH, CHUNKS, CONFIGS, RATE, SAMPLES, STEPS, Meshes, Mode, without_measuring
from torch import nn

import core.training.trainer as trainer
from core.config import ModelConfig
from core.parallel.mesh import Mesh, initialize
from core.training.trainer import RunOptions, train

DROPS = Mode(drops=True, recompute="full")
MODES = {  # by (pipeline, data, tensor)
    (2, 1, 1): [
        Mode(),
        Mode(schedule="gpipe", recompute="full"),
        Mode(micro_batch=3),  # 3, 3 and 2 samples
        replace(CHUNKS, model="bert", recompute="selective"),
        replace(CHUNKS, model="post-norm bert"),
        Mode(precision="bf16"),
        replace(CHUNKS, precision="fp16"),
        DROPS,
        replace(CHUNKS, model="bert", drops=True, recompute="selective"),
    ],
    (2, 2, 1): [
        Mode(zero=0),
        replace(CHUNKS, recompute="full"),
        Mode("bert", schedule="gpipe"),
        replace(CHUNKS, precision="bf16", zero=0),
    ],
    (2, 1, 2): [
        replace(CHUNKS, sequence_parallel=True, recompute="selective"),
        Mode("bert", sequence_parallel=True),
        DROPS,
    ],
    (4, 1, 1): [
        Mode(),
        Mode("bert", schedule="gpipe", recompute="full"),
        Mode("post-norm bert"),
    ],
}  # fmt: skip


class _RecordingSGD(torch.optim.SGD):
    """Keeps the whole gradients of every step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=RATE)
        self.model, self.seen = model, []

    def step(self, closure=None):
        self.seen.append({name: whole(p.grad) for name, p in self.model.named_parameters()})
        descend(self)


class _Task(RandomTask):
    """Random samples, and others of them to validate on."""

    def __init__(self, config: ModelConfig, mesh: Mesh, total_samples: int) -> None:
        super().__init__(config, mesh, total_samples)
        held_out = SimpleNamespace(total_samples=11, counts=self.counts)
        held_out.batch = lambda indices: self.batch(indices + 500)
        self.validation = held_out


def _sgd_steps(mode: Mode, mesh: Mesh, output: Path) -> dict:
    """What the trainer with plain SGD gives, as this rank sees it."""
    task = _Task(mode.config(), mesh, mode.samples)
    task.save = lambda directory: None
    optimizers = []
    build = trainer.build_optimizer
    trainer.build_optimizer = lambda model, config: optimizers.append(_RecordingSGD(model)) or optimizers[0]
    validations = {"validation_interval": STEPS, "validation_batches": 2} if mode.validates else {}
    training = replace(mode.training(), **validations)
    try:
        train(task, mesh, training, output, RunOptions(zero=mode.zero, pipeline_schedule=mode.schedule))
    finally:
        trainer.build_optimizer = build
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {
        "losses": [line["loss"] for line in lines if "loss" in line],
        "norms": [line["gradient_norm"] for line in lines if "loss" in line],
        "scales": [line.get("loss_scale") for line in lines if "loss" in line],
        "validation": [line["validation_loss"] for line in lines if "validation_loss" in line],
        "gradients": optimizers[0].seen,
        "weights": {name: whole(parameter) for name, parameter in task.model.named_parameters()},
    }


def _in_modes(stages: int, tensor: int, modes: list[Mode], output: Path) -> dict:
    meshes = Meshes()
    without_measuring()
    return {
        mode: _sgd_steps(
            mode, meshes[stages, tensor, mode.sequence_parallel, mode.chunks], output / str(number)
        )
        for number, mode in enumerate(modes)
    }


def _merged(of_ranks: list[dict], mode: Mode) -> dict:
    """What the ranks have together; where several have the same tensor, it must be the same."""
    first = {**of_ranks[0][mode]}
    first["gradients"], first["weights"] = [{} for _ in range(STEPS)], {}
    for theirs in (results[mode] for results in of_ranks):
        pairs = [
            *zip(first["gradients"], theirs["gradients"], strict=True),
            (first["weights"], theirs["weights"]),
        ]
        for together, own in pairs:
            for name, value in own.items():
                np.testing.assert_array_equal(together.setdefault(name, value), value, err_msg=name)
    return first


def _initial_weights() -> dict:
    mesh = initialize(1)
    return {
        name: {k: whole(p) for k, p in RandomTask(config, mesh).model.named_parameters()}
        for name, config in CONFIGS.items()
    }


def _reference(config: ModelConfig, initial: dict) -> dict:
    """The same steps by the plain model."""
    weights = {k: torch.from_numpy(v).clone().requires_grad_() for k, v in initial.items()}
    loss_of = gpt2_loss if config.family == "gpt2" else bert_loss
    result: dict = {"losses": [], "norms": [], "gradients": []}
    held_out = random_batch(config, np.arange(500, 511))
    result["validation"] = [loss_of(weights, config, held_out).item()]
    for step in range(STEPS):
        batch = random_batch(config, np.arange(step * BATCH, min((step + 1) * BATCH, SAMPLES)))
        loss = loss_of(weights, config, batch)
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        result["losses"].append(loss.item())
        result["norms"].append(float(sum(g.double().square().sum() for g in gradients)) ** 0.5)
        result["gradients"].append({k: g.numpy() for k, g in zip(weights, gradients, strict=True)})
        with torch.no_grad():
            for value, gradient in zip(weights.values(), gradients, strict=True):
                value -= RATE * gradient
    result["weights"] = {k: v.detach().numpy() for k, v in weights.items()}
    result["validation"].append(loss_of(weights, config, held_out).item())
    return result


@pytest.fixture(scope="module")
def expected() -> dict:
    initial = run_distributed(_initial_weights, 1)[0]
    return {name: _reference(config, initial[name]) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def without_stages(tmp_path_factory) -> dict:
    """With dropout or in fewer bits there is no plain model: the same modes on ranks without a pipeline, by (tensor, mode)."""
    found = {}
    for tensor in (1, 2):
        modes = {
            _plain(mode) for (_, data, t), modes in MODES.items() for mode in modes
            if t == tensor and data == 1 and (mode.drops or mode.precision != "fp32")
        }  # fmt: skip
        folder = tmp_path_factory.mktemp("whole")
        results = run_distributed(_in_modes, tensor, 1, tensor, sorted(modes, key=str), folder)[0]
        found |= {(tensor, mode): result for mode, result in results.items()}
    return found


def _plain(mode: Mode) -> Mode:
    return replace(mode, schedule="1f1b", chunks=1)


def _assert_close(actual: np.ndarray, wanted: np.ndarray, what: str, relative: float) -> None:
    error = np.linalg.norm(actual - wanted) / max(np.linalg.norm(wanted), 1e-3)
    assert error < relative, f"{what}: relative error {error:.1e}"


def _assert_same(result: dict, wanted: dict, what: str, relative: float = 1e-5) -> None:
    for name in ("losses", "norms", *(["validation"] if result["validation"] else [])):
        np.testing.assert_allclose(result[name], wanted[name], rtol=relative, err_msg=f"{what}: {name}")
    for step, gradients in enumerate(wanted["gradients"]):
        assert result["gradients"][step].keys() == gradients.keys()
        for name, gradient in gradients.items():
            place = f"{what}, step {step + 1}: gradient of {name}"
            _assert_close(result["gradients"][step][name], gradient, place, relative)
    for name, weight in wanted["weights"].items():
        _assert_close(result["weights"][name], weight, f"{what}: weight {name}", relative)


@pytest.mark.parametrize(("stages", "data", "tensor"), MODES)
def test_every_mode_agrees_with_a_model_without_stages(
    stages, data, tensor, expected, without_stages, tmp_path
):
    modes = MODES[stages, data, tensor]
    of_ranks = run_distributed(_in_modes, stages * data * tensor, stages, tensor, modes, tmp_path)
    for mode in modes:
        result, what = _merged(of_ranks, mode), f"{(stages, data, tensor)}, {mode}"
        assert len(result["validation"]) == 2 * mode.validates
        if mode.drops:
            _assert_same(result, without_stages[tensor, _plain(mode)], what)
        elif mode.precision == "fp32":
            _assert_same(result, expected[mode.model], what)
        elif data == 1:
            wanted = without_stages[tensor, _plain(mode)]
            _assert_same(result, wanted, what, 1e-2 if mode.precision == "bf16" else 2e-3)
            assert result["scales"] == wanted["scales"]
        else:
            np.testing.assert_allclose(result["losses"], expected[mode.model]["losses"], rtol=2e-2)
            assert result["losses"] != expected[mode.model]["losses"], "it did compute in 16 bits"
