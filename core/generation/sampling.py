"""How the next token of a text is chosen: the likeliest, or drawn at random.

What a prompt gives depends on nothing but the model, the settings, the seed and its number. Every rank of the tensor
group computes the same choice from the same logits, so the text is the same on any layout, unless two candidates are
equal to rounding. The likeliest token is found among the ranks' shards of the vocabulary; only to draw are the logits
gathered. Not here: reading the texts (`core.generation.batches`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from core.errors import UserError
from core.parallel.cross_entropy import vocabulary_parallel_argmax
from core.parallel.mesh import Mesh
from core.parallel.random import derived_seed
from core.tables import out_of_range

NOT_FINITE = "the model's logits are not finite numbers; was its training stopped by an overflow?"


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the likeliest token, always the same text; above 0, tokens are drawn with softmax(logits /
            temperature): 1 draws as the model believes.
        top_k: draw among the k likeliest tokens (and what is as likely as the last of them); 0 among all.
        top_p: draw among the likeliest tokens that together reach this probability, after top_k; 1 among all.
        seed: text i of a run is drawn from a stream of its own, derived from the seed and i.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1234

    def errors(self, where: str) -> list[str]:
        problems = out_of_range(self, where, temperature=(0, math.inf), top_k=(0, math.inf))
        if not 0.0 < self.top_p <= 1.0:
            problems.append(f"{where}.top_p: must be above 0 and at most 1, is {self.top_p}")
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            problems.append(
                f"{where}.temperature: must be above 0 where top_k or top_p choose among tokens drawn at random"
            )
        return problems

    def stream(self, number: int) -> torch.Generator:
        """The random numbers of the text with this number, from 0."""
        return torch.Generator().manual_seed(derived_seed(self.seed, "generate", number))

    @property
    def width(self) -> int:
        """Versions of a text that are under way at a time."""
        return 1

    def look(self, logits: torch.Tensor, mesh: Mesh, vocabulary_size: int) -> Sequence[Any]:
        """What is chosen from, by row of this rank's logits [rows, padded vocabulary / tp]: the likeliest token, or to
        draw all logits. Collective over the tensor group.

        Raises:
            UserError: the logits are not finite.
        """
        if self.temperature:
            return list(_gathered(logits, mesh)[:, :vocabulary_size].cpu())
        best = vocabulary_parallel_argmax(logits, group=mesh.tensor_group, vocabulary_size=vocabulary_size)
        tokens: list[int] = best.tolist()
        if vocabulary_size in tokens:  # of logits that are not numbers, none is the largest
            raise UserError(NOT_FINITE)
        return tokens

    def begin(self, number: int, count: int, stop: int) -> "SampledText":
        """A text of at most `count` tokens that ends before the token `stop`."""
        return SampledText(self, number, count, stop)


class SampledText:
    """A text under way, of which there is one version (`core.generation.batches.Text`)."""

    score: float | None = None

    def __init__(self, sampling: Sampling, number: int, count: int, stop: int) -> None:
        self.number = number
        self.tokens: list[int] = []
        self.ended = ""
        self._sampling, self._count, self._stop = sampling, count, stop
        self._random = sampling.stream(number)

    def advance(self, rows: Sequence[Any]) -> list[tuple[int, int]]:
        (seen,) = rows
        token = seen if self._sampling.temperature == 0 else self._drawn(seen)
        if token == self._stop:
            self.ended = "stop"
            return []
        self.tokens.append(token)
        if len(self.tokens) < self._count:
            return [(0, token)]
        self.ended = "length"
        return []

    def _drawn(self, logits: torch.Tensor) -> int:
        uniform = torch.rand((), generator=self._random, dtype=torch.float64).item()
        return draw(logits, self._sampling, uniform)


def _gathered(logits: torch.Tensor, mesh: Mesh) -> torch.Tensor:
    """[rows, padded vocabulary / tp] on each rank → [rows, padded vocabulary] on every rank."""
    if mesh.tensor_size == 1:
        return logits
    parts = [torch.empty_like(logits) for _ in range(mesh.tensor_size)]
    dist.all_gather(parts, logits.contiguous(), group=mesh.tensor_group)
    return torch.cat(parts, dim=-1)


def draw(logits: torch.Tensor, sampling: Sampling, uniform: float) -> int:
    """The token whose piece of the cumulative distribution, in the order of ids, `uniform` falls into.

    Args:
        logits: [vocabulary], without padding.
        uniform: in [0, 1).

    Raises:
        UserError: a logit is not finite.
    """
    if not torch.isfinite(logits).all():
        raise UserError(NOT_FINITE)
    scaled = logits.double() / sampling.temperature
    if 0 < sampling.top_k < len(scaled):
        scaled = scaled.masked_fill(scaled < scaled.topk(sampling.top_k).values[-1], -torch.inf)
    probabilities = scaled.softmax(-1)
    if sampling.top_p < 1:
        ordered, tokens = probabilities.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # of all likelier tokens
        probabilities[tokens[before >= sampling.top_p]] = 0.0
    cumulative = probabilities.cumsum(-1)
    index = int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
    return min(index, int(probabilities.nonzero()[-1]))
