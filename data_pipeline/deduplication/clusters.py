"""Clusters: documents that similar pairs connect, what becomes of each, and the list of them.

Which pairs are similar, `data_pipeline.deduplication.verification` says.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.files import atomic_write
from data_pipeline.deduplication import verification
from data_pipeline.deduplication.job import Job, Numbers, save_array
from data_pipeline.engine.documents import read_ids
from data_pipeline.engine.resumable import Counts

CLUSTERS_FILE = "clusters.jsonl"
KEPT, _EXACT, _NEAR = range(3)
REASONS = {_EXACT: "exact_duplicate", _NEAR: "near_duplicate"}
_DIGITS = 4


def removed_file(job: Job, shard: int) -> Path:
    """What becomes of each document of a shard, uint8 [documents]."""
    return job.work / "removed" / f"removed-{shard:05d}.npy"


class Clusters:
    """All clusters of two and more documents.

    Attributes:
        members: their documents, cluster by cluster, each cluster's in order; the first of each stays.
        labels: each member's cluster.
        kept: each member's document that stays.
    """

    def __init__(self, job: Job, firsts: Numbers) -> None:
        """Connect similar documents, and copies with the first document of the same text, which is in `firsts`."""
        self._job = job
        self._firsts = firsts
        self._pairs, self._similarities = verification.load_links(job, "links")
        copies = np.flatnonzero(firsts != np.arange(len(firsts)))
        links = np.concatenate([self._ends(self._pairs), np.stack([firsts[copies], copies], axis=1)])
        members, labels = _components(links)
        order = np.argsort(labels, kind="stable")
        self.members, self.labels = members[order], labels[order]
        starts = np.flatnonzero(np.diff(self.labels, prepend=-1))
        self.kept = np.repeat(self.members[starts], np.diff([*starts, len(members)]))

    def _ends(self, pairs: Numbers) -> Numbers:
        """[pairs, 2]: the documents of pairs."""
        return np.stack(np.divmod(pairs, max(self._job.documents, 1)), axis=1)

    def chained_pairs(self) -> Numbers:
        """The pairs, sorted, of a removed document and the one that stays that are not linked themselves."""
        is_near = (self._firsts[self.members] == self.members) & (self.members != self.kept)
        pairs = np.sort(self.kept[is_near] * self._job.documents + self.members[is_near])
        return np.setdiff1d(pairs, self._pairs, assume_unique=True)

    def write(self) -> Counts:
        """Write the list of clusters, and what each shard has to leave out, once the chained pairs are measured."""
        removed = np.zeros(self._job.documents, np.uint8)
        is_first = self._firsts[self.members] == self.members
        removed[self.members] = np.where(self.members == self.kept, KEPT, np.where(is_first, _NEAR, _EXACT))
        for shard, (start, end) in enumerate(itertools.pairwise(self._job.starts)):
            save_array(removed_file(self._job, shard), removed[start:end])
        similarity = self._similarity_to_kept()
        self._write_list(removed, similarity)
        chained = similarity <= self._job.settings.threshold
        return {"clusters": len(np.unique(self.labels)), "removed_by_chain": int(np.count_nonzero(chained))}

    def _similarity_to_kept(self) -> npt.NDArray[np.float64]:
        """Each member's similarity to the document that stays; a copy's is that of the first of its text."""
        chained, values = verification.load_links(self._job, "chains")
        pairs = np.concatenate([self._pairs, chained])
        order = np.argsort(pairs)
        firsts = self._firsts[self.members]
        similarity = np.ones(len(firsts))
        others = firsts != self.kept
        wanted = self.kept[others] * self._job.documents + firsts[others]
        places = order[np.searchsorted(pairs, wanted, sorter=order)]
        similarity[others] = np.concatenate([self._similarities, values])[places]
        return similarity

    def _write_list(self, removed: npt.NDArray[np.uint8], similarity: npt.NDArray[np.float64]) -> None:
        job, ids = self._job, _ids(self._job, np.sort(self.members))
        linked = self._ends(self._pairs)
        label_of = dict(zip(self.members.tolist(), self.labels.tolist(), strict=True))
        similar: dict[int, list[list[Any]]] = {}
        for (one, other), value in zip(linked.tolist(), self._similarities.tolist(), strict=True):
            similar.setdefault(label_of[one], []).append([ids[one], ids[other], round(value, _DIGITS)])
        rows = zip(self.labels.tolist(), self.members.tolist(), similarity.tolist(), strict=True)
        with (
            atomic_write(job.output / CLUSTERS_FILE) as temporary,
            temporary.open("w", encoding="utf-8") as stream,
        ):
            for label, group in itertools.groupby(rows, key=lambda row: row[0]):
                (_, first, _), *others = group
                entry = {
                    "kept": ids[first],
                    "removed": {ids[one]: REASONS[int(removed[one])] for _, one, _ in others},
                    "similarity_to_kept": {ids[one]: round(value, _DIGITS) for _, one, value in others},
                    "similar": similar.get(label, []),
                }
                stream.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _components(links: Numbers) -> tuple[Numbers, Numbers]:
    """The linked documents in order, and each one's cluster; clusters are numbered by their first document."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    members, ends = np.unique(links, return_inverse=True)
    ends = ends.reshape(-1, 2)
    shape = (len(members), len(members))
    graph = coo_matrix((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=shape)
    _, labels = connected_components(graph, directed=False)
    _, firsts, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return members, np.argsort(np.argsort(firsts))[inverse]


def _ids(job: Job, members: Numbers) -> dict[int, str]:
    """The ids of some documents, by number."""
    ids: dict[int, str] = {}
    shards = job.shards_of(members)
    for index in np.unique(shards).tolist():
        names = read_ids(job.inputs[index])
        ids.update(
            (member, names[member - job.starts[index]]) for member in members[shards == index].tolist()
        )
    return ids
