"""Beam search: of a text the likeliest versions are kept under way together, and the best that ended is taken.

The rule is that of `transformers`, so that numbers can be compared: of the 2 · beams likeliest continuations of all
versions, those of the best `beams` that end are finished, with the score log-probability / length ** length_penalty
(the length counts the token that ends), the best others go on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from core.errors import UserError
from core.generation.sampling import NOT_FINITE
from core.parallel.cross_entropy import vocabulary_parallel_candidates
from core.parallel.mesh import Mesh
from core.tables import out_of_range


@dataclass(frozen=True)
class BeamSearch:
    """How many versions of a text are followed, and when that ends.

    Attributes:
        beams: versions of a text that are followed at a time; the likeliest text is looked for among them.
        length_penalty: a text's log-probability is divided by its length to this power: 0 takes the likeliest text, above
            0 favours longer ones.
        early_stopping: when to stop, once `beams` versions have ended: at once (true), when the best that goes on could
            not beat them if it ended here (false), or not even if it ended at the best length (never).
    """

    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: Literal["true", "false", "never"] = "false"

    def errors(self, where: str) -> list[str]:
        bounds = {"beams": (1, math.inf), "length_penalty": (-math.inf, math.inf)}
        return out_of_range(self, where, **bounds)

    @property
    def width(self) -> int:
        """Versions of a text that are under way at a time."""
        return self.beams

    def look(self, logits: torch.Tensor, mesh: Mesh, vocabulary_size: int) -> Sequence[Any]:
        """By row of this rank's logits [rows, padded vocabulary / tp]: the likeliest tokens with their
        log-probabilities. Collective over the tensor group.

        Raises:
            UserError: the logits are not finite.
        """
        values, tokens = vocabulary_parallel_candidates(
            logits, 2 * self.beams, group=mesh.tensor_group, vocabulary_size=vocabulary_size
        )
        if not values.isfinite().all():
            raise UserError(NOT_FINITE)
        return [list(zip(*row, strict=True)) for row in zip(values.tolist(), tokens.tolist(), strict=True)]

    def begin(self, number: int, count: int, stop: int) -> "SearchedText":
        """A text of at most `count` tokens that ends before the token `stop`."""
        return SearchedText(self, number, count, stop)


class _Version(NamedTuple):
    score: float
    tokens: tuple[int, ...]
    ended: str = ""


class SearchedText:
    """A text under way, of which there are several versions (`core.generation.batches.Text`)."""

    def __init__(self, search: BeamSearch, number: int, count: int, stop: int) -> None:
        self.number = number
        self.tokens: list[int] = []
        self.ended = ""
        self.score: float | None = None
        self._search, self._count, self._stop = search, count, stop
        self._going = [_Version(0.0, ())]  # the best first, as are
        self._finished: list[_Version] = []

    def advance(self, rows: Sequence[Any]) -> list[tuple[int, int]]:
        beams = self._search.beams
        length = len(self._going[0].tokens) + 1
        best = sorted(
            (
                (self._going[row].score + value, row, token)
                for row, seen in enumerate(rows)
                for value, token in seen
            ),
            key=lambda candidate: -candidate[0],
        )[: 2 * beams]
        going: list[_Version] = []
        parents: list[tuple[int, int]] = []
        for place, (score, row, token) in enumerate(best):
            ended = "stop" if token == self._stop else "length" if length == self._count else ""
            tokens = self._going[row].tokens + (() if ended == "stop" else (token,))
            if ended and place < beams:
                self._finished.append(_Version(score / length**self._search.length_penalty, tokens, ended))
            elif not ended and len(going) < beams:
                going.append(_Version(score, tokens))
                parents.append((row, token))
        self._finished = sorted(self._finished, key=lambda version: -version.score)[:beams]
        self._going = going
        if not self._is_over(length):
            return parents
        self.score, tokens, self.ended = self._finished[0]
        self.tokens = list(tokens)
        return []

    def _is_over(self, length: int) -> bool:
        """Whether no version that goes on counts any more."""
        if not self._going:
            return True
        if len(self._finished) < self._search.beams:
            return False
        if self._search.early_stopping == "true":
            return True
        if self._search.early_stopping == "never" and self._search.length_penalty > 0:
            length = self._count
        return self._going[0].score / length**self._search.length_penalty <= self._finished[-1].score
