"""Artifacts: directories that name what made them, appear whole or not at all, and can be verified.

An artifact is `<root>/<stage>/<name>-<key12>/`. Its key is a hash of everything that determines its bytes.
While it is being made it is `<…>.partial/`, written by one process at a time (`<…>.lock` says which). It is
complete when `manifest.json` is there, carries the key, and every file it lists has its size.

File system: renames and advisory locks (`flock`) must work across the processes that share a `runs` folder,
as they do on local disks and on NFS version 4.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import (
    MANIFEST,
    PARTIAL_SUFFIX,
    canonical_json,
    read_json,
    sync_directory,
    write_json,
)

RUN_RECORD = "run.json"
_OWN_HASH = "sha256"
_KEY_CHARACTERS = 12  # of a key in the folder's name
_UNHASHED = (MANIFEST, RUN_RECORD)
_HASH_BLOCK_BYTES = 1 << 20


def hash_file(path: Path, cache: "HashCache | None" = None) -> str:
    """sha256 of a file, in hexadecimal; with a cache, looked up by (path, size, modification time)."""
    path = Path(path)
    if cache is not None and (known := cache.get(path)):
        return known
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    if cache is not None:
        cache.put(path, digest.hexdigest())
    return digest.hexdigest()


def hash_tree(directory: Path, cache: "HashCache | None" = None) -> str:
    """sha256 of a folder: of the relative names and the sha256 of all its files, hidden ones left out.

    With a cache it is one entry, by the names, sizes and modification times of all files.
    """
    directory = Path(directory)
    files = {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    }
    listing = hashlib.sha256()
    for name, path in files.items():
        status = path.stat()
        listing.update(f"{name}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    entry = f"{directory.resolve()}/|{listing.hexdigest()}"
    if cache is not None and (known := cache.entries.get(entry)):
        return known
    digest = hashlib.sha256(canonical_json({name: hash_file(path) for name, path in files.items()}).encode())
    if cache is not None:
        cache.remember(entry, digest.hexdigest())
    return digest.hexdigest()


class HashCache:
    """sha256 by (absolute path, size, modification time), kept in one JSON file; losing it costs only time."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.entries: dict[str, str] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.entries = {}

    @staticmethod
    def _entry(path: Path) -> str:
        status = path.stat()
        return f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"

    def get(self, path: Path) -> str | None:
        return self.entries.get(self._entry(path))

    def put(self, path: Path, digest: str) -> None:
        self.remember(self._entry(path), digest)

    def remember(self, entry: str, digest: str) -> None:
        self.entries[entry] = digest
        with contextlib.suppress(OSError):
            write_json(self.path, self.entries)


def stage_key(
    stage: str,
    version: int,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
    files: Mapping[str, str],
    libraries: Mapping[str, str],
) -> str:
    """The artifact's key: sha256 over all that determines its bytes.

    Args:
        stage: the stage's name.
        version: bumped by hand when the stage's code changes what it writes.
        parameters: significant parameters only (no paths, workers, devices).
        inputs: keys of the input artifacts, by role.
        files: sha256 of external files, by role.
        libraries: versions of the libraries that affect the bytes.
    """
    return hashlib.sha256(
        canonical_json(
            {
                "stage": stage,
                "version": version,
                "parameters": parameters,
                "inputs": inputs,
                "files": files,
                "libraries": libraries,
            }
        ).encode()
    ).hexdigest()


@dataclass
class Artifact:
    """One stage's output directory.

    Attributes:
        stage: the stage's name, the first folder below the root.
        name: what it is of (a corpus, a model), for people.
        root: the `runs` folder.
        version, parameters, inputs, files, libraries: see `stage_key`.
        unhashed: files that the manifest leaves out because they show times.
    """

    root: Path
    stage: str
    name: str
    version: int
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    unhashed: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return stage_key(self.stage, self.version, self.parameters, self.inputs, self.files, self.libraries)

    @property
    def directory(self) -> Path:
        """Where it is: its key says which it is, under whatever name it was made."""
        own = Path(self.root) / self.stage / f"{self.name}-{self.key[:_KEY_CHARACTERS]}"
        if own.exists():
            return own
        same = sorted(own.parent.glob(f"*-{self.key[:_KEY_CHARACTERS]}"))
        return next((other for other in same if (other / MANIFEST).exists()), own)

    @property
    def partial(self) -> Path:
        return Path(f"{self.directory}{PARTIAL_SUFFIX}")

    def is_complete(self) -> bool:
        """True when the manifest is there, carries this key, and all files have the recorded sizes."""
        manifest_path = self.directory / MANIFEST
        if not manifest_path.exists():
            return False
        try:
            manifest = read_json(manifest_path)
            return manifest["key"] == self.key and not _size_errors(self.directory, manifest)
        except (UserError, KeyError, TypeError):
            return False

    def manifest(self) -> dict[str, Any]:
        return read_json(self.directory / MANIFEST)

    def start(self) -> Path:
        """Create (or find again) the partial directory; call it while holding `exclusive(directory)`."""
        if self.directory.exists() and not self.is_complete():
            # Files of a complete artifact were changed or removed since: keep them aside, make it anew.
            aside = Path(f"{self.directory}.damaged-{int(time.time())}")
            os.replace(self.directory, aside)
        self.partial.mkdir(parents=True, exist_ok=True)
        return self.partial

    def finish(self, summary: Mapping[str, Any], run_record: Mapping[str, Any]) -> None:
        """Write the manifest of all files in the partial directory, then rename the directory.

        Args:
            summary: deterministic facts about the content (counts), part of the manifest.
            run_record: host, times, layout: written to `run.json`, never hashed.
        """
        partial = self.partial
        write_json(partial / RUN_RECORD, dict(run_record))
        outputs = {
            path.relative_to(partial).as_posix(): {"bytes": path.stat().st_size, "sha256": hash_file(path)}
            for path in _content_files(partial)
            if path.relative_to(partial).as_posix() not in self.unhashed
        }
        manifest = {
            "stage": self.stage,
            "name": self.name,
            "key": self.key,
            "version": self.version,
            "parameters": self.parameters,
            "inputs": self.inputs,
            "files": self.files,
            "libraries": self.libraries,
            "summary": dict(summary),
            "outputs": outputs,
        }
        write_json(partial / MANIFEST, {**manifest, _OWN_HASH: _own_hash(manifest)})
        os.replace(partial, self.directory)
        sync_directory(self.directory.parent)


def _own_hash(manifest: Mapping[str, Any]) -> str:
    """sha256 of all that a manifest says, which it carries itself: what it counts is in no other file."""
    content = {key: value for key, value in manifest.items() if key != _OWN_HASH}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _content_files(directory: Path) -> list[Path]:
    """The files that a manifest covers: everything but records of the run and hidden files."""
    return sorted(
        path
        for path in directory.rglob("*")
        if path.is_file()
        and path.relative_to(directory).as_posix() not in _UNHASHED
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
        and path.relative_to(directory).parts[0] != "logs"
    )


def _size_errors(directory: Path, manifest: Mapping[str, Any]) -> list[str]:
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


def verify(directory: Path) -> list[str]:
    """Check every file of a finished artifact against its manifest, hashes included.

    Returns one line per problem; an empty list means the artifact is intact.
    """
    directory = Path(directory)
    manifest = read_json(directory / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get(_OWN_HASH) != _own_hash(manifest):
        return [f"{directory / MANIFEST}: differs from the hash in it"]
    errors = _size_errors(directory, manifest)
    wrong_size = {line.split(": ")[0] for line in errors}
    for name, facts in manifest["outputs"].items():
        path = directory / name
        if str(path) not in wrong_size and hash_file(path) != facts["sha256"]:
            errors.append(f"{path}: its sha256 differs from the manifest's")
    return errors


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds `path` (or its nearest existing parent)."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
