"""`build --clean`: removes what earlier commands of an output made and nobody uses now.

A folder of artifacts may be shared: by several outputs (`--runs`), and with workflows. So only what commands of this
output made can go (each notes it in `.made.jsonl` before it begins), and of that nothing that is current, that a link
of `latest/` leads to, that another output's `summary.json` names, or that something made of it needs which stays. While
anything is being made in the folder nothing is removed.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from core.errors import UserError
from core.files import PARTIAL_SUFFIX, read_json
from data_pipeline.engine.adoption import Finished
from data_pipeline.engine.artifacts import KEY_CHARACTERS, Artifact
from data_pipeline.engine.inventory import finished_in, links_in, size_of, with_inputs
from data_pipeline.summary import SUMMARY_FILE

MADE_FILE = ".made.jsonl"
_IN_USE = ".in-use.lock"
REMOVED = ".removed"  # the trash: what is renamed into it is as good as gone


class Old(NamedTuple):
    """A folder that can go, and the bytes of its files."""

    directory: Path
    bytes: int


@contextlib.contextmanager
def in_use(root: Path) -> Iterator[None]:
    """Keep a folder of artifacts from being cleaned, as long as a command works in it; many may."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / _IN_USE).open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield


def note(root: Path, output: Path, artifact: Artifact) -> None:
    """Note that a command of an output makes or uses an artifact of its store."""
    name = artifact.own.relative_to(root).as_posix()
    line = {"output": os.path.relpath(output, root), "artifact": name}
    if line not in list(_noted(root)):
        with (root / MADE_FILE).open("a", encoding="utf-8") as stream:
            # Begins a line of its own, also where a kill cut one off.
            stream.write("\n" + json.dumps(line, ensure_ascii=False) + "\n")


def _noted(root: Path) -> Iterator[dict[str, str]]:
    if (root / MADE_FILE).exists():
        for line in (root / MADE_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # cut off, or the blank before a line
                yield json.loads(line)


def clean(root: Path, output: Path, agreed: bool) -> None:
    """Show what an output's commands made in a folder of artifacts and nobody uses now; remove it when it is agreed to.

    Args:
        agreed: do not ask.

    Raises:
        UserError: nobody can be asked, or something is being made in the folder.
    """
    old = old_artifacts(root, output)
    for folder in old:
        print(f"{folder.directory}: {folder.bytes / 1e6:,.1f} MB")
    if not old:
        print(f"{root}: nothing old of {output}")
        return
    what = f"{len(old)} old folder(s), {sum(folder.bytes for folder in old) / 1e6:,.1f} MB"
    if not agreed and not sys.stdin.isatty():
        raise UserError(f"{what} would be removed: when you want that, say --yes")
    if not agreed and input(f"remove {what}? [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was removed")
        return
    with _alone_in(root):
        now = old_artifacts(root, output)  # others may have begun to use some
        gone = [folder for folder in old if folder in now]
        _remove(root, gone)
    print(f"{len(gone)} removed")


def old_artifacts(root: Path, output: Path) -> list[Old]:
    """What an output's commands made in a folder of artifacts and nobody uses now, in order."""
    there = {artifact.key: artifact for artifact in finished_in(root)}
    ours: set[str] = set()
    others: dict[str, set[str]] = {}
    for line in _noted(root):
        key = line["artifact"][-KEY_CHARACTERS:]
        if _same(root / line["output"], output):
            ours.add(key)
        else:
            others.setdefault(line["output"], set()).add(key)
    used = {key for key in there if key[:KEY_CHARACTERS] not in ours} | _used_by(output, ours, there)
    for other, keys in others.items():
        used |= _used_by(root / other, keys, there)
    linked = set(links_in(root).values())
    used |= {artifact.key for artifact in there.values() if artifact.directory in linked}
    kept = with_inputs(used, there)
    gone = [artifact.directory for key, artifact in there.items() if key not in kept]
    short = {key[:KEY_CHARACTERS] for key in kept}
    gone += [
        path
        for path in root.glob(f"[!.]*/*{PARTIAL_SUFFIX}")
        if (key := path.name.removesuffix(PARTIAL_SUFFIX)[-KEY_CHARACTERS:]) in ours
        and key not in short
        and not any(key in keys for keys in others.values())
    ]
    return [Old(path, size_of(path)) for path in sorted(gone)]


def _used_by(output: Path, made: Collection[str], there: Mapping[str, Finished]) -> set[str]:
    """Keys that another output stands on: as its summary says, or all it made where it is not finished."""
    if not output.is_dir():
        return set()
    try:
        return {stage["key"] for stage in read_json(output / SUMMARY_FILE)["stages"]}
    except (UserError, KeyError, TypeError):
        return {key for key in there if key[:KEY_CHARACTERS] in made}


def outputs_using(root: Path) -> dict[str, str]:
    """Keys of artifacts, whole or as their folders' names have them, that outputs of commands stand on, and which output:
    as its summary says, or all that was begun for it."""
    there = {artifact.key: artifact for artifact in finished_in(root)}
    begun: dict[str, set[str]] = {}
    for line in _noted(root):
        begun.setdefault(line["output"], set()).add(line["artifact"][-KEY_CHARACTERS:])
    found: dict[str, str] = {}
    for output, keys in begun.items():
        finished_output = (root / output / SUMMARY_FILE).exists()
        used = _used_by(root / output, keys, there)
        if not finished_output and (root / output).is_dir():
            used |= keys
        found |= dict.fromkeys(used, os.path.normpath(root / output))
    return found


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


@contextlib.contextmanager
def not_in_use(root: Path) -> Iterator[None]:
    """Keep commands from working in a folder of artifacts (`in_use`).

    Raises:
        UserError: one does.
    """
    with (root / _IN_USE).open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(root) from error
        yield


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Be the only one that works in a folder of artifacts.

    Raises:
        UserError: a command or a stage of a workflow is at work there.
    """
    with not_in_use(root):
        try:
            for path in sorted(root.glob("[!.]*/*.lock")):
                with FileLock(path).acquire(timeout=0):
                    pass
        except Timeout as error:
            raise _busy(root) from error
        yield


def _busy(root: Path) -> UserError:
    return UserError(
        f"{root}: something is being made there, so nothing was removed: clean when that is done"
    )


def _remove(root: Path, old: Iterable[Old]) -> None:
    """Remove folders, each at once: a kill leaves none in parts where it was. Call it while `_alone_in` the folder."""
    for folder in old:
        target = root / REMOVED / f"{folder.directory.name}-{secrets.token_hex(4)}"
        target.parent.mkdir(exist_ok=True)
        with FileLock(f"{str(folder.directory).removesuffix(PARTIAL_SUFFIX)}.lock").acquire(timeout=0):
            os.replace(folder.directory, target)
    shutil.rmtree(root / REMOVED, ignore_errors=True)
