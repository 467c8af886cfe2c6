"""Clusters: documents that links connect, what becomes of each, and the list of them.

Which documents are linked, `data_pipeline.deduplication.verification` says. The calling process holds arrays of the
documents in clusters alone, and the list is written one cluster at a time.
"""

import io
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.files import atomic_write
from data_pipeline.deduplication.job import Job, Numbers, save_array
from data_pipeline.deduplication.verification import LINK
from data_pipeline.engine.documents import read_ids
from data_pipeline.engine.resumable import Counts

CLUSTERS_FILE = "clusters.jsonl"
KEPT, _EXACT, _NEAR = range(3)
REASONS = {_EXACT: "exact_duplicate", _NEAR: "near_duplicate"}
_DIGITS = 4
_encode = json.JSONEncoder(ensure_ascii=False).encode
_MOST_ID_TASKS = 256
_MEMBERS_AT_ONCE = 4096
_LEAST_IDS, _MOST_IDS = 1 << 15, 1 << 20

Links = npt.NDArray[np.void]  # of the type `LINK`


def removed_file(job: Job) -> Path:
    """What becomes of each document, uint8 [documents]."""
    return job.work / "removed.npy"


class Clusters:
    """All clusters of two and more documents.

    Attributes:
        members: their documents, cluster by cluster, each cluster's in order; the first of each stays.
        starts: where each cluster's members start, and the last one's end; clusters are in the order of their first
            documents.
    """

    def __init__(self, job: Job, copies: Numbers, links: Iterable[Links]) -> None:
        """Connect what is linked, and copies with the first document of the same text: `copies` are rows of both."""
        self._job = job
        self._links = _forest(np.concatenate([np.empty(0, LINK), *links]), job.documents)
        ends = np.concatenate([self._ends(self._links["pair"]), copies])
        everyone, local = np.unique(ends, return_inverse=True)
        labels = _components(local.reshape(-1, 2), len(everyone))
        order = np.argsort(labels, kind="stable")
        self.members = everyone[order]
        self.starts = np.flatnonzero(np.diff(labels[order], prepend=-1, append=len(everyone)))
        self._kept = np.repeat(self.members[self.starts[:-1]], np.diff(self.starts))
        places = np.searchsorted(copies[:, 0], self.members)
        self._firsts = self.members.copy()  # each member's first document of the same text
        is_copy = np.isin(self.members, copies[:, 0], assume_unique=True)
        self._firsts[is_copy] = copies[places[is_copy], 1]

    def _ends(self, pairs: Numbers) -> Numbers:
        """[pairs, 2]: the documents of pairs."""
        return np.stack(np.divmod(pairs, max(self._job.documents, 1)), axis=1)

    def chained_pairs(self) -> Numbers:
        """The pairs, sorted, of a removed document and the one that stays that are not linked themselves."""
        is_near = (self._firsts == self.members) & (self.members != self._kept)
        pairs = np.sort(self._kept[is_near] * self._job.documents + self.members[is_near])
        return np.setdiff1d(pairs, self._links["pair"], assume_unique=True)

    def id_tasks(self) -> dict[str, tuple[int, int]]:
        """Lay out the members for `write_ids`; returns its tasks."""
        save_array(_members_file(self._job), np.sort(self.members))
        size = min(max(-(-len(self.members) // _MOST_ID_TASKS), _LEAST_IDS), _MOST_IDS)
        return {f"{start:012d}": (start, start + size) for start in range(0, len(self.members), size)}

    def write(
        self,
        chained: tuple[Numbers, npt.NDArray[np.float64]],
        id_tasks: Iterable[tuple[int, int]],
    ) -> Counts:
        """Write what becomes of each document, and the list of clusters.

        Args:
            chained: the chained pairs and their similarities.
            id_tasks: those that `write_ids` has done.
        """
        job = self._job
        marks = np.where(self._firsts == self.members, _NEAR, _EXACT).astype(np.uint8)
        marks[self.members == self._kept] = KEPT
        removed = np.zeros(job.documents, np.uint8)
        removed[self.members] = marks
        save_array(removed_file(job), removed)
        similarity = self._similarity_to_kept(chained)
        self._write_list(marks, similarity, _Ids(job, id_tasks))
        by_chain = np.count_nonzero(similarity <= job.settings.threshold)
        return {"clusters": max(len(self.starts) - 1, 0), "removed_by_chain": int(by_chain)}

    def _similarity_to_kept(
        self, chained: tuple[Numbers, npt.NDArray[np.float64]]
    ) -> npt.NDArray[np.float64]:
        """Each member's similarity to the document that stays; a copy's is that of the first of its text."""
        pairs = np.concatenate([self._links["pair"], chained[0]])
        values = np.concatenate([self._links["similarity"], chained[1]])
        order = np.argsort(pairs)
        similarity = np.ones(len(self.members))
        others = self._firsts != self._kept
        wanted = self._kept[others] * self._job.documents + self._firsts[others]
        places = order[np.searchsorted(pairs, wanted, sorter=order)]
        similarity[others] = values[places]
        return similarity

    def _write_list(
        self, marks: npt.NDArray[np.uint8], similarity: npt.NDArray[np.float64], ids: "_Ids"
    ) -> None:
        order = np.argsort(self.members)
        first = self._links["pair"] // max(self._job.documents, 1)
        place = order[np.searchsorted(self.members, first, sorter=order)]
        cluster = np.searchsorted(self.starts, place, side="right") - 1
        links = self._links[np.argsort(cluster, kind="stable")]
        edges = np.searchsorted(np.sort(cluster), np.arange(len(self.starts)))
        with (
            atomic_write(self._job.output / CLUSTERS_FILE) as temporary,
            temporary.open("w", encoding="utf-8") as stream,
        ):
            for first_one, end_one in _together(self.starts):
                rows = slice(self.starts[first_one], self.starts[end_one])
                numbers, kinds, values = self.members[rows].tolist(), marks[rows].tolist(), similarity[rows]
                names = ids.of(self.members[rows])
                rounded = [round(value, _DIGITS) for value in values.tolist()]
                similar = self._similar(
                    links[edges[first_one] : edges[end_one]], dict(zip(numbers, names, strict=True))
                )
                starts = (self.starts[first_one : end_one + 1] - rows.start).tolist()
                link_edges = (edges[first_one : end_one + 1] - edges[first_one]).tolist()
                for (start, end), (low, high) in zip(
                    itertools.pairwise(starts), itertools.pairwise(link_edges), strict=True
                ):
                    removed = slice(start + 1, end)
                    reasons = [REASONS[kind] for kind in kinds[removed]]
                    entry = {
                        "kept": names[start],
                        "removed": dict(zip(names[removed], reasons, strict=True)),
                        "similarity_to_kept": dict(zip(names[removed], rounded[removed], strict=True)),
                        "similar": similar[low:high],
                    }
                    stream.write(_encode(entry) + "\n")

    def _similar(self, links: Links, names: dict[int, str]) -> list[list[Any]]:
        ends, values = self._ends(links["pair"]).tolist(), links["similarity"].tolist()
        rows = zip(ends, values, strict=True)
        return [[names[one], names[other], round(value, _DIGITS)] for (one, other), value in rows]


def _together(starts: Numbers) -> Iterator[tuple[int, int]]:
    """Ranges of clusters of a few thousand members, or of one cluster with more."""
    first = 0
    while first < len(starts) - 1:
        end = int(np.searchsorted(starts, starts[first] + _MEMBERS_AT_ONCE, side="right")) - 1
        yield first, max(end, first + 1)
        first = max(end, first + 1)


def _forest(links: Links, documents: int) -> Links:
    """Links without those that join what earlier ones do, by their order; sorted by pair."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    if len(links) == 0:
        return links
    links = links[np.lexsort((links["pair"], links["order"]))]
    ends = np.stack(np.divmod(links["pair"], documents), axis=1)
    everyone, local = np.unique(ends, return_inverse=True)
    first, second = local.reshape(-1, 2).T
    _, once = np.unique(links["pair"], return_index=True)  # of a pair that several tasks found the first
    shape = (len(everyone), len(everyone))
    graph = coo_matrix((once + 1.0, (first[once], second[once])), shape=shape).tocsr()
    chosen = minimum_spanning_tree(graph).data.astype(np.int64) - 1
    return np.sort(links[chosen], order="pair")


def _components(edges: Numbers, count: int) -> Numbers:
    """What each of so many is connected with: the number of the component, in the order of their first members."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, firsts, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(firsts))[inverse]


def _members_file(job: Job) -> Path:
    return job.work / "members.npy"


def _ids_files(job: Job, task: tuple[int, int]) -> tuple[Path, Path]:
    folder = job.work / "ids"
    return folder / f"ids-{task[0]:012d}.bin", folder / f"ends-{task[0]:012d}.npy"


def write_ids(job: Job, task: tuple[int, int]) -> Counts:
    """Write the ids of some of the members, in the order of their numbers, and where each one ends."""
    members = np.array(np.load(_members_file(job), mmap_mode="r")[slice(*task)])
    content, ends = _ids_files(job, task)
    sizes = []
    with atomic_write(content) as temporary, temporary.open("wb") as stream:
        for shard, chosen in job.by_shard(members):
            names = read_ids(Path(job.inputs[shard]))
            for place in (members[chosen] - job.starts[shard]).tolist():
                sizes.append(stream.write(names[place].encode()))
    save_array(ends, np.cumsum(sizes, dtype=np.int64))
    return {"ids": len(sizes)}


class _Ids:
    """The ids of members, left on the disk."""

    def __init__(self, job: Job, tasks: Iterable[tuple[int, int]]) -> None:
        self._members = np.load(_members_file(job), mmap_mode="r")
        path = job.work / "ids.bin"
        ends = [np.zeros(1, np.int64)]
        with path.open("wb") as joined:
            for content, sizes in (_ids_files(job, task) for task in tasks):
                ends.append(np.load(sizes) + ends[-1][-1])
                with content.open("rb") as part:
                    shutil.copyfileobj(part, joined)
        self._ends = np.concatenate(ends)
        self._stream = io.FileIO(path, "r")

    def of(self, numbers: Numbers) -> list[str]:
        """The ids of some members."""
        places = np.searchsorted(self._members, numbers)
        spans = zip(self._ends[places].tolist(), self._ends[places + 1].tolist(), strict=True)
        handle = self._stream.fileno()
        return [os.pread(handle, end - start, start).decode() for start, end in spans]
