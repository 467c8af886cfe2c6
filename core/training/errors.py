"""What can end a training that its user can mend; every message says what to do."""

from core.errors import TransientError, UserError


class TrainingError(UserError):
    """The base of them all: a command line prints its message without a traceback."""


class BadSamples(TrainingError):
    """Samples that no model can learn from; the message is that of the rank that read them."""


class NonFiniteLoss(TrainingError):
    """The loss became infinite or not a number; the message says at which step."""


class NonFiniteGradient(TrainingError):
    """Gradients became infinite or not a number while the loss is one; the message says at which step, and which."""


class NonFiniteState(TrainingError):
    """Weights or the optimizer's state hold values that are no numbers; the message says when, and which tensors."""


class EndlessOverflow(TrainingError):
    """Gradients overflow fp16 at any loss scale."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be saved or used; the message names it and says what to do."""


class RanksDisagree(TrainingError):
    """Ranks have different settings, or different copies of what must be the same."""


class LostRank(TrainingError, TransientError):
    """A rank hangs or is gone; the message names it.

    Attributes:
        speaks: whether this rank is the first of those that are left, and writes down what happened.
    """

    def __init__(self, message: str, speaks: bool = False) -> None:
        super().__init__(message)
        self.speaks = speaks


class OutOfMemory(TrainingError):
    """A device or host has no memory left; the message says what needs less."""
