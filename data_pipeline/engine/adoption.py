"""Artifacts of another key accepted for this one: what differs between them, and the record of who accepted what.

Keys are careful: a library's new version, or a version bumped for a change that matters elsewhere, makes everything
anew. Who has looked at the difference, and knows that it changes nothing, adopts: the files get a second name under the
wanted key, and both manifests say so. What chains of artifacts are adopted together is `workflows.adopt`'s part.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import UserError
from core.files import MANIFEST, canonical_json, exclusive, read_json, sync_directory
from data_pipeline.engine.artifacts import (
    DETERMINANTS,
    RUN_RECORD,
    Artifact,
    content_files,
    own_hash_errors,
    write_manifest,
)
from data_pipeline.engine.integrity import verify

ADOPTED, ADOPTED_AS = "adopted", "adopted_as"
NOTHING = "nothing"  # in place of a value that one of two does not have


class Difference(NamedTuple):
    """One value that is part of a key, where it stands and what it is in the one and the other, as JSON."""

    where: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.where}: {self.old} → {self.new}"


class Finished(NamedTuple):
    """A finished artifact on disk, and its manifest."""

    directory: Path
    manifest: dict[str, Any]

    @property
    def key(self) -> str:
        return str(self.manifest["key"])


def finished(directory: Path) -> Finished:
    """What a folder holds.

    Raises:
        UserError: it is no finished artifact.
    """
    manifest = read_json(directory / MANIFEST)
    if errors := own_hash_errors(manifest):
        raise UserError(f"{directory / MANIFEST}: {errors[0]}")
    return Finished(directory, manifest)


def others(artifact: Artifact) -> list[Finished]:
    """Finished artifacts of the same stage and name beside one, the newest first."""
    found = []
    for path in artifact.directory.parent.glob(f"*/{MANIFEST}"):
        try:
            other = finished(path.parent)
        except UserError:
            continue  # `verify` says what is wrong with it
        if other.manifest["name"] == artifact.name and other.key != artifact.key:
            found.append((path.stat().st_mtime_ns, other))
    return [other for _, other in sorted(found, key=lambda pair: pair[0], reverse=True)]


def differences(other: Finished, artifact: Artifact) -> list[Difference]:
    """All values that make the two keys different ones."""
    return value_differences(other.manifest, artifact.determinants())


def value_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Of all that the keys of two artifacts are hashes of, as manifests have it, the values that differ."""
    before, after = (
        dict(_values({name: made.get(name, {}) for name in DETERMINANTS})) for made in (old, new)
    )
    return [
        Difference(where, before.get(where, NOTHING), after.get(where, NOTHING))
        for where in sorted(before.keys() | after.keys())
        if before.get(where) != after.get(where)
    ]


def _values(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _values(value, f"{above}{name}.")
        elif value != {}:
            yield f"{above}{name}", canonical_json(value)


def adopt(artifact: Artifact, other: Finished, accepted: Sequence[Difference]) -> None:
    """Give a finished artifact's files a second name under another key; both manifests say which and why.

    Raises:
        UserError: it is damaged, or another process finished or makes the wanted one.
    """
    if problems := verify(other.directory).problems:
        raise UserError(f"{other.directory}: is damaged, so it is not adopted: {'; '.join(problems)}")
    with exclusive(artifact.own):
        if artifact.is_complete():
            return
        lines = [str(difference) for difference in accepted]
        with exclusive(other.directory):
            told = finished(other.directory).manifest
            write_manifest(
                other.directory, {**told, ADOPTED_AS: {**told.get(ADOPTED_AS, {}), artifact.key: lines}}
            )
        manifest = {name: value for name, value in other.manifest.items() if name != ADOPTED_AS}
        manifest |= {"name": artifact.name, "key": artifact.key, **artifact.determinants()}
        manifest[ADOPTED] = {"key": other.key, "name": other.manifest["name"], "differences": lines}
        _place(artifact, other.directory, manifest)


def _place(artifact: Artifact, source: Path, manifest: Mapping[str, Any]) -> None:
    """Make the wanted folder of another one's files, whole or not at all."""
    if artifact.own.exists():
        raise UserError(f"{artifact.own}: is damaged (python -m workflows verify); set it aside first")
    temporary = artifact.own.with_name(f".{artifact.own.name}.adopting")
    shutil.rmtree(temporary, ignore_errors=True)
    content = (source / name for name in content_files(source))
    logs = (path for path in (source / "logs").rglob("*") if path.is_file())
    for path in (*content, *logs, source / RUN_RECORD):
        target = temporary / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copy2(path, target)
    write_manifest(temporary, manifest)
    os.replace(temporary, artifact.own)
    sync_directory(artifact.own.parent)
