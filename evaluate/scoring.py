"""Scoring of sequences by teacher forcing, shared by all zero-shot evaluations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from core.errors import UserError
from core.evaluation import batches_by_length, exact_sum, pad, scores_of_items
from core.model_directory import Network
from core.parallel.cross_entropy import vocabulary_parallel_argmax, vocabulary_parallel_cross_entropy
from core.parallel.mesh import Mesh
from data_pipeline.tokenization.ids import check_token_ids
from data_pipeline.tokenization.tokenizers import Tokenizer
from evaluate.sequences import ScoredSequence
from recipes.schema import EvaluationSettings

_OTHER_TOKENIZER = "give the tokenizer that the model was trained with"


@dataclass(frozen=True)
class Totals:
    """Sums over a list of `ScoredSequence`s.

    Attributes:
        loss: summed negative log likelihood of the scored targets, in nats.
        targets: how many targets were scored.
        correct: sequences all of whose scored targets are the model's first choice.
        losses: of each sequence, the sum over its scored targets.
        right: of each sequence, 1 where all its scored targets are the model's first choice, or 0.
    """

    loss: float
    targets: int
    correct: int
    losses: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Scorer:
    """A model and how it scores sequences, which is what a task is given.

    Attributes:
        model: a causal one, in evaluation mode on `mesh.device`.
        batch_size: sequences of the model's full length in a forward pass; of shorter ones, as many more as fit
            into the same number of tokens.
        title: description of the progress bar.
    """

    model: Network
    mesh: Mesh
    batch_size: int
    title: str = ""

    def __call__(self, sequences: Sequence[ScoredSequence]) -> Totals:
        """Score sequences by teacher forcing. Collective.

        Sequences are sorted by length and padded on the right, which a causal model's earlier positions cannot see.

        Args:
            sequences: each of at most the model's sequence length + 1 tokens; the same list on every rank.

        Raises:
            UserError: a token is none of the vocabulary's, or the summed loss is not a finite number.
        """
        for number, sequence in enumerate(sequences):
            where = f"sequence {number} of {len(sequences)}"
            check_token_ids(
                sequence.tokens,
                self.model.config.vocabulary_size,
                lambda *_, where=where: where,
                _OTHER_TOKENIZER,
            )
        lengths = [len(sequence.tokens) - 1 for sequence in sequences]
        batches = batches_by_length(lengths, self.batch_size * self.model.config.sequence_length)

        def score(batch: Sequence[int]) -> np.ndarray:
            return _score_batch(self.model, [sequences[index] for index in batch], self.mesh)

        losses, right = scores_of_items(batches, score, 2, self.mesh, self.title).T
        loss = exact_sum(losses)
        if not math.isfinite(loss):
            raise UserError(
                "the model's loss is not a finite number; was its training stopped by an overflow?"
            )
        targets = sum(sequence.scored for sequence in sequences)
        return Totals(loss, targets, int(right.sum()), losses, right)


class Program(Protocol):
    """What the program asks of a task (`recipes.records.ZeroShot.program`)."""

    def __init__(
        self, path: Path, tokenizer: Tokenizer, sequence_length: int, settings: EvaluationSettings
    ) -> None:
        """Read and check the benchmark's file, and encode it for one model."""

    def evaluate(self, score: Scorer) -> dict[str, Any]:
        """The task's result, as it is published."""

    def controls(self, score: Scorer, untrained: Scorer) -> dict[str, Any]:
        """What must be worse, added to the result: with the same model, or one with its initial weights."""


def _score_batch(model: Network, batch: list[ScoredSequence], mesh: Mesh) -> np.ndarray:
    """Of each sequence the sum of its losses, and whether all its targets are the first choice: [batch, 2]."""
    inputs = pad([sequence.tokens[:-1] for sequence in batch], value=0)  # [b, s]
    counts = np.array([sequence.scored for sequence in batch])
    rows = np.repeat(np.arange(len(batch)), counts)  # [scored], as is all below
    positions = np.concatenate([_scored_positions(sequence) for sequence in batch])
    wanted = np.concatenate([sequence.tokens[len(sequence.tokens) - sequence.scored :] for sequence in batch])
    on_device = [torch.from_numpy(array).to(mesh.device) for array in (inputs, rows, positions, wanted)]
    losses, best = _losses_and_best(model, mesh, *on_device)
    right = (best == on_device[3]).cpu().numpy()
    right_in_row = np.bincount(rows, weights=right, minlength=len(batch))
    loss_of_row = np.bincount(rows, weights=losses.double().cpu().numpy(), minlength=len(batch))
    return np.stack([loss_of_row, right_in_row == counts], axis=1)


def _scored_positions(sequence: ScoredSequence) -> np.ndarray:
    end = len(sequence.tokens) - 1
    return np.arange(end - sequence.scored, end)


def _losses_and_best(
    model: Network,
    mesh: Mesh,
    tokens: torch.Tensor,
    rows: torch.Tensor,
    positions: torch.Tensor,
    wanted: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each wanted token and the model's first choice in its place, [scored] each."""
    logits = model(tokens, places=(rows, positions))  # [scored, padded vocabulary / tp]
    group, vocabulary_size = mesh.tensor_group, model.config.vocabulary_size
    return (
        vocabulary_parallel_cross_entropy(logits, wanted, group=group, vocabulary_size=vocabulary_size),
        vocabulary_parallel_argmax(logits, group=group, vocabulary_size=vocabulary_size),
    )
