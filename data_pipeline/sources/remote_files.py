"""Files and archives on the web as a source: downloaded, verified, unpacked, and read as local files are.

What was downloaded is removed once its documents are written. How a file is downloaded lives in `download`, how an
archive is unpacked in `archives`, how files become documents in `local`.
"""

import logging
import shutil
import urllib.parse
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from core.files import exclusive
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.lock_file import LockFile, NotPinnedError
from data_pipeline.engine.resumable import Counts
from data_pipeline.engine.steps import DOWNLOADS
from data_pipeline.sources.archives import is_archive, unpack
from data_pipeline.sources.download import Downloaded, DownloadError, Patience, download
from data_pipeline.sources.formats import kind_of, known_suffixes
from data_pipeline.sources.found_files import check_patterns, named
from data_pipeline.sources.local import fetch_local
from data_pipeline.sources.records import SourceError
from data_pipeline.text_files import is_system_file

if TYPE_CHECKING:
    from data_pipeline.sources.source import WebSource

_logger = logging.getLogger("data_pipeline")


class RemoteFile(NamedTuple):
    """An address, and the sha256 expected there; empty where it is not known."""

    url: str
    sha256: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(self.url).path)).name

    @property
    def place(self) -> str:
        """Host and path, as ids of documents begin; what follows a question mark may be secret."""
        parts = urllib.parse.urlsplit(self.url)
        return f"{parts.hostname or ''}{urllib.parse.unquote(parts.path)}"


def download_pinned(
    file: RemoteFile, target: Path, lock: LockFile | None, patience: Patience | None = None, title: str = ""
) -> Downloaded:
    """Download a file that must have the given sha256, else the locked one, else writes the lock.

    Raises:
        DownloadError, LockError: see there.
    """
    known = _locked(file, lock)
    found = download(
        file.url,
        target,
        sha256=file.sha256 or known.get("sha256", ""),
        size=known.get("bytes", 0),
        patience=patience,
        title=title,
    )
    if lock and not file.sha256:
        lock.settle(file.url, {"sha256": found.sha256, "bytes": found.bytes})
    return found


def _locked(file: RemoteFile, lock: LockFile | None) -> dict[str, Any]:
    """What a lock file says of an address whose content is given nowhere else."""
    return {} if lock is None or file.sha256 else lock.get(file.url) or {}


def pin_of(sha256: str) -> dict[str, str]:
    """What keys say of the file at an address, however it was found."""
    return {"sha256": sha256}


def pin_files(
    source: "WebSource", lock: LockFile | None, folder: Path | None, patience: Patience | None = None
) -> dict[str, dict[str, str]]:
    """What the files of a source are: as the recipe says, else the lock file, else as they are now.

    Args:
        folder: receives what has to be downloaded to know, laid out as `fetch_remote` looks for it.

    Raises:
        SourceError, DownloadError, LockError: see there.
        NotPinnedError: without a folder, one would have to be downloaded.
    """
    pins = {}
    for number, file in enumerate(_files_of(source)):
        digest = file.sha256 or _locked(file, lock).get("sha256", "")
        if not digest:
            if folder is None:
                raise NotPinnedError(f"{file.url}: no sha256, and none in the lock file yet")
            digest = _download_first(file, number, lock, folder, patience, source.name)
        pins[file.url] = pin_of(digest)
    return pins


def _download_first(
    file: RemoteFile,
    number: int,
    lock: LockFile | None,
    folder: Path,
    patience: Patience | None,
    title: str,
) -> str:
    """Download what is pinned nowhere; its sha256. Of two processes the second finds the first one's pin."""
    target = _place(folder, number, file)
    with exclusive(folder, _logger.warning):
        if known := _locked(file, lock):
            return str(known["sha256"])
        _logger.info("%s: is pinned nowhere yet, so it is downloaded before anything else", file.url)
        target.unlink(missing_ok=True)  # whole, but of a time that nothing tells
        try:
            return download_pinned(file, target, lock, patience, title).sha256
        except DownloadError as error:
            raise DownloadError(
                f"{error}. What it holds is part of all keys: without a network, give its sha256 in the recipe, or the "
                "lock file of whoever fetched it"
            ) from error


def _place(folder: Path, number: int, file: RemoteFile) -> Path:
    return folder / f"{number:05d}" / file.name


def _files_of(source: "WebSource") -> list[RemoteFile]:
    """The files of a source.

    Raises:
        SourceError: a name that says no format.
    """
    digests = source.sha256 or [""] * len(source.urls)
    files = [RemoteFile(url, digest) for url, digest in zip(source.urls, digests, strict=True)]
    unknown = [file.url for file in files if not (kind_of(Path(file.name)) or is_archive(Path(file.name)))]
    if unknown:
        raise SourceError(
            f"{source.name}: unknown kind of file: {', '.join(unknown)} (the names in addresses must end in "
            f"{known_suffixes()}, or be .tar, .tgz or .zip archives)"
        )
    return files


def fetch_remote(
    source: "WebSource",
    output: Path,
    *,
    lock: LockFile | None = None,
    patience: Patience | None = None,
    executor: Executor,
    title: str = "",
) -> tuple[Counts, dict[str, dict[str, str]]]:
    """Download files, unpack archives among them, and write the documents of all, in the order given.

    Of an archive every file of a known format is read, in the order of names.

    Returns:
        Counts as `fetch_local`'s, with other_files for members of archives that are not read, such as those that a Mac
        adds; and the pin of each address.

    Raises:
        SourceError, DownloadError, ArchiveError, LockError: see there.
    """
    files = _files_of(source)
    folder = Path(output) / DOWNLOADS
    found, pins = _download_all(files, folder, lock, patience, title)
    files_read = {
        name: path
        for name, path in found.items()
        if kind_of(path) and not is_system_file(path.relative_to(folder))
    }
    if not files_read:
        raise SourceError(f"{source.name}: no file in the archives ends in {known_suffixes()}")
    check_patterns(source.text_fields, files_read)
    counts = fetch_local(source, files_read, output, executor=executor, title=title)
    shutil.rmtree(folder)
    return {**counts, "other_files": len(found) - len(files_read)}, pins


def _download_all(
    files: list[RemoteFile], folder: Path, lock: LockFile | None, patience: Patience | None, title: str
) -> tuple[dict[str, Path], dict[str, dict[str, str]]]:
    """Download files, each to a folder of its own, and unpack archives; the files there are then, by their addresses and
    places in archives, and the pins."""
    found: dict[str, Path] = {}
    pins = {}
    for number, file in enumerate(files):
        target = _place(folder, number, file)
        pins[file.url] = pin_of(download_pinned(file, target, lock, patience, title).sha256)
        place = (
            file.place
            if file.place not in (other.place for other in files[:number])
            else f"{file.place}~{number}"
        )
        if is_archive(target):
            unpacked = target.with_name(f"{file.name}.unpacked")
            unpack(target, unpacked)
            members = named(sorted(path for path in unpacked.rglob("*") if path.is_file()), unpacked)
            found |= {f"{place}/{name}": path for name, path in members.items()}
        else:
            found[place] = target
    return found, pins
