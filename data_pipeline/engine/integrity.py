"""Whether finished artifacts are what their manifests say, and what can be done where they are not.

Nothing that is wrong with an artifact ends the check: each problem is a line. A damaged artifact is not mended but set
aside, for whoever needs it makes it again, the same bytes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import MANIFEST, PARTIAL_SUFFIX, exclusive, read_json
from data_pipeline.engine.artifacts import (
    DAMAGED,
    KEY_CHARACTERS,
    LATEST,
    RUN_RECORD,
    content_files,
    is_unhashed,
    own_hash_errors,
    set_aside,
    size_errors,
)
from data_pipeline.engine.hashes import hash_file

_ARTIFACT = re.compile(rf".+-[0-9a-f]{{{KEY_CHARACTERS}}}")


@dataclass(frozen=True)
class Checked:
    """An artifact's folder, and what is wrong with it.

    Attributes:
        problems: a line each.
        extra: files in it that its manifest does not know; each has its line.
        unfinished: it is being made, or will be gone on with.
        aside: it was found damaged before, and set aside.
    """

    directory: Path
    problems: list[str] = field(default_factory=list)
    extra: list[Path] = field(default_factory=list)
    unfinished: bool = False
    aside: bool = False


def verify(directory: Path) -> Checked:
    """Check every file of a finished artifact against its manifest, hashes included, and that there is no other."""
    directory = Path(directory)
    try:
        manifest = read_json(directory / MANIFEST)
    except UserError as error:
        lost = not (directory / MANIFEST).exists()
        return Checked(directory, [f"{directory / MANIFEST}: missing" if lost else str(error)])
    if errors := own_hash_errors(manifest):
        return Checked(directory, [f"{directory / MANIFEST}: {line}" for line in errors])
    problems = _name_errors(directory, manifest) + size_errors(directory, manifest)
    told = {line.split(": ")[0] for line in problems}
    for name, facts in manifest["outputs"].items():
        path = directory / name
        if str(path) not in told:
            problems += _hash_errors(path, facts["sha256"])
    unhashed = manifest.get("unhashed", [])
    problems += [f"{directory / name}: missing" for name in unhashed if not (directory / name).exists()]
    problems += _record_errors(directory / RUN_RECORD)
    extra = unknown_files(directory, manifest)
    problems += [f"{path}: is not in the manifest" for path in extra]
    return Checked(directory, problems, extra)


def unknown_files(directory: Path, manifest: Mapping[str, Any]) -> list[Path]:
    """The files in a finished artifact that its manifest does not know, hidden ones aside."""
    outputs, unhashed = manifest["outputs"], manifest.get("unhashed", [])
    return [
        directory / name
        for name in content_files(directory)
        if name not in outputs and not is_unhashed(name, unhashed)
    ]


def _name_errors(directory: Path, manifest: dict[str, Any]) -> list[str]:
    key = manifest["key"][:KEY_CHARACTERS]
    return (
        [] if directory.name.endswith(f"-{key}") else [f"{directory}: holds the artifact with the key {key}"]
    )


def _hash_errors(path: Path, expected: str) -> list[str]:
    try:
        found = hash_file(path)
    except (OSError, UserError) as error:
        return [f"{path}: cannot be read ({error})"]
    return [] if found == expected else [f"{path}: its sha256 differs from the manifest's"]


def _record_errors(path: Path) -> list[str]:
    try:
        record = read_json(path)
    except UserError as error:
        return [str(error)]
    whole = isinstance(record, dict) and isinstance(record.get("segments"), list)
    return [] if whole else [f"{path}: is no record of a run"]


def verify_store(root: Path) -> Iterator[Checked]:
    """Check all that is in a folder of artifacts.

    Raises:
        UserError: there is no such folder, or it holds no artifacts.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the one that holds the stages' folders")
    folders = list(artifact_folders(root))
    if not folders:
        near = root / "stages"
        hint = f"; did you mean {near}?" if near.is_dir() else ""
        raise UserError(f"{root}: holds no artifacts (folders <stage>/<name>-<key>){hint}")
    for path in folders:
        if path.name.endswith(PARTIAL_SUFFIX):
            yield Checked(path, unfinished=True)
        elif DAMAGED in path.name:
            line = f"{path}: was found damaged and set aside; when you have looked at it: rm -r '{path}'"
            yield Checked(path, [line], aside=True)
        else:
            yield verify(path)


def artifact_folders(root: Path) -> Iterator[Path]:
    """Those that are artifacts or are called like one, in order: `<root>/<stage>/<name>-<key>` and what is beside these,
    unfinished or set aside. No links, and nothing of `latest/`, where a copy that followed links has second copies."""
    for stage in folders_in(root):
        if stage.name != LATEST:
            yield from (path for path in folders_in(stage) if is_artifact(path))


def folders_in(directory: Path) -> list[Path]:
    """The folders in one, no links and none that is hidden."""
    found = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def is_artifact(path: Path) -> bool:
    """Whether a folder is an artifact, or is called like one."""
    name = path.name.partition(DAMAGED)[0].removesuffix(PARTIAL_SUFFIX)
    return bool(_ARTIFACT.fullmatch(name)) or (path / MANIFEST).exists()


def repair(checked: Checked) -> Path | None:
    """Set a damaged artifact aside, so that whoever needs it makes it anew, or only what does not belong to it.

    Returns:
        Where it is now; None where there was nothing to do.
    """
    if checked.aside or not checked.problems:
        return None
    with exclusive(checked.directory):
        if not checked.directory.exists():  # another process was first
            return None
        return set_aside(checked.directory, checked.extra if _only_extra(checked) else None)


def _only_extra(checked: Checked) -> bool:
    return len(checked.problems) == len(checked.extra)
