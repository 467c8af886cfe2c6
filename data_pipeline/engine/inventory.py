"""What is in a folder of artifacts, as far as it can be told without reading contents. No link is followed.

Whether contents are what manifests say is `integrity`'s part; what may be removed is for `data_pipeline.cleanup` and
`workflows.garbage` to say.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.errors import UserError
from core.files import MANIFEST, PARTIAL_SUFFIX, read_json
from data_pipeline.engine.adoption import Finished, finished
from data_pipeline.engine.artifacts import DAMAGED, KEY_CHARACTERS, LATEST, MADE_OF, size_errors
from data_pipeline.engine.integrity import artifact_folders

_LOCK, _HOLDER = ".lock", ".lock.holder"

Condition = Literal["finished", "damaged", "partial", "aside"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One folder that is, was or will be an artifact.

    Attributes:
        condition: "aside" is one that was found damaged before, and set aside.
        manifest: what it says of itself: a finished one's manifest, what one that is being made is made of; else empty.
        problem: of a damaged one, the first.
    """

    path: Path
    condition: Condition
    manifest: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def own(self) -> Path:
        """Its folder when it is finished; beside it is the lock."""
        name = self.path.name.partition(DAMAGED)[0].removesuffix(PARTIAL_SUFFIX)
        return self.path.with_name(name)

    @property
    def stage(self) -> str:
        return self.path.parent.name

    @property
    def short_key(self) -> str:
        """As much of its key as its folder's name has."""
        return self.own.name[-KEY_CHARACTERS:]

    @property
    def key(self) -> str:
        """The whole of it; empty where nothing says it."""
        return str(self.manifest.get("key", ""))

    @property
    def inputs(self) -> Mapping[str, str]:
        """Keys of what it was made of, by role."""
        found: Mapping[str, str] = self.manifest.get("inputs", {})
        return found

    def bytes(self) -> int:
        return size_of(self.path)


def size_of(directory: Path) -> int:
    """Bytes of the files below a folder, hidden ones too; links count nothing."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                total += 0 if os.path.islink(path) else os.lstat(path).st_size
    return total


def inventory(root: Path) -> list[Entry]:
    """What is in a folder of artifacts; nothing where there is none."""
    return [entry_of(path) for path in artifact_folders(root)] if Path(root).is_dir() else []


def entry_of(path: Path) -> Entry:
    """What one folder is that is an artifact, or is called like one."""
    if DAMAGED in path.name:
        return Entry(path, "aside")
    if path.name.endswith(PARTIAL_SUFFIX):
        with contextlib.suppress(UserError):
            known = read_json(path / MADE_OF)
            return Entry(path, "partial", known if isinstance(known, dict) else {})
        return Entry(path, "partial")
    try:
        manifest = finished(path).manifest
        problems = size_errors(path, manifest)
    except (UserError, KeyError, TypeError) as error:
        return Entry(path, "damaged", problem=str(error))
    if problems:
        return Entry(path, "damaged", manifest, problems[0])
    return Entry(path, "finished", manifest)


def finished_in(root: Path) -> Iterator[Finished]:
    """The finished artifacts, whose manifests can be believed, in order."""
    for path in sorted(Path(root).glob(f"[!.]*/*/{MANIFEST}")):
        if not path.parent.is_symlink() and path.parent.parent.name != LATEST:
            with contextlib.suppress(UserError):  # a damaged one is for `verify`
                yield finished(path.parent)


def links_in(root: Path) -> dict[str, Path]:
    """The links of `latest/` by name, and what they lead to."""
    links = [path for path in sorted((root / LATEST).glob("[!.]*")) if path.is_symlink()]
    return {link.name: root / os.path.relpath(link.resolve(), root.resolve()) for link in links}


def with_inputs(keys: Iterable[str], there: Mapping[str, Finished]) -> set[str]:
    """These keys, and those of all that they were made of, as far as manifests tell."""
    found: set[str] = set()
    pending = list(keys)
    while pending:
        if (key := pending.pop()) not in found:
            found.add(key)
            pending += there[key].manifest["inputs"].values() if key in there else []
    return found


def locks_in(root: Path) -> list[Path]:
    """The artifacts that have, or had, a lock: their folders when they are finished."""
    return [path.with_name(path.name.removesuffix(_LOCK)) for path in sorted(root.glob(f"[!.]*/*{_LOCK}"))]


def is_locked(own: Path) -> bool:
    """Whether a process makes this artifact now; asked without being in its way."""
    with contextlib.suppress(FileNotFoundError), Path(f"{own}{_LOCK}").open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def holder(own: Path) -> str:
    """ "process 123 on host": who holds the lock; empty where it is not known."""
    try:
        return Path(f"{own}{_HOLDER}").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
