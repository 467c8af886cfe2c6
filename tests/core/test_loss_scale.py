"""Dynamic loss scaling: the scale itself, and fp16 training with overflows on one rank, with real processes."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distributed import run_distributed
from objectives import GPT2, RandomTask
from observing import signal_after

from core.config import TrainingConfig
from core.parallel.mesh import initialize
from core.training.errors import EndlessOverflow
from core.training.loss_scale import LossScale
from core.training.records import read_state
from core.training.schedule import WholeModel
from core.training.trainer import train

TRAINING = TrainingConfig(
    steps=8, global_batch=4, micro_batch=1, learning_rate=1e-2, warmup_steps=2, checkpoint_interval=3,
    precision="fp16", initial_loss_scale=1024.0, loss_scale_window=3,
)  # fmt: skip
DROPPING = replace(GPT2, dropout=0.1, attention_dropout=0.1)


def test_the_scale_halves_grows_after_the_window_and_never_falls_below_one():
    scale = LossScale(replace(TRAINING, initial_loss_scale=3.0))
    seen = []
    for overflowed in (False, False, True, False, False, False, True, True):
        scale.update(overflowed)
        seen.append(scale.value)
    assert seen == [3.0, 3.0, 1.5, 1.5, 1.5, 3.0, 1.5, 1.0]
    with pytest.raises(EndlessOverflow, match="3 times in a row, last at a loss scale of 1;"):
        scale.update(True)


def test_overflows_without_end_are_an_error_at_any_scale():
    scale = LossScale(replace(TRAINING, initial_loss_scale=2.0**100))
    for _ in range(40):
        scale.update(True)
    with pytest.raises(EndlessOverflow, match="41 times"):
        scale.update(True)


def test_a_reloaded_scale_goes_on_counting():
    scale = LossScale(TRAINING)
    scale.update(True)
    scale.update(False)
    scale.update(False)
    again = LossScale(TRAINING)
    again.load(json.loads(json.dumps(scale.state())))
    again.update(False)
    assert again.value == 1024.0


def _infinite(module, inputs, terms):
    for value in terms.values():
        value.register_hook(lambda gradient: gradient * math.inf)


def _train(output: Path, training=TRAINING, tensor=2, poisoned=(), die_at=0) -> None:
    """Train; on the last rank gradients overflow in the first try of the `poisoned` steps, or in each ("always")."""
    mesh = initialize(tensor)
    passes, tried = WholeModel.train, set()

    def poisoning(schedule, batches, totals, step, loss_scale):
        bad = poisoned == "always" or (step in poisoned and step not in tried)
        tried.add(step)
        if not (bad and mesh.rank == mesh.world_size - 1):
            return passes(schedule, batches, totals, step, loss_scale)
        hook = schedule.model.register_forward_hook(_infinite)
        sums = passes(schedule, batches, totals, step, loss_scale)
        hook.remove()
        return sums

    WholeModel.train = poisoning
    train(RandomTask(DROPPING, mesh), mesh, training, output, None, [signal_after(die_at)])


def _column(output: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_an_overflow_on_one_rank_skips_on_all_and_a_resumed_run_repeats_it_to_the_bit(tmp_path):
    clean, whole, killed = tmp_path / "clean", tmp_path / "whole", tmp_path / "killed"
    run_distributed(_train, 4, clean)
    run_distributed(_train, 4, whole, TRAINING, 2, (2,))
    assert _column(whole, "overflows") == [0, 0, 1, 0, 0, 0, 0, 0]
    assert _column(whole, "loss_scale") == [1024, 1024, 512, 512, 1024, 1024, 1024, 2048]
    assert _column(clean, "loss_scale") == [1024, 1024, 2048, 2048, 2048, 4096, 4096, 4096]
    # The skipped try left neither weights nor schedule changed: the losses and rates are those of a clean run.
    assert _column(whole, "learning_rate") == _column(clean, "learning_rate")
    np.testing.assert_allclose(_column(whole, "loss"), _column(clean, "loss"), rtol=1e-3)
    with pytest.raises(AssertionError, match="died"):
        run_distributed(_train, 4, killed, TRAINING, 2, (2,), 5)
    run_distributed(
        _train, 4, killed, TRAINING, 2, (2,)
    )  # where it died before its first checkpoint was there
    assert (whole / "metrics.jsonl").read_bytes() == (killed / "metrics.jsonl").read_bytes()
    weights = "model/model.safetensors"
    assert (whole / weights).read_bytes() == (killed / weights).read_bytes()


def test_a_run_finds_its_scale_from_the_usual_start(tmp_path):
    defaults = TrainingConfig(steps=3, global_batch=4, micro_batch=4, learning_rate=1e-3, precision="fp16")
    run_distributed(_train, 2, tmp_path / "fp16", defaults)
    run_distributed(_train, 2, tmp_path / "fp32", replace(defaults, precision="fp32"))
    assert 1 <= _column(tmp_path / "fp16", "overflows")[0] <= 20
    assert _column(tmp_path / "fp16", "loss_scale")[-1] < 2.0**32
    np.testing.assert_allclose(
        _column(tmp_path / "fp16", "loss"), _column(tmp_path / "fp32", "loss"), rtol=1e-3
    )


def test_gradients_that_overflow_at_any_scale_stop_the_run(tmp_path):
    training = replace(TRAINING, initial_loss_scale=4.0)
    with pytest.raises(AssertionError, match="overflowed fp16 3 times in a row, last at a loss scale of 1"):
        run_distributed(_train, 1, tmp_path, training, 1, "always")
    state = read_state(tmp_path)
    assert state["status"] == "failed" and "overflowed" in state["error"] and state["step"] == 0
