"""Pipeline parallelism: the numbers of a plain single-process model on every layout, schedule and mode, by the trainer;
what is sent; what a stage keeps; checkpoints and model directories that know nothing of stages; and what is refused."""

import datetime
import json
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import BERT, GPT2, POST_NORM_BERT, RandomTask, random_batch, whole
from observing import AfterStep, signal_after
from reference import bert_loss, gpt2_loss
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

import core.training.trainer as trainer
from core.config import ModelConfig, ParallelConfig, TrainingConfig
from core.errors import UserError
from core.model_directory import load_model
from core.models.gpt2 import GPT2LanguageModeling, GPT2Model
from core.parallel.mesh import Mesh, initialize
from core.tensor_files import INDEX_FILE, TensorFiles
from core.training.errors import LostRank, NonFiniteLoss, RanksDisagree
from core.training.pipeline import Pipeline, _own_errors
from core.training.safety import check_same_weights
from core.training.stages import bubble, stage_errors
from core.training.trainer import RunOptions, train

LAYERS = 4
CONFIGS = {name: replace(config, layers=LAYERS) for name, config in
           (("gpt2", GPT2), ("bert", BERT), ("post-norm bert", POST_NORM_BERT))}  # fmt: skip
DROPPING = {name: replace(CONFIGS[name], dropout=0.1, attention_dropout=0.1) for name in ("gpt2", "bert")}
RATE = 0.5
STEPS, BATCH, SAMPLES = 3, 8, 2 * 8 + 3  # the last batch is short
SGD = TrainingConfig(
    steps=STEPS, global_batch=BATCH, micro_batch=1, learning_rate=RATE, schedule="constant", clip_gradient_norm=0.0,
)  # fmt: skip
ADAM = TrainingConfig(
    steps=8,
    global_batch=4,
    micro_batch=1,
    learning_rate=1e-2,
    warmup_steps=2,
    checkpoint_interval=4,
    log_interval=1,
)


@dataclass(frozen=True)
class Mode:
    model: str = "gpt2"
    micro_batch: int = 1
    recompute: str = "none"
    zero: int = 1
    sequence_parallel: bool = False
    schedule: str = "1f1b"
    chunks: int = 1
    precision: str = "fp32"
    drops: bool = False

    def training(self) -> TrainingConfig:
        return replace(
            SGD, micro_batch=self.micro_batch, recompute=self.recompute, precision=self.precision,
            loss_scale_window=2, initial_loss_scale=2.0**20,
        )  # fmt: skip

    def config(self) -> ModelConfig:
        return (DROPPING if self.drops else CONFIGS)[self.model]


CHUNKS = Mode(chunks=2)
DROPS = [
    Mode(drops=True),
    Mode(drops=True, recompute="full"),
    Mode("bert", drops=True, recompute="selective"),
]
MODES = {  # by (pipeline, data, tensor)
    (2, 1, 1): [
        Mode(),
        Mode(schedule="gpipe", recompute="full"),
        Mode(micro_batch=3),  # 3, 3 and 2 samples
        replace(CHUNKS, recompute="full"),
        Mode("bert", micro_batch=2),
        replace(CHUNKS, model="bert", recompute="selective"),
        Mode("post-norm bert", micro_batch=4),
        replace(CHUNKS, model="post-norm bert", micro_batch=2),
        Mode(precision="bf16", micro_batch=2),
        replace(CHUNKS, precision="fp16", micro_batch=2),
        *DROPS,
        replace(CHUNKS, drops=True, recompute="full"),
        Mode(drops=True, schedule="gpipe"),
    ],
    (2, 2, 1): [
        Mode(zero=0),
        Mode(micro_batch=2),
        Mode(schedule="gpipe", recompute="selective"),
        replace(CHUNKS, zero=0),
        replace(CHUNKS, recompute="full"),
        Mode("bert"),
        replace(CHUNKS, model="post-norm bert"),
        Mode(precision="bf16"),
        replace(CHUNKS, precision="bf16", zero=0),
    ],
    (2, 1, 2): [
        Mode(recompute="full"),
        Mode(sequence_parallel=True),
        replace(CHUNKS, sequence_parallel=True, recompute="selective"),
        Mode("bert", sequence_parallel=True, micro_batch=2),
        replace(CHUNKS, model="post-norm bert", sequence_parallel=True),
        Mode(drops=True, recompute="full"),
    ],
    (4, 1, 1): [
        Mode(),
        Mode(schedule="gpipe", recompute="full"),
        Mode("bert", micro_batch=2),
        Mode("post-norm bert"),
        Mode(drops=True),
    ],
}  # fmt: skip


class _RecordingSGD(torch.optim.SGD):
    """Keeps the whole gradients of every step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=RATE)
        self.model, self.seen = model, []

    def step(self, closure=None):
        self.seen.append({name: whole(p.grad) for name, p in self.model.named_parameters()})
        return super().step(closure)


class _Task(RandomTask):
    """Random samples, and others of them to validate on."""

    def __init__(self, config: ModelConfig, mesh: Mesh, total_samples: int = SAMPLES) -> None:
        super().__init__(config, mesh, total_samples)
        held_out = SimpleNamespace(total_samples=11, counts=self.counts)
        held_out.batch = lambda indices: self.batch(indices + 500)
        self.validation = held_out


class Meshes(dict):
    """By (pipeline, tensor, sequence_parallel, chunks), each made once."""

    def __missing__(self, key: tuple) -> Mesh:
        stages, tensor, split, chunks = key
        self[key] = initialize(tensor, split, pipeline_parallel=stages, pipeline_chunks=chunks)
        return self[key]


def _sgd_steps(mode: Mode, mesh: Mesh, output: Path) -> dict:
    """What the trainer with plain SGD gives, as this rank sees it."""
    task = _Task(mode.config(), mesh)
    task.save = lambda directory: None
    optimizers = []
    build = trainer.build_optimizer
    trainer.build_optimizer = lambda model, config: optimizers.append(_RecordingSGD(model)) or optimizers[0]
    training = replace(mode.training(), validation_interval=STEPS, validation_batches=2)
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
    for name in ("losses", "norms", "validation"):
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


def _work_of_a_step(stages: int, mode: Mode, layers: int, output: Path) -> dict:
    """What the second step's passes send, and in which order this rank computes."""
    mesh = initialize(1, pipeline_parallel=stages, pipeline_chunks=mode.chunks)
    task = RandomTask(replace(GPT2, layers=layers), mesh)
    work: dict = {}
    passes, compute, before = Pipeline.train, Pipeline.compute, Pipeline.before_backward
    order: list = []

    def counting(pipeline, *arguments):
        order.clear()
        with _Calls() as counter:
            sums = passes(pipeline, *arguments)
        work.update(calls=dict(counter.calls), bytes=dict(counter.bytes), order="".join(order))
        return sums

    def computing(pipeline, part, number, received):
        order.append("F")
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
    return [_work_of_a_step(stages, mode, layers, output) for mode in modes]


def _expected_sends(stages: int, parts: int, micro_batches: int, rank: int) -> int:
    """One each way per boundary and micro-batch, of the boundaries of this rank's stages."""
    last = stages * parts - 1
    own = range(rank, last + 1, stages)
    return micro_batches * sum((stage < last) + (stage > 0) for stage in own)


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_what_stages_send_and_when_they_compute(stages, tmp_path):
    # On gloo, a wait for only one of several messages, or a receive before a send on both sides, would hang here.
    modes = [Mode(), Mode(schedule="gpipe")] + [CHUNKS] * (stages < 4)
    layers, count = 2 * stages, BATCH
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
            if mode.schedule == "gpipe":
                assert work["order"] == "F" * count + "B" * count
            elif (
                mode.chunks == 1
            ):  # what is kept: the activations of as many micro-batches as stages lie ahead
                ahead = min(stages - rank, count)
                assert work["order"] == "F" * ahead + "BF" * (count - ahead) + "B" * ahead


def _sharded_work(output: Path) -> list[dict]:
    return _work_of_steps(2, [replace(CHUNKS, zero=0), CHUNKS], LAYERS, output)


def test_interleaved_stages_gather_once_and_reduce_once(tmp_path):
    sends = _expected_sends(2, 2, BATCH // 2, 0)
    units = LAYERS // 2 + 1
    for plain, split in run_distributed(_sharded_work, 4, tmp_path):
        assert plain["calls"] == {"send": sends, "recv_": sends, "broadcast_": 1, "allreduce_": units + 1}
        gathers = {"_allgather_base_": units, "_reduce_scatter_base_": units}
        assert split["calls"] == {"send": sends, "recv_": sends, "broadcast_": 1, "allreduce_": 1, **gathers}


def _resumed(output: Path, layouts: list[tuple[int, int, int]], chunks: int) -> dict[str, list[float]]:
    """Trainings that begin on each layout and, after a stop at step 4, end on each; their losses by "from to"."""
    meshes, found = Meshes(), {}
    for first in layouts:
        for second in layouts:
            name = f"{first} {second}"
            for layout, observers in ((first, [signal_after(4, signal.SIGTERM)]), (second, [])):
                stages, _, tensor = layout
                mesh = meshes[stages, tensor, False, chunks if stages > 1 else 1]
                task = RandomTask(CONFIGS["gpt2"], mesh)
                train(task, mesh, ADAM, output / name, RunOptions(), observers)
            lines = (output / name / "metrics.jsonl").read_text().splitlines()
            found[name] = [json.loads(line)["loss"] for line in lines]
    return found


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_training_goes_on_in_any_layout_and_delivers_the_same_model(chunks, tmp_path):
    layouts = [(2, 1, 1), (1, 2, 1), (1, 1, 2)]
    found = run_distributed(_resumed, 2, tmp_path, layouts[: 4 - chunks], chunks)[0]
    wanted = found["(1, 2, 1) (1, 2, 1)"]
    assert len(wanted) == ADAM.steps and len(found) == (4 - chunks) ** 2
    whole = TensorFiles(tmp_path / "(1, 2, 1) (1, 2, 1)/model")
    for name, losses in found.items():
        np.testing.assert_allclose(losses, wanted, rtol=1e-4, err_msg=name)
        model = tmp_path / name / "model"
        files = TensorFiles(model)
        assert files.names == whole.names, "each tensor once, and all of them"
        assert (model / INDEX_FILE).exists() == name.endswith("(2, 1, 1)")
        for tensor in files.names:
            difference = (files.read(tensor) - whole.read(tensor)).abs().max().item()
            assert difference < ADAM.steps * ADAM.learning_rate, (name, tensor)
    staged = tmp_path / "(2, 1, 1) (2, 1, 1)/model"
    index = json.loads((staged / INDEX_FILE).read_text())["weight_map"]
    assert set(index.values()) == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    assert index["token_embedding.weight"].startswith("model-00001")
    logits = run_distributed(_logits, 2, [staged, tmp_path / "(1, 2, 1) (1, 2, 1)/model"])[0]
    np.testing.assert_allclose(*logits, atol=0.05)


def _logits(directories: list[Path]) -> list[np.ndarray]:
    """Of models on two tensor ranks: this rank's columns."""
    mesh = initialize(2)
    tokens = random_batch(CONFIGS["gpt2"], np.arange(2))["tokens"]
    return [load_model(directory, mesh)(tokens).detach().numpy() for directory in directories]


def _long(output: Path, rank: int = -1, after_steps: int = 0) -> str:
    observers = [signal_after(after_steps)] if int(os.environ["RANK"]) == rank else []
    mesh = initialize(2, pipeline_parallel=2)
    task = RandomTask(DROPPING["gpt2"], mesh)
    training = replace(ADAM, steps=9, checkpoint_interval=2)
    return train(task, mesh, training, output, RunOptions(), observers).status


def test_killed_it_ends_the_same_to_the_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_distributed(_long, 4, whole)
    for rank, step in ((3, 4), (0, 7)):  # the last stage's, and the one that keeps the records
        with pytest.raises(AssertionError, match=r"exit code -9|Connection (reset|closed)"):
            run_distributed(_long, 4, killed, rank, step)
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


def _hanging(output: Path) -> str:
    mesh = initialize(1, timeout=datetime.timedelta(seconds=3), pipeline_parallel=2)
    hang = AfterStep(lambda done: mesh.rank == 1 and time.sleep(8))
    task = RandomTask(CONFIGS["gpt2"], mesh)
    return _message(LostRank, train, task, mesh, ADAM, output, None, [hang])


def test_a_stage_that_hangs_is_named(tmp_path):
    first, _ = run_distributed(_hanging, 2, tmp_path)
    assert "Ranks 1 failed" in first and "goes on from the last checkpoint" in first


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
    mesh = SimpleNamespace(pipeline_size=2)

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
    assert not stage_errors(nn.Linear(1, 1), SimpleNamespace(pipeline_size=1))


def test_the_bubble():
    # Of 4 stages and 8 micro-batches, a rank works 8 units of 11; with 2 parts 16 halves of 19.
    assert bubble(4, 8) == pytest.approx(3 / 11)
    assert bubble(4, 8, parts=2) == pytest.approx(3 / 19)
    assert bubble(1, 8) == 0
