"""Scores of finished batches beside an evaluation's output, so that a killed one goes on: `FILE.partial/`.

One file a stretch of batches, named by the pass over the model and its first batch, and `asked.json`, by which what was
asked with something else is refused. The folder goes when the result is there.
"""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.files import PARTIAL_SUFFIX, atomic_write, read_json, remove_temporaries, write_json
from core.program.asked import ASKED_FILE, refuse_other

_REMEDY = "remove it to evaluate anew"


def folder_beside(output: Path) -> Path:
    """Where the scores of an unfinished evaluation are."""
    return output.with_name(output.name + PARTIAL_SUFFIX)


def remove_kept(output: Path) -> None:
    """Forget the scores of an evaluation whose result is there."""
    shutil.rmtree(folder_beside(output), ignore_errors=True)


@dataclass
class KeptScores:
    """The scores of one evaluation, a pass after the other (`core.evaluation.Keep`). The main rank calls it."""

    folder: Path
    _pass: int = field(default=-1, init=False)

    @classmethod
    def beside(cls, output: Path, asked: Mapping[str, Any]) -> "KeptScores":
        """Open or make the folder.

        Raises:
            UserError: what is scored there was asked with something else; the message says what differs.
        """
        folder = folder_beside(output)
        path = folder / ASKED_FILE
        if path.exists():
            refuse_other(folder, "what was scored there", read_json(path), asked, _REMEDY)
            remove_temporaries(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # of what a removal was killed in
            write_json(path, asked)
        return cls(folder)

    def read(self, sizes: Sequence[int]) -> np.ndarray | None:
        """The scores of the next pass's first batches; what does not fit them, or is damaged, counts as none."""
        self._pass += 1
        ends = np.cumsum(sizes, dtype=np.int64)
        found: list[np.ndarray] = []
        rows = first = 0
        while first < len(ends):
            part = _scores_in(self._path(first))
            if part is None or part.ndim != 2 or rows + len(part) not in ends[first:]:
                break
            found.append(part)
            rows += len(part)
            first = int(np.searchsorted(ends, rows)) + 1
        return np.concatenate(found) if found else None

    def write(self, first: int, scores: np.ndarray) -> None:
        """Keep a stretch."""
        with atomic_write(self._path(first)) as temporary, temporary.open("wb") as stream:
            np.save(stream, scores, allow_pickle=False)

    def _path(self, first: int) -> Path:
        return self.folder / f"{self._pass:02d}-{first:09d}.npy"


def _scores_in(path: Path) -> np.ndarray | None:
    with contextlib.suppress(OSError, ValueError, EOFError):
        return np.load(path, allow_pickle=False)
    return None
