"""What a step does on the host without DTensor's own machinery: the same bits, strides and places as with it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest import mock

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import BERT, GPT2, RandomTask, whole
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from core.config import TrainingConfig
from core.models.transformer import TransformerLayer
from core.parallel import layers, parts
from core.parallel.mesh import Mesh, initialize
from core.training.batches import global_counts
from core.training.data_parallel import complete_gradients, shard_over_data
from core.training.observers import Observer
from core.training.optimizer import build_optimizer, scale_gradients, squared_norm
from core.training.schedule import WholeModel
from core.training.trainer import train

_CONFIG = TrainingConfig(steps=3, global_batch=4, micro_batch=4, learning_rate=1e-2, warmup_steps=0)


def _torchs_own(*parameters: DTensor) -> tuple[torch.Tensor, ...]:
    return tuple(parameter.to_local() for parameter in parameters)


def _trained(task: RandomTask, optimizer: torch.optim.Optimizer, mesh: Mesh) -> list[np.ndarray]:
    """The local parts of all gradients and weights of three steps, and the norms."""
    parts = []
    for step in range(3):
        sum(task.model(**task.batch(np.arange(4) + 4 * step)).values()).backward()
        parts += [parameter.grad.to_local().clone() for parameter in task.model.parameters()]
        complete_gradients(task.model, mesh)
        norm = squared_norm(task.model.parameters()).sqrt()
        scale_gradients(task.model.parameters(), norm.item(), 0.5)
        parts.append(norm)
        optimizer.step()
        optimizer.zero_grad()
        parts += [parameter.detach().to_local().clone() for parameter in task.model.parameters()]
    return [part.numpy() for part in parts]


def _norm(parameters: list[torch.Tensor]) -> float:
    """By whole tensors, in double precision."""
    return sum(p.grad.full_tensor().double().square().sum().item() for p in parameters) ** 0.5


def _both_ways() -> dict:
    mesh = initialize(2, sequence_parallel=True)
    found = {}
    task = RandomTask(GPT2, mesh)
    lean = _trained(task, build_optimizer(task.model, _CONFIG), mesh)
    task = RandomTask(GPT2, mesh)
    plain = build_optimizer(task.model, _CONFIG)
    plain.__class__ = torch.optim.AdamW
    with (
        mock.patch.object(layers, "local_parts", _torchs_own),
        mock.patch.object(parts, "local_parts", _torchs_own),
    ):
        own = _trained(task, plain, mesh)
    found["same bits"] = [np.array_equal(one, other) for one, other in zip(lean, own, strict=True)]

    parameters = list(task.model.parameters())
    sum(task.model(**task.batch(np.arange(4))).values()).backward()
    complete_gradients(task.model, mesh)
    found["places"] = [p.grad.placements == p.placements and p.grad.shape == p.shape for p in parameters]
    wanted = _norm(parameters)
    found["norms"] = (squared_norm(parameters).sqrt().item(), wanted)

    weight = parts.new_part((8, 4), 0, mesh)
    torch.nn.init.ones_(weight.to_local())
    (layers.local(weight) * torch.arange(16.0).view(4, 4).T).sum().backward()
    found["strides"] = weight.grad.to_local().stride()
    found["values"] = weight.grad.to_local().tolist()
    unused, used = (parts.new_part((4, 4), 0, mesh) for _ in range(2))
    layers.local_parts(unused, used)[1].sum().backward()
    found["unused"] = unused.grad is None and used.grad is not None
    return found


def test_a_lean_step_gives_the_bits_of_dtensors_own() -> None:
    for found in run_distributed(_both_ways, 2):
        assert len(found["same bits"]) > 150 and all(found["same bits"])
        assert all(found["places"])
        ours, wanted = found["norms"]
        assert abs(ours - wanted) <= 1e-6 * wanted
        assert found["strides"] == (4, 1), "an optimizer's kernel reads a gradient in its parameter's order"
        assert found["values"] == torch.arange(16.0).view(4, 4).T.tolist()
        assert found["unused"]


def _narrow(precision: str) -> list[bool]:
    """Three steps of two micro-batches and a validation on one rank: by narrow copies, and by `fully_shard`."""
    mesh = initialize(1)
    sides = []
    for data_size in (1, 2):  # of one data rank it is told that there are two
        task = RandomTask(GPT2, mesh)
        told = cast(Mesh, SimpleNamespace(data_size=data_size, device_mesh=mesh.device_mesh))
        shard_over_data(task.model, told, precision)
        assert isinstance(task.model, FSDPModule) == (data_size == 2)
        optimizer, schedule = build_optimizer(task.model, _CONFIG), WholeModel(task.model, mesh, 1, 1)
        found = []
        for step in range(3):
            batches = [(task.batch(np.arange(2) + 4 * step + 2 * number), 1.0) for number in range(2)]
            totals = global_counts(task, batches, mesh)
            found += [*schedule.train(batches, totals, step, 4.0).values()]
            found += [parameter.grad.full_tensor() for parameter in task.model.parameters()]
            optimizer.step()
            optimizer.zero_grad()
            found += [*schedule.evaluate(batches).values()]
        sides.append(found)
    return [one.dtype == two.dtype and torch.equal(one, two) for one, two in zip(*sides, strict=True)]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_copies_give_the_bits_of_fully_shard(precision: str) -> None:
    (same,) = run_distributed(_narrow, 1, precision)
    assert len(same) > 80 and all(same)


def _without_a_mask() -> list[bool]:
    task = RandomTask(BERT, initialize())
    masked = task.batch(np.arange(4)) | {"attention_mask": torch.ones(4, 16, dtype=torch.int64)}
    whole = {name: values for name, values in masked.items() if name != "attention_mask"}
    sides = []
    for batch in (masked, whole):
        losses = task.model(**batch)
        sum(losses.values()).backward()
        sides.append([*losses.values(), *(p.grad.to_local() for p in task.model.parameters())])
        task.model.zero_grad()
    return [torch.equal(one, two) for one, two in zip(*sides, strict=True)]


def test_no_mask_gives_what_one_that_hides_nothing_gives() -> None:
    """To the bit, on a processor; on a GPU it is other code."""
    assert all(run_distributed(_without_a_mask, 1)[0])


def _sums_in_bf16() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """This rank's parts of what is yet to be summed, and the sums."""
    mesh = initialize(2, sequence_parallel=True)
    task = RandomTask(GPT2, mesh)
    shard_over_data(task.model, mesh, "bf16")
    sum(task.model(**task.batch(np.arange(4))).values()).backward()
    parameters = [
        getattr(module, name)
        for module in task.model.modules()
        for name in getattr(module, "partial_gradients", ())
    ]
    parts = [parameter.grad.to_local().numpy().copy() for parameter in parameters]
    complete_gradients(task.model, mesh)
    return parts, [parameter.grad.to_local().numpy() for parameter in parameters]


def test_parts_of_the_sequence_are_summed_in_fp32() -> None:
    (parts, sums), (other_parts, other_sums) = run_distributed(_sums_in_bf16, 2)
    assert len(parts) == 1 + 2 * 6 + 2  # positions; two norms and two biases a layer; the final norm
    exact = 0
    for mine, theirs, one, two in zip(parts, other_parts, sums, other_sums, strict=True):
        assert np.array_equal(one, mine + theirs) and np.array_equal(one, two)
        exact += np.array_equal(one, torch.from_numpy(one).bfloat16().float().numpy())
    assert exact < len(parts) / 2, "of sums that bf16 holds, nothing could be seen"


def _kept() -> tuple[float, float]:
    """Values that a layer keeps for its backward pass, in [batch, sequence, hidden] (in bytes of one, of fp32), dropout and
    attention's own left out: with sequence parallelism, and with what was gathered kept."""
    mesh = initialize(2, sequence_parallel=True)
    config = replace(GPT2, hidden=64, heads=4)
    layer = TransformerLayer(config, mesh).train()
    layers.initialize_parameters(layer, 1)
    weights = {p.to_local().untyped_storage().data_ptr() for p in layer.parameters()}
    values = torch.randn(2, 8, 64, requires_grad=True)
    sizes = []
    for overlapped in (True, False):
        kept: dict[int, int] = {}

        def keep(value: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            storage = value.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return value

        with (
            mock.patch.object(torch.compiler, "is_compiling", return_value=not overlapped),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        ):
            result = layer(values)
        sizes.append(sum(kept.values()) / (2 * 16 * 64 * 4))
        del result
    return sizes[0], sizes[1]


def test_what_sequence_parallelism_gathers_is_not_kept() -> None:
    """Two inputs of column-parallel layers, of which half of each is this rank's own: one b·s·h less."""
    for overlapped, kept_whole in run_distributed(_kept, 2):
        assert kept_whole - overlapped == 1.0
        assert overlapped <= 9.1


def _drawn(tensor: int, at_once: int) -> tuple[dict[str, np.ndarray], int, int]:
    """Whole initial values, how many this rank drew for them, and how many of them it holds."""
    mesh = initialize(tensor)
    drawn = []
    normal = torch.Tensor.normal_

    def counting(values: torch.Tensor, *arguments: object, **keywords: object) -> torch.Tensor:
        drawn.append(values.numel())
        return normal(values, *arguments, **keywords)

    with (
        mock.patch.object(layers, "_DRAWN_AT_ONCE", at_once),
        mock.patch.object(layers, "_MOST_PIECES", 4),
        mock.patch.object(torch.Tensor, "normal_", counting),
    ):
        model = RandomTask(replace(GPT2, hidden=48, heads=12, vocabulary_multiple=24), mesh).model
    held = sum(parameter.to_local().numel() for parameter in model.parameters() if parameter.dim() > 1)
    return {name: whole(parameter) for name, parameter in model.named_parameters()}, sum(drawn), held


def test_no_rank_draws_more_initial_values_than_its_share() -> None:
    one, drawn, held = run_distributed(_drawn, 1, 1, 1000)[0]
    assert drawn == held
    small = run_distributed(_drawn, 1, 1, 1 << 22)[0][0]
    differing = {name for name, values in one.items() if not np.array_equal(values, small[name])}
    assert differing == {name for name, values in one.items() if values.ndim > 1 and values.size >= 1000}
    for ranks, most in ((2, 1.0), (3, 1.5)):  # a third has a part of two quarters
        for values, drawn, held in run_distributed(_drawn, ranks, ranks, 1000):
            assert all(np.array_equal(values[name], one[name]) for name in one)
            assert held <= drawn <= most * held
    assert 0.019 < np.concatenate([v.ravel() for n, v in one.items() if "expand.weight" in n]).std() < 0.021


class _Calls(TorchDispatchMode):
    """Names of what torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
        self.names.append(function._schema.name)
        return function(*arguments, **(keywords or {}))


class _EachStep(Observer):
    """Listens from the beginning of each step to its end."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []

    def step_started(self, step: int) -> None:
        self._calls = _Calls()
        self._calls.__enter__()

    def step_done(self, record: dict, throughput: object) -> None:
        self._calls.__exit__(None, None, None)
        self.steps.append(self._calls.names)


def _world_groups() -> int:
    known = torch.distributed.distributed_c10d._world.pg_map
    return sum(group.size() == 4 for group in known)


def _asked_in_a_step(precision: str, output: Path) -> tuple[list[list[str]], int, int]:
    others = _world_groups() - 1  # of trainings before
    mesh = initialize(2)
    each, over_gloo = _EachStep(), []
    all_reduce = torch.distributed.all_reduce

    def noting(values: torch.Tensor, *arguments: object, **keywords: object) -> object:
        over_gloo.append(keywords.get("group") is mesh.control_group and len(each.steps) in (1, 2))
        return all_reduce(values, *arguments, **keywords)

    training = replace(_CONFIG, steps=4, micro_batch=1, log_interval=100, precision=precision)
    with mock.patch.object(torch.distributed, "all_reduce", noting):
        train(RandomTask(GPT2, mesh), mesh, training, output, None, [each])
    return each.steps, sum(over_gloo), _world_groups() - others


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_host_reads_the_device_once_a_step(precision: str, tmp_path: Path) -> None:
    """`item` asks for _local_scalar_dense; `tolist`, of one tensor at the end of the passes, for nothing that stands here. Between
    two steps nothing goes over the hosts' own group. That is the world's on CPUs; checkpoints have another."""
    for steps, over_gloo, groups in run_distributed(_asked_in_a_step, 4, precision, tmp_path):
        assert len(steps) == 4
        for names in steps[1:3]:
            assert "aten::_local_scalar_dense" not in names
            assert len(names) > 100 and any(name.startswith("c10d::allreduce") for name in names)
        assert not over_gloo
        assert groups == 2
