"""What a step does on the host without DTensor's own machinery: the same bits, strides and places as with it."""

from unittest import mock

import numpy as np
import torch
from distributed import run_distributed
from objectives import GPT2, RandomTask
from torch.distributed.tensor import DTensor, Partial, Shard

from core.config import TrainingConfig
from core.parallel import layers
from core.parallel.mesh import initialize
from core.training.data_parallel import complete_gradients
from core.training.optimizer import build_optimizer, clip_gradients

_CONFIG = TrainingConfig(steps=3, global_batch=4, micro_batch=4, learning_rate=1e-2, warmup_steps=0)


def _torchs_own(*parameters: DTensor, partial_gradient: bool = False) -> tuple[torch.Tensor, ...]:
    placements = [Partial()] if partial_gradient else None
    return tuple(parameter.to_local(grad_placements=placements) for parameter in parameters)


def _trained(task: RandomTask, optimizer: torch.optim.Optimizer, steps: int = 3) -> list[np.ndarray]:
    """The local bytes of all gradients, norms and weights of some steps; the placements of the first gradients."""
    parts = []
    for step in range(steps):
        sum(task.model(**task.batch(np.arange(4) + 4 * step)).values()).backward()
        parts += [parameter.grad.to_local().clone() for parameter in task.model.parameters()]
        complete_gradients(task.model)
        parts.append(torch.tensor(clip_gradients(task.model.parameters(), 0.5)))
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
    lean = _trained(task, build_optimizer(task.model, _CONFIG))
    task = RandomTask(GPT2, mesh)
    plain = build_optimizer(task.model, _CONFIG)
    plain.__class__ = torch.optim.AdamW
    with mock.patch.object(layers, "local_parts", _torchs_own):
        own = _trained(task, plain)
    found["same bits"] = [np.array_equal(one, other) for one, other in zip(lean, own, strict=True)]

    parameters = list(task.model.parameters())
    sum(task.model(**task.batch(np.arange(4))).values()).backward()
    found["partial"] = sum(p.grad.placements == (Partial(),) for p in parameters)
    complete_gradients(task.model)
    found["places"] = [p.grad.placements == p.placements and p.grad.shape == p.shape for p in parameters]
    wanted = _norm(parameters)
    found["norms"] = (clip_gradients(parameters, 0.0, loss_scale=4.0) * 4.0, wanted)

    weight = layers.new_parameter((8, 4), Shard(0), mesh)
    torch.nn.init.ones_(weight.to_local())
    (layers.local(weight) * torch.arange(16.0).view(4, 4).T).sum().backward()
    found["strides"] = weight.grad.to_local().stride()
    found["values"] = weight.grad.to_local().tolist()
    unused, used = (layers.new_parameter((4, 4), Shard(0), mesh) for _ in range(2))
    layers.local_parts(unused, used)[1].sum().backward()
    found["unused"] = unused.grad is None and used.grad is not None
    return found


def test_a_lean_step_gives_the_bits_of_dtensors_own() -> None:
    for found in run_distributed(_both_ways, 2):
        assert len(found["same bits"]) > 150 and all(found["same bits"])
        assert found["partial"] > 10 and all(found["places"])
        ours, wanted = found["norms"]
        assert abs(ours - wanted) <= 1e-6 * wanted
        assert found["strides"] == (4, 1), "an optimizer's kernel reads a gradient in its parameter's order"
        assert found["values"] == torch.arange(16.0).view(4, 4).T.tolist()
        assert found["unused"]
