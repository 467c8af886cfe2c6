"""Files and archives on the web as a source: downloaded, verified, unpacked, and read as local files are.

What was downloaded is removed once its documents are written. How a file is downloaded lives in `download`, how an
archive is unpacked in `archives`, how files become documents in `local`.
"""

import shutil
import urllib.parse
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from data_pipeline.engine.executors import Executor
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.engine.resumable import Counts
from data_pipeline.sources.archives import is_archive, unpack
from data_pipeline.sources.download import Downloaded, Patience, download
from data_pipeline.sources.formats import kind_of, known_suffixes
from data_pipeline.sources.local import fetch_local
from data_pipeline.sources.records import SourceError
from data_pipeline.text_files import is_system_file

if TYPE_CHECKING:
    from data_pipeline.sources.source import WebSource

_DOWNLOADS = ".downloads"  # hidden, so that no manifest covers it


class RemoteFile(NamedTuple):
    """An address, and the sha256 expected there; empty where it is not known."""

    url: str
    sha256: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(self.url).path)).name


def download_pinned(
    file: RemoteFile, target: Path, lock: LockFile | None, patience: Patience | None = None, title: str = ""
) -> Downloaded:
    """Download a file that must have the given sha256, else the locked one, else writes the lock.

    Raises:
        DownloadError, LockError: see there.
    """
    known = (lock.get(file.url) if lock else None) or {}
    found = download(
        file.url,
        target,
        sha256=file.sha256 or known.get("sha256", ""),
        size=known.get("bytes", 0) if not file.sha256 else 0,
        patience=patience,
        title=title,
    )
    if lock:
        lock.settle(file.url, pin_of(found))
    return found


def pin_of(found: Downloaded) -> dict[str, Any]:
    """What a lock file keeps of a download."""
    return {"sha256": found.sha256, "bytes": found.bytes}


def fetch_remote(
    source: "WebSource",
    output: Path,
    *,
    lock: LockFile | None = None,
    patience: Patience | None = None,
    executor: Executor,
    title: str = "",
) -> tuple[Counts, dict[str, dict[str, Any]]]:
    """Download files, unpack archives among them, and write the documents of all, in the order given.

    Of an archive every file of a known format is read, in the order of names.

    Returns:
        Counts as `fetch_local`'s, with other_files for members of archives that are not read, such as those that a Mac
        adds; and the pin of each address.

    Raises:
        SourceError, DownloadError, ArchiveError, LockError: see there.
    """
    digests = source.sha256 or [""] * len(source.urls)
    files = [RemoteFile(url, digest) for url, digest in zip(source.urls, digests, strict=True)]
    unknown = [file.url for file in files if not (kind_of(Path(file.name)) or is_archive(Path(file.name)))]
    if unknown:
        raise SourceError(
            f"{source.name}: unknown kind of file: {', '.join(unknown)} (the names in addresses must end in "
            f"{known_suffixes()}, or be .tar, .tgz or .zip archives)"
        )
    folder = Path(output) / _DOWNLOADS
    found, pins = _download_all(files, folder, lock, patience, title)
    paths = [path for path in found if kind_of(path) and not is_system_file(path.relative_to(folder))]
    if not paths:
        raise SourceError(f"{source.name}: no file in the archives ends in {known_suffixes()}")
    counts = fetch_local(source, paths, output, executor=executor, title=title)
    shutil.rmtree(folder)
    return {**counts, "other_files": len(found) - len(paths)}, pins


def _download_all(
    files: list[RemoteFile], folder: Path, lock: LockFile | None, patience: Patience | None, title: str
) -> tuple[list[Path], dict[str, dict[str, Any]]]:
    """Download files, each to a folder of its own, and unpack archives; the files there are then, and the pins."""
    found: list[Path] = []
    pins = {}
    for number, file in enumerate(files):
        target = folder / f"{number:05d}" / file.name
        pins[file.url] = pin_of(download_pinned(file, target, lock, patience, title))
        if is_archive(target):
            unpacked = target.with_name(f"{file.name}.unpacked")
            unpack(target, unpacked)
            found += sorted(path for path in unpacked.rglob("*") if path.is_file())
        else:
            found.append(target)
    return found, pins
