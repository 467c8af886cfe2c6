"""BERT's objective (paper section 4.2): whole-word n-gram masks and sentence order, on consecutive sentences."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.config import ModelConfig, TrainingConfig
from data_pipeline.indexed.dataset import IndexedDataset
from data_pipeline.indexed.samples import split_boundaries
from data_pipeline.tokenization.ids import check_token_ids
from pretrain.gpt2 import DAMAGED_CORPUS
from pretrain.masking import SentencePairs, Tokens, masked_sample, predictions_limit
from pretrain.sentence_runs import usable_documents
from recipes.records import PRETRAININGS, SHAPE_COLUMNS, Pretraining, Published

if TYPE_CHECKING:
    import torch

    from core.parallel.mesh import Mesh
    from data_pipeline.tokenization.tokenizers import Tokenizer

BERT = PRETRAININGS.add(
    "bert",
    Pretraining(
        "bert",
        "masked whole words and sentence order",
        "pretrain.bert:BertTask",
        shapes=Published(
            columns=SHAPE_COLUMNS,
            rows=(
                ("BERT 336M", (0.336, 24, 1024, 16, 64, 128)),
                ("BERT 1.3B", (1.3, 24, 2048, 32, 64, 256)),
                ("BERT 3.9B", (3.9, 48, 2560, 40, 64, 512)),
            ),
            place="table 4",
        ),
        figure="figure 7",
        told_by=("norm_order",),
    ),
)


class BertSamples:
    """Batches of masked sentence pairs; a sample depends on (seed, index) only, so masks are fresh each epoch."""

    def __init__(self, pairs: SentencePairs, tokenizer: "Tokenizer", samples: int, seed: int) -> None:
        self._pairs = pairs
        self._tokenizer = tokenizer
        self._seed = seed
        self._width = pairs.sequence_length
        self.total_samples = samples

    def batch(self, indices: np.ndarray) -> "dict[str, torch.Tensor]":
        """Arguments of the objective's `forward`; no mask where no row is padded.

        Raises:
            UserError: a token is none of the vocabulary's; the message names the file and the sentence.
        """
        import torch

        rows, limit = len(indices), predictions_limit(self._width)
        tokens = np.full((rows, self._width), self._tokenizer.pad, dtype=np.int64)
        types = np.zeros((rows, self._width), dtype=np.int64)
        present = np.zeros((rows, self._width), dtype=np.int64)
        positions = np.zeros((rows, limit), dtype=np.int64)
        targets = np.full((rows, limit), -100, dtype=np.int64)
        labels = np.zeros(rows, dtype=np.int64)
        for row, index in enumerate(indices):
            random = np.random.default_rng([self._seed, int(index)])
            first, second, labels[row] = self._pair(int(index), random)
            sample = masked_sample(first, second, self._tokenizer, random)
            length, masked = len(sample.tokens), len(sample.positions)
            tokens[row, :length] = sample.tokens
            types[row, :length] = sample.types
            present[row, :length] = 1
            positions[row, :masked] = sample.positions
            targets[row, :masked] = sample.targets
        arrays = {
            "tokens": tokens,
            "token_types": types,
            "attention_mask": present,
            "masked_positions": positions,
            "masked_targets": targets,
            "order_labels": labels,
        }
        if present.all():
            del arrays["attention_mask"]
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _pair(self, index: int, random: np.random.Generator) -> tuple[Tokens, Tokens, int]:
        *halves, swapped = self._pairs.pair(index, random)
        for half in halves:
            check_token_ids(
                half,
                self._tokenizer.vocabulary_size,
                lambda _, wrong: f"{self._pairs.place_of(index, wrong)} (sample {index})",
                DAMAGED_CORPUS,
            )
        return halves[0], halves[1], swapped

    def counts(self, batch: "dict[str, torch.Tensor]") -> dict[str, float]:
        return {
            "masked_token": float((batch["masked_targets"] >= 0).sum()),
            "sentence_order": float(len(batch["order_labels"])),
        }


class BertTask(BertSamples):
    """Pretraining on a corpus of tokenized sentences; its validation part is held out.

    Raises:
        UserError: the corpus has no document with two sentences for training.
    """

    def __init__(
        self,
        config: ModelConfig,
        training: TrainingConfig,
        corpus: Path,
        tokenizer: "Tokenizer",
        mesh: "Mesh",
    ) -> None:
        from core.model_directory import build_model, pretraining_objective

        dataset = IndexedDataset(corpus)
        bounds = split_boundaries(dataset.documents)
        length, seed = config.sequence_length, training.seed
        wanted = training.steps * training.global_batch
        pairs = SentencePairs(dataset, (bounds[0], bounds[1]), wanted, length, seed, cached=True)
        super().__init__(pairs, tokenizer, wanted, seed)
        held_out = training.validation_batches * training.global_batch
        self.validation: BertSamples | None = None
        if len(usable_documents(dataset, (bounds[1], bounds[2]))):
            held_out_pairs = SentencePairs(
                dataset, (bounds[1], bounds[2]), held_out, length, seed, cached=True
            )
            self.validation = BertSamples(held_out_pairs, tokenizer, held_out, seed)
        self.network, self.mesh = build_model(config, mesh, training.seed), mesh
        self.model = pretraining_objective(self.network)

    def save(self, directory: Path) -> None:
        from core.model_directory import save_model

        save_model(self.network, directory, self.mesh, self._tokenizer.fingerprint)
