"""How a model is made ready for training by a release of torch: recomputation, compilation, operations without chance."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from core.config import TrainingConfig
from core.models.transformer import TransformerLayer


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
