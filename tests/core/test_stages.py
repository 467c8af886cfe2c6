"""A pipeline at work: what its stages send, keep and do when; checkpoints and model directories that know nothing of
stages; what goes wrong on one stage; and what is refused."""

import datetime
import json
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from distributed import exit_codes, run_distributed
from objectives import GPT2, RandomTask, random_batch
from observing import AfterStep, signal_after
from staged import ADAM, BATCH, CHUNKS, CONFIGS, DROPPING, LAYERS, SGD, Meshes, Mode, without_measuring
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from core.config import ParallelConfig
from core.errors import UserError
from core.model_directory import load_model
from core.models.gpt2 import GPT2LanguageModeling, GPT2Model
from core.parallel.mesh import Mesh, initialize
from core.tensor_files import INDEX_FILE, TensorFiles
from core.training.errors import LostRank, NonFiniteLoss, RanksDisagree
from core.training.flops import sequence_flops
from core.training.pipeline import Pipeline, _own_errors
from core.training.safety import check_same_weights
from core.training.stages import bubble, stage_errors
from core.training.trainer import RunOptions, train


class _Calls(TorchDispatchMode):
    """Counts what is sent and received, whoever starts it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()
        self.bytes: Counter = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        namespace, name = function._schema.name.split("::")
        if namespace == "c10d":
            self.calls[name] += 1
            tensors = [t for a in arguments[:2] for t in (a if isinstance(a, list) else [a])]
            self.bytes[name] += max(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
        return function(*arguments, **(keywords or {}))


def _received_and_kept(pipeline: Pipeline) -> int:
    """Activations of other stages that this rank has room for."""
    (schedule,) = pipeline._schedules.values()
    stages = [schedule._stage] if hasattr(schedule, "_stage") else schedule._stages
    places = [place for stage in stages for received in stage.args_recv_info.values() for place in received]
    return sum(place.buffer is not None and place.buffer.numel() > 0 for place in places)


def _work_of_a_step(stages: int, mode: Mode, layers: int, output: Path) -> dict:
    """What the second step's passes send, and in which order this rank computes."""
    mesh = initialize(1, pipeline_parallel=stages, pipeline_chunks=mode.chunks)
    task = RandomTask(replace(GPT2, layers=layers), mesh)
    work: dict = {}
    passes, compute, before = Pipeline.train, Pipeline.compute, Pipeline.before_backward
    order: list = []
    kept: list = []

    def counting(pipeline, *arguments):
        order.clear()
        kept.clear()
        with _Calls() as counter:
            sums = passes(pipeline, *arguments)
        work.update(calls=dict(counter.calls), bytes=dict(counter.bytes), order="".join(order))
        work.update(kept=max(kept), left=_received_and_kept(pipeline))
        return sums

    def computing(pipeline, part, number, received):
        order.append("F")
        kept.append(_received_and_kept(pipeline))
        return compute(pipeline, part, number, received)

    def going_back(pipeline, part, last):
        order.append("B")
        before(pipeline, part, last)

    Pipeline.train, Pipeline.compute, Pipeline.before_backward = counting, computing, going_back
    training = replace(SGD, steps=2, micro_batch=mode.micro_batch)
    options = RunOptions(zero=mode.zero, pipeline_schedule=mode.schedule)
    train(task, mesh, training, output / f"{mode}", options)
    Pipeline.train, Pipeline.compute, Pipeline.before_backward = passes, compute, before
    return work


def _work_of_steps(stages: int, modes: list[Mode], layers: int, output: Path) -> list[dict]:
    without_measuring()
    return [_work_of_a_step(stages, mode, layers, output) for mode in modes]


def _expected_sends(stages: int, parts: int, micro_batches: int, rank: int) -> int:
    """One each way per boundary and micro-batch, of the boundaries of this rank's stages."""
    last = stages * parts - 1
    own = range(rank, last + 1, stages)
    return micro_batches * sum((stage < last) + (stage > 0) for stage in own)


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_what_stages_send_and_when_they_compute(stages, tmp_path):
    # On gloo, a wait for only one of several messages, or a receive before a send on both sides, would hang here.
    modes = {2: [Mode(schedule="gpipe"), CHUNKS], 3: [Mode(), CHUNKS], 4: [Mode()]}[stages]
    layers, count = 2 * stages, BATCH // 2
    if stages == 3:
        modes = [replace(mode, micro_batch=3) for mode in modes]
        count = 3
    activation = modes[0].micro_batch * 16 * 32 * 4
    works = run_distributed(_work_of_steps, stages, stages, modes, layers, tmp_path)
    for index, mode in enumerate(modes):
        for rank in range(stages):
            work, at_end = works[rank][index], rank in (0, stages - 1)
            sends = _expected_sends(stages, mode.chunks, count, rank)
            wanted = {"send": sends, "recv_": sends, "broadcast_": 1, "allreduce_": 1}
            if not at_end:
                del wanted["allreduce_"]
            assert work["calls"] == wanted, (mode, rank)
            assert work["bytes"]["send"] == sends * activation
            if at_end:
                assert work["bytes"]["allreduce_"] == 136 * 32 * 4, "the token embedding, once"
            assert work["bytes"]["broadcast_"] == 8, "the loss"
            assert work["order"].count("F") == work["order"].count("B") == mode.chunks * count
            assert work["left"] == 0
            if mode.schedule == "gpipe":
                assert work["order"] == "F" * count + "B" * count
                assert work["kept"] == (count if rank else 0)
            elif (
                mode.chunks == 1
            ):  # what is kept: the activations of as many micro-batches as stages lie ahead
                ahead = min(stages - rank, count)
                assert work["order"] == "F" * ahead + "BF" * (count - ahead) + "B" * ahead
                assert work["kept"] == (ahead if rank else 0)


def _sharded_work(output: Path) -> list[dict]:
    return _work_of_steps(2, [CHUNKS], LAYERS, output)


def test_interleaved_stages_gather_once_and_reduce_once(tmp_path):
    sends = _expected_sends(2, 2, BATCH // 2 // 2, 0)
    units = 2 + 1  # the layers of each part, the rest
    for (work,) in run_distributed(_sharded_work, 4, tmp_path):
        gathers = {"_allgather_base_": units, "_reduce_scatter_base_": units}
        assert work["calls"] == {"send": sends, "recv_": sends, "broadcast_": 1, "allreduce_": 1, **gathers}


STAGED, PARTED, DATA, TENSOR = (2, 1, 1), (2, 1, 2), (1, 1, 1), (1, 2, 1)  # (pipeline, tensor, parts a stage)
MOVES = [(DATA,), (STAGED, STAGED), (PARTED, TENSOR), (DATA, PARTED)]


def _resumed(output: Path) -> dict[tuple, list[float]]:
    """Trainings that begin on one layout and, after a stop at step 3, end on another; their losses."""
    without_measuring()
    meshes, found = Meshes(), {}
    for move in MOVES:
        for number, (stages, tensor, parts) in enumerate(move, start=1):
            mesh = meshes[stages, tensor, False, parts]
            observers = [signal_after(2, signal.SIGTERM)] if number < len(move) else []
            task = RandomTask(CONFIGS["gpt2"], mesh)
            train(task, mesh, ADAM, output / str(move), RunOptions(), observers)
        lines = (output / str(move) / "metrics.jsonl").read_text().splitlines()
        found[move] = [json.loads(line)["loss"] for line in lines]
    return found


def test_a_training_goes_on_in_any_layout_and_delivers_the_same_model(tmp_path):
    found = run_distributed(_resumed, 2, tmp_path)[0]
    wanted, whole = found[(DATA,)], TensorFiles(tmp_path / str((DATA,)) / "model")
    assert len(wanted) == ADAM.steps
    for move in MOVES:
        np.testing.assert_allclose(found[move], wanted, rtol=1e-4, err_msg=str(move))
        model = tmp_path / str(move) / "model"
        files = TensorFiles(model)
        assert files.names == whole.names, "each tensor once, and all of them"
        assert (model / INDEX_FILE).exists() == (move[-1][0] == 2)
        for tensor in files.names:
            difference = (files.read(tensor) - whole.read(tensor)).abs().max().item()
            assert difference < ADAM.steps * ADAM.learning_rate, (move, tensor)
    for move, parts in ((MOVES[1], 1), (MOVES[3], 2)):
        folder = tmp_path / str(move)
        index = json.loads((folder / "model" / INDEX_FILE).read_text())["weight_map"]
        assert set(index.values()) == {f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
        assert index["token_embedding.weight"].startswith("model-00001")
        _assert_throughput(folder, 1 / (parts * ADAM.global_batch + 1))
    logits = run_distributed(_logits, 2, [tmp_path / str(move) for move in MOVES])[0]
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], atol=0.05)


def _logits(directories: list[Path]) -> list[np.ndarray]:
    """Of models on two tensor ranks: this rank's columns."""
    mesh = initialize(2)
    tokens = random_batch(CONFIGS["gpt2"], np.arange(2))["tokens"]
    return [load_model(directory, mesh)(tokens).detach().numpy() for directory in directories]


def _assert_throughput(output: Path, theory: float) -> None:
    """Tokens and model FLOPs of a step over its time; each device did half of them."""
    for line in (output / "logs/throughput.jsonl").read_text().splitlines()[3:]:
        record = json.loads(line)
        seconds = record["step_seconds"]
        flops = ADAM.global_batch * sequence_flops(CONFIGS["gpt2"], 16, 16).model
        assert record["tokens_per_second"] * seconds == pytest.approx(ADAM.global_batch * 16, rel=1e-4)
        assert record["model_tflops"] * 2 * seconds * 1e12 == pytest.approx(flops, rel=1e-4)
        assert record["bubble"] == pytest.approx(theory, rel=1e-4) and 0 < record["idle"] < 1


def _long(output: Path, rank: int = -1, after_steps: int = 0) -> str:
    observers = [signal_after(after_steps)] if int(os.environ["RANK"]) == rank else []
    without_measuring()
    mesh = initialize(2, pipeline_parallel=2)
    task = RandomTask(DROPPING["gpt2"], mesh)
    training = replace(ADAM, steps=6, checkpoint_interval=2)
    return train(task, mesh, training, output, RunOptions(), observers).status


def test_killed_it_ends_the_same_to_the_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_distributed(_long, 4, whole)
    with pytest.raises(AssertionError, match=r"exit code -9|Connection (reset|closed)"):
        run_distributed(_long, 4, killed, 3, 5)
    assert run_distributed(_long, 4, killed) == ["finished"] * 4
    last = max(whole.glob("checkpoints/step-*"))
    files = [whole / "metrics.jsonl", *whole.glob("model/*"), *last.glob("*.distcp")]
    assert len(files) == 1 + 4 + 4
    for path in files:
        assert (killed / path.relative_to(whole)).read_bytes() == path.read_bytes(), path


def _message(kind: type[Exception], function, *arguments) -> str:
    with pytest.raises(kind) as raised:
        function(*arguments)
    return str(raised.value)


def _with_a_full_disk(task: RandomTask, mesh: Mesh, directory: Path) -> str:
    import core.model_directory as model_directory

    def full(*arguments) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        if mesh.pipeline_rank == 1:
            patch.setattr(model_directory, "write_file", full)
        return _message(UserError, task.save, directory)


def _failures(output: Path) -> dict[str, str]:
    """What goes wrong on one stage, as this rank hears of it."""
    without_measuring()
    mesh = initialize(1, pipeline_parallel=2)
    found = {}
    task = RandomTask(CONFIGS["gpt2"], mesh)
    found["disk"] = _with_a_full_disk(task, mesh, output / "disk/model")
    tied = task.network.token_embedding.weight
    assert isinstance(tied, DTensor)
    if mesh.has_last_stage:
        with torch.no_grad():
            tied.to_local()[3, 2] += 1e-3
    found["weights"] = _message(RanksDisagree, check_same_weights, task.model, mesh, "now")

    def explode(done: int) -> None:
        layer = getattr(task.network.transformer.layers, "3", None)
        if done == 2 and layer is not None:
            with torch.no_grad():
                layer.feed_forward.expand.weight.to_local().fill_(float("nan"))

    task = RandomTask(CONFIGS["gpt2"], mesh)
    arguments = (task, mesh, ADAM, output / "nan", RunOptions(), [AfterStep(explode)])
    found["nan"] = _message(NonFiniteLoss, train, *arguments)

    task = RandomTask(CONFIGS["gpt2"], mesh)
    whole_batch = task.batch
    task.batch = lambda indices: {
        k: v[:, : 16 - int(indices[0] % 2)] for k, v in whole_batch(indices).items()
    }
    found["lengths"] = _message(UserError, train, task, mesh, ADAM, output / "lengths")

    return found


def test_what_goes_wrong_on_one_stage_is_said_on_all(tmp_path):
    first, second = run_distributed(_failures, 2, tmp_path)
    assert first == second
    assert "rank 1: [Errno 28] No space left" in first["disk"] and "make room" in first["disk"]
    assert not (tmp_path / "disk/model").exists()
    assert "network.token_embedding.weight on rank 1 is not rank 0's" in first["weights"]
    assert "the language_model loss is nan at step 3" in first["nan"]
    assert (
        "micro-batches of 15 and 16 tokens" in first["lengths"] and "pipeline_parallel 1" in first["lengths"]
    )


def _hanging(output: Path) -> None:
    mesh = initialize(1, timeout=datetime.timedelta(seconds=3), pipeline_parallel=2)
    hang = AfterStep(lambda done: mesh.rank == 1 and time.sleep(60))
    task = RandomTask(CONFIGS["gpt2"], mesh)
    (output / str(mesh.rank)).write_text(_message(LostRank, train, task, mesh, ADAM, output, None, [hang]))
    os._exit(LostRank.exit_code)


def test_a_stage_that_hangs_is_named(tmp_path):
    assert exit_codes(_hanging, 2, tmp_path) == [1, 1]
    said = (tmp_path / "0").read_text()
    assert "rank 1 does not get on: it has been telling of step 1, in" in said
    assert "goes on from the last checkpoint" in said


def test_an_error_in_a_pass_is_what_was_raised_and_not_what_torch_makes_of_it():
    with pytest.raises(torch.OutOfMemoryError, match="no room"), _own_errors():
        try:
            raise torch.OutOfMemoryError("no room")
        except RuntimeError as error:
            raise RuntimeError("failed to run forward: args (), kwargs {}") from error


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"zero": 2}, "parallel.zero: must be 0 or 1 with pipeline_parallel 2, is 2"),
        ({"pipeline_parallel": 0}, "parallel.pipeline_parallel: must be"),
        ({"pipeline_parallel": 1, "pipeline_chunks": 2}, "parallel.pipeline_chunks: must be 1 without"),
        (
            {"pipeline_chunks": 2, "pipeline_schedule": "gpipe"},
            "parallel.pipeline_schedule: must be '1f1b' with",
        ),
    ],
)
def test_layouts_that_cannot_be_are_refused(change, problem):
    assert not ParallelConfig(pipeline_parallel=2, pipeline_chunks=2, zero=0).errors()
    (error,) = ParallelConfig(**{"pipeline_parallel": 2, **change}).errors()
    assert error.startswith(problem)


def test_models_and_batches_that_do_not_fill_a_pipeline_are_refused():
    (error,) = replace(GPT2, layers=6).layout_errors(1, "models.x", stages=4)
    assert error.startswith("models.x: layers 6 is not divisible by the 4 stages of the pipeline")
    assert error.endswith("its divisors are 1, 2, 3, 6")
    training = replace(SGD, global_batch=8, micro_batch=2)
    assert not training.layout_errors(2, "training", 2)
    (error,) = training.layout_errors(2, "training", 4)
    assert (
        "global_batch 8 over data_parallel 2 is 2 micro-batches of 2, fewer than pipeline_parallel 4" in error
    )
    (error,) = replace(training, global_batch=6).layout_errors(1, "training", 2, 2)
    assert "is 3 micro-batches, and pipeline_chunks 2 need a multiple of pipeline_parallel 2" in error
    assert not replace(training, global_batch=6).layout_errors(1, "training", 2)


class _OwnForward(GPT2Model):
    def forward(self, tokens, places=None, cache=None):
        return 2 * super().forward(tokens, places, cache)


class _WithStages(_OwnForward):
    def begin(self, batch):
        return super().begin(batch)

    def finish(self, values, batch):
        return 2 * super().finish(values, batch)


def test_objectives_and_networks_without_stages_are_refused():
    mesh = SimpleNamespace(pipeline_size=2, pipeline_chunks=1)
    assert "layout.zero: must be 0 or 1" in stage_errors(nn.Linear(1, 1), mesh, zero=3)[0]

    def errors(network: type) -> list[str]:
        objective = GPT2LanguageModeling.__new__(GPT2LanguageModeling)
        nn.Module.__init__(objective)
        objective.network = network.__new__(network)
        return stage_errors(objective, mesh)

    assert errors(GPT2Model) == errors(_WithStages) == []
    assert "_OwnForward has a forward of its own, but not begin and finish" in errors(_OwnForward)[0]
    assert (
        "Linear is no core.models.transformer.PretrainingObjective" in stage_errors(nn.Linear(1, 1), mesh)[0]
    )


def test_the_bubble():
    # Of 4 stages and 8 micro-batches, a rank works 8 units of 11; with 2 parts 16 halves of 19.
    assert bubble(4, 8) == pytest.approx(3 / 11)
    assert bubble(4, 8, parts=2) == pytest.approx(3 / 19)
    assert bubble(1, 8) == 0
