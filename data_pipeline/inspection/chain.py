"""From a folder to the artifacts behind it: what was read, what was kept of it, and what was made of that.

A folder is a finished artifact (of a command or of a workflow, also by a link such as `runs/latest/sample-corpus`), or
the output of a command, whose `summary.json` names its artifacts. An artifact's manifest names its inputs by their keys;
they lie beside it. Inputs that are gone are told, and what needs their text does without.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import MANIFEST, PARTIAL_SUFFIX, read_json
from data_pipeline.engine.artifacts import KEY_CHARACTERS, LATEST, own_hash_errors, size_errors
from data_pipeline.engine.documents import DOCUMENT_SHARDS, list_shards
from data_pipeline.summary import SUMMARY_FILE

DOCUMENT_STAGES = (
    "documents",
    "fetch",
    "clean",
    "decontaminate",
    "deduplicate",
)  # the first: of no stage of ours
_READS_DOCUMENTS = (*DOCUMENT_STAGES[2:], "tokenizer", "sentences", "tokenize")
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Made:
    """A finished artifact.

    Attributes:
        manifest: as it stands in the folder.
        inputs: what it was made of, in order, as far as it is still there.
        missing: roles of inputs that are not.
    """

    directory: Path
    manifest: Mapping[str, Any]
    inputs: Mapping[str, "Made"] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        return str(self.manifest["stage"])

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def summary(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.manifest["summary"]
        return found

    @property
    def parameters(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.manifest.get("parameters", {})
        return found

    @functools.cached_property
    def shards(self) -> list[Path]:
        """Its document shards, in order; none where it holds no documents."""
        return list_shards(self.directory) if any(self.directory.glob(DOCUMENT_SHARDS)) else []

    @property
    def before(self) -> list["Made"]:
        """The artifacts whose documents it read."""
        return [made for made in self.inputs.values() if made.stage in DOCUMENT_STAGES]

    @functools.cached_property
    def shards_before(self) -> list[Path]:
        """The shards that it read, in order."""
        return [shard for made in self.before for shard in made.shards]


@dataclass(frozen=True)
class Chain:
    """An artifact and all that it was made of.

    Attributes:
        last: the artifact that was asked for.
        name: of the folder, or of the artifact.
        benchmarks: where files of benchmarks are, by name, as a command's summary says.
    """

    last: Made
    name: str
    benchmarks: Mapping[str, Path] = field(default_factory=dict)

    def all(self) -> list[Made]:
        """Each artifact once, inputs first."""
        found: dict[Path, Made] = {}

        def visit(made: Made) -> None:
            if made.directory not in found:
                for used in made.inputs.values():
                    visit(used)
                found[made.directory] = made

        visit(self.last)
        return list(found.values())

    @property
    def documents(self) -> Made | None:
        """The artifact whose documents those of the last one are: itself, or what it was made of."""
        found = [made for made in self.all() if made.stage in DOCUMENT_STAGES]
        return found[-1] if found else None

    @property
    def firsts(self) -> list[Made]:
        """The artifacts whose documents come first."""
        return [made for made in self.all() if made.stage in DOCUMENT_STAGES and not made.before]

    def missing(self) -> Iterator[str]:
        """Inputs that are gone, a line each."""
        for made in self.all():
            for role in made.missing:
                yield f"{made.stage} {made.name}: what it read ({role}) is not there any more"


def chain_of(folder: Path) -> Chain:
    """What a folder holds, and what it was made of.

    Raises:
        UserError: nothing of ours, not finished, or damaged; the message says what to give or to do.
    """
    folder = Path(folder)
    if (folder / MANIFEST).exists():
        made = _artifact(folder.resolve())
        return Chain(made, made.name)
    if (folder / SUMMARY_FILE).exists():
        return _of_output(folder)
    if any(folder.glob(DOCUMENT_SHARDS)):
        name = folder.resolve().name
        return Chain(Made(folder, {"stage": "documents", "name": name, "summary": {}}), name)
    raise UserError(_nothing_there(folder))


def _artifact(folder: Path, known: dict[Path, Made] | None = None) -> Made:
    """A finished artifact and its inputs, which lie in the same folder of artifacts."""
    known = {} if known is None else known
    if folder not in known:
        manifest = _checked_manifest(folder)
        inputs: dict[str, Made] = {}
        missing = []
        for role, key in manifest["inputs"].items():
            places = folder.parent.parent.glob(f"*/*-{key[:KEY_CHARACTERS]}/{MANIFEST}")
            if found := sorted(place.parent for place in places):
                inputs[role] = _artifact(found[0], known)
            else:
                missing.append(role)
        known[folder] = Made(folder, manifest, inputs, tuple(missing))
    return known[folder]


def _checked_manifest(folder: Path) -> dict[str, Any]:
    again = f"make it anew (set {folder} aside, and run the command again)"
    manifest = read_json(folder / MANIFEST)
    if errors := own_hash_errors(manifest):
        raise UserError(f"{folder / MANIFEST}: damaged, it {errors[0]}: {again}")
    if errors := size_errors(folder, manifest):
        raise UserError(f"{errors[0]} ({len(errors)} such file(s)): damaged; {again}")
    return dict(manifest)


def _of_output(folder: Path) -> Chain:
    """What a command delivered: the artifact that its summary names last, and what that command read."""
    told = read_json(folder / SUMMARY_FILE)
    try:
        paths = [folder / stage["directory"] for stage in told["stages"]]
        given = [folder / path for path in told["inputs"]]
        benchmarks = {name: folder / path for name, path in told["benchmarks"].items()}
        last = paths[-1]
    except (LookupError, TypeError) as error:
        raise UserError(
            f"{folder / SUMMARY_FILE}: damaged ({error!r}): the same command again writes it anew"
        ) from error
    if not (last / MANIFEST).exists():
        raise UserError(
            f"{last}: is gone, which {folder / SUMMARY_FILE} names: the same command again makes it"
        )
    made = _artifact(last.resolve())
    others = [chain_of(path) for path in given if path.is_dir() and any(path.glob(DOCUMENT_SHARDS))]
    for other in reversed(others):
        benchmarks = {**other.benchmarks, **benchmarks}
    made = _with_inputs(made, [other.last for other in others])
    return Chain(made, folder.resolve().name, benchmarks)


def _with_inputs(made: Made, given: Sequence[Made]) -> Made:
    """An artifact whose first stage of documents read what other commands delivered."""
    inputs = {role: _with_inputs(used, given) for role, used in made.inputs.items()}
    if not made.before and made.stage in _READS_DOCUMENTS:
        inputs |= {f"{number:03d} documents": one for number, one in enumerate(given)}
    return Made(made.directory, made.manifest, inputs, made.missing)


def _nothing_there(folder: Path) -> str:
    partial = Path(f"{folder}{PARTIAL_SUFFIX}")
    if not folder.exists():
        if partial.is_dir():
            return f"{folder}: is not finished; the same command goes on with it"
        return f"{folder}: no such folder"
    if not folder.is_dir():
        return f"{folder}: is a file; give the folder it is in"
    if folder.name.endswith(PARTIAL_SUFFIX):
        return f"{folder}: is not finished; the same command goes on with it"
    if any(folder.glob("*.idx")):
        return f"{folder}: holds tokens and no documents: python -m data_pipeline inspect shows them"
    links = sorted(path for path in (folder / LATEST).glob("*") if (path / MANIFEST).exists())
    found = links or sorted(path.parent for path in folder.glob(f"*/*/{MANIFEST}"))
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return f"{folder}: holds several artifacts; give one: {', '.join(map(str, found[:_SHOWN]))}{more}"
    return f"{folder}: holds nothing that the data pipeline made (no {MANIFEST}, {SUMMARY_FILE} or {DOCUMENT_SHARDS})"
