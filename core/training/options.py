"""How one call of the trainer runs."""

from dataclasses import dataclass

from core.config import TrainingConfig
from core.training.tensorboard import MISSING, installed


@dataclass(frozen=True)
class RunOptions:
    """How one call of `train` runs; nothing here changes the course of the run by more than rounding.

    Attributes:
        title: before progress lines.
        identity: what the samples and the initial weights come from; a checkpoint of another is refused.
        zero, pipeline_schedule: what is split over the data ranks, and in which order the stages of a pipeline work, see
            `ParallelConfig`.
        exit_after_minutes: save and stop when this call has taken so long (0: no limit), for batch systems.
        measure_peak: MFU against a measured peak, even of a device whose peak is known.
        tensorboard: event files, too, in `logs/tensorboard`.
        profile_steps: (first, last), counted from 1: the main rank's trace of these steps in `logs/trace-rank0.json`.
    """

    title: str = ""
    identity: str = ""
    zero: int = 1
    pipeline_schedule: str = "1f1b"
    exit_after_minutes: float = 0.0
    measure_peak: bool = False
    tensorboard: bool = False
    profile_steps: tuple[int, int] | None = None

    def errors(self, config: TrainingConfig) -> list[str]:
        """What is wrong with these options, one line each."""
        problems = [] if installed() or not self.tensorboard else [MISSING]
        if self.profile_steps:
            first, last = self.profile_steps
            if not 1 <= first <= last <= config.steps:
                problems.append(
                    f"--profile-steps {first}:{last}: must be FIRST:LAST with 1 ≤ FIRST ≤ LAST ≤ {config.steps}, "
                    "the steps of this training"
                )
        return problems
