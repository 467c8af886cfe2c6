"""How a model is made ready for training by a release of torch: recomputation, compilation, operations without chance."""

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from core.config import TrainingConfig
from core.models.transformer import TransformerLayer
from core.parallel.mesh import Mesh


def set_recompute(model: nn.Module, recompute: str) -> None:
    """Choose what every transformer layer recomputes: "none", "selective" or "full", see `TrainingConfig`."""
    for module in model.modules():
        if isinstance(module, TransformerLayer):
            module.recompute = recompute == "full"
            module.attention.recompute = recompute == "selective"


def release_errors(config: TrainingConfig, tensor_parallel: int) -> list[str]:
    """What this release of torch would get wrong and not say."""
    release = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if config.compile and tensor_parallel > 1 and release < (2, 13):
        return [
            f"training: compile with tensor_parallel {tensor_parallel} gives wrong gradients under torch "
            f"{torch.__version__}; train without compile, or use torch 2.13"
        ]
    return []


def is_compiled(config: TrainingConfig, mesh: Mesh) -> bool:
    """Whether layers are compiled: as asked for; else on CUDA devices, if all ranks can. Collective."""
    if config.compile is not None:
        return config.compile
    if mesh.device.type != "cuda":
        return False
    lacking = release_errors(replace(config, compile=True), mesh.tensor_size) or _missing()
    able = torch.tensor(not lacking, dtype=torch.int64)
    dist.all_reduce(able, op=dist.ReduceOp.MIN, group=mesh.control_group)
    if lacking:
        print(f"note: layers are not compiled: {lacking[0]}", file=sys.stderr, flush=True)
    return bool(able)


def _missing() -> list[str]:
    """What this machine lacks for compiled layers on a GPU."""
    found = (
        []
        if importlib.util.find_spec("triton")
        else ["Triton, which torch for CUDA brings, is not installed"]
    )
    compilers = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    if not any(map(shutil.which, filter(None, compilers))):
        found.append("there is no C compiler (cc, gcc or clang)")
    return found


def compile_layers(model: nn.Module) -> None:
    """Compile every transformer layer."""
    for module in model.modules():
        if isinstance(module, TransformerLayer):
            module.compile_computation()


@contextlib.contextmanager
def deterministic(only: bool) -> Iterator[None]:
    """Inside, torch uses only operations that give the same bits each time, and refuses those of which it has none such.

    Args:
        only: else nothing is changed.
    """
    if not only:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is asked for
    memory: Any = torch.utils.deterministic
    before, filled = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # every value is written before it is read
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = filled
