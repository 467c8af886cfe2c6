"""GPT-2 trained on tokens from memory by the project's own trainer, and the time of every step: what benchmarks share."""

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from benchmarks import harness
from core.config import ModelConfig, TrainingConfig, preset
from core.model_directory import build_model
from core.models.gpt2 import GPT2LanguageModeling, GPT2Model
from core.parallel.mesh import Mesh
from core.training.observers import Observer
from core.training.throughput import Throughput
from core.training.trainer import train

WARMUP_STEPS = 3
Rows = Callable[[np.ndarray], torch.Tensor]  # [n, sequence + 1] int64, for the numbers of n samples


@dataclass(frozen=True)
class Settings(harness.Settings):
    """The size of a GPT-2: a preset's, or a small one, unless other numbers are given."""

    small: ClassVar = ModelConfig("gpt2", 4, 512, 8, 512, 50257)
    preset: str = ""
    layers: int | None = None
    hidden: int | None = None
    sequence: int | None = None
    vocabulary: int | None = None
    batch: int = 4
    steps: int = 8

    @property
    def base(self) -> ModelConfig:
        """Whose shape it is where no other numbers are given."""
        return preset(self.preset) if self.preset else self.small

    def shape(self) -> ModelConfig:
        """Without dropout, so that every side does the same work."""
        base = self.base
        hidden = self.hidden or base.hidden
        return replace(
            base, layers=self.layers or base.layers, hidden=hidden, heads=max(1, hidden // base.head_size),
            sequence_length=self.sequence or base.sequence_length,
            vocabulary_size=self.vocabulary or base.vocabulary_size, dropout=0.0, attention_dropout=0.0,
        )  # fmt: skip

    def describe(self) -> str:
        shape = self.shape()
        return (
            f"GPT-2: {shape.layers} layers, hidden {shape.hidden}, sequence {shape.sequence_length}, "
            f"{shape.vocabulary_size} tokens; {self.batch} sequences a step"
        )


def random_tokens(shape: ModelConfig, rows: int, seed: int) -> torch.Tensor:
    """[rows, sequence + 1] int64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(shape.vocabulary_size, (rows, shape.sequence_length + 1), generator=generator)


def inputs(values: torch.Tensor) -> dict[str, torch.Tensor]:
    """[n, sequence + 1] as a batch of the language-modelling objective."""
    return {"tokens": values[:, :-1], "targets": values[:, 1:]}


def language_modeling(shape: ModelConfig, mesh: Mesh) -> GPT2LanguageModeling:
    network = build_model(shape, mesh)
    assert isinstance(network, GPT2Model)
    return GPT2LanguageModeling(network)


class TokenTask:
    """A pretraining task on rows of tokens; nothing of it is kept."""

    validation = None

    def __init__(self, shape: ModelConfig, mesh: Mesh, samples: int, rows: Rows) -> None:
        self.total_samples, self.rows = samples, rows
        self.model = language_modeling(shape, mesh)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        return inputs(self.rows(indices))

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        return {"language_model": float(batch["targets"].numel())}

    def save(self, directory: Path) -> None:
        """Nothing is kept."""


class Steps(Observer):
    """When each step was done, what was recorded of it, and its tokens a second where they were counted."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.records: list[dict[str, Any]] = []
        self.speeds: list[float] = []

    def step_done(self, record: dict[str, Any], throughput: Throughput | None) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.records.append(record)
        if throughput:
            self.speeds.append(throughput.tokens_per_second)


def train_on(rows: Rows, shape: ModelConfig, mesh: Mesh, batch: int, steps: int, **training: Any) -> Steps:
    """Train, a micro-batch a step, and only the last step's speed counted, unless `training` says otherwise."""
    config = TrainingConfig(
        **{"learning_rate": 1e-4, "log_interval": steps, "micro_batch": batch, **training}, steps=steps,
        global_batch=batch, checkpoint_interval=steps + 1,
    )  # fmt: skip
    task, seen = TokenTask(shape, mesh, steps * batch, rows), Steps()
    with tempfile.TemporaryDirectory() as output:
        train(task, mesh, config, Path(output) / str(mesh.rank), observers=[seen])
    return seen


def step_seconds(shape: ModelConfig, mesh: Mesh, batch: int, steps: int, **training: Any) -> list[float]:
    """Seconds of each step after a warm-up, on this rank."""

    def rows(indices: np.ndarray) -> torch.Tensor:
        return random_tokens(shape, len(indices), int(indices[0]))

    seen = train_on(rows, shape, mesh, batch, WARMUP_STEPS + steps, **training)
    return [end - start for start, end in itertools.pairwise(seen.ends[-steps - 1 :])]
