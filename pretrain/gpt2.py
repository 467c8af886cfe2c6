"""GPT-2's objective: the next token of the sample stream."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.config import ModelConfig, TrainingConfig
from data_pipeline.indexed.blends import Blend, open_stream
from data_pipeline.indexed.samples import SampleStream
from data_pipeline.tokenization.ids import check_token_ids
from recipes.records import PRETRAININGS, SHAPE_COLUMNS, Pretraining, Published

if TYPE_CHECKING:
    import torch

    from core.parallel.mesh import Mesh
    from data_pipeline.tokenization.tokenizers import Tokenizer

GPT2 = PRETRAININGS.add(
    "gpt2",
    Pretraining(
        "gpt2",
        "next-token prediction",
        "pretrain.gpt2:GPT2Task",
        blends=True,
        perplexity=True,
        shapes=Published(
            columns=SHAPE_COLUMNS,
            rows=(
                ("GPT-2 355M", (0.355, 24, 1024, 16, 64, 64)),
                ("GPT-2 2.5B", (2.5, 54, 1920, 20, 96, 128)),
                ("GPT-2 8.3B", (8.3, 72, 3072, 24, 128, 512)),
            ),
            place="table 2",
        ),
        figure="figure 6",
    ),
)

DAMAGED_CORPUS = "the file is damaged, or was tokenized with another tokenizer: tokenize the corpus anew"


class GPT2Samples:
    """Batches from a sample stream: tokens and, shifted by one, targets, both [batch, sequence]."""

    def __init__(self, stream: SampleStream | Blend, samples: int, vocabulary_size: int) -> None:
        self.stream = stream
        self.total_samples = samples
        self._vocabulary_size = vocabulary_size

    def batch(self, indices: np.ndarray) -> "dict[str, torch.Tensor]":
        """Arguments of the objective's `forward`, int64.

        Raises:
            UserError: a token is none of the vocabulary's; the message names the file and the document.
        """
        import torch

        rows = np.stack([self.stream[int(index)] for index in indices], dtype=np.int64, casting="same_kind")

        def where(place: int, _: int) -> str:
            row, token = divmod(place, rows.shape[1])
            return f"{self.stream.place_of(int(indices[row]), token)} (sample {indices[row]})"

        check_token_ids(rows, self._vocabulary_size, where, DAMAGED_CORPUS)
        tokens = torch.from_numpy(rows)
        return {"tokens": tokens[:, :-1], "targets": tokens[:, 1:]}

    def counts(self, batch: "dict[str, torch.Tensor]") -> dict[str, float]:
        return {"language_model": float(batch["targets"].numel())}


class GPT2Task(GPT2Samples):
    """Pretraining of any causal family on a tokenized corpus or a blend of several; their validation parts are held out.

    Args:
        corpus: the prefix of a corpus, or a blend file, see `data_pipeline.indexed.blends`. One rank builds the indices, the
            others wait for it.
        tokenizer: of the corpus; the model says that it is its own.

    Raises:
        UserError: a corpus has no documents for training.
    """

    def __init__(
        self,
        config: ModelConfig,
        training: TrainingConfig,
        corpus: Path,
        tokenizer: "Tokenizer | None",
        mesh: "Mesh",
    ) -> None:
        from core.model_directory import build_model, pretraining_objective

        length, seed = config.sequence_length, training.seed
        wanted = training.steps * training.global_batch
        stream = open_stream(corpus, "train", wanted, length, seed)
        assert stream is not None, "only other splits may be left out"
        size = config.vocabulary_size
        super().__init__(stream, wanted, size)
        held_out = training.validation_batches * training.global_batch
        held_out_stream = open_stream(corpus, "validation", held_out, length, seed)
        self.validation = None if held_out_stream is None else GPT2Samples(held_out_stream, held_out, size)
        self.network, self.mesh = build_model(config, mesh, training.seed), mesh
        self._tokenizer_fingerprint = tokenizer.fingerprint if tokenizer else ""
        self.model = pretraining_objective(self.network)

    def save(self, directory: Path) -> None:
        from core.model_directory import save_model

        save_model(self.network, directory, self.mesh, self._tokenizer_fingerprint)
