"""GPT-2 trained on tokens from memory by the project's own trainer, and the time of every step: what benchmarks share."""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.config import ModelConfig, TrainingConfig
from core.model_directory import build_model
from core.models.gpt2 import GPT2LanguageModeling, GPT2Model
from core.parallel.mesh import Mesh
from core.training.observers import Observer
from core.training.throughput import Throughput
from core.training.trainer import train


def random_tokens(shape: ModelConfig, rows: int, seed: int) -> torch.Tensor:
    """[rows, sequence + 1] int64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(shape.vocabulary_size, (rows, shape.sequence_length + 1), generator=generator)


class TokenTask:
    """A pretraining task on rows of tokens; nothing of it is kept.

    Args:
        rows: gives [n, sequence + 1] int64 for the numbers of n samples.
    """

    validation = None

    def __init__(
        self, shape: ModelConfig, mesh: Mesh, samples: int, rows: Callable[[np.ndarray], torch.Tensor]
    ) -> None:
        network = build_model(shape, mesh)
        assert isinstance(network, GPT2Model)
        self.total_samples, self.rows = samples, rows
        self.model = GPT2LanguageModeling(network)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        values = self.rows(indices)
        return {"tokens": values[:, :-1], "targets": values[:, 1:]}

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        return {"language_model": float(batch["targets"].numel())}

    def save(self, directory: Path) -> None:
        """Nothing is kept."""


def step_seconds(shape: ModelConfig, mesh: Mesh, training: TrainingConfig, warmup_steps: int) -> list[float]:
    """Seconds of each step after the warm-up, on this rank."""
    clock = _Clock(mesh)
    samples = training.steps * training.global_batch
    task = TokenTask(
        shape, mesh, samples, lambda indices: random_tokens(shape, len(indices), int(indices[0]))
    )
    with tempfile.TemporaryDirectory() as output:
        train(task, mesh, training, Path(output) / str(mesh.rank), observers=[clock])
    return [end - start for start, end in itertools.pairwise(clock.ends[warmup_steps - 1 :])]


class _Clock(Observer):
    """When each step was done."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.ends: list[float] = []

    def step_done(self, record: dict[str, Any], throughput: Throughput | None) -> None:
        if self.mesh.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
