"""What the steps of deduplication share: settings, the numbering of documents, where work files are, how workers get it.

A document's number counts all documents of all input shards in order. Consecutive input shards are a group; whatever
their number there are at most 512 groups, and each kind of work file exists once a group, so that a step opens a bounded
number of files. The steps live in `data_pipeline.deduplication.deduplication`, `signatures`, `candidates`,
`verification` and `clusters`.
"""

import functools
import hashlib
import json
import mmap
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from core.files import atomic_write, canonical_json
from data_pipeline.engine.resumable import Counts
from data_pipeline.settings import DeduplicationSettings

Numbers = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]
Task = TypeVar("Task")
WorkFile = Literal["hashes", "short", "texts", "places"]

_MOST_GROUPS = 512


@dataclass(frozen=True)
class Job:
    """What every step needs.

    Attributes:
        inputs: paths of the document shards.
        output: the stage's directory.
        starts: the number of the first document of each input shard, then the number of documents.
    """

    inputs: tuple[str, ...]
    output: Path
    settings: DeduplicationSettings
    starts: Numbers = field(default_factory=lambda: np.zeros(1, np.int64))

    @functools.cached_property
    def documents(self) -> int:
        return int(self.starts[-1])

    @property
    def work(self) -> Path:
        return self.output / ".work"

    @functools.cached_property
    def groups(self) -> list[range]:
        """The input shards of each group."""
        count = len(self.inputs)
        size = max(1, -(-count // _MOST_GROUPS))
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    @functools.cached_property
    def group_starts(self) -> Numbers:
        """The number of the first document of each group, then the number of documents."""
        return self.starts[[*(group.start for group in self.groups), len(self.inputs)]]

    def file(self, kind: WorkFile, group: int) -> Path:
        """A work file of a group."""
        return self.work / "groups" / f"{kind}-{group:05d}"

    def by_group(self, numbers: Numbers) -> list[tuple[int, Numbers]]:
        """The groups that some documents are in, and where in `numbers` each one's are."""
        groups = np.searchsorted(self.group_starts, numbers, side="right") - 1
        return _split(groups)

    def by_shard(self, numbers: Numbers) -> list[tuple[int, Numbers]]:
        """The same for input shards."""
        return _split(np.searchsorted(self.starts, numbers, side="right") - 1)


def _split(owners: Numbers) -> list[tuple[int, Numbers]]:
    order = np.argsort(owners, kind="stable")
    names, firsts = np.unique(owners[order], return_index=True)
    return list(zip(names.tolist(), np.split(order, firsts[1:]), strict=True)) if len(order) else []


class JobFile(NamedTuple):
    """Where a job is written down, and the hash of it, which tells it from another one at that place."""

    path: Path
    digest: str


def _job_file(job: Job) -> Path:
    return job.work / "job.json"


def share(job: Job) -> None:
    """Write a job down for the workers: each reads it once, and tasks name it alone."""
    content = {"inputs": job.inputs, "starts": job.starts.tolist(), "settings": asdict(job.settings)}
    with atomic_write(_job_file(job)) as temporary:
        temporary.write_text(canonical_json(content), encoding="utf-8")


def shared(job: Job) -> JobFile:
    """What was written down last."""
    path = _job_file(job)
    return JobFile(path, hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "")


@functools.lru_cache(maxsize=1)
def _load(file: JobFile) -> Job:
    facts = json.loads(file.path.read_bytes())
    settings = DeduplicationSettings(**facts["settings"])
    starts = np.array(facts["starts"], np.int64)
    return Job(tuple(facts["inputs"]), file.path.parent.parent, settings, starts)


def on_job(function: Callable[[Job, Task], Counts], file: JobFile, task: Task) -> Counts:
    """Call a step's function with the job that is written down."""
    return function(_load(file), task)


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array atomically as `.npy`."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)


def mapped(path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes, mapped into memory."""
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def save_bits(path: Path, marks: npt.NDArray[np.bool_]) -> None:
    """Write marks of documents, a bit each."""
    save_array(path, np.packbits(marks))


def are_marked(bits: Bits, numbers: Numbers) -> npt.NDArray[np.bool_]:
    """Which documents are marked in what `save_bits` wrote."""
    return (bits[numbers >> 3] >> (7 - (numbers & 7)).astype(np.uint8) & 1).astype(np.bool_)
