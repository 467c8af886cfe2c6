"""Candidates: buckets of documents whose signatures agree in a band, found band by band in bounded memory.

A bucket's documents are to be compared with each other: all of them, but in a large one each with the first and with the
24 that come next; chains over these still connect what is alike. Pairs are made only where they are looked at, see
`Rounds`. Exact copies are found here too, by the hashes of whole texts. Signatures are
`data_pipeline.deduplication.signatures`'; which candidates are alike, `data_pipeline.deduplication.verification` says.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.deduplication.job import Job, Numbers, are_marked, save_array
from data_pipeline.deduplication.signatures import COPIES, read_hashes
from data_pipeline.engine.resumable import Counts

_TASK_HASHES = 1 << 22
_TASK_BANDS = 4
_LARGEST_BUCKET = 50
_WAVES = (0, 1, 4)
_NEIGHBOURS = 24
_LARGEST_PART = 1 << 16
_RANGES = 1 << 12
_MOST_TASKS = 256
_LEAST_MEMBERS, _MOST_MEMBERS = 1 << 15, 1 << 20


class BandTask(NamedTuple):
    """Some bands, or one of `parts` equal ranges of hashes of one band."""

    bands: range
    part: int
    parts: int

    @property
    def name(self) -> str:
        return f"band-{self.bands.start:05d}-{self.part:05d}"


def _parts(job: Job) -> int:
    """Ranges of hashes, so that each holds about four million, whatever the number of documents."""
    return 1 << max(0, (job.documents - 1) // _TASK_HASHES).bit_length()


def band_tasks(job: Job) -> list[BandTask]:
    """Work of about four million hashes a task, or less."""
    bands, parts = job.settings.bands, _parts(job)
    if parts > 1:
        return [
            BandTask(range(band, band + 1), part, parts) for band in range(bands) for part in range(parts)
        ]
    step = _TASK_BANDS if _TASK_BANDS * job.documents <= _TASK_HASHES else 1
    return [
        BandTask(range(band, min(band + step, wave.stop)), 0, 1)
        for wave in waves(job)
        for band in range(wave.start, wave.stop, step)
    ]


def copy_tasks(job: Job) -> dict[str, tuple[int, int]]:
    """The ranges of hashes in which copies are looked for, by name."""
    parts = _parts(job)
    return {f"{part:05d}": (part, parts) for part in range(parts)}


def _copies_file(job: Job, part: int) -> Path:
    return job.work / "copies" / f"copies-{part:05d}.npy"


def write_copies(job: Job, task: tuple[int, int]) -> Counts:
    """Write documents that are equal to an earlier one when normalised, and the first of each such text."""
    first, numbers, second = read_hashes(job, COPIES, *task)
    order = np.lexsort((second, first))  # stable: within equal hashes in document order
    is_new = np.ones(len(order), np.bool_)
    if len(order):
        is_new[1:] = np.diff(first[order]) != 0
        is_new[1:] |= np.diff(second[order]) != 0
    numbers = numbers[order]
    firsts = numbers[is_new][np.cumsum(is_new) - 1]
    save_array(_copies_file(job, task[0]), np.stack([numbers[~is_new], firsts[~is_new]], axis=1))
    return {"copies": int(np.count_nonzero(~is_new))}


def load_copies(job: Job) -> Numbers:
    """[copies, 2]: the documents that are copies, in order, and the first document of the same text."""
    parts = [np.load(_copies_file(job, part)) for part, _ in copy_tasks(job).values()]
    copies = np.concatenate(parts)
    return copies[np.argsort(copies[:, 0])]


def distinct_file(job: Job) -> Path:
    """Marks the documents that are no copies."""
    return job.work / "distinct.npy"


def write_buckets(job: Job, task: BandTask) -> Counts:
    """Find the documents that share a band with others; of equal ones only the first takes part.

    Memory: about 60 bytes a hash of the task.
    """
    distinct = np.load(distinct_file(job), mmap_mode="r")
    members, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for band in task.bands:
        hashes, numbers, _ = read_hashes(job, band + 1, task.part, task.parts)
        chosen = are_marked(distinct, numbers)
        found = _buckets(hashes[chosen], numbers[chosen])
        members.append(found[0])
        sizes.append(found[1])
    _save_buckets(job, task, np.concatenate(members), np.concatenate(sizes))
    return {"buckets": int(sum(map(len, sizes)))}


def _buckets(hashes: npt.NDArray[np.uint64], numbers: Numbers) -> tuple[Numbers, Numbers]:
    """The documents with equal hashes, bucket by bucket, each bucket's in order; and the buckets' sizes."""
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    starts = np.flatnonzero(
        np.concatenate([np.ones(min(len(hashes), 1), np.bool_), hashes[1:] != hashes[:-1]])
    )
    sizes = np.diff(starts, append=len(hashes))
    members = numbers[order[np.repeat(sizes > 1, sizes)]]
    sizes = sizes[sizes > 1]
    return _cut(members, sizes) if sizes.max(initial=0) > _LARGEST_PART else (members, sizes)


def _cut(members: Numbers, sizes: Numbers) -> tuple[Numbers, Numbers]:
    """Buckets with too large ones in parts, each with the first document, and the 24 before it: with the same pairs."""
    parts: list[Numbers] = []
    for bucket in np.split(members, np.cumsum(sizes)[:-1]):
        pieces = -(-len(bucket) // _LARGEST_PART)
        edges = [len(bucket) * piece // pieces for piece in range(pieces + 1)]
        parts.append(bucket[: edges[1]])
        for start, end in itertools.pairwise(edges[1:]):
            parts.append(np.concatenate([bucket[:1], bucket[max(1, start - _NEIGHBOURS) : end]]))
    return np.concatenate(parts), np.array(list(map(len, parts)))


# A task's buckets are one array, in the order of their first documents: how many there are; members of buckets by the
# range that the first document is in, of `_RANGES`; first documents; where each one's members start, and the last's
# end; members.


def _buckets_file(job: Job, task: BandTask) -> Path:
    return job.work / "candidates" / f"{task.name}.npy"


def _save_buckets(job: Job, task: BandTask, members: Numbers, sizes: Numbers) -> None:
    starts = np.cumsum(sizes) - sizes
    order = np.argsort(members[starts], kind="stable")
    sizes, ends = sizes[order], np.cumsum(sizes[order])
    members = members[np.repeat(starts[order] - (ends - sizes), sizes) + np.arange(len(members))]
    firsts = members[ends - sizes]
    ranges = np.bincount(firsts * _RANGES // max(job.documents, 1), sizes, _RANGES).astype(np.int64)
    save_array(_buckets_file(job, task), np.concatenate([[len(sizes)], ranges, firsts, [0], ends, members]))


class _BucketsFile:
    def __init__(self, job: Job, task: BandTask) -> None:
        content = np.load(_buckets_file(job, task), mmap_mode="r")
        count = int(content[0])
        self.ranges, self.firsts, self.starts, self.members = np.split(
            content[1:], np.cumsum([_RANGES, count, count + 1])
        )


class PairTask(NamedTuple):
    """The buckets, of some bands, whose first document is in a range; or one of so many equal parts of them."""

    bands: range
    first: int
    end: int
    part: int
    parts: int

    @property
    def name(self) -> str:
        return f"{self.bands.start:05d}-{self.first:012d}-{self.part:05d}"


def waves(job: Job) -> list[range]:
    """The bands in groups that are compared one after the other: what one joins the next ones need not.

    The first is one band, in which a document has one bucket: no two tasks look at the same documents.
    """
    edges = [min(edge, job.settings.bands) for edge in _WAVES]
    return [range(*pair) for pair in itertools.pairwise([*edges, job.settings.bands]) if pair[0] < pair[1]]


def _tasks_of(job: Job, bands: range) -> list[BandTask]:
    return [task for task in band_tasks(job) if task.bands.start in bands]


def pair_tasks(job: Job, bands: range) -> list[PairTask]:
    """Work that is cut by the members of buckets: at most a million or so a task, however large clusters are."""
    members = np.zeros(_RANGES, np.int64)
    for task in _tasks_of(job, bands):
        members += _BucketsFile(job, task).ranges
    limit = min(max(int(members.sum()) // _MOST_TASKS, _LEAST_MEMBERS), _MOST_MEMBERS)
    edges = [-(-edge * job.documents // _RANGES) for edge in range(_RANGES + 1)]
    tasks: list[PairTask] = []
    start = taken = 0
    for index, count in enumerate(members.tolist()):
        if taken and taken + count > limit:
            tasks += _pair_tasks(bands, edges[start], edges[index], taken, limit)
            start, taken = index, 0
        taken += count
    return tasks + _pair_tasks(bands, edges[start], edges[-1], taken, limit)


def _pair_tasks(bands: range, first: int, end: int, members: int, limit: int) -> list[PairTask]:
    parts = -(-members // limit)
    return [PairTask(bands, first, end, part, parts) for part in range(parts)]


def read_buckets(job: Job, task: PairTask) -> tuple[Numbers, Numbers]:
    """The members of a task's buckets, bucket by bucket, and the buckets' sizes."""
    members, sizes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for band_task in _tasks_of(job, task.bands):
        file = _BucketsFile(job, band_task)
        low, high = np.searchsorted(file.firsts, [task.first, task.end])
        if task.parts > 1:
            start, end = file.starts[[low, high]].tolist()
            edges = [start + (end - start) * part // task.parts for part in (task.part, task.part + 1)]
            low, high = low + np.searchsorted(file.starts[low:high], edges)
        starts = file.starts[low : high + 1]
        members.append(np.array(file.members[starts[0] : starts[-1]]))
        sizes.append(np.diff(starts))
    return np.concatenate(members), np.concatenate(sizes)


def rounds(
    members: Numbers, sizes: Numbers, labels: Callable[[], Numbers]
) -> Iterator[tuple[int, Numbers, Numbers]]:
    """The pairs of buckets, as many as there are documents at a time, and none that is settled by then.

    First each document with the first of its bucket, then each with the next one, the next but one, and so on.

    Args:
        members: numbers from 0, bucket by bucket, rising in each.
        sizes: of the buckets.
        labels: says of each number, whenever it is called, where it belongs by now; a pair with one label is settled.

    Yields:
        The round, and first and second members of its different pairs, sorted by first and second.
    """
    place = np.arange(len(members)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    for step in range(max(_LARGEST_BUCKET, _NEIGHBOURS + 1)):
        is_large = sizes > _LARGEST_BUCKET
        known = labels()
        labelled = known[members]
        starts = np.cumsum(sizes) - sizes
        is_open = np.ones(len(sizes), np.bool_)
        if len(sizes):
            is_open = np.minimum.reduceat(labelled, starts) != np.maximum.reduceat(labelled, starts)
        is_open &= (sizes > step + (step > 0)) & (~is_large | (step <= _NEIGHBOURS))
        stays = np.repeat(is_open, sizes)
        members, place, sizes = members[stays], place[stays], sizes[is_open]
        if len(sizes) == 0:
            return
        if step:
            second = np.flatnonzero(place > step)
            first = second - step
        else:
            second = np.flatnonzero(place > 0)
            first = second - place[second]
        first, second = members[first], members[second]
        differ = known[first] != known[second]
        pairs = np.unique(first[differ] * len(known) + second[differ])
        yield step, *np.divmod(pairs, len(known))
