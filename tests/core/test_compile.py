"""`compile = true`: the same losses as without, on every path through a compiled layer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
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
DROPPING = replace(GPT2, dropout=0.2, attention_dropout=0.3)


def _losses(output: Path, model, training: TrainingConfig, tensor: int, zero: int) -> list[float]:
    mesh = initialize(tensor)
    task = RandomTask(model, mesh)
    task.validation = RandomTask(model, mesh, 4)
    train(task, mesh, training, output, RunOptions(zero=zero))
    if not mesh.is_main:
        return []
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [record.get("loss", record.get("validation_loss")) for record in records]


def _compiled_and_eager(output: Path, cases: list) -> list[tuple[list, list, int, dict]]:
    """Of each case the losses on both sides, and how many graphs there were and what broke them."""
    from torch._inductor import config  # here: to import it takes a second

    config.compile_threads = 1  # a pool of compilers would import torch for every rank
    config.cpp.vec_isa_ok = True  # to try what a processor says it can takes ten seconds
    return [_both_sides(output / str(number), *case) for number, case in enumerate(cases)]


def _both_sides(output: Path, model, settings: dict, tensor: int, zero: int) -> tuple[list, list, int, dict]:
    from torch._inductor import config

    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    sides = []
    with config.patch(fallback_random=True):  # compiled code draws what others do
        for compiled in (True, False):
            training = replace(TRAINING, compile=compiled, **settings)
            sides.append(_losses(output / str(compiled), model, training, tensor, zero))
    return sides[0], sides[1], counters["stats"]["unique_graphs"], dict(counters["graph_break"])


KEPT_APART = {"recompute": "selective"}  # the core of attention, which a compiler does not see


@pytest.mark.parametrize(
    ("world", "cases"),
    [
        (1, [(GPT2, {}, 1, 1), (BERT, {"recompute": "full"}, 1, 1)]),
        (2, [(DROPPING, KEPT_APART, TENSOR, 1), (GPT2, {}, 1, 3), (DROPPING, {}, TENSOR, 1)]),
    ],
)
def test_compiled_layers_give_the_same_losses(world, cases, tmp_path):
    results = run_distributed(_compiled_and_eager, world, tmp_path, cases)[0]
    for case, (compiled, eager, graphs, breaks) in zip(cases, results, strict=True):
        assert graphs > 0, "something was compiled"
        assert bool(breaks) == (case[1] == KEPT_APART), f"{case}: a layer is one graph"
        np.testing.assert_allclose(compiled, eager, rtol=1e-5)


@pytest.mark.parametrize(
    ("release", "refused"), [("2.11.0+cu130", True), ("2.12.1", True), ("2.13.0+cpu", False)]
)
def test_what_a_release_of_torch_gets_wrong_is_refused(monkeypatch, release: str, refused: bool):
    monkeypatch.setattr(torch, "__version__", release)
    compiled = replace(TRAINING, compile=True)
    assert bool(release_errors(compiled, 2)) == refused
    assert not release_errors(compiled, 1)
    assert not release_errors(TRAINING, 2)
