"""What zero-shot tasks hand over to be scored. No torch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoredSequence:
    """n + 1 tokens: n inputs and, one place later, n targets, of which the last `scored` count."""

    tokens: np.ndarray
    scored: int
