"""How every stage of a recipe stands, and why those run that would: what `plan` prints, and whoever else asks.

The order, and what is needed, are luigi's: below a complete stage nothing is looked for. No network is asked.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipeline.engine.adoption import ADOPTED
from data_pipeline.engine.inventory import Entry, inventory
from data_pipeline.engine.lock_file import NotPinnedError
from workflows.progress import Progress, progress_of
from workflows.reasons import Reason, reason_of
from workflows.stage import RecipeTask, Stage, offline, to_run, walk

Status = Literal["done", "adopted", "partial", "to run", "not needed"]


@dataclass(frozen=True)
class Standing:
    """How one stage stands.

    Attributes:
        status: "partial" is to run, too, and goes on from what is there; "not needed" is gone, and no stage that is to
            run reads it.
        directory: where its artifact is or will be; None as long as a remote source is pinned nowhere.
        reason: why it is not done.
        progress: of a partial one.
    """

    stage: Stage
    status: Status
    directory: Path | None
    reason: Reason | None = None
    progress: Progress | None = None

    @property
    def runs(self) -> bool:
        """Whether luigi would run it."""
        return self.status in ("partial", "to run")


def survey(root: RecipeTask, entries: list[Entry] | None = None) -> list[Standing]:
    """All stages that a task stands on and is, each once, inputs first.

    Args:
        entries: what is in the folder of artifacts, where that is known.
    """
    found = inventory(Path(root.runs)) if entries is None else entries
    stages = list(walk(root))
    with offline(stages):
        needed = to_run(root, _is_finished)
        return [_standing(stage, stage.task_id in needed, found) for stage in stages]


def _is_finished(stage: Stage) -> bool:
    try:
        return stage.is_finished()
    except NotPinnedError:
        return False


def _standing(stage: Stage, needed: bool, entries: list[Entry]) -> Standing:
    try:
        made = stage.is_made()
    except NotPinnedError as error:
        return Standing(stage, "to run", None, Reason(_not_pinned(stage, error)))
    directory = stage.directory
    if made and not needed:
        return Standing(stage, "adopted" if ADOPTED in stage.artifact.manifest() else "done", directory)
    reason = reason_of(stage, entries)
    if not needed:
        return Standing(stage, "not needed", directory, reason)
    partial = stage.artifact.partial
    if made or not partial.is_dir():
        return Standing(stage, "to run", directory, reason)
    steps = stage.step.parameters.get("training", {}).get("steps", 0)
    return Standing(stage, "partial", directory, reason, progress_of(partial, steps))


def _not_pinned(stage: Stage, error: NotPinnedError) -> str:
    """Of the stage that reads a remote source what is not known; of those that follow that it is so."""
    if stage.step.pins is not None:
        with contextlib.suppress(NotPinnedError):
            stage.step.pins(None)
            return "not pinned yet: what it reads is not"
        return f"not pinned yet: {error}"
    return "not pinned yet: a source that it stands on is not"
