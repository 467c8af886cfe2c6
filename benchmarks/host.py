"""What a layer costs the host: µs of the computing thread, forward and backward, of layers too small to compute for long.

A micro-batch a step, one thread a process; embeddings and the loss are counted with the layers. On a GPU it is this that
small micro-batches wait for. Of two data ranks `fully_shard` gathers weights and sums gradients over gloo, whose own
threads are not counted; nor are the optimizer's steps.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from benchmarks import harness, token_task
from benchmarks.training import PlainGPT2
from core.config import ModelConfig, TrainingConfig
from core.parallel.layers import initialize_parameters
from core.parallel.mesh import initialize
from core.training.batches import global_counts, micro_batches
from core.training.data_parallel import shard_over_data
from core.training.schedule import WholeModel


@dataclass(frozen=True)
class Settings(token_task.Settings):
    """The size of the layers.

    Attributes:
        steps: passes, of which the quickest counts: what disturbs only adds.
    """

    small: ClassVar = ModelConfig("gpt2", 12, 64, 4, 16, 128)
    batch: int = 1
    steps: int = 100


def run(settings: Settings, report: harness.Report) -> None:
    report.note(settings.describe())
    sides = {
        "fp32": (_ours, 1, {"precision": "fp32", "tensor_parallel": 1}),
        "bf16": (_ours, 1, {"precision": "bf16", "tensor_parallel": 1}),
        "bf16, `fully_shard`, two data ranks": (_ours, 2, {"precision": "bf16", "tensor_parallel": 1}),
        "fp32, two tensor ranks": (_ours, 2, {"precision": "fp32", "tensor_parallel": 2}),
        "plain torch, fp32": (_plain, 1, {}),
        "plain torch, bf16, `fully_shard` of each layer, two data ranks": (_plain, 2, {}),
    }
    told = asdict(settings)
    report.compare(
        {
            name: partial(harness.in_fresh_process, measure, ranks=ranks, threads=1, settings=told, **given)
            for name, (measure, ranks, given) in sides.items()
        },
        settings.turns,
        (),
    )


def _ours(settings: dict[str, Any], precision: str, tensor_parallel: int) -> harness.Measurement | None:
    """By the trainer's own schedule, on the main rank."""
    told = Settings(**settings)
    mesh = initialize(tensor_parallel)
    shape, rows = told.shape(), told.batch * mesh.data_size
    task = token_task.TokenTask(
        shape, mesh, rows, lambda indices: token_task.random_tokens(shape, len(indices), 0)
    )
    initialize_parameters(task.model, 1)
    shard_over_data(task.model, mesh, precision)
    config = TrainingConfig(steps=1, global_batch=rows, micro_batch=told.batch, learning_rate=1e-3)
    batches = micro_batches(task, 0, config, mesh)
    totals = global_counts(task, batches, mesh)
    schedule = WholeModel(task.model, mesh, zero=1, seed=0)
    found = _microseconds(told, task.model, lambda: schedule.train(batches, totals, 0))
    main = mesh.is_main
    mesh.shutdown()
    return found if main else None


def _plain(settings: dict[str, Any]) -> harness.Measurement | None:
    """Torch's own layers, as they are on one rank, and by `fully_shard` on two, on the first of them."""
    told = Settings(**settings)
    model = PlainGPT2(told.shape()).train()
    if several := int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for unit in (*model.layers.layers, model):
            fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    values = token_task.random_tokens(told.shape(), told.batch, 0)
    found = _microseconds(told, model, lambda: model(values[:, :-1], values[:, 1:]).backward())
    if not several:
        return found
    main = dist.get_rank() == 0
    dist.destroy_process_group()
    return found if main else None


def _microseconds(settings: Settings, model: nn.Module, step: Callable[[], object]) -> harness.Measurement:
    seconds = []
    for _ in range(settings.steps):
        started = time.thread_time()
        step()
        seconds.append(time.thread_time() - started)
        model.zero_grad(set_to_none=True)
    return {"µs a layer": 1e6 * min(seconds) / settings.shape().layers}
