"""What the steps of deduplication share: settings, the numbering of documents, and where work files are.

A document's number counts all documents of all input shards in order. The steps live in `data_pipeline.deduplication.deduplication`,
`candidates` and `verification`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.files import atomic_write
from data_pipeline.settings import DeduplicationSettings

Numbers = npt.NDArray[np.int64]

_LARGEST_SHINGLE = 100
_BLOCK_DOCUMENTS = 10_000
_BLOCK_SHARDS = 16
_MOST_BLOCKS = 256


@dataclass(frozen=True)
class Job:
    """What every step needs.

    Attributes:
        inputs: document shards.
        output: the stage's directory.
        starts: the number of the first document of each input shard, then the number of documents.
    """

    inputs: tuple[Path, ...]
    output: Path
    settings: DeduplicationSettings
    starts: tuple[int, ...] = ()

    @property
    def documents(self) -> int:
        return self.starts[-1]

    @property
    def work(self) -> Path:
        return self.output / ".work"

    def signature_file(self, kind: Literal["exact", "bands", "short"], shard: int) -> Path:
        return self.work / "signatures" / f"{kind}-{shard:05d}.npy"

    def shards_of(self, numbers: Numbers) -> Numbers:
        """The input shard of each document."""
        return np.searchsorted(np.array(self.starts), numbers, side="right") - 1

    def blocks(self) -> list[range]:
        """Consecutive input shards that are worked on as one: enough to be worth a task, and at most 256 blocks."""
        documents = max(_BLOCK_DOCUMENTS, self.documents // _MOST_BLOCKS)
        shards = max(_BLOCK_SHARDS, -(-len(self.inputs) // _MOST_BLOCKS))
        return list(_blocks(self.starts, documents, shards))


def _blocks(starts: tuple[int, ...], documents: int, shards: int) -> Iterator[range]:
    first = 0
    for end in range(1, len(starts)):
        if starts[end] - starts[first] >= documents or end - first >= shards or end == len(starts) - 1:
            yield range(first, end)
            first = end


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array atomically as `.npy`."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)
