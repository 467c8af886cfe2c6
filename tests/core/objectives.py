"""Small objectives with random samples, for tests of layouts, trainer and checkpoints."""

from pathlib import Path

import numpy as np
import torch

from core.config import ModelConfig
from core.model_directory import build_model, save_model
from core.models.bert import BertPretraining
from core.models.gpt2 import GPT2LanguageModeling
from core.parallel.mesh import Mesh

GPT2 = ModelConfig("gpt2", 2, 32, 4, 16, 131, vocabulary_multiple=8, dropout=0.0, attention_dropout=0.0)
BERT = ModelConfig("bert", 2, 32, 4, 16, 131, vocabulary_multiple=8, dropout=0.0, attention_dropout=0.0)
POST_NORM_BERT = ModelConfig(
    "bert", 2, 32, 4, 16, 131, vocabulary_multiple=8, dropout=0.0, attention_dropout=0.0,
    activation="gelu", layer_norm_eps=1e-12, norm_order="post", embedding_norm=True,
)  # fmt: skip


class RandomTask:
    """Sample i is random, but the same for every layout; BERT rows have different lengths and mask counts."""

    validation = None

    def __init__(self, config: ModelConfig, mesh: Mesh, total_samples: int = 1000) -> None:
        self.config, self.mesh, self.total_samples = config, mesh, total_samples
        self.network = build_model(config, mesh, seed=7)
        objective = GPT2LanguageModeling if config.family == "gpt2" else BertPretraining
        self.model = objective(self.network)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        return random_batch(self.config, indices)

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        if self.config.family == "gpt2":
            return {"language_model": float(batch["targets"].numel())}
        scored = float((batch["masked_targets"] >= 0).sum())
        return {"masked_token": scored, "sentence_order": float(len(batch["order_labels"]))}

    def save(self, directory: Path) -> None:
        save_model(self.network, directory, self.mesh)


def random_batch(config: ModelConfig, indices: np.ndarray) -> dict[str, torch.Tensor]:
    rows = [_sample(config, int(index)) for index in indices]
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


def _sample(config: ModelConfig, index: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(index)
    length = config.sequence_length
    tokens = random.integers(0, config.vocabulary_size, length + 1)
    if config.family == "gpt2":
        return {"tokens": tokens[:-1], "targets": tokens[1:]}
    present = int(random.integers(max(length // 2, 1), length + 1))
    masks = int(random.integers(1, 5))
    targets = np.full(4, -100, dtype=np.int64)
    targets[:masks] = random.integers(0, config.vocabulary_size, masks)
    return {
        "tokens": tokens[:length],
        "token_types": (np.arange(length) > length // 3).astype(np.int64),
        "attention_mask": (np.arange(length) < present).astype(np.int64),
        "masked_positions": random.integers(0, present, 4),
        "masked_targets": targets,
        "order_labels": random.integers(0, 2),
    }


def whole(parameter: torch.Tensor) -> np.ndarray:
    """A DTensor's whole value."""
    return parameter.detach().full_tensor().cpu().numpy().copy()


def descend(optimizer: torch.optim.Optimizer) -> None:
    """A step of plain SGD, by each rank on its own part of the weights: torch's takes long to find out that nothing is to
    be sent for it."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert parameter.grad.placements == parameter.placements
            parameter.detach().to_local().add_(parameter.grad.to_local(), alpha=-group["lr"])
