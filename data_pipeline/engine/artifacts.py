"""Artifacts: directories that name what made them, appear whole or not at all, and can be verified.

An artifact is `<root>/<stage>/<name>-<key12>/`. Its key is a hash of everything that determines its bytes.
While it is being made it is `<…>.partial/`, written by one process at a time (`<…>.lock` says which). It is
complete when `manifest.json` is there, carries the key, and every file it lists has its size.

File system: renames and advisory locks (`flock`) must work across the processes that share a `runs` folder,
as they do on local disks and on NFS version 4.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import (
    MANIFEST,
    PARTIAL_SUFFIX,
    canonical_json,
    read_json,
    remove_temporaries,
    sync_directory,
    write_json,
)
from data_pipeline.engine.hashes import hash_file

RUN_RECORD = "run.json"
MADE_OF = ".made-of.json"  # in one that is being made: all that its key is a hash of
LATEST = "latest"  # among the stages' folders: in it links to newest outputs
DAMAGED = ".damaged-"  # of the folder of one that was set aside, before the time when
_OWN_HASH = "sha256"
KEY_CHARACTERS = 12  # of a key in the folder's name
_UNHASHED = (MANIFEST, RUN_RECORD)
DETERMINANTS = ("version", "parameters", "inputs", "files", "pins", "libraries")


def stage_key(
    stage: str,
    version: int,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
    files: Mapping[str, str],
    pins: Mapping[str, Any],
    libraries: Mapping[str, str],
) -> str:
    """The artifact's key: sha256 over all that determines its bytes.

    Args:
        stage: the stage's name.
        version: bumped by hand when the stage's code changes what it writes.
        parameters: significant parameters only (no paths, workers, devices).
        inputs: keys of the input artifacts, by role.
        files: sha256 of external files, by role.
        pins: what remote sources are pinned to: a commit, or a sha256, by source.
        libraries: versions (major.minor) of the libraries that affect the bytes.
    """
    return hashlib.sha256(
        canonical_json(
            {
                "stage": stage,
                "version": version,
                "parameters": parameters,
                "inputs": inputs,
                "files": files,
                "pins": pins,
                "libraries": libraries,
            }
        ).encode()
    ).hexdigest()


_RELEASE = re.compile(r"(\d+!)?\d+(\.\d+)?(?=[.+]|$)")
_BEFORE_RELEASE = re.compile(r"\d(a|b|rc|\.dev)\d*")


def significant_version(version: str) -> str:
    """What of a library's version is part of keys: major.minor, for patches and builds (`+cpu`) are to give the same
    bytes; of one before its release all but the build. `run.json` has the whole."""
    public = version.partition("+")[0]
    release = _RELEASE.match(public)
    return public if release is None or _BEFORE_RELEASE.search(public) else release[0]


@dataclass
class Artifact:
    """One stage's output directory.

    Attributes:
        stage: the stage's name, the first folder below the root.
        name: what it is of (a corpus, a model), for people.
        root: the `runs` folder.
        version, parameters, inputs, files, pins, libraries: see `stage_key`.
        unhashed: files, and folders with "/" at their end, that the manifest leaves out because they show times.
    """

    root: Path
    stage: str
    name: str
    version: int
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    pins: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    unhashed: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return stage_key(self.stage, **self.determinants())

    def determinants(self) -> dict[str, Any]:
        """All that its key is a hash of, besides the stage."""
        return {name: getattr(self, name) for name in DETERMINANTS}

    def identity(self) -> dict[str, Any]:
        """What a manifest says first: which it is, and of what."""
        return {"stage": self.stage, "name": self.name, "key": self.key, **self.determinants()}

    @property
    def own(self) -> Path:
        """Where it is made, under its own name, and locked while it is."""
        return Path(self.root) / self.stage / f"{self.name}-{self.key[:KEY_CHARACTERS]}"

    @property
    def directory(self) -> Path:
        """Where it is: its key says which it is, under whatever name it was made."""
        own = self.own
        if own.exists():
            return own
        same = sorted(own.parent.glob(f"*-{self.key[:KEY_CHARACTERS]}"))
        return next((other for other in same if (other / MANIFEST).exists()), own)

    @property
    def partial(self) -> Path:
        return Path(f"{self.own}{PARTIAL_SUFFIX}")

    def is_complete(self) -> bool:
        """True when the manifest is there, carries this key, and all files have the recorded sizes."""
        manifest_path = self.directory / MANIFEST
        if not manifest_path.exists():
            return False
        try:
            manifest = read_json(manifest_path)
            intact = not own_hash_errors(manifest) and not size_errors(self.directory, manifest)
            return intact and manifest["key"] == self.key
        except (UserError, KeyError, TypeError):
            return False

    def manifest(self) -> dict[str, Any]:
        return read_json(self.directory / MANIFEST)

    def start(self) -> Path:
        """Create (or find again) the partial directory; call it while holding `exclusive(own)`."""
        if self.own.exists() and not self.is_complete():
            # Files of a complete artifact were changed or removed since: keep them aside, make it anew.
            set_aside(self.own)
        self.partial.mkdir(parents=True, exist_ok=True)
        remove_temporaries(self.partial)
        write_json(self.partial / MADE_OF, self.identity())
        return self.partial

    def finish(self, summary: Mapping[str, Any], run_record: Mapping[str, Any]) -> None:
        """Write the manifest of all files in the partial directory, then rename the directory.

        Args:
            summary: deterministic facts about the content (counts), part of the manifest.
            run_record: host, times, layout: written to `run.json`, never hashed.
        """
        partial = self.partial
        remove_temporaries(partial)
        (partial / MADE_OF).unlink(missing_ok=True)
        write_json(partial / RUN_RECORD, dict(run_record))
        outputs = {
            name: {"bytes": (path := partial / name).stat().st_size, "sha256": hash_file(path)}
            for name in content_files(partial)
            if not is_unhashed(name, self.unhashed)
        }
        manifest = {
            **self.identity(),
            "unhashed": list(self.unhashed),
            "summary": dict(summary),
            "outputs": outputs,
        }
        write_manifest(partial, manifest)
        os.replace(partial, self.own)
        sync_directory(self.own.parent)


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest with its own hash."""
    write_json(directory / MANIFEST, {**manifest, _OWN_HASH: _own_hash(manifest)})


def _own_hash(manifest: Mapping[str, Any]) -> str:
    """sha256 of all that a manifest says, which it carries itself: what it counts is in no other file."""
    content = {key: value for key, value in manifest.items() if key != _OWN_HASH}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def own_hash_errors(manifest: Any) -> list[str]:
    """What is wrong with a manifest by itself."""
    try:
        whole = isinstance(manifest, dict) and manifest.get(_OWN_HASH) == _own_hash(manifest)
    except ValueError:  # what canonical JSON does not have: NaN
        whole = False
    return [] if whole else ["differs from the hash in it"]


def set_aside(directory: Path, files: Iterable[Path] | None = None) -> Path:
    """Move an artifact's folder, or only some files in it, to one that says when; call it while holding its lock."""
    now = int(time.time())
    while (aside := Path(f"{directory}{DAMAGED}{now}")).exists():
        now += 1
    if files is None:
        os.replace(directory, aside)
        return aside
    for path in files:
        target = aside / path.relative_to(directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    return aside


def is_unhashed(name: str, unhashed: Iterable[str]) -> bool:
    """Whether a file is left out of the manifest: it is named, or in a folder that is (with "/" at its end)."""
    return any(
        name == left_out or (left_out.endswith("/") and name.startswith(left_out)) for left_out in unhashed
    )


def content_files(directory: Path) -> list[str]:
    """The files that a manifest covers, by their names in it: everything but records of the run and hidden files."""
    found: list[str] = []
    for place, folders, names in os.walk(directory):
        inside = "" if Path(place) == directory else f"{Path(place).relative_to(directory).as_posix()}/"
        folders[:] = [name for name in folders if not name.startswith(".") and (inside or name != "logs")]
        found += [
            inside + name
            for name in names
            if not name.startswith(".") and (inside or name not in (*_UNHASHED, "logs"))
        ]
    found.sort(key=lambda name: name.replace("/", "\0"))  # folder by folder
    return [name for name in found if os.path.isfile(os.path.join(directory, name))]


def size_errors(directory: Path, manifest: Mapping[str, Any]) -> list[str]:
    errors = []
    for name, facts in manifest["outputs"].items():
        try:
            size = (directory / name).stat().st_size
        except OSError:
            errors.append(f"{directory / name}: missing")
            continue
        if size != facts["bytes"]:
            errors.append(f"{directory / name}: {size} bytes, the manifest says {facts['bytes']}")
    return errors


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds `path` (or its nearest existing parent)."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
