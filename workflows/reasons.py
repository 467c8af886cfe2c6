"""Why a stage has to run: what differs from the artifact of it that comes nearest, in words for people.

Which values differ is `data_pipeline.engine.adoption`'s part; here they get the names that people know: a setting's, a
library's, a file's, a stage's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from core.files import MANIFEST
from data_pipeline.engine.adoption import NOTHING, Difference, Finished, differences
from data_pipeline.engine.inventory import Entry
from data_pipeline.engine.steps import Step
from recipes.schema import Recipe
from workflows.stage import LinkedStage, Stage, set_aside_of

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_LONGEST_VALUE = 48  # characters of a value that are shown
_SHOWN = 4  # changes in a line
NEVER = "never made"


class Change(NamedTuple):
    """One value that differs: where it stands in the manifest, what it is as JSON, and the whole in words."""

    where: str
    old: str
    new: str
    text: str


@dataclass(frozen=True)
class Reason:
    """Why a stage is not done.

    Attributes:
        text: in a line.
        changes: from the nearest earlier artifact; those of its own before those of its inputs.
        nearest: that artifact's folder.
    """

    text: str
    changes: tuple[Change, ...] = ()
    nearest: Path | None = None


def reason_of(stage: Stage, entries: Sequence[Entry]) -> Reason:
    """Why a stage that can have a key is not done.

    Args:
        entries: what is in its folder of artifacts.
    """
    artifact = stage.artifact
    if isinstance(stage, LinkedStage) and artifact.is_complete():
        return Reason(f"made, but {stage.link} does not lead to it")
    spoilt = next((e for e in entries if e.condition == "damaged" and e.path == artifact.directory), None)
    if spoilt is not None:
        return Reason(f"damaged: {spoilt.problem}")
    if set_aside_of(stage) is not None:
        return Reason("was damaged, and set aside")
    if reader := next(
        (e for e in entries if artifact.key in e.inputs.values() and e.condition != "partial"), None
    ):
        return Reason(f"gone: it was there when {reader.stage}/{reader.path.name} was made of it")
    if Path(f"{artifact.own}.lock").exists() and not artifact.partial.exists():
        return Reason("gone: it was made before, or begun")
    nearest = nearest_to(stage, entries)
    if nearest is None:
        return Reason(NEVER)
    changes = changes_from(stage.step, differences(nearest, artifact))
    return Reason(in_a_line(changes), tuple(changes), nearest.directory)


def nearest_to(stage: Stage, entries: Sequence[Entry]) -> Finished | None:
    """Of the finished artifacts of a stage that of which the fewest values differ, the newest of several."""
    artifact, name = stage.artifact, stage.step.name
    others = [
        Finished(entry.path, dict(entry.manifest))
        for entry in entries
        if entry.condition == "finished" and entry.stage == artifact.stage and entry.key != artifact.key
    ]
    alike = [one for one in others if one.manifest["name"] == name]
    called = next((base for base in _names_of(stage.settings) if f"{name}-".startswith(f"{base}-")), None)
    if not alike and called is not None:
        # Called after the recipe: a recipe's copy under another name begins with what the first one made.
        tail = name.removeprefix(called)
        alike = [one for one in others if str(one.manifest["name"]).endswith(tail)]
    newest_first = sorted(alike, key=_made_at, reverse=True)
    return min(newest_first, key=lambda one: len(differences(one, artifact)), default=None)


def _names_of(recipe: Recipe) -> tuple[str, str]:
    return recipe.name, recipe.corpus_name


def _made_at(one: Finished) -> int:
    return (one.directory / MANIFEST).stat().st_mtime_ns


def changes_from(step: Step, found: Sequence[Difference]) -> list[Change]:
    """Differences in words, a stage's own first."""
    titles = {role: input_title(used) for role, used in step.inputs.items()}
    changes = [Change(*one, told(step.kind.name, one, titles, step.files)) for one in found]
    return sorted(changes, key=lambda change: change.where.startswith("inputs."))


def input_title(step: Step) -> str:
    """The task that makes a step's artifact, as it is typed."""
    face = Stage.faces[step.kind.group or step.kind.name]
    return " ".join([face.__name__, *step.selectors.values()])


def in_a_line(changes: Sequence[Change]) -> str:
    """ "deduplicate.threshold 0.7 → 0.8, upstream CleanDocuments changed (stories)" """
    texts = [change.text for change in changes[:_SHOWN]]
    rest = len(changes) - len(texts)
    return ", ".join(texts) + (f", and {rest} more" if rest else "")


def told(
    stage: str,
    difference: Difference,
    inputs: Mapping[str, str] | None = None,
    files: Mapping[str, Path] | None = None,
) -> str:
    """ "deduplicate.threshold 0.7 → 0.8"

    Args:
        stage: the name of its kind.
        inputs, files: what they are called, by role, where something knows it.
    """
    kind, _, name = difference.where.partition(".")
    if kind == "inputs":
        task, _, which = (inputs or {}).get(name, name).partition(" ")
        return f"upstream {task} {how(difference)}" + (f" ({which})" if which else "")
    if kind == "files":
        return f"file {(files or {}).get(name, name)} {how(difference)}"
    if is_of_plugin(difference):
        return f"plug-in of {stage} {how(difference)}"
    if kind == "parameters":
        name = f"{stage}.{name}"
    return f"{name or kind} {shown(difference.old)} → {shown(difference.new)}"


def is_of_plugin(difference: Difference) -> bool:
    """Whether a parameter is the source of a plug-in, or has such sources in it, and differs by nothing else."""
    kind, _, name = difference.where.partition(".")
    old, new = (_DIGEST.sub("", value) for value in (difference.old, difference.new))
    return kind == "parameters" and ("plug" in name.partition(".")[0] or old == new)


def how(difference: Difference) -> str:
    """ "changed", "is new", "is gone" """
    if difference.old == NOTHING:
        return "is new"
    return "is gone" if difference.new == NOTHING else "changed"


def shown(value: str, longest: int = _LONGEST_VALUE) -> str:
    """A value, which is given as JSON, for people: texts without quotes, what is long cut."""
    text = value
    if value.startswith('"'):
        text = json.loads(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
