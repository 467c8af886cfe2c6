"""Candidate pairs: documents whose signatures agree in a band, found band by band in bounded memory.

A pair is one integer, first · documents + second with first < second, so that sorted pairs are sorted by their first
document. Signatures are `data_pipeline.deduplication.minhash`'s; which candidates are alike, `data_pipeline.deduplication.verification` says.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.deduplication.job import Job, Numbers, save_array
from data_pipeline.deduplication.minhash import Hashes
from data_pipeline.engine.resumable import Counts

DISTINCT_FILE = "distinct.npy"
_TASK_HASHES = 1 << 22
_LARGEST_BUCKET = 50
_NEIGHBOURS = 24


class BandTask(NamedTuple):
    """Some bands, or one of `parts` equal ranges of hashes of one band."""

    bands: range
    part: int
    parts: int

    @property
    def name(self) -> str:
        return f"band-{self.bands.start:05d}-{self.part:05d}"


def band_tasks(job: Job) -> list[BandTask]:
    """Work of about four million hashes a task, whatever the number of documents."""
    bands = job.settings.bands
    parts = 1 << max(0, (job.documents - 1) // _TASK_HASHES).bit_length()
    if parts > 1:
        return [
            BandTask(range(band, band + 1), part, parts) for band in range(bands) for part in range(parts)
        ]
    step = min(bands, max(1, _TASK_HASHES // max(job.documents, 1)))
    return [BandTask(range(band, min(band + step, bands)), 0, 1) for band in range(0, bands, step)]


def candidates_file(job: Job, task: BandTask) -> Path:
    """The sorted candidate pairs of a task."""
    return job.work / "candidates" / f"{task.name}.npy"


def write_candidates(job: Job, task: BandTask) -> Counts:
    """Find the pairs of different documents that share a band.

    Memory: about 100 bytes a hash of the task, and 200 more for each that lies in a bucket of 50 and more.
    """
    pairs = [np.empty(0, np.int64)]
    for band in task.bands:
        hashes, numbers = _band(job, band, task)
        pairs.append(_pairs(hashes, numbers, job.documents))
    found = pairs[1] if len(pairs) == 2 else np.unique(np.concatenate(pairs))
    save_array(candidates_file(job, task), found)
    return {"pairs": len(found)}


def _band(job: Job, band: int, task: BandTask) -> tuple[Hashes, Numbers]:
    """The hashes of a band in the task's range, and whose they are; only first of equal documents take part."""
    distinct = np.load(job.work / DISTINCT_FILE, mmap_mode="r")
    shift = np.uint64(65 - task.parts.bit_length())
    hashes, numbers = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for shard, start in enumerate(job.starts[:-1]):
        row = np.load(job.signature_file("bands", shard), mmap_mode="r")[band]
        chosen = distinct[start : start + len(row)] == 1
        if task.parts > 1:
            chosen &= (row >> shift) == task.part
        hashes.append(row[chosen])
        numbers.append(np.flatnonzero(chosen) + start)
    return np.concatenate(hashes), np.concatenate(numbers)


def _pairs(hashes: Hashes, numbers: Numbers, documents: int) -> Numbers:
    """The sorted pairs of documents with equal hashes."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    is_new = np.ones(len(ordered) + 1, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:-1])
    boundaries = np.flatnonzero(is_new)
    sizes = np.diff(boundaries)
    pairs = [np.empty(0, np.int64)]
    for size in np.unique(sizes[sizes > 1]):
        starts = boundaries[:-1][sizes == size]
        members = numbers[order[starts[:, None] + np.arange(size)]]  # [buckets, size], each row ascending
        first, second = _pairs_in_bucket(int(size))
        pairs.append((members[:, first] * documents + members[:, second]).ravel())
    return np.unique(np.concatenate(pairs))


def _pairs_in_bucket(size: int) -> tuple[Numbers, Numbers]:
    """Places of the pairs to compare: all of them, but in large buckets only near neighbours and the first.

    A bucket of n documents has n²/2 pairs; chains over neighbours still connect what is alike.
    """
    first, second = np.triu_indices(min(size, _LARGEST_BUCKET), 1)
    if size <= _LARGEST_BUCKET:
        return first, second
    places = np.arange(size)
    near = [(places[:-step], places[step:]) for step in range(1, _NEIGHBOURS + 1)]
    star = (np.zeros(size - 1, np.int64), places[1:])
    return np.concatenate([star[0], *(a for a, _ in near)]), np.concatenate([star[1], *(b for _, b in near)])
