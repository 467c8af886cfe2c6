"""What finished artifacts say of a run beside their numbers: when, on what, how fast, and the command that makes each
again. The report's tables and pictures are made of it; it holds times, so nothing of it is in `results.json`."""

import datetime
import json
import math
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json
from data_pipeline.engine.artifacts import RUN_RECORD
from data_pipeline.engine.steps import Step, Workplace
from recipes.documents import RECIPES
from recipes.overrides import SET
from recipes.schema import Recipe
from workflows import tasks  # noqa: F401  (makes the faces of steps known)
from workflows.stage import Stage

_THROUGHPUT = Path("logs") / "throughput.jsonl"


@dataclass(frozen=True)
class Segment:
    """One attempt at an artifact; times in seconds since 1970, none where it was killed before it could say."""

    started: float
    seconds: float | None
    ended: str
    layout: Mapping[str, Any]
    machine: Mapping[str, Any]
    libraries: Mapping[str, str]


@dataclass(frozen=True)
class Fact:
    """One finished step.

    Attributes:
        artifact: its folder below that of all artifacts.
        key: the whole key.
        command: makes it, with what it stands on, in an empty folder.
        page: address of its documents' page, beside the report; empty where it has none.
    """

    step: Step
    directory: Path
    artifact: str
    key: str
    command: str
    record: Mapping[str, Any]
    segments: Sequence[Segment]
    summary: Mapping[str, Any]
    libraries: Mapping[str, str]
    page: str = ""

    @property
    def seconds(self) -> float | None:
        """Of all attempts that said how long they took."""
        known = [segment.seconds for segment in self.segments if segment.seconds is not None]
        return sum(known) if known else None

    @property
    def outcome(self) -> str:
        return self.step.facts(self.summary)


def facts_of(recipe: Recipe, made: Sequence[Step], place: Workplace, pages: Mapping[Step, str]) -> list[Fact]:
    """The facts of finished steps, in order.

    Args:
        pages: addresses of pages of documents, by step.
    """
    return [_fact(recipe, step, place, pages.get(step, "")) for step in made]


def _fact(recipe: Recipe, step: Step, place: Workplace, page: str) -> Fact:
    directory = place.directory(step)
    record = _record(directory)
    artifact = place.store.artifact(step)
    return Fact(
        step,
        directory,
        directory.relative_to(place.store.root).as_posix(),
        artifact.key,
        command_of(recipe, step),
        record,
        [*_segments(record)],
        place.summary(step),
        artifact.libraries,
        page,
    )


def _record(directory: Path) -> Mapping[str, Any]:
    """`run.json`, which no manifest covers: where it is gone or damaged, nothing is known of the run."""
    try:
        record = read_json(directory / RUN_RECORD)
    except UserError:
        return {}
    return record if isinstance(record, dict) else {}


def _segments(record: Mapping[str, Any]) -> Iterator[Segment]:
    found = record.get("segments")
    for segment in found if isinstance(found, list) else ():
        try:
            started = datetime.datetime.fromisoformat(segment["started"]).timestamp()
        except (KeyError, TypeError, ValueError):
            continue
        yield Segment(
            started,
            segment.get("seconds"),
            segment.get("ended", "finished"),
            segment.get("layout", {}),
            segment.get("machine", {}),
            segment.get("libraries", {}),
        )


def command_of(recipe: Recipe, step: Step) -> str:
    """What makes a step again, with all that it stands on, in a folder where nothing is."""
    face = Stage.faces.get(step.kind.group or step.kind.name)
    words = ["luigi", "--module", "workflows", face.__name__ if face else "FullReproduction"]
    words += ["--recipe", recipe_argument(recipe)]
    words += [SET, recipe.overrides] if recipe.overrides else []
    for name, value in step.selectors.items() if face else ():
        words += [f"--{name}", value]
    return shlex.join(words)


def recipe_argument(recipe: Recipe) -> str:
    """What a command calls a recipe: its name where it is one of ours, else its file."""
    return recipe.path.stem if recipe.path.parent == RECIPES else str(recipe.path)


def machine_of(segment: Segment) -> str:
    """What a segment computed on; on another kind of processor the last digits are others."""
    names = ("processor", "instruction_set", "device")
    return ", ".join(str(segment.machine[name]) for name in names if name in segment.machine)


def layout_of(fact: Fact) -> tuple[int, str]:
    """Devices (processes) of a step's last attempt, and how they share its model and its data, for people; 0 and a dash
    where nothing says it."""
    if not fact.segments:
        return 0, "–"
    layout = fact.segments[-1].layout
    sizes = {word: int(layout.get(f"{word}_parallel") or 1) for word in ("tensor", "data", "pipeline")}
    text = " × ".join(f"{size}-way {word}" for word, size in sizes.items() if size > 1)
    return math.prod(sizes.values()), text or "one device"


def throughput(directory: Path) -> dict[str, float]:
    """The median of what a training measured of itself; nothing where it measured nothing."""
    try:
        lines = (directory / _THROUGHPUT).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:  # cut short when it was killed
            continue
    names = ("tokens_per_second", "model_tflops", "mfu", "memory_bytes")
    found = {
        name: [row[name] for row in rows if isinstance(row, dict) and isinstance(row.get(name), int | float)]
        for name in names
    }
    return {name: statistics.median(values) for name, values in found.items() if values}


def busy(facts: Sequence[Fact]) -> list[tuple[float, float]]:
    """When anything ran: (start, end) in order, apart."""
    spans = sorted(
        (s.started, s.started + s.seconds) for fact in facts for s in fact.segments if s.seconds is not None
    )
    joined: list[tuple[float, float]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1] + 1:  # starts are known to the second
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
