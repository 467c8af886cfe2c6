"""What stops a run before it costs: ranks that disagree, a rank that hangs, no memory, the time limit, no numbers."""

import ctypes
import datetime
import json
import math
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distributed import exit_codes, run_distributed
from objectives import GPT2, RandomTask
from observing import AfterStep

import core.training.checkpoint as checkpoint
import core.training.roll_call as roll_call
import core.training.trainer as trainer
from core.config import TrainingConfig
from core.errors import UserError
from core.parallel.mesh import initialize
from core.training.checkpoint import damage
from core.training.errors import LostRank, OutOfMemory
from core.training.records import read_state
from core.training.safety import check_same_weights, explained_failures
from core.training.schedule import WholeModel
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
        assert "rank 1 was started with (tensor_parallel, sequence_parallel, pipeline_parallel, " in message
        assert "pipeline_chunks) = (2, False, 1, 1), rank 0 with (1, False, 1, 1)" in message


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


def _hang(output: Path, foreign: bool) -> None:
    """In foreign code that lets no other thread of Python's run, or in a sleep that does."""
    (output / "hangs").touch()
    (ctypes.PyDLL(None).sleep if foreign else time.sleep)(90)


def _train_with_a_rank_that_hangs(output: Path, hanging: int, foreign: bool, by_collectives: bool) -> None:
    """A rank hangs after the first step; the others' collectives wait for seconds, or for much longer."""
    soon = datetime.timedelta(seconds=3)
    checkpoint._PATIENCE = 1  # a checkpoint may be on its way, which is waited for longer
    mesh = initialize(2, timeout=soon) if by_collectives else replace(initialize(2), timeout=soon)
    hang = AfterStep(lambda done: mesh.rank == hanging and done == 3 and _hang(output, foreign))
    message = _message(train, RandomTask(GPT2, mesh), mesh, TRAINING, output, None, [hang])
    (output / f"rank {mesh.rank}").write_text(message)
    os._exit(LostRank.exit_code)  # what the test's own processes would do next waits for all ranks


HANGS = [(2, False, True), (2, False, False), (0, False, False), (0, True, False), (2, True, True)]


def _folder_of(hanging: int, foreign: bool, by_collectives: bool) -> str:
    return f"rank {hanging}{' in foreign code' * foreign}{' by collectives' * by_collectives}"


@pytest.fixture(scope="module")
def hung(made_once) -> Path:
    """Runs with a rank that hangs, and what became of their ranks: each begins when the one before hangs, so that no two
    compute at a time, and all wait for their time-outs together."""

    def make(folder: Path) -> None:
        with ThreadPoolExecutor(len(HANGS)) as runs:
            for hanging, foreign, by_collectives in HANGS:
                output = folder / _folder_of(hanging, foreign, by_collectives)
                output.mkdir()
                arguments = (output, hanging, foreign, by_collectives)
                ended = runs.submit(_codes_of_a_run_that_hangs, *arguments)
                while not ended.done() and not (output / "hangs").exists():
                    time.sleep(0.02)

    return made_once("runs that hang", make)


def _codes_of_a_run_that_hangs(output: Path, hanging: int, foreign: bool, by_collectives: bool) -> None:
    endless = hanging if foreign else None
    arguments = (output, hanging, foreign, by_collectives)
    codes = exit_codes(_train_with_a_rank_that_hangs, 4, *arguments, endless=endless)
    (output / "codes.json").write_text(json.dumps(codes))


@pytest.mark.parametrize(("hanging", "foreign", "by_collectives"), HANGS)
def test_a_rank_that_hangs_is_named(hanging, foreign, by_collectives, hung):
    """By collectives that end, which raises an error; or by the watchdog, which ends the process, as where they do not."""
    tmp_path = hung / _folder_of(hanging, foreign, by_collectives)
    codes = json.loads((tmp_path / "codes.json").read_text())
    assert [code for rank, code in enumerate(codes) if rank != hanging] == [1] * 3
    assert codes[hanging] == (None if foreign else 1), (
        "it finds out by itself that it hangs, where it still can"
    )
    state = read_state(tmp_path)
    assert state["status"] == "failed" and state["step"] == 3
    named = rf"rank {hanging} does not " + (
        "answer" if foreign else r"get on: it has been telling of step 3, in _hang "
    )
    assert re.search(named, state["error"]) and "goes on from the last checkpoint" in state["error"]
    if by_collectives:
        messages = [(tmp_path / f"rank {rank}").read_text() for rank in range(4) if rank != hanging]
        assert all(re.match("LostRank: .*" + named, message) for message in messages)
    if not foreign:
        assert run_distributed(_train_undisturbed, 4, tmp_path, "fp32", 1) == ["finished"] * 4
        assert [record["step"] for record in _strict_lines(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "text",
    [
        "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=57, OpType=ALLGATHER, NumelIn=191, "
        "NumelOut=1528, Timeout(ms)=200000) ran for 200059 milliseconds before timing out.",
        "NCCL communicator was aborted on rank 2. ",
        "NCCL error: remote process exited or there was a network error, NCCL version 2.20.5\nncclRemoteError: A call "
        "failed possibly due to a network error or a remote process exiting prematurely.",
        "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 4000ms for recv operation",
        "Connection was likely closed. Did the remote server shutdown or crash?",
    ],
)
def test_what_gloo_and_nccl_say_of_a_lost_rank_is_known(text):
    """As they print it."""
    said = text.rpartition("] ")[2] if text.startswith("[/") else text  # without the place in torch's sources
    assert run_distributed(_lost, 1, text)[0].startswith(f"LostRank: a collective did not end ({said[:20]}")


def _lost(text: str) -> str:
    roll_call._BETWEEN_LOOKS = 0.01  # five of which rank 0 waits for others; there are none

    def fail() -> None:
        with explained_failures(initialize()):
            raise RuntimeError(text)

    return _message(fail)


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
    assert state["status"] == "stopped" and state["reason"] == "the time limit" and state["step"] <= 3
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


EXPAND = "network.transformer.layers.1.feed_forward.expand.weight"


def _poisoned_gradient(mesh, poisoned_step: int, rank: int, value: float) -> None:
    """In this step (1 is the first) a number of one rank's gradient becomes `value`; the loss stays as it is."""
    passes = WholeModel.train

    def poisoning(schedule, batches, totals, step, loss_scale):
        sums = passes(schedule, batches, totals, step, loss_scale)
        if step + 1 == poisoned_step and mesh.rank == rank:
            schedule.model.get_parameter(EXPAND).grad.to_local().view(-1)[0] = value
        return sums

    WholeModel.train = poisoning


def _train_with_a_bad_gradient(output: Path, precision: str, zero: int, value: float, step: int) -> str:
    mesh = initialize(2)
    _poisoned_gradient(mesh, step, mesh.world_size - 1, value)
    training = replace(TRAINING, precision=precision)
    return _message(train, RandomTask(GPT2, mesh), mesh, training, output, RunOptions(zero=zero))


@pytest.mark.parametrize(
    ("world", "precision", "zero", "value", "step"),
    [(2, "fp32", 1, math.inf, 3), (4, "bf16", 1, math.nan, 3), (4, "fp32", 3, -math.inf, 4), (2, "fp32", 1, 1e30, 3)],
)  # fmt: skip
def test_a_gradient_that_is_no_number_stops_before_the_weights_change(
    world, precision, zero, value, step, tmp_path
):
    for message in run_distributed(_train_with_a_bad_gradient, world, tmp_path, precision, zero, value, step):
        assert message.startswith(
            f"NonFiniteGradient: the loss of step {step} is finite, but not the norm of its gradient of"
        )
        assert f"{EXPAND} on rank {world - 1};" in message
    state = read_state(tmp_path)
    assert state["status"] == "failed" and state["step"] == step - 1 and "gradient" in state["error"]
    assert damage(tmp_path / "checkpoints/step-00000002") is None
    assert not (tmp_path / "model").exists()
    assert [record["step"] for record in _strict_lines(tmp_path)] == list(range(1, step))
    # The fault is gone, as a faulty device's is: the same command goes on from the checkpoint, to an undisturbed end.
    assert run_distributed(_train_undisturbed, world, tmp_path, precision, zero) == ["finished"] * world
    run_distributed(_train_undisturbed, world, tmp_path / "clean", precision, zero)
    weights = "model/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (tmp_path / "clean" / weights).read_bytes()


def _train_undisturbed(output: Path, precision: str, zero: int) -> str:
    mesh = initialize(2)
    training = replace(TRAINING, precision=precision)
    return train(RandomTask(GPT2, mesh), mesh, training, output, RunOptions(zero=zero)).status


def _strict_lines(output: Path) -> list[dict]:
    """The records, by a reader that knows no NaN and no Infinity, as any but Python's."""

    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def _train_with_spoiled_state(output: Path, kind: str, step: int) -> str:
    """After `step` steps a number of rank 1's weights, or of its optimizer's state, is none."""
    mesh = initialize(2)
    task, optimizers = RandomTask(GPT2, mesh), []
    build = trainer.build_optimizer
    trainer.build_optimizer = lambda *arguments: optimizers.append(build(*arguments)) or optimizers[0]
    weight = task.network.token_embedding.weight

    def spoil(done: int) -> None:
        if done == step and mesh.rank == 1:
            values = weight if kind == "weight" else optimizers[0].state[weight][kind]
            values.detach().to_local().view(-1)[-1] = math.nan

    return _message(train, task, mesh, TRAINING, output, None, [AfterStep(spoil)])


@pytest.mark.parametrize(("kind", "step"), [("weight", 2), ("exp_avg_sq", 2), ("weight", 4)])
def test_weights_that_are_no_numbers_are_never_saved(kind, step, tmp_path):
    for message in run_distributed(_train_with_spoiled_state, 2, tmp_path, kind, step):
        assert message.startswith("NonFiniteState: network.token_embedding.weight")
        assert f"on rank 1 holds values that are no finite numbers after step {step};" in message
        assert ("(exp_avg_sq)" in message) == (kind == "exp_avg_sq")
    saved = {path.name for path in (tmp_path / "checkpoints").glob("step-*")}
    assert saved == ({"step-00000002"} if step == 4 else set()) and not (tmp_path / "model").exists()


def _train_with_a_bad_validation(output: Path) -> str:
    mesh = initialize(2)
    task = RandomTask(GPT2, mesh)
    task.validation = RandomTask(GPT2, mesh, 8)
    forward = task.model.forward

    def poisoned(**batch):
        terms = forward(**batch)
        bad = not task.model.training and mesh.rank == 1
        return {name: value * math.inf for name, value in terms.items()} if bad else terms

    task.model.forward = poisoned
    return _message(train, task, mesh, replace(TRAINING, validation_interval=2), output)


def test_a_validation_loss_that_is_no_number_stops_the_run_and_is_not_recorded(tmp_path):
    for message in run_distributed(_train_with_a_bad_validation, 2, tmp_path):
        assert message.startswith(
            "NonFiniteLoss: the language_model loss is inf in the validation after step 0, on"
        )
    assert _strict_lines(tmp_path) == []


def _resume_from_no_numbers(output: Path) -> str:
    """A checkpoint as an earlier version could save it: intact, and of no use."""
    check, build = trainer.check_finite, trainer.build_optimizer
    trainer.check_finite = lambda *_: None
    _train_with_spoiled_state(output, "weight", 2)
    trainer.check_finite, trainer.build_optimizer = check, build
    mesh = initialize(2)
    return _message(train, RandomTask(GPT2, mesh), mesh, TRAINING, output)


def test_a_checkpoint_of_no_numbers_is_named_when_it_is_loaded(tmp_path):
    folder = tmp_path / "checkpoints/step-00000002"
    for message in run_distributed(_resume_from_no_numbers, 2, tmp_path):
        assert f"weight on rank 1 holds values that are no finite numbers in {folder}; remove" in message


class _Damaged(RandomTask):
    """One of its samples cannot be read; only one data rank meets it."""

    def batch(self, indices):
        if 10 in indices:
            raise UserError("corpus.bin: token 3 of document 7: token id 60000 is none of the 131 tokens")
        return super().batch(indices)


def _train_on_damaged_samples(output: Path, held_out: bool) -> str:
    mesh = initialize(1)
    task = RandomTask(GPT2, mesh) if held_out else _Damaged(GPT2, mesh)
    task.validation = _Damaged(GPT2, mesh, 12) if held_out else None
    training = replace(TRAINING, validation_interval=4 if held_out else 0, validation_batches=3)
    return _message(train, task, mesh, training, output)


@pytest.mark.parametrize("held_out", [False, True])
def test_samples_that_one_rank_cannot_read_stop_all_with_its_message(held_out, tmp_path):
    # Samples 8 to 11 are step 3: rank 0 reads 8 and 9, rank 1 the others.
    for message in run_distributed(_train_on_damaged_samples, 2, tmp_path, held_out):
        assert message.startswith("BadSamples: corpus.bin: token 3 of document 7")
    state = read_state(tmp_path)
    assert state["status"] == "failed" and state["error"].startswith("corpus.bin: token 3")
    assert state["step"] == (0 if held_out else 2)
    assert held_out or damage(tmp_path / "checkpoints/step-00000002") is None
