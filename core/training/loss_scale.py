"""Dynamic loss scaling for fp16 (paper section 4.2; Micikevicius et al. 2018, section 3.2).

The loss is multiplied by a scale, so that small gradients do not vanish in fp16, and the gradients are divided by it.
A step whose gradients overflowed is tried again, with the same samples, at half the scale. The scale is a power of two
times its start: dividing by it loses nothing.

Whether gradients overflowed is told by their global norm, which sees every shard on every rank. (torch's `GradScaler`
asks only the ranks that the first gradient is split over.)
"""

from typing import Any

from core.config import TrainingConfig
from core.training.errors import EndlessOverflow

FACTOR = 2.0
MINIMUM = 1.0
MOST_OVERFLOWS = 40  # in a row; from 2^32 a healthy run skips 13 or 14


class LossScale:
    """The scale, halved by every overflow and doubled after `loss_scale_window` steps without one."""

    def __init__(self, config: TrainingConfig) -> None:
        self.value = config.initial_loss_scale
        self._window = config.loss_scale_window
        self._clean_steps = 0
        self._overflows = 0  # in a row

    def update(self, overflowed: bool) -> None:
        """Count a try of a step.

        Raises:
            EndlessOverflow: the scale cannot be lowered, or lowering it again and again did not help.
        """
        if not overflowed:
            self._overflows = 0
            self._clean_steps += 1
            if self._clean_steps == self._window:
                self.value, self._clean_steps = self.value * FACTOR, 0
            return
        self._overflows += 1
        self._clean_steps = 0
        if self.value <= MINIMUM or self._overflows > MOST_OVERFLOWS:
            raise EndlessOverflow(
                f"gradients overflowed fp16 {self._overflows} times in a row, last at a loss scale of {self.value:g}; "
                'lower the learning rate, go on from an earlier checkpoint, or train with precision = "bf16"'
            )
        self.value = max(self.value / FACTOR, MINIMUM)

    def state(self) -> dict[str, Any]:
        """For a checkpoint, taken between steps."""
        return {"value": self.value, "clean_steps": self._clean_steps}

    def load(self, state: dict[str, Any]) -> None:
        self.value, self._clean_steps = state["value"], state["clean_steps"]
