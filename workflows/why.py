"""`python -m workflows why A B`: what makes two artifacts different ones, followed through what they were made of.

An artifact is one on disk, by its manifest, or a stage of a recipe, by what its key would be a hash of.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import workflows
from core.errors import UserError
from core.files import MANIFEST
from data_pipeline.engine.adoption import NOTHING, Difference, value_differences
from data_pipeline.engine.artifacts import KEY_CHARACTERS, MADE_OF
from data_pipeline.engine.inventory import Entry, entry_of, inventory
from workflows.arguments import add_recipe, add_runs
from workflows.reasons import NEVER, how, is_of_plugin, nearest_to, shown, told
from workflows.stage import Stage, offline, walk

DESCRIPTION = """Show by which values two artifacts differ: each that their keys are hashes of, old → new, and where an input differs, by what
that one does, down to the first cause. A and B are each a folder, a part of a key (four characters or more), or a stage
of a recipe: STAGE (of --recipe and --set) or RECIPE:STAGE, STAGE being a folder's name (deduplicate, clean/articles), a task
("CleanDocuments articles") or a label ("clean articles"). Without B: why A is another one than the nearest made before."""
EPILOG = """examples:
  python -m workflows why deduplicate --set deduplicate.threshold=0.8
  python -m workflows why sample:report my.toml:report
  python -m workflows why runs/pretrain/gpt2-small-0123456789ab 4567cdef
    pretrain/gpt2-small-0123456789ab → pretrain/gpt2-small-4567cdef0123
      pretrain.training.steps 900 → 1000
"""
_LEAST_OF_A_KEY = 4
_LONGEST_VALUE = 400
_TASKS = ("FullReproduction", "CorpusReport")  # what they stand on are all stages of a recipe


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "why",
        help="which values make two artifacts, or stages of recipes, different ones",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="a folder, a part of a key, STAGE or RECIPE:STAGE")
    parser.add_argument("b", metavar="B", nargs="?", help="as A; by default the nearest made before A")
    add_recipe(parser)
    add_runs(parser)
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.set_defaults(function=lambda given: why(given, given.a, given.b, as_json=given.json))


@dataclass(frozen=True, eq=False)
class Made:
    """An artifact, made or not: what its key is a hash of.

    Attributes:
        title: "deduplicate/sample-0123456789ab".
        manifest: as far as there is one; else only what its key is a hash of, and the stage's name.
        inputs: what it is made of, by role; None where that is gone.
        stage: of a recipe, where it is one.
    """

    title: str
    key: str
    manifest: Mapping[str, Any]
    inputs: Mapping[str, "Made | None"] = field(default_factory=dict)
    stage: Stage | None = None


@dataclass(frozen=True)
class Compared:
    """By what two differ, and for each input that does, the same of it.

    Attributes:
        own: differences of their own.
        inputs: (role, how it differs, both compared; None where one of them is not there).
        seen: shown before, so not again.
    """

    a: Made
    b: Made
    own: Sequence[Difference]
    inputs: Sequence[tuple[str, str, "Compared | None"]] = ()
    seen: bool = False

    def causes(self) -> Iterator[tuple[str, Difference]]:
        """(stage, difference), the first causes: what differs and is no input that was compared."""
        for difference in self.own:
            yield str(self.b.manifest["stage"]), difference
        for role, _, compared in self.inputs:
            if compared is None:
                old, new = (made.manifest["inputs"].get(role, NOTHING) for made in (self.a, self.b))
                yield str(self.b.manifest["stage"]), Difference(f"inputs.{role}", old, new)
            elif not compared.seen:
                yield from compared.causes()


def why(given: argparse.Namespace, a: str, b: str | None, *, as_json: bool = False) -> int:
    """Print how two artifacts differ."""
    finder = _Finder(given.recipe, given.set, given.runs)
    second = finder.find(a if b is None else b)
    first = finder.nearest(second) if b is None else finder.find(a)
    if first is None:
        print(f"{second.title}: {NEVER}, nor another of its stage and name")
        return 0
    compared = compare(first, second, set())
    causes = list(dict.fromkeys(compared.causes()))
    if as_json:
        print(json.dumps(_table(compared, causes), indent=2, ensure_ascii=False))
        return 0
    for line in _lines(compared):
        print(line)
    if compared.inputs and causes:
        print("in the end: " + "; ".join(dict.fromkeys(_told(stage, cause) for stage, cause in causes)))
    return 0


class _Finder:
    """What texts stand for."""

    def __init__(self, recipe: str, overrides: str, runs: str) -> None:
        self._recipe, self._set, self._runs = recipe, overrides, runs
        self._entries = inventory(Path(runs))
        self._made: dict[str, Made] = {}

    def find(self, text: str) -> Made:
        """The one that a text names.

        Raises:
            UserError: none or several.
        """
        path = Path(text)
        folder = path.parent if path.name == MANIFEST else path
        if (folder / MANIFEST).exists() or (folder / MADE_OF).exists():
            return self._of_folder(folder)
        alike = [entry for entry in self._entries if entry.key.startswith(text)]
        if re.fullmatch(rf"[0-9a-f]{{{_LEAST_OF_A_KEY},}}", text) and alike:
            if len({entry.key for entry in alike}) > 1:
                names = ", ".join(f"{entry.stage}/{entry.path.name}" for entry in alike)
                raise UserError(f"{text}: begins several keys: {names}; give more of it")
            return self._of_entry(alike[0], self._entries)
        recipe, colon, stage = text.rpartition(":")
        return self._of_stage(self._one_stage(recipe or self._recipe, "" if colon else self._set, stage))

    def nearest(self, made: Made) -> Made | None:
        """The nearest made before, of the same stage and name; None where there is none."""
        if made.stage is not None:
            found = nearest_to(made.stage, self._entries)
            return None if found is None else self._of_folder(found.directory)
        others = [
            entry
            for entry in self._entries
            if entry.condition == "finished"
            and (entry.stage, entry.manifest["name"]) == (made.manifest["stage"], made.manifest["name"])
            and entry.key != made.key
        ]
        nearest = min(
            others, key=lambda other: len(value_differences(other.manifest, made.manifest)), default=None
        )
        return None if nearest is None else self._of_entry(nearest, self._entries)

    def _of_folder(self, folder: Path) -> Made:
        entry = entry_of(folder.resolve())
        if not entry.key:
            raise UserError(f"{folder}: {entry.problem or 'says nothing of what it is made of'}")
        beside = folder.resolve().parent.parent  # its inputs lie there
        same = beside == Path(self._runs).resolve()
        return self._of_entry(entry, self._entries if same else inventory(beside))

    def _of_entry(self, entry: Entry, entries: Sequence[Entry]) -> Made:
        by_key = {other.key: other for other in entries if other.key}
        if str(entry.path) not in self._made:
            inputs = {
                role: self._of_entry(by_key[key], entries) if key in by_key else None
                for role, key in entry.inputs.items()
            }
            self._made[str(entry.path)] = Made(
                f"{entry.stage}/{entry.path.name}", entry.key, entry.manifest, inputs
            )
        return self._made[str(entry.path)]

    def _one_stage(self, recipe: str, overrides: str, text: str) -> Stage:
        found: dict[str, Stage] = {}
        for task in _TASKS:
            root = getattr(workflows, task)(recipe=recipe, set=overrides, runs=self._runs)
            found |= {stage.task_id: stage for stage in walk(root)}
        named = [stage for stage in found.values() if text in _names(stage)]
        if len(named) == 1:
            return named[0]
        known = ", ".join(sorted(_names(stage)[1] for stage in named or found.values()))
        what = "is no folder, no key, and no stage of" if not named else "is several stages of"
        raise UserError(f"{text}: {what} recipe {recipe} ({known})")

    def _of_stage(self, stage: Stage) -> Made:
        with offline([stage]):
            artifact = stage.artifact
        if artifact.key not in self._made:
            inputs = {role: self._of_stage(stage.face_of(used)) for role, used in stage.step.inputs.items()}
            title = f"{artifact.stage}/{artifact.own.name}"
            self._made[artifact.key] = Made(title, artifact.key, artifact.identity(), inputs, stage)
        return self._made[artifact.key]


def _names(stage: Stage) -> tuple[str, ...]:
    """What a stage is called: by the kind alone, too, which may be several."""
    step = stage.step
    task = " ".join([type(stage).__name__, *step.selectors.values()])
    return step.kind.name, f"{step.kind.name}/{step.name}", task, type(stage).__name__, step.label


def compare(a: Made, b: Made, seen: set[tuple[str, str]]) -> Compared:
    """By what two artifacts differ, down to the first causes.

    Args:
        seen: pairs of keys that were compared before; gets these.
    """
    found = value_differences(a.manifest, b.manifest)
    own = [difference for difference in found if not difference.where.startswith("inputs.")]
    if a.manifest["stage"] != b.manifest["stage"]:
        own.insert(0, Difference("stage", *(json.dumps(made.manifest["stage"]) for made in (a, b))))
    if (a.key, b.key) in seen:
        return Compared(a, b, own, seen=True)
    seen.add((a.key, b.key))
    inputs: list[tuple[str, str, Compared | None]] = []
    for difference in found:
        if not difference.where.startswith("inputs."):
            continue
        role = difference.where.removeprefix("inputs.")
        one, other = a.inputs.get(role), b.inputs.get(role)
        if one is not None and other is not None:
            inputs.append((role, how(difference), compare(one, other, seen)))
        else:
            both = how(difference) == "changed"
            gone = "changed, but is not there any more, so nothing says by what" if both else how(difference)
            inputs.append((role, gone, None))
    return Compared(a, b, own, inputs)


def _lines(compared: Compared, indent: str = "") -> Iterator[str]:
    stage = compared.b.manifest["stage"]
    if not indent:
        yield f"{compared.a.title} → {compared.b.title}"
    if compared.seen:
        return
    if compared.a.key == compared.b.key:
        yield f"  the same: {compared.b.key[:KEY_CHARACTERS]}"
        yield from _other_outputs(compared.a, compared.b)
    for difference in compared.own:
        yield f"{indent}  {_told(stage, difference)}"
    for role, text, below in compared.inputs:
        if below is None:
            yield f"{indent}  input {role} {text}"
        else:
            above = " (as above)" if below.seen else ""
            yield f"{indent}  input {role} {text}: {below.a.title} → {below.b.title}{above}"
            yield from _lines(below, indent + "  ")


def _other_outputs(a: Made, b: Made) -> Iterator[str]:
    """Of two of one key the files that are not the same."""
    one, other = a.manifest.get("outputs"), b.manifest.get("outputs")
    if one is not None and other is not None:
        for name in sorted(one.keys() | other.keys()):
            if one.get(name) != other.get(name):
                yield f"  but {name} is not: made on another layout or kind of processor? (run.json)"


def _told(stage: str, difference: Difference) -> str:
    """ "deduplicate.threshold 0.7 → 0.8", values whole."""
    own = difference.where.startswith(("parameters.", "files.")) or difference.where == "version"
    if own and not is_of_plugin(difference):
        name = difference.where.removeprefix("parameters.")
        name = f"{stage}.{name}" if name != "version" else f"version of {stage}"
        return f"{name} {shown(difference.old, _LONGEST_VALUE)} → {shown(difference.new, _LONGEST_VALUE)}"
    return told(stage, difference)


def _table(compared: Compared, causes: Sequence[tuple[str, Difference]]) -> dict[str, Any]:
    return {
        **_compared_table(compared),
        "causes": [
            {"stage": stage, **difference._asdict(), "text": _told(stage, difference)}
            for stage, difference in causes
        ],
    }


def _compared_table(compared: Compared) -> dict[str, Any]:
    return {
        "a": {"artifact": compared.a.title, "key": compared.a.key},
        "b": {"artifact": compared.b.title, "key": compared.b.key},
        "same": compared.a.key == compared.b.key,
        "differences": [difference._asdict() for difference in compared.own],
        "inputs": [
            {"role": role, "how": text} | ({} if below is None else _compared_table(below))
            for role, text, below in compared.inputs
        ],
    }
