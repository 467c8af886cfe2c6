"""Scoring of sequences by teacher forcing, shared by all zero-shot evaluations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from core.errors import ConfigurationError, UserError
from core.evaluation import Keep, batches_by_length, exact_sum, pad, scores_of_batches
from core.model_directory import Network
from core.models.transformer import Places
from core.parallel.cross_entropy import vocabulary_parallel_argmax, vocabulary_parallel_cross_entropy
from core.parallel.mesh import Mesh
from core.tf32 import NAME as TF32
from core.tf32 import tf32_errors
from data_pipeline.tokenization.ids import check_token_ids
from data_pipeline.tokenization.tokenizers import Tokenizer
from evaluate.sequences import ScoredSequence
from recipes.schema import EvaluationSettings

# What one forward pass reads at most, but one sequence at least. Fixed: which kernels compute a product, and so its last
# digits, depends on how many rows it has.
PASS_TOKENS = 2048

_OTHER_TOKENIZER = "give the tokenizer that the model was trained with"


@dataclass(frozen=True)
class Totals:
    """What a model makes of a list of `ScoredSequence`s.

    Attributes:
        scored: of each sequence, how many of its targets count.
        target_losses: negative log likelihood of each scored target, in nats, a sequence after the other.
        choices: the model's first choice in each one's place.
        targets_right: whether that is the target.
    """

    scored: np.ndarray
    target_losses: np.ndarray
    choices: np.ndarray
    targets_right: np.ndarray

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each sequence's scored targets end in what has one value a target."""
        return np.cumsum(self.scored)

    @property
    def last_right(self) -> np.ndarray:
        """Of each sequence, whether its last target is the model's first choice."""
        return self.targets_right[self.ends - 1]

    @cached_property
    def losses(self) -> np.ndarray:
        """Of each sequence, the sum over its scored targets."""
        return np.add.reduceat(self.target_losses, self.ends - self.scored)

    @cached_property
    def right(self) -> np.ndarray:
        """Of each sequence, whether all its scored targets are the model's first choice."""
        return np.logical_and.reduceat(self.targets_right, self.ends - self.scored)

    @property
    def loss(self) -> float:
        """Summed over all targets, in nats: the correctly rounded sum."""
        return exact_sum(self.target_losses)

    @property
    def targets(self) -> int:
        """How many were scored."""
        return len(self.target_losses)

    @property
    def correct(self) -> int:
        """Sequences all of whose scored targets are the model's first choice."""
        return int(self.right.sum())


@dataclass(frozen=True)
class Scorer:
    """A model and how it scores sequences, which is what a task is given.

    Attributes:
        model: a causal one, in evaluation mode on `mesh.device`.
        batch_size: see `EvaluationSettings`.
        title: description of the progress bar.
        keep: where the scores of finished passes outlive a killed program.
    """

    model: Network
    mesh: Mesh
    batch_size: int
    title: str = ""
    keep: Keep | None = None

    def __call__(self, sequences: Sequence[ScoredSequence]) -> Totals:
        """Score sequences by teacher forcing. Collective.

        Sequences are sorted by length and padded on the right, which a causal model's earlier positions cannot see.

        Args:
            sequences: one or more, each of at most the model's sequence length + 1 tokens; the same list on every rank.

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
        length = self.model.config.sequence_length
        lengths = [len(sequence.tokens) - 1 for sequence in sequences]
        batches = batches_by_length(lengths, max(PASS_TOKENS, length))
        scored = np.array([sequence.scored for sequence in sequences])

        def score(numbers: Sequence[int]) -> np.ndarray:
            """The passes follow each other on the device; its answers are waited for once."""
            parts = [_score_pass(self.model, [sequences[i] for i in batches[n]], self.mesh) for n in numbers]
            return np.concatenate([part.cpu().numpy() for part in parts])

        flat = scores_of_batches(
            [int(scored[batch].sum()) for batch in batches],
            score,
            2,
            self.mesh,
            self.title,
            at_once=max(1, self.batch_size * length // max(PASS_TOKENS, length)),
            keep=self.keep,
        )
        starts = np.cumsum(scored) - scored
        order = np.concatenate(
            [np.arange(starts[i], starts[i] + scored[i]) for batch in batches for i in batch]
        )
        in_order = np.empty_like(flat)
        in_order[order] = flat
        losses, choices = in_order.T
        if not math.isfinite(exact_sum(losses)):
            raise UserError(
                "the model's loss is not a finite number; was its training stopped by an overflow?"
            )
        wanted = np.concatenate([sequence.wanted for sequence in sequences])
        return Totals(scored, losses, choices.astype(np.int64), choices == wanted)


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

    # A task may also have `predictions(self) -> dict[str, Sequence]`, after `evaluate`: a row of a table for each of
    # its answers, by column: row, target, prediction, log_probability, right.


def in_precision(model: Network, precision: str) -> Network:
    """The model with its weights in "fp32" or "bf16", in which it then computes; losses are made of its logits in fp32.

    With "tf32" this process computes the products of fp32 matrices in TF32, from now on.
    """
    device = next(model.parameters()).device
    if errors := tf32_errors(precision, device, "precision"):
        raise ConfigurationError(errors)
    if precision == TF32:
        torch.set_float32_matmul_precision("high")
    return model.to(torch.bfloat16) if precision == "bf16" else model


def _score_pass(model: Network, batch: list[ScoredSequence], mesh: Mesh) -> torch.Tensor:
    """Loss and first choice in the place of each scored target, [scored targets, 2] float64 on the model's device."""
    inputs = pad([sequence.tokens[:-1] for sequence in batch], value=0)  # [b, s]
    counts = np.array([sequence.scored for sequence in batch])
    rows = np.repeat(np.arange(len(batch)), counts)  # [scored], as is all below
    positions = np.concatenate([_scored_positions(sequence) for sequence in batch])
    wanted = np.concatenate([sequence.wanted for sequence in batch])
    on_device = [torch.from_numpy(array).to(mesh.device) for array in (inputs, rows, positions, wanted)]
    places = Places(on_device[1], on_device[2], int(positions.min()))
    losses, best = _losses_and_best(model, mesh, on_device[0], places, on_device[3])
    return torch.stack([losses.double(), best.double()], dim=1)


def _scored_positions(sequence: ScoredSequence) -> np.ndarray:
    end = len(sequence.tokens) - 1
    return np.arange(end - sequence.scored, end)


def _losses_and_best(
    model: Network,
    mesh: Mesh,
    tokens: torch.Tensor,
    places: Places,
    wanted: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each wanted token and the model's first choice in its place, [scored] each."""
    logits = model(tokens, places=places)  # [scored, padded vocabulary / tp]
    group, vocabulary_size = mesh.tensor_group, model.config.vocabulary_size
    return (
        vocabulary_parallel_cross_entropy(logits, wanted, group=group, vocabulary_size=vocabulary_size),
        vocabulary_parallel_argmax(logits, group=group, vocabulary_size=vocabulary_size),
    )
