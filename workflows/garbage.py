"""`python -m workflows gc`: which artifacts nothing needs any more, and their removal.

Needed is, with all that it was made of: what a link of `latest/` leads to; what a recipe wants that was run here (as it
is now) or is given; what was adopted, for nothing makes it again; what the outputs of `python -m data_pipeline build`
stand on; what a stage reads that is at work. All else that manifests or names tell to be artifacts can go. Where a
manifest in such a chain is lost, or a recipe cannot be planned, what is needed is unknown, and only damaged ones go.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from core.errors import UserError
from core.files import MANIFEST
from data_pipeline.cleanup import REMOVED, outputs_using
from data_pipeline.engine.adoption import ADOPTED
from data_pipeline.engine.artifacts import KEY_CHARACTERS, LATEST
from data_pipeline.engine.integrity import unknown_files
from data_pipeline.engine.inventory import Entry, inventory, is_locked, links_in, size_of
from workflows.stage import Stage

_ADOPTED = "adopted"
_LOCK_SUFFIXES = (".lock", ".lock.holder")


@dataclass(frozen=True)
class Found:
    """A folder or file, what it is to `gc`, and why.

    Attributes:
        what: stale, partial, damaged, aside; kept, where it is one of these and must stay; foreign.
        note: who refers to it, or why it stays.
    """

    path: Path
    what: str
    bytes: int
    note: str = ""
    entry: Entry | None = None

    @property
    def can_go(self) -> bool:
        return self.what in ("stale", "partial", "damaged", "aside")


@dataclass
class Needed:
    """Keys that are needed, by whom; and why it is not known what else is.

    Attributes:
        keys: as short as in folders' names.
        unknown: a line each.
    """

    keys: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def by(self, entry: Entry) -> str:
        """Who needs an artifact; empty for nobody."""
        return self.keys.get(entry.short_key, "")


def needed_in(root: Path, entries: Sequence[Entry], stages: Mapping[str, Sequence[Stage]]) -> Needed:
    """What is needed of a folder of artifacts.

    Args:
        stages: of recipes, by how these are called; their keys are taken.

    Raises:
        UserError: nothing says what is needed.
    """
    roots: dict[str, str] = {}  # keys that are needed for themselves, by whom
    told: set[str] = set()  # those of which all that they stand on is a root, too
    for name, target in links_in(root).items():
        if target.parent.parent == root:
            roots.setdefault(target.name[-KEY_CHARACTERS:], f"{LATEST}/{name}")
    for recipe, wanted in stages.items():
        keys = [stage.artifact.key for stage in wanted]
        told |= {key[:KEY_CHARACTERS] for key in keys}
        roots |= {key: recipe for key in keys if key not in roots}
    for key, output in outputs_using(root).items():
        told.add(key[:KEY_CHARACTERS])
        roots.setdefault(key, output)
    roots |= {
        entry.key: _ADOPTED for entry in entries if ADOPTED in entry.manifest and entry.key not in roots
    }
    if not roots and entries:
        raise UserError(
            f"{root}: nothing says what is needed: no link in {root / LATEST}, no recipe that was run; give --recipe"
        )
    roots |= {
        entry.short_key: "what is being made"
        for entry in entries
        if is_locked(entry.own) and entry.short_key not in roots
    }
    return _with_inputs(roots, told, entries)


def _with_inputs(roots: Mapping[str, str], told: Collection[str], entries: Sequence[Entry]) -> Needed:
    finished_last = sorted(entries, key=lambda entry: entry.condition == "finished")
    by_key = {entry.short_key: entry for entry in finished_last if entry.condition != "aside"}
    needed, pending = Needed(), list(roots.items())
    while pending:
        whole, who = pending.pop()
        key = whole[:KEY_CHARACTERS]
        if key in needed.keys:
            continue
        needed.keys[key] = who
        entry = by_key.get(key)
        if entry is not None and entry.key:
            pending += [(used, who) for used in entry.inputs.values()]
        elif key not in told and who != _ADOPTED:  # what that was made of may be elsewhere
            name = f"{entry.stage}/{entry.path.name}" if entry is not None else key
            state = "does not say of what it was made" if entry is not None else "is gone"
            needed.unknown.append(f"{name}, which {who} needs, {state}: anything may be needed for it")
    return needed


def garbage(root: Path, entries: Sequence[Entry], needed: Needed) -> list[Found]:
    """What is not needed, or known: artifacts that can go (those that were made of others first), and what stays though
    it looks like these."""
    readers: dict[str, list[str]] = {}
    for entry in entries:
        for key in entry.inputs.values():
            readers.setdefault(key, []).append(f"{entry.stage}/{entry.path.name}")
    last_made_first = sorted(entries, key=_depths(entries).__getitem__, reverse=True)
    found = [_judged(entry, needed, readers.get(entry.key, [])) for entry in last_made_first]
    listed = [one for one in found if one is not None]
    return [*listed, *(Found(path, "foreign", 0) for path in foreign(root, entries))]


def _depths(entries: Sequence[Entry]) -> dict[Entry, int]:
    """How many others each is made of, one after the other."""
    by_key = {entry.key: entry for entry in entries if entry.key}
    found: dict[Entry, int] = {}

    def depth(entry: Entry) -> int:
        if entry not in found:
            found[entry] = 0  # should manifests go round in a circle
            below = [depth(by_key[key]) for key in entry.inputs.values() if key in by_key]
            found[entry] = 1 + max(below, default=0)
        return found[entry]

    for entry in entries:
        depth(entry)
    return found


def _judged(entry: Entry, needed: Needed, readers: Sequence[str]) -> Found | None:
    """None for a finished artifact that is needed."""
    who = needed.by(entry)
    if entry.condition == "finished" and who:
        return None
    what = {"finished": "stale"}.get(entry.condition, entry.condition)
    note = f"read by {', '.join(readers)}" if readers else ""
    stays = _why_it_stays(entry, who, needed)
    if stays:
        return Found(entry.path, "kept", entry.bytes(), f"{what}; {stays}", entry)
    return Found(entry.path, what, entry.bytes(), note or entry.problem, entry)


def _why_it_stays(entry: Entry, who: str, needed: Needed) -> str:
    if is_locked(entry.own):
        return "a process holds its lock"
    if entry.condition == "partial" and who and not (entry.own / MANIFEST).exists():
        return f"the next run of {who} goes on with it"
    if entry.condition == "damaged" and who:
        return f"{who} needs it: python -m workflows verify --repair"
    if entry.condition == "aside" and who and not entry.own.exists():
        return f"the next run of {who} makes it anew; it can go then"
    if entry.condition in ("finished", "partial") and needed.unknown:
        return needed.unknown[0]
    if entry.condition == "damaged" and not entry.key and not Path(f"{entry.own}.lock").exists():
        return "nothing says that a stage made it"
    if others := _of_nobody(entry):
        return f"holds {', '.join(sorted(path.name for path in others)[:3])}, which no stage wrote"
    return ""


def _of_nobody(entry: Entry) -> list[Path]:
    """Links in an artifact, and of a finished one files that its manifest does not know."""
    links = [
        Path(place, name)
        for place, folders, names in os.walk(entry.path)
        for name in (*folders, *names)
        if os.path.islink(os.path.join(place, name))
    ]
    if entry.condition != "finished":
        return links
    return links + unknown_files(entry.path, entry.manifest)


def foreign(root: Path, entries: Iterable[Entry]) -> Iterator[Path]:
    """What no stage made: visible files and links beside stages' folders, folders that hold no artifact, and what is in
    a stage's folder besides artifacts and their locks."""
    known = {entry.path for entry in entries}
    stages = {path.parent for path in known} | {root / LATEST}
    stages |= {path.parent for path in root.glob("[!.]*/*.lock") if not path.parent.is_symlink()}
    for path in sorted(root.glob("[!.]*")):
        if path not in stages:
            yield path
        elif path != root / LATEST:
            yield from (
                below
                for below in sorted(path.glob("[!.]*"))
                if below not in known and not below.name.endswith(_LOCK_SUFFIXES)
            )


def remove(root: Path, found: Sequence[Found]) -> list[Found]:
    """Remove what can go: each folder is renamed into a trash folder at once, under its lock, and the trash emptied, also that
    of a call that was killed. What a process has begun to use meanwhile stays.

    Returns:
        What was removed. Call it where no command is at work (`not_in_use`).
    """
    trash = root / REMOVED
    if trash.is_symlink():
        raise UserError(f"{trash}: is a link; remove it")
    gone = []
    for one in found:
        if one.entry is None or not one.can_go:
            continue
        target = trash / f"{one.path.parent.name}-{one.path.name}-{secrets.token_hex(4)}"
        trash.mkdir(exist_ok=True)
        with contextlib.suppress(Timeout, FileNotFoundError):
            with FileLock(f"{one.entry.own}.lock").acquire(timeout=0):
                os.rename(one.path, target)
            gone.append(one)
    shutil.rmtree(trash, ignore_errors=True)
    return gone


def look(
    root: Path, stages: Mapping[str, Sequence[Stage]], unknown: Sequence[str] = ()
) -> tuple[list[Entry], Needed, list[Found]]:
    """All that is in a folder of artifacts, what is needed of it, and what is not.

    Args:
        unknown: why it is not known of some recipes what they need.
    """
    entries = inventory(root)
    needed = needed_in(root, entries, stages)
    needed.unknown += unknown
    return entries, needed, garbage(root, entries, needed)


def trash_bytes(root: Path) -> int:
    """What a call that was killed has left."""
    return size_of(root / REMOVED)
