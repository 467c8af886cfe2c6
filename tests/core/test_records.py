"""What a training shows and records: throughput over the right clock, the progress line, event files, a trace, shards."""

import contextlib
import fcntl
import io
import json
import os
import pty
import struct
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import GPT2, RandomTask
from observing import signal_after

from core.config import TrainingConfig
from core.errors import ConfigurationError
from core.model_directory import build_model
from core.parallel.mesh import initialize
from core.training.checkpoint import Checkpoints
from core.training.data_parallel import shard_over_data
from core.training.flops import sequence_flops
from core.training.observers import Observer
from core.training.peak import Peak
from core.training.progress import ProgressLine, fitting
from core.training.records import read_state
from core.training.schedule import WholeModel
from core.training.tensorboard import TensorBoardLog
from core.training.throughput import Throughput, ThroughputMeter
from core.training.trainer import RunOptions, train

TRAINING = TrainingConfig(
    steps=7, global_batch=4, micro_batch=1, learning_rate=1e-2, warmup_steps=2, checkpoint_interval=3,
    log_interval=2, validation_interval=3, validation_batches=1,
)  # fmt: skip
SLOW_SECONDS = 0.5


def _lines(output: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def _train(output: Path, tensor: int, options: RunOptions, training=TRAINING, die_at=0) -> str:
    """What the run printed; with `die_at`, the process dies by SIGKILL when that many steps are done."""
    mesh = initialize(tensor)
    task = RandomTask(GPT2, mesh)
    task.validation = RandomTask(GPT2, mesh, 8)
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        train(task, mesh, training, output, options, [signal_after(die_at)])
    return printed.getvalue()


@pytest.mark.parametrize(("data", "tensor"), [(1, 1), (2, 2)])
def test_the_flops_of_a_step_do_not_depend_on_the_layout(tmp_path, data, tensor):
    run_distributed(_train, data * tensor, tmp_path, tensor, RunOptions())
    wanted = TRAINING.global_batch * sequence_flops(GPT2, 16, 16).model
    rates = _lines(tmp_path, "logs/throughput.jsonl")
    assert [rate["step"] for rate in rates] == [2, 4, 6, 7], "the last step closes a window, too"
    for rate in rates:
        flops = rate["model_tflops"] * 1e12 * rate["step_seconds"] * data * tensor
        assert flops == pytest.approx(wanted, rel=1e-4)
        assert rate["hardware_tflops"] / rate["model_tflops"] == pytest.approx(
            sequence_flops(GPT2, 16, 16).hardware / sequence_flops(GPT2, 16, 16).model, rel=1e-4
        )
        assert rate["tokens_per_second"] * rate["step_seconds"] == pytest.approx(64, rel=1e-4)
        assert 0 < rate["mfu"] < 1 and 5e7 < rate["memory_bytes"] < 1e11
    peak = float((tmp_path / "logs/model.txt").read_text().split("peak of a device: ")[1].split()[0])
    assert rates[0]["mfu"] == pytest.approx(rates[0]["model_tflops"] / peak, rel=1e-2)


def _train_with_slow_pauses(output: Path) -> float:
    """Seconds of all steps; validations, checkpoints and the profiler take much longer."""

    def slow(function):
        def slowly(*arguments, **settings):
            time.sleep(SLOW_SECONDS)
            return function(*arguments, **settings)

        return slowly

    WholeModel.evaluate = slow(WholeModel.evaluate)
    Checkpoints.save = slow(Checkpoints.save)
    torch.profiler.profile.start = slow(torch.profiler.profile.start)
    torch.profiler.profile.stop = slow(torch.profiler.profile.stop)
    _train(output, 1, RunOptions(profile_steps=(4, 4)))
    rates = _lines(output, "logs/throughput.jsonl")
    return sum(rate["step_seconds"] * steps for rate, steps in zip(rates, (2, 2, 2, 1), strict=True))


def test_validations_checkpoints_and_traces_are_no_part_of_a_step(tmp_path):
    (seconds,) = run_distributed(_train_with_slow_pauses, 1, tmp_path)
    assert seconds < 3 * SLOW_SECONDS, "pauses took seven times as long as that alone"


def _overflowing_window() -> tuple[Throughput, Throughput]:
    mesh = initialize(1)
    task = RandomTask(GPT2, mesh)
    meter = ThroughputMeter(task.model, "none", mesh, Peak(1e12, "table"))
    windows = []
    for attempts in (1, 3):
        meter.start()
        meter.count([(task.batch(np.arange(2)), 1.0), (task.batch(np.arange(1)), 0.0)], attempts)
        windows.append(meter.window())
    return windows[0], windows[1]


def test_overflowed_attempts_are_work_of_the_hardware_alone():
    ((once, thrice),) = run_distributed(_overflowing_window, 1)
    ratio = once.hardware_tflops / once.model_tflops
    assert thrice.hardware_tflops / thrice.model_tflops == pytest.approx(3 * ratio)
    assert once.tokens_per_second * once.step_seconds == pytest.approx(32), "a batch of weight 0 is no work"
    assert once.mfu == pytest.approx(once.model_tflops)


def test_plain_lines_show_everything_and_each_validation(tmp_path):
    options = RunOptions("pretrain tiny")
    (printed,) = run_distributed(_train, 1, tmp_path, 1, options, replace(TRAINING, precision="fp16"))
    (last,) = [line for line in printed.splitlines() if "lr" in line]
    for part in (
        "pretrain tiny step 7 of 7, loss ", ", gradient norm ", ", loss scale ", " tokens/s, ", " TFLOP/s a device, MFU ",
        "%, memory ", " GB, 00:00 left",
    ):  # fmt: skip
        assert part in last
    validations = [line for line in printed.splitlines() if "validation" in line]
    assert [line.split(", ")[0] for line in validations] == [
        f"pretrain tiny step {step} of 7" for step in (0, 3, 6, 7)
    ]
    recorded = [r["validation_loss"] for r in _lines(tmp_path, "metrics.jsonl") if "validation_loss" in r]
    assert [float(line.split()[-1]) for line in validations] == pytest.approx(recorded, abs=1e-4)


RECORD = {"step": 1, "loss": 10.12345, "learning_rate": 1.5e-4, "gradient_norm": 1.234, "loss_scale": 65536.0}
RATES = Throughput(0.1, 12345.0, 0.0412, 0.0413, 0.5123, 1_234_567_890)


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_the_bar_fits_the_terminal_and_keeps_what_matters_most(monkeypatch, columns):
    title, total = "[12/19] pretrain gpt2-medium", 300_000
    text = _drawn(monkeypatch, columns, title, total)
    assert len(text) <= columns
    assert text.startswith(title) and text.endswith(" left") and "loss 10.123" in text
    shown = [name for name in ("validation", "lr", "norm", "TFLOP/s", "MFU 51%", "1.23 GB") if name in text]
    assert len(shown) == {80: 0, 100: 2, 200: 6}[columns]


def _drawn(monkeypatch, columns: int, title: str, total: int) -> str:
    """The bar's last state on a terminal of so many columns."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(writer, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        line = ProgressLine(title, 0, total)
        line.validated({"step": 0, "validation_loss": 10.5})
        line.step_done(RECORD, RATES)
        line.ended()
    drawn = b""
    with contextlib.suppress(OSError):  # a pseudo-terminal ends with EIO
        while block := os.read(reader, 65536):
            drawn += block
    os.close(reader)
    text = drawn.decode().replace("\r\n", "\n")
    assert f"{title} step 0 of {total}, validation loss 10.5000\n" in text
    return text.rstrip("\n").split("\r")[-1]


def test_fields_of_the_first_ranks_are_kept_in_the_order_of_reading():
    fields = [(2, "aaaa"), (0, "bb"), (1, "cccccccc"), (3, "d")]
    assert fitting(fields, 100) == ["aaaa", "bb", "cccccccc", "d"]
    assert fitting(fields, 14) == ["bb", "cccccccc"]
    assert fitting(fields, 13) == ["aaaa", "bb", "d"]
    assert fitting(fields, 3) == ["d"]


def _events(output: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow

    events = EventAccumulator(str(output / "logs/tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.mark.parametrize("die_at", [2, 5])  # before the first checkpoint, and after it
def test_event_files_hold_every_point_once_after_a_resume(tmp_path, die_at):
    options, training = RunOptions(tensorboard=True), replace(TRAINING, log_interval=1)
    with pytest.raises(AssertionError, match="died with exit code -9"):
        run_distributed(_train, 1, tmp_path, 1, options, training, die_at)
    assert [step for step, _ in _events(tmp_path, "loss/training")] == list(range(1, die_at + 1))
    run_distributed(_train, 1, tmp_path, 1, options, training)
    records = _lines(tmp_path, "metrics.jsonl")
    for tag, name in (
        ("loss/training", "loss"),
        ("loss/validation", "validation_loss"),
        ("optimizer/gradient norm", "gradient_norm"),
        ("optimizer/learning rate", "learning_rate"),
    ):
        recorded = [(record["step"], pytest.approx(record[name])) for record in records if name in record]
        assert _events(tmp_path, tag) == recorded
    assert len(_events(tmp_path, "throughput/MFU")) == TRAINING.steps
    rates = _lines(tmp_path, "logs/throughput.jsonl")
    assert [rate["step"] for rate in rates] == list(range(1, 8)), "lines of lost steps are cut off"


def test_event_files_of_one_second_are_read_in_the_order_of_writing(tmp_path, monkeypatch, caplog):
    """Names end with the host: these put the later file first, were it of the same second."""
    metrics = {"loss": 1.0, "learning_rate": 1.0, "gradient_norm": 1.0}
    rates = Throughput(1.0, 1.0, 1.0, 1.0, 0.5, 0)
    for host, first_step, done in (("z", 0, 3), ("a", 2, 4)):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        log = TensorBoardLog(tmp_path, first_step)
        for step in range(first_step + 1, done + 1):
            log.step_done({"step": step, **metrics}, rates)
        log.ended()
    assert [step for step, _ in _events(tmp_path, "loss/training")] == [1, 2, 3, 4]
    (tmp_path / "logs/tensorboard/events.out.tfevents.9999999999.z.1.0").touch()
    TensorBoardLog(tmp_path, 2).ended()
    assert "ahead of this machine's clock" in caplog.text


def test_without_the_package_the_option_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    (error,) = RunOptions(tensorboard=True).errors(TRAINING)
    assert "not installed" in error and "'.[tensorboard]'" in error


def test_chosen_steps_are_traced(tmp_path):
    run_distributed(_train, 2, tmp_path, 2, RunOptions(profile_steps=(2, 3)))
    assert [path.name for path in (tmp_path / "logs").glob("trace*")] == ["trace-rank0.json"]
    events = json.loads((tmp_path / "logs/trace-rank0.json").read_text())["traceEvents"]
    updates = [event for event in events if event["name"].startswith("Optimizer.step")]
    assert len(updates) == 2
    assert any(event["name"] == "aten::mm" for event in events)


@pytest.mark.parametrize("steps", [(0, 2), (3, 2), (7, 8)])
def test_steps_that_are_not_of_the_training_are_refused(tmp_path, steps):
    with pytest.raises(ConfigurationError, match=r"--profile-steps \d:\d: must be .* ≤ 7, the steps of"):
        _refused(tmp_path, steps)
    assert list(tmp_path.iterdir()) == []


def _refused(output: Path, steps: tuple[int, int]) -> None:
    class OneProcess:
        data_size = tensor_size = pipeline_size = pipeline_chunks = 1
        device = torch.device("cpu")

    train(None, OneProcess(), TRAINING, output, RunOptions(profile_steps=steps))


def _printed_model() -> tuple[str, str]:
    mesh = initialize(2)
    plain = str(build_model(GPT2, mesh))
    sharded = build_model(GPT2, mesh)
    shard_over_data(sharded, mesh, "fp32")
    return plain, str(sharded)


def test_print_shows_the_shards_before_and_after_sharding_over_data():
    for rank, texts in enumerate(run_distributed(_printed_model, 4)):
        for text in texts:
            assert f"ColumnParallelLinear(shape=(96, 32), out=96/2, rank {rank % 2})" in text
            assert f"RowParallelLinear(shape=(32, 128), in=128/2, rank {rank % 2})" in text
            assert f"rows=136/2, rank {rank % 2}" in text


class _Listener(Observer):
    """Writes down what it hears of."""

    def __init__(self) -> None:
        self.heard = []

    def started(self, run):
        self.heard.append(("started", run.first_step))

    def step_started(self, step):
        self.heard.append(("step", step))

    def step_done(self, record, throughput):
        self.heard.append(("done", record["step"], throughput is not None))

    def validated(self, record):
        self.heard.append(("validated", record["step"]))

    def checkpoint_taken(self, step):
        self.heard.append(("checkpoint", step))

    def ended(self):
        self.heard.append(("ended",))


def _train_and_tell(output: Path) -> tuple[list, list]:
    mesh = initialize(2)
    task, listener = RandomTask(GPT2, mesh), _Listener()
    task.validation = RandomTask(GPT2, mesh, 8)
    train(task, mesh, replace(TRAINING, steps=4), output, None, [listener])
    return listener.heard


def test_observers_hear_of_everything_on_their_rank(tmp_path):
    wanted = [
        ("started", 0),
        ("validated", 0),
        ("step", 1),
        ("done", 1, False),
        ("step", 2),
        ("done", 2, True),
        ("step", 3),
    ]
    wanted += [
        ("done", 3, False),
        ("validated", 3),
        ("checkpoint", 3),
        ("step", 4),
        ("done", 4, True),
        ("validated", 4),
    ]
    assert run_distributed(_train_and_tell, 2, tmp_path) == [[*wanted, ("ended",)]] * 2


class _Failing(_Listener):
    def step_done(self, record, throughput):
        raise OSError("no room")


def _fail(output: Path) -> tuple[list, list, list[str], dict]:
    """What two observers of a run hear that the first ends with an error; the files still open, and its state."""
    mesh = initialize()
    observers = [_Failing(), _Listener()]
    training = replace(TRAINING, validation_interval=0)
    with contextlib.suppress(OSError):
        train(RandomTask(GPT2, mesh), mesh, training, output, RunOptions(tensorboard=True), observers)
    held = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    return (
        *(observer.heard for observer in observers),
        [path for path in held if str(output) in path],
        read_state(output),
    )


def test_a_run_that_fails_ends_for_its_observers_and_closes_its_records(tmp_path):
    ((first, second, still_open, state),) = run_distributed(_fail, 1, tmp_path)
    assert first == second == [("started", 0), ("step", 1), ("ended",)]
    assert still_open == []
    assert state == {"status": "failed", "step": 1, "error": "no room"}
    assert [line["step"] for line in _lines(tmp_path, "metrics.jsonl")] == [1]


def test_the_printed_model_and_its_layout_are_kept(tmp_path):
    run_distributed(_train, 2, tmp_path, 2, RunOptions())
    text = (tmp_path / "logs/model.txt").read_text()
    assert text.startswith("data_parallel 1, tensor_parallel 2, device cpu\npeak of a device: ")
    assert "(measured)" in text and "out=96/2, rank 0" in text
    assert torch.get_float32_matmul_precision() == "highest", "what fp32's peak is looked up by"
