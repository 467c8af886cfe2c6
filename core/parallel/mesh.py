"""The grid of processes: pipeline stages × data ranks × tensor ranks, and what every layer asks it for."""

import datetime
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.distributed_c10d import _set_pg_timeout

from core.errors import UserError
from core.parallel.random import RandomStreams
from core.processes import allow_open_files

_CONNECTIONS = 2  # of the main rank to each other one, at most: it gathers what they say of a checkpoint
DEFAULT_TIMEOUT = datetime.timedelta(minutes=30)


@dataclass(frozen=True)
class Mesh:
    """A (pipeline, data, tensor) grid. Tensor ranks are neighbours, so that they share a host's fast links; the stages of
    a pipeline, which send each other the least, are farthest apart.

    Attributes:
        device_mesh: dimensions "dp", "shard" and "tp", and before them "pp" where there is a pipeline. "shard" has size
            1: over ("dp", "shard") `fully_shard` shards nothing and reduces gradients as plain data parallelism does.
        device: where this rank computes.
        control_group: all ranks, over gloo: small messages on the host. On CPUs it is that of the world.
        timeout: how long any collective waits for a rank.
        streams: the two random streams of dropout.
        sequence_parallel: between tensor-parallel regions each tensor rank holds its part of the sequence only.
        pipeline_chunks: parts of the model that each rank of a pipeline holds.
        trains: whether parameters may be trained, split over data ranks and saved.

    Groups, ranks and sizes are looked up once: layers ask in every forward pass, and a `DeviceMesh` makes a slice of
    itself for each answer.
    """

    device_mesh: DeviceMesh
    device: torch.device
    control_group: dist.ProcessGroup
    timeout: datetime.timedelta
    streams: RandomStreams
    sequence_parallel: bool = False
    pipeline_chunks: int = 1
    trains: bool = True

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def world_size(self) -> int:
        return dist.get_world_size()

    @property
    def is_main(self) -> bool:
        """True on the one rank that prints and writes."""
        return self.rank == 0

    @cached_property
    def tensor_group(self) -> dist.ProcessGroup:
        return self.device_mesh.get_group("tp")

    @cached_property
    def tensor_rank(self) -> int:
        return self.device_mesh.get_local_rank("tp")

    @cached_property
    def tensor_size(self) -> int:
        return self.device_mesh["tp"].size()

    @cached_property
    def data_group(self) -> dist.ProcessGroup:
        return self.device_mesh.get_group("dp")

    @cached_property
    def data_rank(self) -> int:
        return self.device_mesh.get_local_rank("dp")

    @cached_property
    def data_size(self) -> int:
        return self.device_mesh["dp"].size()

    @cached_property
    def pipeline_size(self) -> int:
        return self.device_mesh["pp"].size() if self._has_pipeline else 1

    @cached_property
    def pipeline_rank(self) -> int:
        return self.device_mesh.get_local_rank("pp") if self._has_pipeline else 0

    @cached_property
    def pipeline_group(self) -> dist.ProcessGroup:
        """The ranks that hold the parts of one copy of the model; only where there is a pipeline."""
        return self.device_mesh.get_group("pp")

    @property
    def _has_pipeline(self) -> bool:
        return "pp" in (self.device_mesh.mesh_dim_names or ())

    @property
    def has_first_stage(self) -> bool:
        """Whether this rank computes what comes before the layers."""
        return self.pipeline_rank == 0

    @property
    def has_last_stage(self) -> bool:
        """Whether this rank computes what comes after the layers."""
        return self.pipeline_rank == self.pipeline_size - 1

    def ends_group(self) -> dist.ProcessGroup | None:
        """The first and the last stage of this rank's pipeline; None on others. Collective over all ranks."""
        if self.pipeline_size == 2:
            return self.pipeline_group
        lines = self.device_mesh.mesh.flatten(1).T.tolist()  # of ranks, each a pipeline
        made = [dist.new_group([line[0], line[-1]], timeout=self.timeout) for line in lines]
        ends = [group for line, group in zip(lines, made, strict=True) if self.rank in (line[0], line[-1])]
        return ends[0] if ends else None

    def own_layers(self, layers: int) -> list[range]:
        """The numbers of the layers that this rank holds, of so many in all: a range for each of its stages.

        Stage s of the pipeline's S, which has the layers from s · layers / S on, is the rank's with number s mod ranks.
        """
        stages = self.pipeline_size * self.pipeline_chunks
        own = range(self.pipeline_rank, stages, self.pipeline_size)
        return [range(layers * stage // stages, layers * (stage + 1) // stages) for stage in own]

    @property
    def layout(self) -> dict[str, int]:
        """For records of a run."""
        pipeline = {"pipeline_parallel": self.pipeline_size} if self.pipeline_size > 1 else {}
        return {**pipeline, "data_parallel": self.data_size, "tensor_parallel": self.tensor_size}

    def shutdown(self) -> None:
        """End the process group; call it once, when all collectives are done."""
        dist.destroy_process_group()


def initialize(
    tensor_parallel: int = 1,
    sequence_parallel: bool | None = False,
    timeout: datetime.timedelta = DEFAULT_TIMEOUT,
    device: str = "auto",
    pipeline_parallel: int = 1,
    pipeline_chunks: int = 1,
    trains: bool = True,
) -> Mesh:
    """Join the process group (torchrun's, or a world of one) and lay the grid.

    Args:
        tensor_parallel: ranks that share a model; the world's size must be a multiple of it.
        sequence_parallel: split what lies between tensor-parallel regions along the sequence (for training; sequences
            must be a multiple of tensor_parallel); None: on CUDA devices. One tensor rank has nothing to split.
        timeout: how long a collective waits for a rank before it fails.
        device: "cuda", "cpu", or "auto": see `ParallelConfig`.
        pipeline_parallel, pipeline_chunks: ranks that a model's layers are dealt to, and parts of it that each holds
            (for training).
        trains: see `Mesh`; a program that only scores starts faster without.

    Raises:
        UserError: the world cannot be divided so, the ranks were asked for different layouts, or the devices for them
            are not there.
    """
    place = _device(device)
    # gloo then connects ranks when they first talk, a few with each: else each with all others, for each of its groups.
    os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    allow_open_files(_CONNECTIONS * int(os.environ.get("WORLD_SIZE", "1")))
    if not dist.is_initialized():
        _join(place, timeout)
    world_size = dist.get_world_size()
    _check_same_layout(tensor_parallel, sequence_parallel, pipeline_parallel, pipeline_chunks)
    if tensor_parallel < 1 or world_size % tensor_parallel:
        raise UserError(
            f"{world_size} processes cannot be divided into tensor-parallel groups of {tensor_parallel}; "
            f"start a multiple of {tensor_parallel} (torchrun --nproc-per-node)"
        )
    a_copy = pipeline_parallel * tensor_parallel
    if pipeline_parallel < 1 or world_size % a_copy:
        raise UserError(
            f"{world_size} processes cannot be divided into pipelines of {pipeline_parallel} stages of "
            f"{tensor_parallel}; start a multiple of {a_copy} (torchrun --nproc-per-node)"
        )
    sizes = {"pp": pipeline_parallel, "dp": world_size // a_copy, "shard": 1, "tp": tensor_parallel}
    if pipeline_parallel == 1:
        del sizes["pp"]
    device_mesh = _device_mesh(place, sizes, timeout)
    sequence_parallel = _is_split(sequence_parallel, tensor_parallel, place)
    streams = RandomStreams(
        place,
        data_rank=device_mesh.get_local_rank("dp"),
        tensor_rank=device_mesh.get_local_rank("tp"),
        tensor_size=tensor_parallel,
        sequence_parallel=sequence_parallel,
    )
    control_group = dist.distributed_c10d._get_default_group()
    if place.type == "cuda":
        control_group = dist.new_group(backend="gloo", timeout=timeout)
    return Mesh(
        device_mesh, place, control_group, timeout, streams, sequence_parallel, pipeline_chunks, trains
    )


def _device_mesh(device: torch.device, sizes: dict[str, int], timeout: datetime.timedelta) -> DeviceMesh:
    """The grid, and this rank's groups along its dimensions: one for all dimensions of a single rank, and the world's where
    a dimension spans it."""
    ranks = torch.arange(dist.get_world_size()).view(*sizes.values())
    world = dist.distributed_c10d._get_default_group()
    alone = world
    if ranks.numel() > 1:
        alone = dist.new_group([dist.get_rank()], timeout, use_local_synchronization=True)
    _set_pg_timeout(timeout, world)
    groups: list[Any] = []
    for dimension, size in enumerate(sizes.values()):
        if size == 1:
            groups.append(alone)
        elif size == ranks.numel():
            groups.append(world)
        else:
            lines = ranks.movedim(dimension, -1).reshape(-1, size).tolist()
            made = [dist.new_group(line, timeout) for line in lines]  # by all ranks, in one order
            groups.append(
                next(group for line, group in zip(lines, made, strict=True) if dist.get_rank() in line)
            )
    return DeviceMesh.from_group(groups, device.type, mesh=ranks, mesh_dim_names=tuple(sizes))


def _is_split(asked: bool | None, tensor_parallel: int, device: torch.device) -> bool:
    """Whether sequences are split over the tensor ranks. Over gloo that costs more calls than it saves memory."""
    return tensor_parallel > 1 and (device.type == "cuda" if asked is None else asked)


def _check_same_layout(*layout: object) -> None:
    """Ranks with different layouts would wait for each other without end."""
    given: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(given, layout)
    for rank, theirs in enumerate(given):
        if theirs != given[0]:
            raise UserError(
                f"rank {rank} was started with (tensor_parallel, sequence_parallel, pipeline_parallel, pipeline_chunks) = "
                f"{theirs}, rank 0 with {given[0]}; start all ranks with the same command"
            )


def _device(asked: str) -> torch.device:
    """Where this rank computes; a CUDA device is for one rank alone."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and not devices):
        return torch.device("cpu")
    if devices < max(ranks, local_rank + 1):
        several_hosts = int(os.environ.get("WORLD_SIZE", "1")) > ranks  # the others may have devices enough
        found = f"{ranks} processes on this host, CUDA devices: {devices}"
        if asked == "cuda" or several_hosts:
            raise UserError(f'{found}; start as many processes as devices, or compute with device = "cpu"')
        if local_rank == 0:
            note = f"note: {found}; computing on the CPU (as many processes as devices use these)"
            print(note, file=sys.stderr, flush=True)
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _join(device: torch.device, timeout: datetime.timedelta) -> None:
    backend, own = ("nccl", device) if device.type == "cuda" else ("gloo", None)
    if "RANK" in os.environ:
        dist.init_process_group(backend, timeout=timeout, device_id=own)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, device_id=own)
