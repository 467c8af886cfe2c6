"""`compile = true`: the same losses as without, on every path through a compiled layer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._inductor.config
from distributed import run_distributed
from objectives import BERT, GPT2, RandomTask

from core.config import TrainingConfig
from core.parallel.mesh import initialize
from core.training.preparation import release_errors
from core.training.trainer import RunOptions, train

TRAINING = TrainingConfig(
    steps=3, global_batch=4, micro_batch=2, learning_rate=1e-3, schedule="constant", validation_interval=2,
    validation_batches=1,
)  # fmt: skip
# Before torch 2.13 compiled gradients are wrong with more tensor ranks, and the trainer refuses them.
TENSOR = 1 if release_errors(replace(TRAINING, compile=True), 2) else 2
DROPPING = replace(GPT2, attention_dropout=0.1)  # its masks are drawn outside of what is compiled


def _losses(output: Path, model, training: TrainingConfig, tensor: int, zero: int) -> list[float]:
    mesh = initialize(tensor)
    task = RandomTask(model, mesh)
    task.validation = RandomTask(model, mesh, 4)
    train(task, mesh, training, output, RunOptions(zero=zero))
    if not mesh.is_main:
        return []
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [record.get("loss", record.get("validation_loss")) for record in records]


def _compiled_and_eager(output: Path, cases: list) -> tuple[list, list, int, dict]:
    torch._dynamo.reset()
    torch._inductor.config.compile_threads = 1  # a pool of compilers would import torch for every rank
    results: list[list] = [[], []]
    for number, (model, settings, tensor, zero) in enumerate(cases):
        for side, compiled in enumerate((True, False)):
            training = replace(TRAINING, compile=compiled, **settings)
            results[side].append(_losses(output / f"{number}-{side}", model, training, tensor, zero))
    counters = torch._dynamo.utils.counters
    return results[0], results[1], counters["stats"]["unique_graphs"], dict(counters["graph_break"])


@pytest.mark.parametrize(
    ("world", "cases"),
    [
        (1, [(GPT2, {}, 1, 1), (BERT, {"recompute": "full"}, 1, 1)]),
        (2, [(DROPPING, {"recompute": "selective"}, TENSOR, 1), (GPT2, {}, 1, 3)]),
    ],
)
def test_compiled_layers_give_the_same_losses(world, cases, tmp_path):
    compiled, eager, graphs, breaks = run_distributed(_compiled_and_eager, world, tmp_path, cases)[0]
    assert graphs >= len(cases), "something was compiled"
    assert world > 1 or not breaks, (
        "a layer is one graph; but for what is drawn or kept apart, as in the other cases"
    )
    for one, other in zip(compiled, eager, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("release", "refused"), [("2.11.0+cu130", True), ("2.12.1", True), ("2.13.0+cpu", False)]
)
def test_what_a_release_of_torch_gets_wrong_is_refused(monkeypatch, release: str, refused: bool):
    monkeypatch.setattr(torch, "__version__", release)
    compiled = replace(TRAINING, compile=True)
    assert bool(release_errors(compiled, 2)) == refused
    assert not release_errors(compiled, 1)
    assert not release_errors(TRAINING, 2)
