"""Comparison: which candidates are alike, by the exact Jaccard similarity of their texts.

Short signatures say which documents can be like another one; the normalised texts of those are laid out. Then the pairs
of each task's buckets are compared, wave by wave of bands and round by round, and a pair whose documents are joined
already, by others that are alike, is left out: among n documents that are alike, about n pairs are compared, whatever n.
What is found are links, a forest: at most one a document. Where several tasks join the same documents,
`data_pipeline.deduplication.clusters` takes the links that come first, by waves, estimates, rounds and documents, so the
links of a corpus do not depend on how the work was cut. Candidates come from `data_pipeline.deduplication.candidates`.
"""

import functools
import io
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from core.files import atomic_write
from data_pipeline.deduplication.candidates import PairTask, read_buckets, rounds
from data_pipeline.deduplication.job import Bits, Job, Numbers, are_marked, mapped, save_array
from data_pipeline.deduplication.long_texts import LONG_CHARACTERS, LongText, long_similarity
from data_pipeline.deduplication.minhash import (
    Codes,
    estimated_jaccard,
    jaccard,
    normalise,
    shingle_hashes,
)
from data_pipeline.engine.documents import read_texts
from data_pipeline.engine.resumable import Counts

_ESTIMATE_MARGIN = 0.15  # at 256 values an estimate is off by 0.03, so five times that
_ESTIMATED_AT_ONCE = 1 << 14
_MOST_ROUNDS = 1 << 10
_CACHED_BYTES = 1 << 27
_OPEN_FILES = 64
_MOST_CHAIN_TASKS = 256
_LEAST_CHAINED, _MOST_CHAINED = 1 << 11, 1 << 16

# Where a link comes, by estimates and rounds; first · documents + second; exact similarity.
LINK = np.dtype([("order", "<i8"), ("pair", "<i8"), ("similarity", "<f8")])


def likely_file(job: Job, task: PairTask) -> Path:
    """The numbers of a task's documents that may be like another one, in order."""
    return job.work / "likely" / f"{task.name}.npy"


def write_likely(job: Job, task: PairTask) -> Counts:
    """Find the documents of a task of which a candidate pair is not ruled out by its short signatures."""
    members, sizes = read_buckets(job, task)
    documents, local = np.unique(members, return_inverse=True)
    marks = np.zeros(len(documents), np.bool_)
    numbers = np.arange(len(documents))
    for _, first, second in rounds(local, sizes, lambda: np.where(marks, -1, numbers)):
        likely = _estimates(job, documents[first], documents[second]) > _least_estimate(job)
        marks[first[likely]] = marks[second[likely]] = True
    save_array(likely_file(job, task), documents[marks])
    return {"documents": len(documents), "likely": int(marks.sum())}


def _estimates(job: Job, first: Numbers, second: Numbers) -> npt.NDArray[np.float64]:
    """The similarity of pairs by their short signatures."""
    result = np.empty(len(first))
    for start in range(0, len(first), _ESTIMATED_AT_ONCE):
        part = slice(start, start + _ESTIMATED_AT_ONCE)
        result[part] = estimated_jaccard(_short(job, first[part]), _short(job, second[part]))
    return result


def _least_estimate(job: Job) -> float:
    """From where on a pair is compared exactly."""
    return job.settings.threshold - _ESTIMATE_MARGIN


def _short(job: Job, numbers: Numbers) -> npt.NDArray[np.uint8]:
    """Short signatures of some documents, [documents, values]."""
    values = job.settings.permutations
    result = np.empty((len(numbers), values), np.uint8)
    for group, chosen in job.by_group(numbers):
        short = mapped(job.file("short", group)).reshape(-1, values)
        result[chosen] = short[numbers[chosen] - job.group_starts[group]]
    return result


def marks_file(job: Job) -> Path:
    """Marks the documents whose texts are compared."""
    return job.work / "compared.npy"


def write_texts(job: Job, group: int) -> Counts:
    """Lay out the normalised texts of a group that take part in a comparison.

    `texts-…` holds code points of one or four bytes, `places-…` rows of number, offset, bytes, bytes a code.
    """
    marks = np.load(marks_file(job), mmap_mode="r")
    rows = []
    offset = 0
    with atomic_write(job.file("texts", group)) as temporary, temporary.open("wb") as stream:
        for shard in job.groups[group]:
            start, end = job.starts[shard : shard + 2].tolist()
            wanted = are_marked(marks, np.arange(start, end)).tolist()
            texts = read_texts(Path(job.inputs[shard])) if any(wanted) else iter(())
            for number, (is_wanted, text) in enumerate(zip(wanted, texts, strict=False), start):
                if is_wanted:
                    codes = normalise(text)
                    stream.write(codes.tobytes())
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
        stream = self._open(group)
        stream.seek(offset)
        raw = stream.read(size)
        return np.frombuffer(raw, np.uint8 if width == 1 else np.uint32)


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


class _Similarities:
    """Exact similarities of pairs of some documents, named by their places in an array of numbers."""

    def __init__(self, job: Job, numbers: Numbers) -> None:
        texts, shingles = _Texts(job, numbers), job.settings.shingles
        self._length = texts.length
        self._sets = _Latest(
            lambda index: shingle_hashes(texts.read(index), shingles), lambda hashes: hashes.nbytes
        )
        self._long = _Latest(lambda index: LongText(texts.read(index), shingles), lambda text: text.nbytes)

    def of(self, first: int, second: int) -> float:
        if min(self._length(first), self._length(second)) > LONG_CHARACTERS:
            return long_similarity(self._long[first], self._long[second])
        return jaccard(self._sets[first], self._sets[second])


class Forest:
    """Which of so many things are joined."""

    def __init__(self, labels: Numbers) -> None:
        """Things with one label are joined; a label is the least of them."""
        self._above = labels.tolist()

    def _top(self, thing: int) -> int:
        above = self._above
        while above[thing] != thing:
            above[thing] = thing = above[above[thing]]
        return thing

    def are_joined(self, first: int, second: int) -> bool:
        return self._top(first) == self._top(second)

    def join(self, first: int, second: int) -> None:
        one, other = sorted((self._top(first), self._top(second)))
        self._above[other] = one

    def labels(self) -> Numbers:
        """Of each thing the least that it is joined with."""
        above = np.array(self._above, np.int64)
        while not np.array_equal(higher := above[above], above):
            above = higher
        return above


def links_file(job: Job, task: PairTask) -> Path:
    """The links of a task, of the type `LINK`."""
    return job.work / "links" / f"{task.name}.npy"


def compare(job: Job, task: PairTask) -> Counts:
    """Write a task's links: pairs above the threshold that join what no earlier ones do, with their similarity."""
    members, sizes = _likely_buckets(job, *read_buckets(job, task))
    documents, local = np.unique(members, return_inverse=True)
    is_likely = are_marked(_marks(job), documents)
    similarities = _Similarities(job, documents[is_likely])
    index = np.cumsum(is_likely) - 1
    forest = Forest(_joined_before(job, task, documents))
    links: list[tuple[int, int, float]] = []
    compared = 0
    for order, first, second in _likely_pairs(job, documents, is_likely, (local, sizes), forest.labels):
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            if forest.are_joined(one, other):
                continue
            compared += 1
            similarity = similarities.of(int(index[one]), int(index[other]))
            if similarity > job.settings.threshold:
                forest.join(one, other)
                links.append(
                    (
                        task.bands.start * 2 * _MOST_ROUNDS + order,
                        int(documents[one]) * job.documents + int(documents[other]),
                        similarity,
                    )
                )
    save_array(links_file(job, task), np.array(links, LINK))
    return {"compared": compared, "links": len(links)}


def _joined_file(job: Job, bands: range) -> Path:
    return job.work / "joined" / f"before-{bands.start:05d}.npy"


def write_joined(job: Job, bands: range, links: npt.NDArray[np.void]) -> None:
    """Lay out what earlier waves joined, for the tasks of one: documents in order, and the least each is joined with."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.stack(np.divmod(links["pair"], max(job.documents, 1)), axis=1)
    members, local = np.unique(ends, return_inverse=True)
    first, second = local.reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), (len(members), len(members)))
    labels = connected_components(graph, directed=False)[1] if len(members) else members
    _, firsts, inverse = np.unique(labels, return_index=True, return_inverse=True)
    save_array(_joined_file(job, bands), np.stack([members, members[firsts][inverse]]))


def _joined_before(job: Job, task: PairTask, documents: Numbers) -> Numbers:
    """Of each of some documents, as a place among them, the least one that earlier waves joined it with."""
    members, labels = np.load(_joined_file(job, task.bands), mmap_mode="r")
    least = documents.copy()
    if len(members):
        places = np.minimum(np.searchsorted(members, documents), len(members) - 1)
        known = members[places] == documents
        least[known] = labels[places[known]]
    _, firsts, inverse = np.unique(least, return_index=True, return_inverse=True)
    return firsts[inverse]


def _likely_pairs(
    job: Job,
    documents: Numbers,
    is_likely: npt.NDArray[np.bool_],
    buckets: tuple[Numbers, Numbers],
    labels: Callable[[], Numbers],
) -> Iterator[tuple[int, Numbers, Numbers]]:
    """The pairs to compare: round by round those that are estimated to be alike, then those that may be all the same.

    Yields:
        Where they come in the order of links, and first and second members, as places in `documents`.
    """
    threshold, count = job.settings.threshold, max(len(documents), 1)
    seen = np.empty(0, np.int64)
    for turn, (low, high) in enumerate(((threshold, math.inf), (_least_estimate(job), threshold))):
        for step, first, second in rounds(*buckets, labels):
            pairs = (first * count + second)[is_likely[first] & is_likely[second]]
            pairs = np.setdiff1d(pairs, seen, assume_unique=True)
            first, second = np.divmod(pairs, count)
            estimates = _estimates(job, documents[first], documents[second])
            pairs = pairs[(low < estimates) & (estimates <= high)]
            seen = np.sort(np.concatenate([seen, pairs]))
            yield turn * _MOST_ROUNDS + step, *_cluster_by_cluster(*np.divmod(pairs, count), labels())


def _cluster_by_cluster(first: Numbers, second: Numbers, labels: Numbers) -> tuple[Numbers, Numbers]:
    """Pairs in groups that can join nothing of each other, so that the texts of a group stay at hand; each in order."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.ones(len(first), np.int8), (labels[first], labels[second])
    _, groups = connected_components(coo_matrix(edges, (len(labels), len(labels))), directed=False)
    order = np.argsort(groups[labels[first]], kind="stable")
    return first[order], second[order]


def _marks(job: Job) -> Bits:
    marks: Bits = np.load(marks_file(job), mmap_mode="r")
    return marks


def _likely_buckets(job: Job, members: Numbers, sizes: Numbers) -> tuple[Numbers, Numbers]:
    """Without the buckets of which fewer than two documents may be like another one."""
    if len(sizes) == 0:
        return members, sizes
    likely = np.add.reduceat(are_marked(_marks(job), members).astype(np.int64), np.cumsum(sizes) - sizes)
    return members[np.repeat(likely > 1, sizes)], sizes[likely > 1]


# Pairs of which the similarity is wanted, whatever it is: of documents that are removed by a chain of others.


def _chained_file(job: Job) -> Path:
    return job.work / "chained.npy"


def write_chained(job: Job, pairs: Numbers) -> dict[str, tuple[int, int]]:
    """Lay out sorted pairs of documents whose texts are laid out; returns tasks for `measure_chained`."""
    save_array(_chained_file(job), pairs)
    size = min(max(-(-len(pairs) // _MOST_CHAIN_TASKS), _LEAST_CHAINED), _MOST_CHAINED)
    return {f"{start:012d}": (start, start + size) for start in range(0, len(pairs), size)}


def measure_chained(job: Job, task: tuple[int, int]) -> Counts:
    """Write the similarity of each of some of the pairs that `write_chained` laid out."""
    pairs = np.array(np.load(_chained_file(job), mmap_mode="r")[slice(*task)])
    ends = np.stack(np.divmod(pairs, job.documents), axis=1)
    documents, local = np.unique(ends, return_inverse=True)
    similarities = _Similarities(job, documents)
    values = [similarities.of(one, other) for one, other in local.reshape(-1, 2).tolist()]
    save_array(_measured_file(job, task), np.array(values, np.float64))
    return {"compared": len(pairs)}


def _measured_file(job: Job, task: tuple[int, int]) -> Path:
    return job.work / "chains" / f"similarities-{task[0]:012d}.npy"


def load_chained(job: Job, tasks: dict[str, tuple[int, int]]) -> tuple[Numbers, npt.NDArray[np.float64]]:
    """The pairs that `write_chained` laid out, and their similarities."""
    values = [np.empty(0), *(np.load(_measured_file(job, task)) for task in tasks.values())]
    return np.load(_chained_file(job)), np.concatenate(values)


def load_links(job: Job, tasks: Iterable[PairTask]) -> Iterator[npt.NDArray[np.void]]:
    """The links of each task, of the type `LINK`."""
    return (np.load(links_file(job, task)) for task in tasks)
