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

from data_pipeline.deduplication.minhash import Shingles
from data_pipeline.engine.artifacts import atomic_write

Numbers = npt.NDArray[np.int64]

_LARGEST_SHINGLE = 100
_BLOCK_DOCUMENTS = 10_000
_BLOCK_SHARDS = 16
_MOST_BLOCKS = 256


@dataclass(frozen=True)
class DeduplicationSettings:
    """What counts as a near duplicate, and how it is looked for.

    Attributes:
        shingle, shingle_size: what is compared: runs of so many characters or words.
        threshold: documents with a greater Jaccard similarity are duplicates.
        permutations: values of a signature, a power of two.
        bands: bands of a signature; documents that agree in one are compared exactly. 32 bands of 8 values find
            a pair of similarity 0.7 with probability 0.85, one of 0.8 with 0.997.
    """

    shingle: Literal["character", "word"] = "character"
    shingle_size: int = 5
    threshold: float = 0.7
    permutations: int = 256
    bands: int = 32

    def __post_init__(self) -> None:
        errors = []
        if self.shingle not in ("character", "word"):
            errors.append(f'shingle = {self.shingle!r} must be "character" or "word"')
        if not 1 <= self.shingle_size <= _LARGEST_SHINGLE:
            errors.append(f"shingle_size = {self.shingle_size} must be 1 to {_LARGEST_SHINGLE}")
        if self.bands < 1:
            errors.append(f"bands = {self.bands} must be at least 1")
        elif self.permutations < 1 or self.permutations % self.bands:
            errors.append(f"permutations = {self.permutations} must be a multiple of bands = {self.bands}")
        if not 1 <= self.permutations <= 1 << 16 or self.permutations & (self.permutations - 1):
            errors.append(f"permutations = {self.permutations} must be a power of two, at most 65536")
        if not 0 < self.threshold <= 1:
            errors.append(f"threshold = {self.threshold} must be above 0 and at most 1")
        if errors:
            raise ValueError("deduplicate: " + "; ".join(errors))

    @property
    def shingles(self) -> Shingles:
        return Shingles(self.shingle, self.shingle_size)


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
