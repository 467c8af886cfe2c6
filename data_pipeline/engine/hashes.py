"""sha256 of files and folders, and a cache of them that notices every change.

A file is known again by its size, its times and its inode. The time of the last change of the inode (`ctime`) is set
by the kernel alone, so a file replaced by one of the same size and date (`cp -p`, `touch -r`) is read anew.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from core.errors import UserError
from core.files import atomic_write, canonical_json
from core.progress import Bar

_BLOCK_BYTES = 1 << 20
# A file may change twice within one tick of its file system's clock, the second time unseen: what was changed so
# lately is not kept in the cache.
_SETTLED_SECONDS = 2.0
_LINES_BESIDE_ENTRIES = 1000  # outdated ones, before the cache is written anew
_LINES_AT_ONCE = 1000  # of a batch
# Of fewer nothing is said.
_TOLD_FILES, _TOLD_BYTES = 1000, 1 << 30
_logger = logging.getLogger("data_pipeline")


class ChangedFileError(UserError):
    """A file was written to while it was read."""


def identity(path: Path) -> str:
    """What differs as soon as a file or a folder's files may hold something else: sizes, times, inodes."""
    path = Path(path)
    if not path.is_dir():
        return _facts(path)
    listing = "".join(f"{name}|{_facts(file)}\n" for name, file in _files(path).items())
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()


def hash_file(
    path: Path, cache: "HashCache | None" = None, told: Callable[[int], object] = lambda size: None
) -> str:
    """sha256 of a file, in hexadecimal; with a cache, looked up where the file is as it was.

    Args:
        told: how many bytes were read, again and again.

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
            told(len(block))
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


def hash_path(
    path: Path, cache: "HashCache | None" = None, told: Callable[[int], object] = lambda size: None
) -> str:
    """sha256 of a file or of a folder, see there."""
    return hash_tree(path, cache) if Path(path).is_dir() else hash_file(path, cache, told)


def hash_paths(paths: Mapping[str, Path], cache: "HashCache | None" = None) -> dict[str, str]:
    """sha256 of many files and folders, by role: the cache is written a thousand at a time, progress shown on a terminal.

    Raises:
        ChangedFileError: one of them is written to meanwhile.
    """
    new = {
        role: path for role, path in paths.items() if cache is None or cache.get(path, identity(path)) is None
    }
    size = sum(path.stat().st_size for path in new.values())
    if len(new) >= _TOLD_FILES or size >= _TOLD_BYTES:
        _logger.info("hashing %s input files, %.1f MB, once", f"{len(new):,}", size / 1e6)
    bar = Bar(total=size, desc="hash inputs", unit="B", unit_scale=True, delay=1)
    with bar, contextlib.nullcontext() if cache is None else cache.batch():
        return {role: hash_path(path, cache, bar.update) for role, path in paths.items()}


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
        self._unwritten: list[str] = []
        self._at_once = 1
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
        known, digest = self._entries.get(_place(path), ("", ""))
        return digest if known == now else None

    def put(self, path: Path, now: str, digest: str) -> None:
        name = _place(path)
        self._entries[name] = (now, digest)
        self._unwritten.append(name)
        if len(self._unwritten) >= self._at_once:
            self._write()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """While this is open, entries are written many at once, and at its end."""
        self._at_once = _LINES_AT_ONCE
        try:
            yield
        finally:
            self._at_once = 1
            self._write()

    def _write(self) -> None:
        lines = "".join(map(self._line, self._unwritten))
        self._unwritten.clear()
        with contextlib.suppress(OSError):
            if lines:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as stream:
                    stream.write(lines)

    def _write_anew(self) -> None:
        with contextlib.suppress(OSError), atomic_write(self.path) as temporary:
            temporary.write_text("".join(map(self._line, self._entries)), encoding="utf-8")

    def _line(self, name: str) -> str:
        return json.dumps([name, *self._entries[name]]) + "\n"


def _place(path: Path) -> str:
    """What an entry is called. What a link leads to is told by its identity, so only folders are followed."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(_real_folder(folder), name)


@functools.lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
