"""GPT-2's objective: the next token of the sample stream."""

from pathlib import Path

import numpy as np
import torch

from core.config import ModelConfig, TrainingConfig
from core.model_directory import build_model, save_model
from core.models.gpt2 import GPT2LanguageModeling, GPT2Model
from core.parallel.mesh import Mesh
from data_pipeline.indexed import IndexedDataset
from data_pipeline.samples import SampleStream, split_boundaries


class GPT2Samples:
    """Batches from a sample stream: tokens and, shifted by one, targets, both [batch, sequence]."""

    def __init__(self, stream: SampleStream, samples: int) -> None:
        self.stream = stream
        self.total_samples = samples

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        tokens = torch.from_numpy(np.stack([self.stream[int(index)] for index in indices]))
        return {"tokens": tokens[:, :-1], "targets": tokens[:, 1:]}

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        return {"language_model": float(batch["targets"].numel())}


class GPT2Task(GPT2Samples):
    """Pretraining on a tokenized corpus; its validation part is held out.

    Raises:
        ValueError: the corpus has no documents for training.
    """

    def __init__(self, config: ModelConfig, training: TrainingConfig, corpus: Path, mesh: Mesh) -> None:
        dataset = IndexedDataset(corpus)
        bounds = split_boundaries(len(dataset))
        length, seed = config.sequence_length, training.seed
        wanted = training.steps * training.global_batch
        super().__init__(SampleStream(dataset, (bounds[0], bounds[1]), wanted, length, seed), wanted)
        held_out = training.validation_batches * training.global_batch
        self.validation: GPT2Samples | None = None
        if dataset.lengths[bounds[1] : bounds[2]].sum(dtype=np.int64) > length:
            stream = SampleStream(dataset, (bounds[1], bounds[2]), held_out, length, seed)
            self.validation = GPT2Samples(stream, held_out)
        network = build_model(config, mesh, training.seed)
        assert isinstance(network, GPT2Model), "the family was checked"
        self.network, self.mesh = network, mesh
        self.model = GPT2LanguageModeling(network)

    def save(self, directory: Path) -> None:
        save_model(self.network, directory, self.mesh)
