"""Files that appear whole or not at all, JSON with one spelling, and one writer of a directory at a time. No torch.

File system: renames and advisory locks (`flock`) must work across the processes that share a folder, as they do on
local disks and on NFS version 4.
"""

import contextlib
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core.errors import UserError

MANIFEST = "manifest.json"  # in a finished artifact
PARTIAL_SUFFIX = ".partial"  # of the folder of one that is being made
_HASHED_WHOLE_BYTES = 4 << 30
_SAMPLES, _SAMPLE_BYTES = 4096, 1 << 16


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no blanks, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write indented, sorted JSON atomically, bit by bit: a manifest may have a million lines."""
    encoder = json.JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(encoder.iterencode(value))
        stream.write("\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file cannot be read or is no JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error


def read_text(path: Path) -> str:
    """A text of UTF-8, line ends untouched, without a byte order mark.

    Raises:
        UserError: the file cannot be read or is no UTF-8; the message names it.
    """
    try:
        return decode_text(Path(path).read_bytes(), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def decode_text(content: bytes, path: Path) -> str:
    """A file's content as text, see `read_text`."""
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: is not UTF-8 text, in line {line} ({error})") from error


def content_hash(path: Path, names: Sequence[str] = ("*",)) -> str:
    """sha256 of a file, or of a folder: of the relative names and the sha256 of its files, hidden ones left out.

    A file of more than 4 GiB is told by its size and 4096 evenly spaced blocks of 64 KiB, the last bytes among them.

    Args:
        names: patterns of the file names in a folder that count.

    Raises:
        UserError: something cannot be read; the message names it.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return _file_hash(path)
        found = {
            file.relative_to(path): file for name in names for file in path.rglob(name) if file.is_file()
        }
        shown = {name.as_posix(): file for name, file in found.items() if not _is_hidden(name)}
        return hashlib.sha256(
            canonical_json({name: _file_hash(file) for name, file in shown.items()}).encode()
        ).hexdigest()
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror})") from error


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= _HASHED_WHOLE_BYTES:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        digest = hashlib.sha256(f"{size} ".encode())
        for number in range(_SAMPLES):
            stream.seek((size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
        return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it into place.

    The temporary name is the caller's alone (`.<name>.<random>.tmp`), so two that write one file do not write into each
    other's. What a killed process left is for `remove_temporaries`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.filename is None:  # a full disk says nothing of where
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def remove_temporaries(directory: Path) -> None:
    """Remove what killed writers left below a folder; call it where no other process writes there."""
    for temporary in Path(directory).rglob(".*.tmp"):
        if temporary.is_file():
            temporary.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Flush a folder's names to the disk, where its file system can."""
    with contextlib.suppress(OSError):  # some network file systems cannot
        sync_file(path)


@contextlib.contextmanager
def exclusive(
    directory: Path,
    waiting: Callable[[str], None] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Iterator[None]:
    """Hold the lock `<directory>.lock`; a second process waits and is told who holds it.

    The kernel releases the lock when its holder dies, however it dies.

    Args:
        waiting: told once, where it has to be waited for.
        meanwhile: called every second of a wait, as long as it may last.
    """
    path = Path(f"{directory}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        if waiting is not None:
            waiting(f"{directory}: in use by {_holder(path)}; waiting for it")
        _acquire(lock, meanwhile)
    try:
        # The holder's name is for people only, so it is written in place and never synced.
        Path(f"{path}.holder").write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        Path(f"{path}.holder").unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, meanwhile: Callable[[], object] | None) -> None:
    while True:
        try:
            lock.acquire(timeout=-1 if meanwhile is None else 1.0)
            return
        except Timeout:
            if meanwhile is not None:
                meanwhile()


def _holder(lock_path: Path) -> str:
    try:
        return Path(f"{lock_path}.holder").read_text().strip() or "another process"
    except OSError:
        return "another process"
