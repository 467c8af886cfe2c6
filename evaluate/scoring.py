"""Scoring shared by all evaluations: batches dealt to data ranks, and sums that do not depend on their number.

Batches are cut before they are dealt, data rank r takes batches r, r + n, …, each batch's sums are float64, and
the sums of all batches are added exactly. So the digits of a result are the same for any number of data ranks
(given the same threads a rank), and no row is ever scored twice to fill a batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from core.models.gpt2 import GPT2Model
from core.parallel.cross_entropy import vocabulary_parallel_argmax, vocabulary_parallel_cross_entropy
from core.parallel.mesh import Mesh

Batch = TypeVar("Batch")


def total_over_batches(
    batches: Sequence[Batch],
    score: Callable[[Batch], Sequence[float]],
    columns: int,
    mesh: Mesh,
    title: str = "",
) -> list[float]:
    """Score every batch once, on some data rank, and add the sums up.

    Collective over all ranks; the ranks of a tensor group score the same batches together.

    Args:
        batches: the same list on every rank.
        score: `columns` sums of one batch, called in inference mode.
        title: description of the progress bar, which the main rank shows on a terminal.

    Returns:
        `columns` totals, the same on every rank, each the correctly rounded sum of the batches' float64 sums.
    """
    sums = torch.zeros(len(batches), columns, dtype=torch.float64)
    dealt = range(mesh.data_rank, len(batches), mesh.data_size)
    with torch.inference_mode():
        for index in tqdm(dealt, desc=title, unit="batch", disable=None if mesh.is_main else True):
            sums[index] = torch.tensor(score(batches[index]), dtype=torch.float64)
    # Adding the other ranks' zeros is exact. `fsum`: one rounding, whatever the Python version's `sum` does.
    sums = sums.to(mesh.device)
    dist.all_reduce(sums, group=mesh.data_group)
    return [math.fsum(column) for column in sums.T.tolist()]


def pad(rows: Sequence[np.ndarray], value: int) -> np.ndarray:
    """Rows of different lengths as one int64 array [rows, longest], padded on the right with `value`."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


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
        raise ValueError("the model's loss is not a finite number; was its training stopped by an overflow?")
    return Totals(loss, round(targets), round(correct))


def batches_by_length(lengths: Sequence[int] | np.ndarray, tokens: int) -> list[list[int]]:
    """Cut the items 0 … n - 1, the longest first, into batches of at most `tokens` when padded, but one item at least.

    The longest first: when memory is short, it shows in the first second.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


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
