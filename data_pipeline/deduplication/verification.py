"""Comparison: which candidates are alike, by the exact Jaccard similarity of their texts.

Short signatures say which documents can be like another one; the normalised texts of those are laid out (`similarity`).
Then the pairs of each task's buckets are compared, turn by turn and round by round, and a pair whose documents are joined
already, by others that are alike, is left out: among n documents that are alike, about n pairs are compared, whatever n.
What is found are links, a forest: at most one a document. Where several tasks join the same documents,
`data_pipeline.deduplication.clusters` takes the links that come first, by turns, rounds and documents, so the links of a
corpus do not depend on how the work was cut. Candidates come from `data_pipeline.deduplication.candidates`.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.deduplication.candidates import PairTask, pair_tasks, read_buckets, rounds, waves
from data_pipeline.deduplication.job import Bits, Job, Numbers, are_marked, mapped, save_array
from data_pipeline.deduplication.minhash import estimated_jaccard
from data_pipeline.deduplication.similarity import Similarities, marks_file
from data_pipeline.engine.resumable import Counts

_ESTIMATE_MARGIN = 0.15  # at 256 values an estimate is off by 0.03, so five times that
_ESTIMATED_AT_ONCE = 1 << 14
_MOST_ROUNDS = 1 << 10
_MOST_CHAIN_TASKS = 256
_LEAST_CHAINED, _MOST_CHAINED = 1 << 11, 1 << 16

# Where a link comes, by turns and rounds; first · documents + second; exact similarity.
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


class Forest:
    """Which of so many things are joined."""

    def __init__(self, labels: Numbers) -> None:
        """Things with one label are joined; a label is the least of them."""
        self._above = labels.tolist()
        self._labels: Numbers | None = labels

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
        self._labels = None

    def labels(self) -> Numbers:
        """Of each thing the least that it is joined with."""
        if self._labels is None:
            above = np.array(self._above, np.int64)
            while not np.array_equal(higher := above[above], above):
                above = higher
            self._labels = above
        return self._labels


class Turn(NamedTuple):
    """What is compared before what comes later: the pairs, in buckets of some bands, of a range of estimates.

    Attributes:
        number: from 0, in order.
    """

    number: int
    bands: range
    low: float
    high: float

    @property
    def name(self) -> str:
        return f"{self.number:02d}"


def turns(job: Job) -> list[Turn]:
    """Wave by wave the pairs that are estimated to be alike, then, of all bands, those that may be all the same: hardly
    any, for what is alike is joined by then."""
    threshold, everything = job.settings.threshold, range(job.settings.bands)
    found = [(bands, threshold, math.inf) for bands in waves(job)]
    found.append((everything, _least_estimate(job), threshold))
    return [Turn(number, *turn) for number, turn in enumerate(found)]


class Comparison(NamedTuple):
    """A part of a turn."""

    turn: Turn
    task: PairTask

    @property
    def name(self) -> str:
        return f"{self.turn.name}-{self.task.name}"


def comparisons(job: Job, turn: Turn) -> dict[str, Comparison]:
    """The tasks of a turn, by name."""
    return {found.name: found for found in (Comparison(turn, task) for task in pair_tasks(job, turn.bands))}


def links_file(job: Job, comparison: Comparison) -> Path:
    """The links of a task, of the type `LINK`."""
    return job.work / "links" / f"{comparison.name}.npy"


def compare(job: Job, comparison: Comparison) -> Counts:
    """Write a task's links: pairs above the threshold that join what no earlier ones do, with their similarity."""
    turn, task = comparison
    members, sizes = _likely_buckets(job, *read_buckets(job, task))
    documents, local = np.unique(members, return_inverse=True)
    is_likely = are_marked(_marks(job), documents)
    similarities = Similarities(job, documents[is_likely])
    index = np.cumsum(is_likely) - 1
    forest = Forest(_joined_before(job, turn, documents))
    links: list[tuple[int, int, float]] = []
    compared = 0
    for step, first, second in _likely_pairs(job, turn, documents, is_likely, (local, sizes), forest.labels):
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            if forest.are_joined(one, other):
                continue
            compared += 1
            similarity = similarities.of(int(index[one]), int(index[other]))
            if similarity > job.settings.threshold:
                forest.join(one, other)
                links.append(
                    (
                        turn.number * _MOST_ROUNDS + step,
                        int(documents[one]) * job.documents + int(documents[other]),
                        similarity,
                    )
                )
    save_array(links_file(job, comparison), np.array(links, LINK))
    return {"compared": compared, "links": len(links)}


def _joined_file(job: Job, turn: Turn) -> Path:
    return job.work / "joined" / f"before-{turn.name}.npy"


def write_joined(job: Job, turn: Turn, links: npt.NDArray[np.void]) -> None:
    """Lay out what earlier turns joined, for the tasks of one: documents in order, and the least each is joined with."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.stack(np.divmod(links["pair"], max(job.documents, 1)), axis=1)
    members, local = np.unique(ends, return_inverse=True)
    first, second = local.reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), (len(members), len(members)))
    labels = connected_components(graph, directed=False)[1] if len(members) else members
    _, firsts, inverse = np.unique(labels, return_index=True, return_inverse=True)
    save_array(_joined_file(job, turn), np.stack([members, members[firsts][inverse]]))


def _joined_before(job: Job, turn: Turn, documents: Numbers) -> Numbers:
    """Of each of some documents, as a place among them, the least one that earlier turns joined it with."""
    members, labels = np.load(_joined_file(job, turn), mmap_mode="r")
    least = documents.copy()
    if len(members):
        places = np.minimum(np.searchsorted(members, documents), len(members) - 1)
        known = members[places] == documents
        least[known] = labels[places[known]]
    _, firsts, inverse = np.unique(least, return_index=True, return_inverse=True)
    return firsts[inverse]


def _likely_pairs(
    job: Job,
    turn: Turn,
    documents: Numbers,
    is_likely: npt.NDArray[np.bool_],
    buckets: tuple[Numbers, Numbers],
    labels: Callable[[], Numbers],
) -> Iterator[tuple[int, Numbers, Numbers]]:
    """The pairs of a turn that are to be compared, round by round, each once.

    Yields:
        The round, and first and second members, as places in `documents`.
    """
    count = max(len(documents), 1)
    seen = np.empty(0, np.int64)
    for step, first, second in rounds(*buckets, labels):
        pairs = (first * count + second)[is_likely[first] & is_likely[second]]
        pairs = np.setdiff1d(pairs, seen, assume_unique=True)
        first, second = np.divmod(pairs, count)
        estimates = _estimates(job, documents[first], documents[second])
        pairs = pairs[(turn.low < estimates) & (estimates <= turn.high)]
        seen = np.sort(np.concatenate([seen, pairs]))
        yield step, *_cluster_by_cluster(*np.divmod(pairs, count), labels())


def _cluster_by_cluster(first: Numbers, second: Numbers, labels: Numbers) -> tuple[Numbers, Numbers]:
    """Pairs in groups that can join nothing of each other, so that the texts of a group stay at hand; each in order."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    known, ends = np.unique(labels[np.stack([first, second])], return_inverse=True)
    ends = ends.reshape(2, -1)
    edges = np.ones(len(first), np.int8), (ends[0], ends[1])
    _, groups = connected_components(coo_matrix(edges, (len(known), len(known))), directed=False)
    order = np.argsort(groups[ends[0]], kind="stable")
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
    similarities = Similarities(job, documents)
    values = [similarities.of(one, other) for one, other in local.reshape(-1, 2).tolist()]
    save_array(_measured_file(job, task), np.array(values, np.float64))
    return {"compared": len(pairs)}


def _measured_file(job: Job, task: tuple[int, int]) -> Path:
    return job.work / "chains" / f"similarities-{task[0]:012d}.npy"


def load_chained(job: Job, tasks: dict[str, tuple[int, int]]) -> tuple[Numbers, npt.NDArray[np.float64]]:
    """The pairs that `write_chained` laid out, and their similarities."""
    values = [np.empty(0), *(np.load(_measured_file(job, task)) for task in tasks.values())]
    return np.load(_chained_file(job)), np.concatenate(values)


def load_links(job: Job, tasks: Iterable[Comparison]) -> Iterator[npt.NDArray[np.void]]:
    """The links of each task, of the type `LINK`."""
    return (np.load(links_file(job, task)) for task in tasks)
