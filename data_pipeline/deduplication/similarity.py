"""Similarity: the normalised texts that are compared, laid out in files by group, and the exact similarity of two of them.

Which pairs are compared, `data_pipeline.deduplication.verification` says.
"""

import functools
import io
import itertools
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from core.files import atomic_write
from data_pipeline.deduplication.job import Job, Numbers, are_marked, mapped
from data_pipeline.deduplication.long_texts import LONG_CHARACTERS, LongText, long_similarity
from data_pipeline.deduplication.minhash import Codes, code_points, jaccard, normalise_all, shingle_hashes
from data_pipeline.engine.documents import read_marked_texts
from data_pipeline.engine.resumable import Counts

_CACHED_BYTES = 1 << 26  # of each kind
_OPEN_FILES = 64


def marks_file(job: Job) -> Path:
    """Marks the documents whose texts are compared."""
    return job.work / "compared.npy"


def write_texts(job: Job, group: int) -> Counts:
    """Lay out the normalised texts of a group that take part in a comparison.

    `texts-…` holds codes of one or four bytes, `places-…` rows of number, offset, bytes, bytes a code.
    """
    marks = np.load(marks_file(job), mmap_mode="r")
    rows = []
    offset = 0
    with atomic_write(job.file("texts", group)) as temporary, temporary.open("wb") as stream:
        for shard in job.groups[group]:
            start, end = job.starts[shard : shard + 2].tolist()
            wanted = are_marked(marks, np.arange(start, end))
            batches = read_marked_texts(Path(job.inputs[shard]), wanted) if wanted.any() else ()
            texts = itertools.chain.from_iterable(map(normalise_all, batches))
            for number, codes in zip((np.flatnonzero(wanted) + start).tolist(), texts, strict=False):
                stream.write(codes.data)
                rows.append((number, offset, codes.nbytes, codes.itemsize))
                offset += codes.nbytes
    with atomic_write(job.file("places", group)) as temporary:
        temporary.write_bytes(np.array(rows, np.int64).reshape(-1, 4).tobytes())
    return {"texts": len(rows), "bytes": offset}


class _Texts:
    """The laid out texts of some documents, named by their places in an array of numbers."""

    def __init__(self, job: Job, numbers: Numbers) -> None:
        self._places = np.zeros((len(numbers), 4), np.int64)  # of each: group, offset, bytes, bytes a code
        for group, chosen in job.by_group(numbers):
            rows = mapped(job.file("places", group)).view(np.int64).reshape(-1, 4)
            self._places[chosen] = rows[np.searchsorted(rows[:, 0], numbers[chosen])]
            assert np.array_equal(self._places[chosen, 0], numbers[chosen])
            self._places[chosen, 0] = group
        self._open = functools.lru_cache(maxsize=_OPEN_FILES)(
            lambda group: io.FileIO(job.file("texts", group), "r")
        )

    def length(self, index: int) -> int:
        """Characters of a normalised text."""
        return int(self._places[index, 2] // self._places[index, 3])

    def read(self, index: int) -> Codes:
        """A normalised text."""
        group, offset, size, width = self._places[index].tolist()
        raw = os.pread(self._open(group).fileno(), size, offset)
        return np.frombuffer(raw, np.uint8 if width == 1 else np.uint32)

    def is_in_bytes(self, index: int) -> bool:
        """Whether a normalised text's codes are bytes of the code page."""
        return bool(self._places[index, 3] == 1)


T = TypeVar("T")


class _Latest(Generic[T]):
    """What was read of documents, the latest used kept, so many bytes of it."""

    def __init__(self, read: Callable[[int], T], size: Callable[[T], int]) -> None:
        self._read = read
        self._size_of = size
        self._kept: OrderedDict[int, T] = OrderedDict()
        self._size = 0

    def __getitem__(self, number: int) -> T:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        value = self._kept[number] = self._read(number)
        self._size += self._size_of(value)
        while self._size > _CACHED_BYTES and len(self._kept) > 2:
            self._size -= self._size_of(self._kept.popitem(last=False)[1])
        return value


class Similarities:
    """Exact similarities of pairs of some documents, named by their places in an array of numbers."""

    def __init__(self, job: Job, numbers: Numbers) -> None:
        texts, shingles = _Texts(job, numbers), job.settings.shingles
        self._texts = texts
        self._sets = _Latest(
            lambda index: shingle_hashes(texts.read(index), shingles), lambda hashes: hashes.nbytes
        )
        self._wide_sets = _Latest(
            lambda index: shingle_hashes(code_points(texts.read(index)), shingles),
            lambda hashes: hashes.nbytes,
        )
        self._long = _Latest(
            lambda index: LongText(code_points(texts.read(index)), shingles), lambda text: text.nbytes
        )

    def of(self, first: int, second: int) -> float:
        texts = self._texts
        if min(texts.length(first), texts.length(second)) > LONG_CHARACTERS:
            return long_similarity(self._long[first], self._long[second])
        both_in_bytes = texts.is_in_bytes(first) and texts.is_in_bytes(second)
        sets = self._sets if both_in_bytes else self._wide_sets
        return jaccard(sets[first], sets[second])
