"""How far work is that is not finished, read from what it leaves in its folder: by `plan`, and live by `status`.

Work says it in `.progress.json`; a training, besides, in `metrics.jsonl`, its checkpoints, `state.json` and
`logs/throughput.jsonl`. Nothing here asks a process.
"""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json
from core.progress import PROGRESS_FILE, plural

_FIELDS = {"what", "unit", "done", "total", "before", "started", "time"}  # of `.progress.json`
_NUMBER = re.compile(r"\[ *\d+/\d+\] *")  # of a stage, as the console has it
_CHECKPOINT = re.compile(r"step-(\d+)")
_LAST_BYTES = 1 << 14  # of a file of lines


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        done, total: in units; the total is 0 where nothing says it.
        unit: "shard", "step".
        what: part of the stage, where it has several.
        per_second: units a second, of late; 0 where it is not known.
        kept: of a training the step that it goes on from after a kill.
        state: of a training, as `state.json` has it: running, stopped, failed.
    """

    done: int
    total: int
    unit: str
    what: str = ""
    per_second: float = 0.0
    kept: int | None = None
    state: str = ""

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.per_second if self.per_second and self.total else None

    @property
    def units(self) -> str:
        """ "shards" """
        return self.unit if self.unit == "B" else plural(self.unit)

    def kept_text(self) -> str:
        """ "37/120 shards": what would not be done again."""
        done = self.done if self.kept is None else self.kept
        return f"{done}/{self.total or '?'} {self.units}"


def progress_of(partial: Path, steps: int = 0) -> Progress | None:
    """What a folder says of itself that is being made; None where it says nothing.

    Args:
        steps: of a training, where it is known.
    """
    known = _table(partial / PROGRESS_FILE)
    told = _told(known) if known.keys() >= _FIELDS else None
    if (partial / "metrics.jsonl").exists() or (partial / "checkpoints").exists():
        return _of_training(partial, steps or (told.total if told and told.unit == "step" else 0))
    return told


def _told(known: Mapping[str, Any]) -> Progress:
    seconds = known["time"] - known["started"]
    rate = (known["done"] - known["before"]) / seconds if seconds > 0 else 0.0
    what = _NUMBER.sub("", known["what"] or "")
    return Progress(known["done"], known["total"] or 0, known["unit"].strip(), what, max(rate, 0.0))


def _of_training(partial: Path, steps: int) -> Progress:
    kept = [
        int(match[1])
        for path in (partial / "checkpoints").glob("step-*")
        if (match := _CHECKPOINT.fullmatch(path.name))
    ]
    state = _table(partial / "state.json")
    total = steps or _table(partial / "asked.json").get("training", {}).get("steps", 0)
    done = _last_line(partial / "metrics.jsonl").get("step", 0)
    seconds = _last_line(partial / "logs" / "throughput.jsonl").get("step_seconds", 0.0)
    return Progress(
        max(done, *kept, 0),
        total,
        "step",
        per_second=1 / seconds if seconds else 0.0,
        kept=max(kept, default=0),
        state=str(state.get("status", "")),
    )


def _table(path: Path) -> dict[str, Any]:
    """A file's JSON; nothing where it is not there, or is being written."""
    with contextlib.suppress(UserError):
        found = read_json(path)
        return found if isinstance(found, dict) else {}
    return {}


def _last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a file of JSON lines; nothing where there is none."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _LAST_BYTES))
        for line in reversed(stream.read().split(b"\n")[:-1]):
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                return found if isinstance(found, dict) else {}
    return {}
