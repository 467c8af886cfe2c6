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
from data_pipeline.engine.artifacts import hash_file
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
    place = str(folder.absolute()) if folder else origin.dataset
    dataset = HubDataset(place, origin.configuration, origin.split, revision or origin.revision)
    if origin.url and not folder:
        file = RemoteFile(origin.url, origin.sha256)
        pins = {file.url: pin_of(download_pinned(file, target, lock, patience, benchmark.title))}
    else:
        wanted, dataset = dataset, pinned(dataset, lock)
        pins = pin_of_hub(wanted, dataset)
        _write(dataset, origin, target, check_counts)
    counts = origin.count(target)
    if check_counts and counts != origin.counts:
        raise SourceError(
            f"{dataset}: holds {counts}, expected {origin.counts}: not the published benchmark; {_OWN_DATA}"
        )
    return {**counts, "origin": {**dataset.facts(), **origin.notes()}, "pins": pins}


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
