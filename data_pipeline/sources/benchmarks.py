"""Benchmarks from the hub, in the formats their authors gave them: what evaluation and decontamination read.

What is known of each one, and how its rows become its authors' files, is in `data_pipeline.benchmarks`.
"""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.files import atomic_write
from data_pipeline.benchmarks import BENCHMARKS, Origin
from data_pipeline.engine.hashes import hash_file
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.sources.download import Patience
from data_pipeline.sources.hub import HubDataset, hub_rows, pinned
from data_pipeline.sources.hub import pin_of as pin_of_hub
from data_pipeline.sources.records import SourceError
from data_pipeline.sources.remote_files import RemoteFile, download_pinned, pin_of

_OWN_DATA = "for data of your own set check_counts = false"


def fetch_benchmark(
    name: str,
    output: Path,
    *,
    folder: Path | None = None,
    revision: str = "",
    check_counts: bool = True,
    lock: LockFile | None = None,
    patience: Patience | None = None,
) -> dict[str, Any]:
    """Write a benchmark's file or folder, called as its record says, below `output`.

    Args:
        name: of a record in `data_pipeline.benchmarks`.
        output: directory to write to.
        folder: a local copy in hub layout; by default the hub's is taken, at the pinned revision.
        revision: a commit, branch or tag of the hub's; empty for the record's.
        check_counts: refuse data of another size than the published benchmark's.
        lock: keeps the pin of what was fetched.
        patience: how long a download is tried.

    Returns:
        Counts, "origin" (licence, terms, where it is from) and "pins".

    Raises:
        SourceError, DownloadError, LockError: not to be had, or not what it should be.
    """
    benchmark = BENCHMARKS[name]
    origin, target = benchmark.origin, Path(output) / benchmark.file
    if origin is None:
        raise SourceError(f"{benchmark.title} cannot be fetched; give the path of its files")
    dataset = _dataset(origin, folder, revision)
    if origin.url and not folder:
        file = RemoteFile(origin.url, origin.sha256)
        pins = {file.url: pin_of(download_pinned(file, target, lock, patience, benchmark.title).sha256)}
    else:
        dataset = pinned(dataset, lock)
        pins = pin_of_hub(dataset)
        _write(dataset, origin, target, check_counts)
    counts = origin.count(target)
    if check_counts and counts != origin.counts:
        raise SourceError(
            f"{dataset}: holds {counts}, expected {origin.counts}: not the published benchmark; {_OWN_DATA}"
        )
    return {**counts, "origin": {**dataset.facts(), **origin.notes()}, "pins": pins}


def pin_benchmark(
    name: str, *, folder: Path | None, revision: str, lock: LockFile | None, asks: bool
) -> dict[str, dict[str, Any]]:
    """What is fetched: the published file by its sha256, or a dataset's commit; nothing of a local folder.

    Raises:
        SourceError, LockError, NotPinnedError: see `pinned`.
    """
    origin = BENCHMARKS[name].origin
    if origin is None or folder:
        return {}
    if origin.url:
        return {origin.url: dict(pin_of(origin.sha256))}
    return pin_of_hub(pinned(_dataset(origin, folder, revision), lock, asks))


def _dataset(origin: Origin, folder: Path | None, revision: str) -> HubDataset:
    place = str(folder.absolute()) if folder else origin.dataset
    return HubDataset(place, origin.configuration, origin.split, revision or origin.revision)


def _write(dataset: HubDataset, origin: Origin, target: Path, check_counts: bool) -> None:
    """Take over the published file where a local copy holds it, else write the rows in the authors' format."""
    file = Path(dataset.name) / origin.file
    if not (origin.file and file.exists()):

        def rows(split: str) -> Iterator[dict[str, Any]]:
            return hub_rows(dataclasses.replace(dataset, split=split))

        origin.write(rows, target)
        return
    if check_counts and (found := hash_file(file)) != origin.sha256:
        raise SourceError(
            f"{file}: got sha256 {found}, expected {origin.sha256}: not the published file; {_OWN_DATA}"
        )
    with atomic_write(target) as temporary:
        shutil.copyfile(file, temporary)
