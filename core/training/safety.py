"""What is checked before and while a training runs: that ranks agree, which rank is lost, and what to do without memory.

A run that goes wrong in silence costs more than one that stops.
"""

import contextlib
import functools
import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, Placement

from core.parallel.mesh import Mesh
from core.training.errors import (
    BadSamples,
    LostRank,
    NonFiniteGradient,
    NonFiniteLoss,
    NonFiniteState,
    OutOfMemory,
    RanksDisagree,
)
from core.training.roll_call import lost_rank
from core.training.watchdog import Watchdog

_SHOWN = 5
_OUT_OF_MEMORY_SIGNS = ("out of memory", "DefaultCPUAllocator")
# In lower case: gloo's, the store's, and NCCL's.
_LOST_SIGNS = (
    *("timed out", "connection closed", "connection reset", "read error", "broken pipe"),
    *("connection was likely closed", "failed to recv, got 0 bytes"),
    *("before timing out", "communicator was aborted", "remote process exited", "ncclremoteerror"),
)


def check_same_settings(settings: Mapping[str, Any], mesh: Mesh) -> None:
    """Compare what every rank was told to do. Collective.

    Raises:
        RanksDisagree: some rank has other settings than rank 0; the message names it and the first of them.
    """
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).digest()
    if len(set(_gathered(digest, mesh))) == 1:
        return  # all of it, from hundreds of ranks, would be tens of megabytes for each
    given = _gathered(dict(settings), mesh)
    lines = []
    for rank, theirs in enumerate(given):
        for name, value in given[0].items():
            if theirs.get(name) != value:
                lines.append(f"rank {rank} has {name} {theirs.get(name)!r}, rank 0 has {value!r}")
    if lines:
        raise RanksDisagree(
            f"the ranks were not given the same settings: {_listed(lines)}; start all of them with the same "
            "command, recipe, data and version"
        )


def check_same_weights(model: nn.Module, mesh: Mesh, when: str) -> None:
    """Compare, bit for bit, parameters (or parts of them) that several ranks hold the same of. Collective.

    Args:
        when: for the message.

    Raises:
        RanksDisagree: some rank's copy differs; the message names parameter and ranks.
    """
    parameters = {name: cast(DTensor, parameter) for name, parameter in model.named_parameters()}
    sums = torch.stack([_checksum(parameter) for parameter in parameters.values()])
    agree = torch.tensor(_copies_agree(parameters, sums, mesh), dtype=torch.int64)
    dist.all_reduce(agree, op=dist.ReduceOp.MIN, group=mesh.control_group)
    if not agree.item():
        raise RanksDisagree(
            f"ranks that must hold the same weights differ {when}: "
            f"{_listed(_differing(parameters, sums.tolist(), mesh))}; a device or a link is faulty, or the ranks run "
            "different software; go on from a checkpoint without the faulty host"
        )


def _copies_agree(parameters: Mapping[str, DTensor], sums: torch.Tensor, mesh: Mesh) -> bool:
    """Whether this rank's parts are those of its neighbours along every dimension of the mesh on which a parameter is not
    split: then all copies are the same, whatever the number of ranks, and each has sent no more than its own sums.

    Args:
        sums: of the parameters, [parameters] int64.
    """
    copied: dict[str, list[int]] = {"dp": [], "tp": []}
    for number, parameter in enumerate(parameters.values()):
        names = parameter.device_mesh.mesh_dim_names or ()
        split = {
            name
            for name, placement in zip(names, parameter.placements, strict=True)
            if not placement.is_replicate()
        }
        for dimension in copied.keys() - split:  # with zero 0 it is "shard" that is split, over one rank
            copied[dimension].append(number)
    groups = {"dp": mesh.data_group, "tp": mesh.tensor_group}
    same = [_same_along(sums[copied[name]], group) for name, group in groups.items() if copied[name]]
    if mesh.pipeline_size > 1:  # the ends hold the same embedding
        own = dict(zip(parameters, sums.tolist(), strict=True))
        of_stages: list[Any] = [None] * mesh.pipeline_size
        dist.all_gather_object(of_stages, own, group=mesh.pipeline_group)
        same += [theirs.get(name, value) == value for theirs in of_stages for name, value in own.items()]
    return all(same)


def _same_along(values: torch.Tensor, group: dist.ProcessGroup) -> bool:
    """Whether all ranks of a group give the same integers."""
    if group.size() == 1:
        return True
    extremes = torch.stack([values, ~values])  # the largest, and of the complements that of the least
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX, group=group)
    return bool(torch.equal(extremes[0], ~extremes[1]))


def _differing(parameters: Mapping[str, DTensor], sums: list[int], mesh: Mesh) -> list[str]:
    """A line for each parameter of which a rank holds another copy. Collective."""
    every = _gathered(dict(zip(parameters, sums, strict=True)), mesh)
    lines = []
    holders = functools.cache(functools.partial(_holders, mesh))
    for name, parameter in parameters.items():
        for found in holders(parameter.device_mesh.mesh_dim_names or (), parameter.placements):
            first, *others = (rank for rank in found if name in every[rank])  # other stages have other layers
            differing = [rank for rank in others if every[rank][name] != every[first][name]]
            if differing:
                lines.append(f"{name} on rank {', '.join(map(str, differing))} is not rank {first}'s")
    if mesh.pipeline_size > 1:  # each stage has looked at its own
        lines = list(dict.fromkeys(line for theirs in _gathered(lines, mesh) for line in theirs))
    return lines


def bad_samples(problem: str, mesh: Mesh) -> BadSamples:
    """What to raise on all ranks where some could not make its batches of the data. Collective.

    Args:
        problem: of this rank; empty where it has none.
    """
    return BadSamples(next(filter(None, _gathered(problem, mesh))))


def non_finite_loss(
    losses: Mapping[str, float], sums: Mapping[str, torch.Tensor], mesh: Mesh, what: str
) -> NonFiniteLoss:
    """What to raise where some rank's mean loss is no number. Collective.

    Args:
        losses: by term, the means that this rank sees.
        sums: by term, this rank's own part of them.
        what: the loss, and when; for the message.
    """
    bad = {term: value for term, value in losses.items() if not math.isfinite(value)}
    own = any(not math.isfinite(value.item()) for value in sums.values())
    seen = _gathered((bad, own), mesh)
    term, value = next(item for theirs, _ in seen for item in theirs.items())
    ranks = ", ".join(str(rank) for rank, (_, is_source) in enumerate(seen) if is_source)
    return NonFiniteLoss(
        f"the {term} loss is {value} {what}, on rank {ranks}; lower the learning rate, or go on from an earlier "
        "checkpoint"
    )


def non_finite_gradient(model: nn.Module, mesh: Mesh, step: int) -> NonFiniteGradient:
    """What to raise where the gradients' norm is no number on some rank, while the loss is one. Collective.

    Args:
        step: the one that was not done, 1 is the first.
    """
    gradients = {name: _local(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    norms = torch.stack(torch._foreach_norm(list(gradients.values()))).tolist()
    bad = [name for name, norm in zip(gradients, norms, strict=True) if not math.isfinite(norm)]
    return NonFiniteGradient(
        f"the loss of step {step} is finite, but not the norm of its gradient of {_listed(_by_rank(bad, mesh))}; no "
        "weight was changed. Lower the learning rate, or go on from an earlier checkpoint; if the same command gets "
        "past this step, a device is faulty"
    )


def check_finite(model: nn.Module, optimizer: torch.optim.Optimizer, mesh: Mesh, when: str) -> None:
    """Look at all that a checkpoint keeps: weights and the optimizer's state. Collective.

    Args:
        when: and what to do, for the message.

    Raises:
        NonFiniteState: on all ranks; the message names the tensors and the ranks.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[name] = _local(parameter)
        for kind, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name} ({kind})"] = _local(value)
    # A value that is none is not lost in a sum, which takes a twentieth of the time of looking at each value.
    sums = torch.stack(
        [value.sum(dtype=torch.float32).to(mesh.device) for value in tensors.values()]
    ).tolist()
    suspects = [name for name, value in zip(tensors, sums, strict=True) if not math.isfinite(value)]
    bad = [name for name in suspects if not tensors[name].isfinite().all()]
    if lines := _by_rank(bad, mesh):
        raise NonFiniteState(f"{_listed(lines)} holds values that are no finite numbers {when}")


def _by_rank(own: list[str], mesh: Mesh) -> list[str]:
    """A line for each thing that some rank names, with these ranks. Collective."""
    ranks: dict[str, list[int]] = {}
    for rank, names in enumerate(_gathered(own, mesh)):
        for name in names:
            ranks.setdefault(name, []).append(rank)
    return [f"{name} on rank {', '.join(map(str, found))}" for name, found in ranks.items()]


def _gathered(own: Any, mesh: Mesh) -> list[Any]:
    """What every rank gives, by rank. Collective."""
    given: list[Any] = [None] * mesh.world_size
    dist.all_gather_object(given, own, group=mesh.control_group)
    return given


def _local(value: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor."""
    value = value.detach()
    return value.to_local() if isinstance(value, DTensor) else value


def _checksum(parameter: torch.Tensor) -> torch.Tensor:
    """The sum of the local values' bits, which tells any change of one of them: [] int64."""
    return _local(parameter).contiguous().view(torch.int32).sum(dtype=torch.int64)


def _holders(mesh: Mesh, names: tuple[str, ...], placements: tuple[Placement, ...]) -> list[list[int]]:
    """The ranks of the world in groups that hold the same part of a parameter with these placements."""
    holders: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for rank in range(mesh.world_size):
        data_rank = rank // mesh.tensor_size % mesh.data_size
        coordinates = {"dp": data_rank, "shard": 0, "tp": rank % mesh.tensor_size}
        part = (
            coordinates[name]
            for name, placement in zip(names, placements, strict=True)
            if not placement.is_replicate()
        )
        holders[tuple(part)].append(rank)
    return list(holders.values())


@contextlib.contextmanager
def explained_failures(mesh: Mesh, watchdog: Watchdog | None = None) -> Iterator[None]:
    """Inside, running out of memory and losing a rank end in messages that say so.

    Args:
        watchdog: knows how far this rank is, for the others.

    Raises:
        OutOfMemory: on the rank that has none left.
        LostRank: a collective ended without some rank; the message names it.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in _OUT_OF_MEMORY_SIGNS):
            raise OutOfMemory(_out_of_memory(mesh, text)) from error
        if any(sign in text.lower() for sign in _LOST_SIGNS):
            watchdog = watchdog or Watchdog(mesh, lambda *_: None)
            found = watchdog.roll_call.hold(watchdog.standing(waits=True))
            raise LostRank(
                lost_rank(f"a collective did not end ({_brief(text)})", found), found.answered[0] == mesh.rank
            ) from error
        raise


def _out_of_memory(mesh: Mesh, text: str) -> str:
    return (
        f"rank {mesh.rank} ran out of memory ({_brief(text)}). In this order: a smaller micro_batch (the same "
        'results, but for the masks of dropout); recompute = "selective", then "full"; precision = "bf16"; more '
        "processes with --zero 2 or 3; --sequence-parallel; a larger --tensor-parallel; --pipeline-parallel"
    )


def _brief(text: str) -> str:
    """An error of torch's without the place in its sources, and without its guesses."""
    line = re.sub(r"^\[/[^\]]*\] ", "", text.splitlines()[0])
    return line.partition(" This is typically")[0].rstrip(".")


def _listed(lines: list[str]) -> str:
    shown = "; ".join(lines[:_SHOWN])
    return shown + (f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")
