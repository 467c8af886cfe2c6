"""sha256 of files and folders, and a cache of them that notices every change.

A file is known again by its size, its times and its inode. The time of the last change of the inode (`ctime`) is set
by the kernel alone, so a file replaced by one of the same size and date (`cp -p`, `touch -r`) is read anew.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from core.errors import UserError
from core.files import atomic_write, canonical_json

_BLOCK_BYTES = 1 << 20
# A file may change twice within one tick of its file system's clock, the second time unseen: what was changed so
# lately is not kept in the cache.
_SETTLED_SECONDS = 2.0
_LINES_BESIDE_ENTRIES = 1000  # outdated ones, before the cache is written anew


class ChangedFileError(UserError):
    """A file was written to while it was read."""


def identity(path: Path) -> str:
    """What differs as soon as a file or a folder's files may hold something else: sizes, times, inodes."""
    path = Path(path)
    if not path.is_dir():
        return _facts(path)
    listing = "".join(f"{name}|{_facts(file)}\n" for name, file in _files(path).items())
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()


def hash_file(path: Path, cache: "HashCache | None" = None) -> str:
    """sha256 of a file, in hexadecimal; with a cache, looked up where the file is as it was.

    Raises:
        ChangedFileError: it is written to meanwhile.
    """
    path = Path(path)
    before, started = _facts(path), time.time()
    if cache is not None and (known := cache.get(path, before)):
        return known
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    if _facts(path) != before:
        raise ChangedFileError(f"{path}: is being written to; run the same command when it is whole")
    if cache is not None and _is_settled(path, started):
        cache.put(path, before, digest.hexdigest())
    return digest.hexdigest()


def hash_tree(directory: Path, cache: "HashCache | None" = None) -> str:
    """sha256 of a folder: of the relative names and the sha256 of all its files, hidden ones left out.

    With a cache it is one entry.

    Raises:
        ChangedFileError: one of the files is written to meanwhile.
    """
    directory = Path(directory)
    before, started = identity(directory), time.time()
    if cache is not None and (known := cache.get(directory, before)):
        return known
    files = _files(directory)
    hashes = {name: hash_file(path) for name, path in files.items()}
    digest = hashlib.sha256(canonical_json(hashes).encode("utf-8", "surrogateescape")).hexdigest()
    if identity(directory) != before:
        raise ChangedFileError(f"{directory}: is being written to; run the same command when it is whole")
    if cache is not None and all(_is_settled(path, started) for path in files.values()):
        cache.put(directory, before, digest)
    return digest


def hash_path(path: Path, cache: "HashCache | None" = None) -> str:
    """sha256 of a file or of a folder."""
    return (hash_tree if Path(path).is_dir() else hash_file)(path, cache)


def _facts(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_dev}:{status.st_ino}"


def _is_settled(path: Path, now: float) -> bool:
    return now - path.stat().st_ctime > _SETTLED_SECONDS


def _files(directory: Path) -> dict[str, Path]:
    """The files below a folder by their relative names, sorted; what links lead to included, hidden ones left out."""
    found = {}
    for folder in _folders(directory, set()):
        for entry in os.scandir(folder):
            if not entry.name.startswith(".") and entry.is_file():
                path = Path(entry.path)
                found[path.relative_to(directory).as_posix()] = path
    return dict(sorted(found.items()))


def _folders(directory: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    """A folder and those below it; a link back to one above is not followed."""
    status = directory.stat()
    if (own := (status.st_dev, status.st_ino)) in above:
        return
    yield directory
    for entry in os.scandir(directory):
        if not entry.name.startswith(".") and entry.is_dir():
            yield from _folders(Path(entry.path), above | {own})


class HashCache:
    """sha256 by path and identity, in one file: a line of JSON for each, added at its end. Losing it costs only time."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._entries: dict[str, tuple[str, str]] = {}
        lines = 0
        with contextlib.suppress(OSError), self.path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                lines += 1
                with contextlib.suppress(ValueError, TypeError):  # a line that a kill or a full disk cut off
                    name, known, digest = json.loads(line)
                    self._entries[name] = (known, digest)
        if lines > 2 * len(self._entries) + _LINES_BESIDE_ENTRIES:
            self._write_anew()

    def get(self, path: Path, now: str) -> str | None:
        """The hash of a file or folder that is as it was when it was hashed."""
        known, digest = self._entries.get(os.path.realpath(path), ("", ""))
        return digest if known == now else None

    def put(self, path: Path, now: str, digest: str) -> None:
        name = os.path.realpath(path)
        self._entries[name] = (now, digest)
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(self._line(name))

    def _write_anew(self) -> None:
        with contextlib.suppress(OSError), atomic_write(self.path) as temporary:
            temporary.write_text("".join(map(self._line, self._entries)), encoding="utf-8")

    def _line(self, name: str) -> str:
        return json.dumps([name, *self._entries[name]]) + "\n"
