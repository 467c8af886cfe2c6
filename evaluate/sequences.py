"""What zero-shot tasks hand over to be scored. No torch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoredSequence:
    """n + 1 tokens: n inputs and, one place later, n targets, of which the last `scored` (one or more) count."""

    tokens: np.ndarray
    scored: int

    @property
    def wanted(self) -> np.ndarray:
        """The targets that count, [scored]."""
        return self.tokens[len(self.tokens) - self.scored :]
