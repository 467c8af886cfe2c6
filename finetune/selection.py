"""Which of a fine-tuning's models is delivered: that of the epoch that is best on the development set.

After each epoch the model is written to `epochs/step-…/`, read back as anything else would read it, and scored.
`epochs.json` then says what was found and which is best, and all other models go; at the end the best becomes `model/`.
A killed run finds both as they were: what is in the file is not scored again, and the best model's folder is there.
"""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json, write_json
from core.parallel.mesh import Mesh
from core.program.asked import from_main
from recipes.records import FineTuning, value_at

EPOCHS_FILE = "epochs.json"
_FOLDER = "epochs"


@dataclass(frozen=True)
class BestOnDev:
    """The trainer's `Selection`; all ranks call its methods together, the main one keeps the files.

    Attributes:
        output: of the run.
        record: says which number decides.
        epochs: which epoch ends with a step; one is scored, and may be chosen, after each of these steps.
        save: writes the model that trains to a directory.
        score: the numbers on the development set of the model in a directory.
    """

    output: Path
    record: FineTuning
    mesh: Mesh
    epochs: Mapping[int, int]
    save: Callable[[Path], None]
    score: Callable[[Path], dict[str, Any]]

    @property
    def steps(self) -> Mapping[int, int]:
        return self.epochs

    def started(self, first_step: int) -> None:
        """A run from its first step takes nothing from one before."""
        if first_step == 0:
            from_main(self.mesh, self._forget)

    def measured(self, step: int) -> dict[str, Any]:
        """Score the model after this step, unless that was done; what is recorded of it."""
        found = from_main(self.mesh, lambda: self._epochs().get(str(step)))
        if found is not None:
            return found
        folder = self._folder(step)
        self.save(folder)
        measured = {"epoch": self.epochs[step], "dev": self.score(folder)}
        return from_main(self.mesh, lambda: self._keep(step, measured))

    def deliver(self, directory: Path) -> None:
        """The best model becomes `directory`."""
        from_main(self.mesh, lambda: self._deliver(directory))

    def _folder(self, step: int) -> Path:
        return self.output / _FOLDER / f"step-{step:08d}"

    def _epochs(self) -> dict[str, Any]:
        path = self.output / EPOCHS_FILE
        return read_json(path)["by_step"] if path.exists() else {}

    def _forget(self) -> None:
        (self.output / EPOCHS_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.output / _FOLDER, ignore_errors=True)

    def _keep(self, step: int, found: Mapping[str, Any]) -> dict[str, Any]:
        """Record it; returns it as the file has it, which a run that goes on finds."""
        by_step = {**self._epochs(), str(step): found}
        best = best_step(by_step, self.record)
        write_json(self.output / EPOCHS_FILE, {"by_step": by_step, "best_step": best})
        for path in (self.output / _FOLDER).iterdir():
            if path != self._folder(best):
                shutil.rmtree(path)
        return self._epochs()[str(step)]

    def _deliver(self, directory: Path) -> None:
        best = self._folder(read_json(self.output / EPOCHS_FILE)["best_step"])
        if best.exists():  # else a killed run has moved it
            if directory.exists():
                shutil.rmtree(directory)
            os.replace(best, directory)
        shutil.rmtree(best.parent, ignore_errors=True)


def best_step(by_step: Mapping[str, Mapping[str, Any]], record: FineTuning) -> int:
    """The step whose model is best on the development set, the first of equal ones.

    Raises:
        UserError: the task gives no such number, or one that is not finite.
    """

    def rank(step: int) -> tuple[float, int]:
        value = value_at(by_step[str(step)]["dev"], record.chosen_by)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(
                f"{record.name}: on_dev gives {value} at {record.chosen_by!r}, by which its record chooses the best epoch"
            )
        return (value if record.lower_is_better else -value), step

    return min(map(int, by_step), key=rank)


def best_epoch(output: Path) -> dict[str, Any]:
    """What a finished run says of its model: "epoch" and "dev"; nothing where no number decided."""
    path = output / EPOCHS_FILE
    if not path.exists():
        return {}
    found = read_json(path)
    return dict(found["by_step"][str(found["best_step"])])
