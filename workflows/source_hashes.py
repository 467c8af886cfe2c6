"""A committed table of what each stage's sources hashed to at its version.

An artifact's key carries the stage's version, bumped by hand. The table notices sources that changed without it: a
test compares it with the checkout, `python -m workflows refresh-hashes` writes it anew.
"""

import hashlib
from pathlib import Path
from typing import Any

from core.files import read_json, write_json
from workflows.launch import CHECKOUT
from workflows.stage import Stage

TABLE = CHECKOUT / "tests" / "workflows" / "source_hashes.json"


def stage_classes() -> list[type[Stage]]:
    """Every concrete stage, by name of its class."""
    found: set[type[Stage]] = set()
    pending: list[type[Stage]] = [Stage]
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        if hasattr(cls, "stage") and cls.sources and cls.__module__.startswith("workflows."):
            found.add(cls)
    return sorted(found, key=lambda cls: cls.__name__)


def source_files(stage: type[Stage]) -> list[Path]:
    """The files behind a stage's `sources` (files, folders or glob patterns of the checkout).

    Raises:
        FileNotFoundError: a source that matches no file.
    """
    files: set[Path] = set()
    for source in stage.sources:
        path = CHECKOUT / source
        matches = list(path.rglob("*.py")) if path.is_dir() else list(CHECKOUT.glob(source))
        if not matches:
            raise FileNotFoundError(f"{stage.__name__}.sources: no file matches {source}")
        files.update(matches)
    return sorted(files)


def source_hash(stage: type[Stage]) -> str:
    digest = hashlib.sha256()
    for path in source_files(stage):
        digest.update(path.relative_to(CHECKOUT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def current_table() -> dict[str, Any]:
    """{stage class: {version, sha256}} of the checkout as it is."""
    return {
        stage.__name__: {"version": stage.version, "sha256": source_hash(stage)} for stage in stage_classes()
    }


def write_table() -> None:
    write_json(TABLE, current_table())


def changed_stages() -> list[str]:
    """One line for each stage that differs from the committed table, with what to do."""
    known = read_json(TABLE)
    lines = []
    for name, entry in current_table().items():
        if known.get(name) == entry:
            continue
        if known.get(name, {}).get("version") == entry["version"]:
            lines.append(
                f"{name}: its sources changed. If its output changes, bump {name}.version; "
                "then run: python -m workflows refresh-hashes"
            )
        else:
            lines.append(f"{name}: new or with a new version; run: python -m workflows refresh-hashes")
    return lines + [
        f"{name}: gone; run: python -m workflows refresh-hashes" for name in known.keys() - current_table()
    ]
