"""The trainer with real processes: resume to the bit, other layouts, damaged checkpoints, signals, short batches."""

import contextlib
import io
import json
import math
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import BERT, GPT2, RandomTask
from observing import AfterStep, signal_after

from core.config import TrainingConfig
from core.parallel.mesh import initialize
from core.training.checkpoint import damage
from core.training.optimizer import learning_rate
from core.training.records import read_state
from core.training.trainer import RunOptions, train

TRAINING = TrainingConfig(
    steps=6, global_batch=4, micro_batch=1, learning_rate=1e-2, warmup_steps=2, checkpoint_interval=3,
    validation_interval=4, validation_batches=1,
)  # fmt: skip
LONG = replace(TRAINING, steps=12, micro_batch=2, learning_rate=1e-3)
DROPPING = replace(GPT2, dropout=0.1, attention_dropout=0.1)


def _train(
    output: Path, tensor: int, training=TRAINING, model=DROPPING, die_at=0, samples=1000, zero=1
) -> str:
    """Train; with `die_at`, the process dies by SIGKILL when that many steps are done."""
    mesh = initialize(tensor)
    task = RandomTask(model, mesh, samples)
    task.validation = RandomTask(model, mesh, 8)
    return train(task, mesh, training, output, RunOptions(zero=zero), [signal_after(die_at)]).status


def _metrics(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def _losses(output: Path) -> list[float]:
    return [record["loss"] for record in _metrics(output) if "loss" in record]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_run_resumes_to_the_bit(tmp_path, precision):
    training = replace(TRAINING, precision=precision)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_distributed(_train, 4, whole, 2, training)
    with pytest.raises(AssertionError, match="died with exit code -9"):
        run_distributed(_train, 4, killed, 2, training, DROPPING, 5)
    assert read_state(killed)["status"] == "running"
    assert len(_losses(killed)) >= 4, "it was beyond its last checkpoint, at step 3"
    run_distributed(_train, 4, killed, 2, training)
    assert (whole / "metrics.jsonl").read_bytes() == (killed / "metrics.jsonl").read_bytes()
    assert (whole / "model/model.safetensors").read_bytes() == (
        killed / "model/model.safetensors"
    ).read_bytes()
    assert read_state(killed) == {"status": "finished", "step": 6}
    assert [r["step"] for r in _metrics(whole) if "validation_loss" in r] == [0, 4, 6]


def _stop(folder: Path) -> None:
    run_distributed(_train, 4, folder / "whole", 2, LONG, GPT2, 0, 1000, 2)
    with pytest.raises(AssertionError, match="died"):
        run_distributed(_train, 4, folder / "killed", 2, LONG, GPT2, 5, 1000, 2)


@pytest.fixture
def stopped(made_once) -> tuple[Path, list[float]]:
    """A (2,2) run with zero 2 killed after step 5 (checkpoints at 3 only), and the losses of an undisturbed one."""
    folder = made_once("trainer-stopped", _stop)
    return folder / "killed", _losses(folder / "whole")


def _copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


@pytest.mark.parametrize(("data", "tensor"), [(1, 1), (1, 2), (4, 1), (1, 4)])
def test_a_checkpoint_goes_on_in_another_layout_with_the_same_losses(tmp_path, stopped, data, tensor):
    killed, wanted = stopped
    output = _copy(killed, tmp_path / "run")
    run_distributed(_train, data * tensor, output, tensor, LONG, GPT2)
    assert len(_losses(output)) == 12, "9 of them after the checkpoint"
    np.testing.assert_allclose(_losses(output), wanted, rtol=1e-5)


def _train_and_listen(output: Path) -> str:
    with contextlib.redirect_stderr(io.StringIO()) as messages:
        _train(output, 1, LONG, GPT2)
    return messages.getvalue()


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, stopped):
    killed, wanted = stopped
    output = _copy(killed, tmp_path / "run")
    good = output / "checkpoints/step-00000003"
    bad = _copy(good, output / "checkpoints/step-00000004")
    (victim,) = [path for path in bad.glob("*.distcp") if path.name == "__0_0.distcp"]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert damage(good) is None
    (messages,) = run_distributed(_train_and_listen, 1, output)
    assert str(victim) in messages and "damaged" in messages and "resumes at step 3" in messages
    np.testing.assert_allclose(_losses(output), wanted, rtol=1e-4)


def test_a_checkpoint_of_another_run_is_refused(tmp_path, stopped):
    output = _copy(stopped[0], tmp_path / "run")
    with pytest.raises(AssertionError, match="another model or of other training settings"):
        run_distributed(_train, 1, output, 1, replace(LONG, learning_rate=5e-3), GPT2)
    assert read_state(output)["status"] in ("running", "failed")


def _train_on_other_data(output: Path) -> None:
    mesh = initialize(1)
    task = RandomTask(GPT2, mesh)
    task.validation = RandomTask(GPT2, mesh, 8)
    train(task, mesh, LONG, output, RunOptions(identity="another corpus"))


def test_a_checkpoint_of_other_data_is_refused(tmp_path, stopped):
    output = _copy(stopped[0], tmp_path / "run")
    with pytest.raises(AssertionError, match="another model or of other training settings"):
        run_distributed(_train_on_other_data, 1, output)


def _train_and_stop(output: Path) -> str:
    mesh = initialize(2)
    # A signal that reaches one rank stops all; between two steps, after the next one.
    observers = [signal_after(1, signal.SIGTERM)] if mesh.rank == 1 else []
    task = RandomTask(DROPPING, mesh)
    task.validation = RandomTask(DROPPING, mesh, 8)
    return train(task, mesh, TRAINING, output, observers=observers).status


def test_a_signal_saves_and_says_so(tmp_path):
    assert run_distributed(_train_and_stop, 2, tmp_path) == ["stopped", "stopped"]
    assert read_state(tmp_path) == {"status": "stopped", "step": 2, "reason": "SIGTERM"}
    assert not (tmp_path / "model").exists()
    assert damage(tmp_path / "checkpoints/step-00000002") is None
    assert run_distributed(_train, 2, tmp_path, 2) == ["finished", "finished"]
    assert [record["step"] for record in _metrics(tmp_path) if "loss" in record] == list(range(1, 7))


@pytest.mark.parametrize("model", [GPT2, BERT], ids=["gpt2", "bert"])
def test_accumulation_and_a_short_last_batch_give_the_same_losses_on_every_layout(tmp_path, model):
    # 13 samples in batches of 4: the last step has one sample, and data ranks without any.
    training = replace(TRAINING, steps=4, validation_interval=0)
    losses = []
    for number, (world, tensor, micro) in enumerate([(1, 1, 4), (1, 1, 1), (4, 2, 1), (4, 1, 2)]):
        output = tmp_path / str(number)
        run_distributed(_train, world, output, tensor, replace(training, micro_batch=micro), model, 0, 13)
        losses.append(_losses(output))
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-4)


def test_gradient_norm_and_clipping_do_not_depend_on_the_layout(tmp_path):
    norms = []
    training = replace(TRAINING, steps=2, clip_gradient_norm=0.05, validation_interval=0)
    for world, tensor in [(1, 1), (2, 2), (2, 1), (4, 2)]:
        output = tmp_path / f"{world}-{tensor}"
        run_distributed(_train, world, output, tensor, training, GPT2)
        norms.append([record["gradient_norm"] for record in _metrics(output)])
    assert norms[0][0] > 0.05
    for other in norms[1:]:
        np.testing.assert_allclose(other, norms[0], rtol=1e-3)
        np.testing.assert_allclose(other[0], norms[0][0], rtol=1e-5)


def _exploding(output: Path) -> None:
    mesh = initialize(1)
    task = RandomTask(GPT2, mesh)
    with torch.no_grad():
        task.network.position_embedding.weight.to_local().fill_(math.nan)
    train(task, mesh, replace(TRAINING, validation_interval=0), output)


def _nothing_held_out(output: Path) -> None:
    mesh = initialize(1)
    train(RandomTask(GPT2, mesh), mesh, TRAINING, output)


def test_a_validation_of_nothing_is_an_error_before_anything_starts(tmp_path):
    with pytest.raises(
        AssertionError, match="validation_interval: is 4, but nothing is held out to validate on"
    ):
        run_distributed(_nothing_held_out, 1, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    with pytest.raises(AssertionError, match="language_model loss is nan at step 1"):
        run_distributed(_exploding, 1, tmp_path)
    state = read_state(tmp_path)
    assert state["status"] == "failed" and "nan" in state["error"]


def test_learning_rate_schedules():
    cosine = replace(TRAINING, steps=110, warmup_steps=10, learning_rate=1.0, minimum_learning_rate=0.1)
    assert [learning_rate(cosine, step) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert learning_rate(cosine, 60) == pytest.approx(0.55)
    assert learning_rate(cosine, 110) == pytest.approx(0.1)
    linear = replace(cosine, schedule="linear", minimum_learning_rate=0.0)
    assert learning_rate(linear, 35) == pytest.approx(0.75)
    assert learning_rate(replace(cosine, schedule="constant"), 100) == 1.0


@pytest.mark.parametrize("model", [GPT2, DROPPING], ids=["no dropout", "dropout"])
def test_micro_batch_is_significant_where_it_changes_numbers(tmp_path, model):
    cuts = [replace(TRAINING, micro_batch=micro, steps=3, validation_interval=0) for micro in (1, 2)]
    for cut in cuts:
        run_distributed(_train, 1, tmp_path / str(cut.micro_batch), 1, cut, model)
    one, two = (_losses(tmp_path / str(cut.micro_batch)) for cut in cuts)
    same_key = cuts[0].significant(model.drops) == cuts[1].significant(model.drops)
    assert same_key == np.allclose(one, two, rtol=1e-5) == (not model.drops)


def _with_deterministic_operations(output: Path) -> list[bool]:
    mesh = initialize()
    seen = []
    for deterministic in (False, True):
        look = AfterStep(lambda done: seen.append(torch.are_deterministic_algorithms_enabled()))
        training = replace(TRAINING, deterministic=deterministic, validation_interval=0)
        train(RandomTask(DROPPING, mesh), mesh, training, output / str(deterministic), None, [look])
    return [*seen[:: TRAINING.steps], torch.are_deterministic_algorithms_enabled()]


def test_deterministic_operations_alone_are_used_and_change_nothing_on_a_processor(tmp_path):
    assert run_distributed(_with_deterministic_operations, 1, tmp_path) == [[False, True, False]]
    files = ("metrics.jsonl", "model/model.safetensors")
    assert all((tmp_path / "True" / f).read_bytes() == (tmp_path / "False" / f).read_bytes() for f in files)
    assert replace(TRAINING, deterministic=True).significant(True) == TRAINING.significant(True)
