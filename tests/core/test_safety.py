"""What stops a run before it costs: ranks that disagree, a rank that hangs, no memory, the time limit, no numbers."""

import datetime
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distributed import run_distributed
from objectives import GPT2, RandomTask
from observing import AfterStep

from core.config import TrainingConfig
from core.errors import UserError
from core.parallel.mesh import initialize
from core.training.errors import LostRank, OutOfMemory
from core.training.records import read_state
from core.training.safety import check_same_weights, explained_failures
from core.training.trainer import RunOptions, train

TRAINING = TrainingConfig(
    steps=4, global_batch=4, micro_batch=1, learning_rate=1e-3, checkpoint_interval=2
)  # fmt: skip


def _message(function, *arguments) -> str:
    """What a failing call says, so that every rank returns it."""
    try:
        function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _train_with_other_settings(output: Path) -> str:
    mesh = initialize(2)
    rate = 2e-3 if mesh.rank == 2 else 1e-3
    return _message(train, RandomTask(GPT2, mesh), mesh, replace(TRAINING, learning_rate=rate), output)


def test_a_rank_with_other_settings_is_named_before_the_first_step(tmp_path):
    for message in run_distributed(_train_with_other_settings, 4, tmp_path):
        assert message.startswith("RanksDisagree")
        assert "rank 2 has learning_rate 0.002, rank 0 has 0.001" in message
    assert read_state(tmp_path)["status"] == "failed"


def _other_layout() -> str:
    return _message(initialize, 2 if torch.distributed.get_rank() else 1)


def test_a_rank_with_another_layout_is_named():
    for message in run_distributed(_other_layout, 2):
        assert "rank 1 was started with (tensor_parallel, sequence_parallel) = (2, False), rank 0" in message


def _spoil(parameter: torch.Tensor) -> None:
    """The smallest change there is, of one number."""
    values = parameter.detach().to_local().view(torch.int32).flatten()
    values[-1] ^= 1


def _train_with_other_weights(output: Path) -> str:
    mesh = initialize(2)
    task = RandomTask(GPT2, mesh)
    if mesh.rank == 3:  # data rank 1, tensor rank 1
        _spoil(task.network.position_embedding.weight)  # which all ranks hold
        _spoil(task.network.token_embedding.weight)  # of which rank 1 holds the same part
    return _message(train, task, mesh, TRAINING, output)


def test_one_flipped_bit_of_one_rank_is_found_before_the_first_step(tmp_path):
    for message in run_distributed(_train_with_other_weights, 4, tmp_path):
        assert message.startswith("RanksDisagree") and "before the first step" in message
        assert "network.position_embedding.weight on rank 3 is not rank 0's" in message
        assert "network.token_embedding.weight on rank 3 is not rank 1's" in message


def _train_with_a_fault(output: Path, zero: int, precision: str) -> str:
    """A replicated weight of rank 1 changes after the first step."""
    mesh = initialize(2)
    task = RandomTask(GPT2, mesh)

    def fail(done: int) -> None:
        if done == 1 and mesh.rank == 1:
            _spoil(task.network.position_embedding.weight)

    training = replace(TRAINING, precision=precision)
    return _message(train, task, mesh, training, output, RunOptions(zero=zero), [AfterStep(fail)])


@pytest.mark.parametrize(("world", "zero", "precision"), [(2, 1, "fp32"), (4, 0, "fp32"), (4, 3, "bf16")])
def test_copies_that_part_are_found_before_they_are_saved(world, zero, precision, tmp_path):
    for message in run_distributed(_train_with_a_fault, world, tmp_path, zero, precision):
        assert message.startswith("RanksDisagree") and "position_embedding.weight on rank 1 is" in message
        assert "after step 2" in message
    assert not list((tmp_path / "checkpoints").glob("step-*"))


def _agree() -> None:
    for tensor in (1, 2, 4):
        mesh = initialize(tensor)
        check_same_weights(RandomTask(GPT2, mesh).model, mesh, "now")


def test_ranks_that_agree_pass():
    run_distributed(_agree, 4)


def _train_with_a_rank_that_hangs(output: Path, hanging: int) -> str:
    mesh = initialize(2, timeout=datetime.timedelta(seconds=4))
    hang = AfterStep(lambda done: mesh.rank == hanging and time.sleep(15))
    return _message(train, RandomTask(GPT2, mesh), mesh, TRAINING, output, None, [hang])


@pytest.mark.parametrize("hanging", [0, 2])
def test_a_rank_that_hangs_is_named_by_the_others(hanging, tmp_path):
    messages = run_distributed(_train_with_a_rank_that_hangs, 4, tmp_path, hanging)
    assert all(message.startswith("LostRank") for message in messages)
    if hanging:
        assert f"Ranks {hanging} failed" in messages[0], "rank 0 hears of all"
        assert f"Ranks {hanging} failed" in read_state(tmp_path)["error"]
    else:
        assert all("from rank 0" in message for message in messages[1:])


def _too_large() -> None:
    with explained_failures(initialize()):
        torch.empty(1 << 50)


def _other_error() -> None:
    with explained_failures(initialize()):
        raise RuntimeError("shapes do not match")


def test_without_memory_the_message_says_what_needs_less():
    (message,) = run_distributed(_call, 1, _too_large)
    assert message.startswith("OutOfMemory: rank 0 ran out of memory") and "smaller micro_batch" in message
    assert issubclass(OutOfMemory, UserError) and issubclass(LostRank, UserError)


def test_other_errors_stay_what_they_are():
    assert run_distributed(_call, 1, _other_error) == ["RuntimeError: shapes do not match"]


def _call(function) -> str:
    return _message(function)


class _Greedy(RandomTask):
    """Needs more memory than there is as soon as a batch is as large as in training."""

    def batch(self, indices):
        torch.empty(1 << 50)


def _train_greedily(output: Path) -> str:
    mesh = initialize()
    return _message(train, _Greedy(GPT2, mesh), mesh, TRAINING, output)


def test_the_rehearsal_fails_before_the_first_step(tmp_path):
    (message,) = run_distributed(_train_greedily, 1, tmp_path)
    assert message.startswith("OutOfMemory")
    assert read_state(tmp_path) == {"status": "failed", "step": 0, "error": message.partition(": ")[2]}
    assert not (tmp_path / "metrics.jsonl").read_text()


def _train_for_a_moment(output: Path, minutes: float) -> str:
    mesh = initialize()
    options, training = RunOptions(exit_after_minutes=minutes), replace(TRAINING, checkpoint_interval=9)
    late = AfterStep(lambda done: done == 2 and mesh.rank == 1 and time.sleep(1.0))
    return train(RandomTask(GPT2, mesh), mesh, training, output, options, [late]).status


def test_the_time_limit_saves_and_says_so(tmp_path):
    assert run_distributed(_train_for_a_moment, 2, tmp_path, 1.0 / 60) == ["stopped", "stopped"]
    state = read_state(tmp_path)
    assert state["status"] == "stopped" and state["reason"] == "the time limit" and state["step"] <= 2
    assert run_distributed(_train_for_a_moment, 2, tmp_path, 0.0) == ["finished", "finished"]


def _train_with_one_bad_rank(output: Path) -> str:
    mesh = initialize(2)
    task = RandomTask(GPT2, mesh)
    forward = task.model.forward

    def poisoned(**batch):
        terms = forward(**batch)
        return {name: value * torch.nan for name, value in terms.items()} if mesh.data_rank == 1 else terms

    task.model.forward = poisoned
    return _message(train, task, mesh, TRAINING, output)


def test_a_loss_that_is_no_number_names_the_ranks(tmp_path):
    for message in run_distributed(_train_with_one_bad_rank, 4, tmp_path):
        assert message.startswith("NonFiniteLoss: the language_model loss is nan at step 1, on rank 2, 3;")
