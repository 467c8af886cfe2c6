"""Scoring of sequences by teacher forcing, shared by all zero-shot evaluations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.errors import UserError
from core.evaluation import batches_by_length, pad, total_over_batches
from core.models.gpt2 import GPT2Model
from core.parallel.cross_entropy import vocabulary_parallel_argmax, vocabulary_parallel_cross_entropy
from core.parallel.mesh import Mesh


@dataclass(frozen=True)
class ScoredSequence:
    """n + 1 tokens: n inputs and, one place later, n targets, of which the last `scored` count."""

    tokens: np.ndarray
    scored: int


@dataclass(frozen=True)
class Totals:
    """Sums over a list of `ScoredSequence`s.

    Attributes:
        loss: summed negative log likelihood of the scored targets, in nats.
        targets: how many targets were scored.
        correct: sequences all of whose scored targets are the model's first choice.
    """

    loss: float
    targets: int
    correct: int


def score_sequences(
    model: GPT2Model, sequences: Sequence[ScoredSequence], mesh: Mesh, *, batch_size: int, title: str = ""
) -> Totals:
    """Score sequences by teacher forcing.

    Sequences are sorted by length and padded on the right, which a causal model's earlier positions cannot see.

    Args:
        model: a tensor-parallel GPT-2 in evaluation mode on `mesh.device`.
        sequences: each of at most the model's sequence length + 1 tokens; the same list on every rank.
        batch_size: sequences of the model's full length in a forward pass; of shorter ones, as many more as fit
            into the same number of tokens.

    Raises:
        ValueError: the summed loss is not a finite number.
    """
    lengths = [len(sequence.tokens) - 1 for sequence in sequences]
    batches = batches_by_length(lengths, batch_size * model.config.sequence_length)

    def score(batch: list[int]) -> list[float]:
        return _score_batch(model, [sequences[index] for index in batch], mesh)

    loss, targets, correct = total_over_batches(batches, score, 3, mesh, title)
    if not math.isfinite(loss):
        raise UserError("the model's loss is not a finite number; was its training stopped by an overflow?")
    return Totals(loss, round(targets), round(correct))


def _score_batch(model: GPT2Model, batch: list[ScoredSequence], mesh: Mesh) -> list[float]:
    """Sum of losses, number of targets, and number of all-correct sequences of one batch."""
    inputs = pad([sequence.tokens[:-1] for sequence in batch], value=0)  # [b, s]
    counts = np.array([sequence.scored for sequence in batch])
    rows = np.repeat(np.arange(len(batch)), counts)  # [scored], as is all below
    positions = np.concatenate([_scored_positions(sequence) for sequence in batch])
    wanted = np.concatenate([sequence.tokens[len(sequence.tokens) - sequence.scored :] for sequence in batch])
    on_device = [torch.from_numpy(array).to(mesh.device) for array in (inputs, rows, positions, wanted)]
    losses, best = _losses_and_best(model, mesh, *on_device)
    right = (best == on_device[3]).cpu().numpy()
    right_in_row = np.bincount(rows, weights=right, minlength=len(batch))
    return [losses.double().sum().item(), len(wanted), (right_in_row == counts).sum()]


def _scored_positions(sequence: ScoredSequence) -> np.ndarray:
    end = len(sequence.tokens) - 1
    return np.arange(end - sequence.scored, end)


def _losses_and_best(
    model: GPT2Model,
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
