"""Checkpoints with real processes: kills at random moments, saving in the background, disks that are full, retention."""

import contextlib
import io
import itertools
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch.distributed.checkpoint as dcp
from distributed import run_distributed
from full_disk import full_disk
from objectives import GPT2, RandomTask
from observing import AfterStep
from torch.distributed.checkpoint import DefaultSavePlanner

import core.training.checkpoint as checkpoint
from core.config import TrainingConfig
from core.parallel import layers
from core.parallel.mesh import initialize
from core.training.checkpoint import damage, outdated
from core.training.errors import CheckpointError
from core.training.records import read_state
from core.training.trainer import train

DROPPING = replace(GPT2, dropout=0.1, attention_dropout=0.1)
TRAINING = TrainingConfig(
    steps=30, global_batch=2, micro_batch=1, learning_rate=1e-2, warmup_steps=2, checkpoint_interval=2
)
SHORT = replace(TRAINING, steps=12, keep_every=4)
FILE_OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.scandir"}


def _train(output: Path, tensor: int, training: TrainingConfig = TRAINING, observers=()) -> str:
    mesh = initialize(tensor)
    return train(RandomTask(DROPPING, mesh), mesh, training, output, None, observers).status


def _train_and_die(
    output: Path, tensor: int, training: TrainingConfig, rank: int, after_steps: int, operation: int
) -> None:
    """One rank dies by SIGKILL: after some steps, or before a file operation of saving, counted from the start."""
    observers = []
    if int(os.environ["RANK"]) == rank and after_steps:
        observers.append(_signal_after(after_steps))
    elif int(os.environ["RANK"]) == rank:
        counted = iter(range(1, operation))

        def count(event: str, arguments: tuple) -> None:
            in_thread = threading.current_thread().name == checkpoint.THREAD
            if in_thread and event in FILE_OPERATIONS and next(counted, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
    _train(output, tensor, training, observers)


def _signal_after(steps: int, number: int = signal.SIGKILL) -> AfterStep:
    """A signal when so many steps are done in this process."""
    counted = itertools.count(1)
    return AfterStep(lambda done: next(counted) == steps and os.kill(os.getpid(), number))


def _content(output: Path) -> dict[str, bytes]:
    """What must be the same bytes: metrics, the model, and model and optimizer state in the last checkpoint."""
    last = max(output.glob("checkpoints/step-*"))
    files = [output / "metrics.jsonl", output / "model/model.safetensors", *last.glob("*.distcp")]
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


@pytest.mark.parametrize(("precision", "tensor"), [("fp32", 2), ("bf16", 1)])
def test_killed_at_ten_random_moments_it_ends_the_same(tmp_path, precision, tensor):
    training = replace(TRAINING, precision=precision)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_distributed(_train, 2, whole, tensor, training)
    random = np.random.default_rng(11)
    for number in range(10):
        rank = int(random.integers(2))
        after_steps = int(random.integers(1, 6)) if number % 2 else 0
        operation = int(random.integers(1, 40 if rank == 0 else 8))
        with pytest.raises(AssertionError, match=r"exit code -9|Connection (reset|closed)"):
            run_distributed(_train_and_die, 2, killed, tensor, training, rank, after_steps, operation)
    run_distributed(_train, 2, killed, tensor, training)
    assert _content(killed) == _content(whole)
    assert not list(killed.glob("checkpoints/.*")), "what killed saves left is gone"


def _train_with_late_writes(output: Path) -> str:
    """Every checkpoint is written when two more steps are done."""
    steps = [0]
    save = dcp.save

    def late(state, checkpoint_id, **settings):
        saved, deadline = _step_of(checkpoint_id), time.monotonic() + 20
        while steps[-1] < min(saved + 2, SHORT.steps) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert steps[-1] > saved, "training waited for the writing"
        save(state, checkpoint_id=checkpoint_id, **settings)

    dcp.save = late
    return _train(output, 1, replace(SHORT, checkpoint_interval=4), [AfterStep(steps.append)])


def _step_of(folder: Path) -> int:
    """Of a checkpoint that is being written."""
    return int(folder.name.strip(".").split(".")[0].removeprefix("step-"))


def test_saving_in_the_background_gives_the_same_as_saving_at_once(tmp_path):
    at_once = replace(SHORT, checkpoint_interval=4, asynchronous_saving=False)
    run_distributed(_train, 2, tmp_path / "at once", 1, at_once)
    run_distributed(_train_with_late_writes, 2, tmp_path / "late")
    assert _content(tmp_path / "late") == _content(tmp_path / "at once")
    assert damage(tmp_path / "late/checkpoints/step-00000008") is None


def _train_until_it_fails(output: Path, full_rank: int) -> str:
    """From the second checkpoint on the disk of one rank is full; returns the error."""
    save = dcp.save

    def written(done: int) -> None:
        for thread in threading.enumerate():
            if done == 9 and thread.name == checkpoint.THREAD:
                thread.join()

    with contextlib.ExitStack() as limits:

        def limited(state, checkpoint_id, **settings):
            if _step_of(checkpoint_id) == 8 and full_rank == int(os.environ["RANK"]):
                limits.enter_context(full_disk(1 << 16))
            save(state, checkpoint_id=checkpoint_id, **settings)

        dcp.save = limited
        with pytest.raises(CheckpointError) as error:
            _train(output, 1, replace(SHORT, checkpoint_interval=4), [AfterStep(written)])
    return str(error.value)


@pytest.mark.parametrize("full_rank", [0, 1])
def test_a_full_disk_stops_all_ranks_with_what_to_do_and_the_run_can_go_on(tmp_path, full_rank):
    output = tmp_path / "full"
    errors = run_distributed(_train_until_it_fails, 2, output, full_rank)
    assert errors[0] == errors[1]
    assert f"{output}/checkpoints/step-00000008: the checkpoint could not be saved" in errors[0]
    assert f"rank {full_rank}: " in errors[0] and "File too large" in errors[0] and "make room" in errors[0]
    state = read_state(output)
    assert state["status"] == "failed" and state["error"] == errors[0]
    assert state["step"] in (9, 10), (
        "known after step 9 at the latest, it stopped after the next, and not at a save"
    )
    assert [path.name for path in output.glob("checkpoints/*")] == ["step-00000004"]
    run_distributed(_train, 2, output, 1, SHORT)
    run_distributed(_train, 2, tmp_path / "whole", 1, SHORT)
    assert _content(output) == _content(tmp_path / "whole")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("a file, where the folder belongs")
    (error, _) = run_distributed(_train_until_it_fails, 2, tmp_path, -1)
    assert f"{tmp_path}/checkpoints/step-00000004: " in error and "mend what is wrong there" in error


def _train_and_stop(output: Path) -> str:
    return _train(output, 1, SHORT, [_signal_after(8, signal.SIGTERM)])  # and one more step is done


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run stopped after step 9: checkpoints of 4 and 8 (`keep_every`), 8 and 9 (`keep_last`)."""
    output = tmp_path_factory.mktemp("stopped")
    assert run_distributed(_train_and_stop, 1, output) == ["stopped"]
    return output


def test_the_last_and_every_so_many_stay(stopped):
    assert sorted(path.name[-1] for path in stopped.glob("checkpoints/*")) == ["4", "8", "9"]


def test_which_checkpoints_go():
    paths = [Path(f"step-{step:08d}") for step in (100, 200, 300, 400, 900)]
    assert outdated(paths, 400, 2, 0) == paths[:2], "the damaged one of step 900 is none of the last two"
    assert outdated(paths, 400, 1, 200) == [paths[0], paths[2]]
    assert outdated(paths[:1], 100, 2, 0) == []


def _train_and_listen(output: Path) -> str:
    with contextlib.redirect_stderr(io.StringIO()) as messages, contextlib.suppress(CheckpointError):
        _train(output, 1, SHORT)
    return messages.getvalue()


def _truncate(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-1])
    return path


def test_a_truncated_checkpoint_is_named_and_the_one_before_is_used(stopped, tmp_path):
    output = Path(shutil.copytree(stopped, tmp_path / "run"))
    victim = _truncate(output / "checkpoints/step-00000009/__0_0.distcp")
    (messages,) = run_distributed(_train_and_listen, 1, output)
    assert f"{victim}: damaged" in messages and "resumes at step 8" in messages
    assert read_state(output)["status"] == "finished"


def test_without_an_intact_checkpoint_the_run_does_not_start_anew(stopped, tmp_path):
    output = Path(shutil.copytree(stopped, tmp_path / "run"))
    (output / "checkpoints/step-00000004/checkpoint.json").unlink()
    (output / "checkpoints/step-00000008/.metadata").unlink()
    _truncate(output / "checkpoints/step-00000009/__0_0.distcp")
    metrics = (output / "metrics.jsonl").read_bytes()
    with pytest.raises(AssertionError, match="no checkpoint is intact"):
        run_distributed(_train, 1, output, 1, SHORT)
    assert (output / "metrics.jsonl").read_bytes() == metrics


def _resume_by_shares(output: Path) -> list[str]:
    """Goes on from the newest intact checkpoint, without initial values; returns the files that this rank then checked."""
    checked: list[str] = []
    of_file = checkpoint._damaged_file

    def noting(path: Path, files: list) -> str | None:
        checked.extend(f"{path.name}/{name}" for name, _ in files)
        return of_file(path, files)

    checkpoint._damaged_file = noting
    mesh = initialize(1)
    with (
        layers.without_initial_values(checkpoint.goes_on(output, mesh)),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delattr(layers, "_fill")
        task = RandomTask(DROPPING, mesh)
    with contextlib.redirect_stderr(io.StringIO()):
        assert train(task, mesh, SHORT, output).status == "finished"
    return checked


def test_each_rank_checks_its_share_of_the_files_and_draws_no_initial_values(stopped, tmp_path):
    output, other = (Path(shutil.copytree(stopped, tmp_path / name)) for name in ("run", "other"))
    for run in (output, other):
        _truncate(run / "checkpoints/step-00000009/__0_0.distcp")
    shares = run_distributed(_resume_by_shares, 2, output)
    for step in ("step-00000009", "step-00000008"):
        first, second = ({name for name in share if name.startswith(step)} for share in shares)
        assert first | second == {f"{step}/.metadata", f"{step}/__0_0.distcp"} and not first & second
    run_distributed(_train, 2, other, 1, SHORT)
    assert _content(output) == _content(other)


def _count_plans(output: Path) -> list[int]:
    """How often who writes what was worked out, in a run of one rank's part and in another run of this process."""
    counts = []
    work_out = DefaultSavePlanner._create_global_plan

    def counting(planner, plans):
        counts[-1] += 1
        return work_out(planner, plans)

    DefaultSavePlanner._create_global_plan = counting
    for name, task in (("one", DROPPING), ("two", replace(DROPPING, hidden=64))):
        counts.append(0)
        mesh = initialize(2)
        train(RandomTask(task, mesh), mesh, SHORT, output / name)
        assert damage(output / name / "checkpoints/step-00000010") is None
    return counts


def test_who_writes_what_is_worked_out_once_a_run(tmp_path):
    """Of five checkpoints; the second run has other shapes, and plans of its own."""
    assert run_distributed(_count_plans, 2, tmp_path) == [[1, 1], [0, 0]]
