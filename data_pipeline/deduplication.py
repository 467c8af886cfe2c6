"""Deduplication: exact duplicates by hash, near duplicates by locality-sensitive hashing (paper section 4.1).

Four steps, each resumable: signatures (per input shard), candidate pairs (per band), exact Jaccard of the
candidates (per input shard), and writing what is kept (per input shard). Documents whose similarity is above the
threshold are linked, connected documents are a cluster, and of a cluster the first document in the order of the
inputs stays. One band's hashes of all documents (8 bytes each) are in memory at a time in a worker, and the texts
of two shards. What shingles and signatures are lives in `data_pipeline.minhash`.
"""

import functools
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from data_pipeline import minhash
from data_pipeline.artifacts import atomic_write, read_json, write_json
from data_pipeline.documents import Document, read_ids, read_shard, shard_name, text_bytes, write_shard
from data_pipeline.executors import Executor
from data_pipeline.resumable import Counts, add_counts, run_shards

Indices = npt.NDArray[np.int64]

CLUSTERS_FILE = "clusters.jsonl"
_LARGEST_BUCKET = 50
_ESTIMATE_MARGIN = 0.2  # at 256 values an estimate is off by 0.03, so six times that and more
_ESTIMATED_AT_ONCE = 1 << 16
_KEPT, _EXACT, _NEAR = range(3)
_REASONS = {_EXACT: "exact_duplicate", _NEAR: "near_duplicate"}


@dataclass(frozen=True)
class DeduplicationSettings:
    """What counts as a near duplicate, and how it is looked for.

    Attributes:
        shingle, shingle_size: what is compared: runs of so many characters or words.
        threshold: documents with a greater Jaccard similarity are duplicates.
        permutations: values of a signature.
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
        if self.shingle_size < 1 or self.bands < 1:
            errors.append(f"shingle_size = {self.shingle_size} and bands = {self.bands} must be at least 1")
        elif self.permutations < 1 or self.permutations % self.bands:
            errors.append(f"permutations = {self.permutations} must be a multiple of bands = {self.bands}")
        if not 0 < self.threshold <= 1:
            errors.append(f"threshold = {self.threshold} must be above 0 and at most 1")
        if errors:
            raise ValueError("deduplicate: " + "; ".join(errors))


@dataclass(frozen=True)
class _Job:
    """What every step needs; `starts[i]` is the number of the first document of input shard i."""

    inputs: tuple[Path, ...]
    output: Path
    settings: DeduplicationSettings
    starts: tuple[int, ...] = ()

    @property
    def work(self) -> Path:
        return self.output / ".work"

    def signature_file(self, kind: str, index: int) -> Path:
        return self.work / "signatures" / f"{kind}-{index:05d}.npy"

    def removed_file(self, index: int) -> Path:
        return self.work / "removed" / f"removed-{index:05d}.npy"

    @property
    def shingles(self) -> minhash.Shingles:
        return minhash.Shingles(self.settings.shingle, self.settings.shingle_size)


def deduplicate(
    inputs: list[Path], output: Path, settings: DeduplicationSettings, *, executor: Executor, title: str = ""
) -> Counts:
    """Remove exact and near duplicates; `clusters.jsonl` lists what was removed for what.

    Args:
        inputs: document shards in the order of their sources: of duplicates the first stays.
        output: directory to write to.

    Returns:
        Counts: documents and bytes in and out, dropped (exact and near), clusters, candidate_pairs, compared_pairs.
    """
    job = _Job(tuple(map(Path, inputs)), Path(output), settings)
    found_file = job.output / "stats" / "clusters.json"
    if not found_file.exists():
        write_json(found_file, _find_duplicates(job, executor, title))
    tasks = {f"documents-{index:05d}": index for index in range(len(job.inputs))}
    write = functools.partial(_write_kept, job)
    counts = run_shards(
        "deduplicate: documents", write, tasks, job.output, executor, _titled(title, "documents")
    )
    shutil.rmtree(job.work, ignore_errors=True)
    return {**add_counts(counts), **read_json(found_file)}


def _titled(title: str, step: str) -> str:
    return f"{title}: {step}" if title else ""


def _find_duplicates(job: _Job, executor: Executor, title: str) -> Counts:
    """Steps one to three and the clusters; returns their counts."""

    def step(name: str, function: Any, tasks: range) -> list[Counts]:
        names = {f"{index:05d}": index for index in tasks}
        directory = job.work / name
        return run_shards(f"deduplicate: {name}", function, names, directory, executor, _titled(title, name))

    shards = range(len(job.inputs))
    counts = step("signatures", functools.partial(_write_signatures, job), shards)
    starts = [0, *itertools.accumulate(count["documents"] for count in counts)]
    job = _Job(job.inputs, job.output, job.settings, tuple(starts))
    firsts = _first_occurrences(job)
    step("candidates", functools.partial(_write_candidates, job), range(job.settings.bands))
    candidates = _split_candidates(job)
    compared = step("comparison", functools.partial(_compare, job), shards)
    clusters = _write_clusters(job, firsts)
    return {
        "candidate_pairs": candidates,
        "compared_pairs": sum(count["compared"] for count in compared),
        "clusters": clusters,
    }


def _write_signatures(job: _Job, index: int) -> Counts:
    """Step one: hashes for exact duplicates, band hashes and short signatures of one shard."""
    exact: list[tuple[int, int]] = []
    bands, short = [], []
    documents = read_shard(job.inputs[index])
    while block := list(itertools.islice(documents, 500)):
        texts = [minhash.normalise(document.text) for document in block]
        exact += map(minhash.text_hash, texts)
        sets = [minhash.shingle_hashes(text, job.shingles) for text in texts]
        signature = minhash.signatures(sets, job.settings.permutations)
        bands.append(minhash.band_hashes(signature, job.settings.bands))
        short.append(minhash.short_signature(signature))
    _save(job.signature_file("exact", index), np.array(exact, np.uint64).reshape(-1, 2))
    none = np.empty((job.settings.bands, 0), np.uint64)
    _save(job.signature_file("bands", index), np.concatenate([none, *bands], axis=1))
    no_short = np.empty((0, job.settings.permutations), np.uint8)
    _save(job.signature_file("short", index), np.concatenate([no_short, *short]))
    return {"documents": len(exact)}


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)


def _first_occurrences(job: _Job) -> Indices:
    """[documents]: the number of the first document with the same normalised text. Written for the later steps."""
    hashes = np.concatenate([np.load(job.signature_file("exact", index)) for index in range(len(job.inputs))])
    order = np.lexsort((hashes[:, 0], hashes[:, 1]))  # stable: within equal hashes in document order
    ordered = hashes[order]
    is_new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])[: len(order)]
    firsts = np.empty(len(order), np.int64)
    firsts[order] = order[is_new][np.cumsum(is_new) - 1]
    _save(job.work / "firsts.npy", firsts)
    return firsts


def _write_candidates(job: _Job, band: int) -> Counts:
    """Step two: pairs of different documents (first < second, as first · documents + second) that share a band."""
    files = [job.signature_file("bands", index) for index in range(len(job.inputs))]
    hashes = np.concatenate([np.load(file, mmap_mode="r")[band] for file in files])
    firsts = np.load(job.work / "firsts.npy")
    distinct = np.flatnonzero(firsts == np.arange(len(firsts)))
    order = distinct[np.argsort(hashes[distinct], kind="stable")]
    ordered = hashes[order]
    boundaries = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    pairs = [np.empty(0, np.int64)]
    sizes = np.diff(boundaries)
    for size in np.unique(sizes[sizes > 1]):
        starts = boundaries[:-1][sizes == size]
        members = order[starts[:, None] + np.arange(size)]  # [buckets, size], each row ascending
        first, second = _pairs_in_bucket(int(size))
        pairs.append((members[:, first] * len(firsts) + members[:, second]).ravel())
    found = np.unique(np.concatenate(pairs))
    _save(job.work / "candidates" / f"band-{band:05d}.npy", found)
    return {"pairs": len(found)}


def _pairs_in_bucket(size: int) -> tuple[Indices, Indices]:
    """Places of the pairs to compare: all of them, but in large buckets only near neighbours and the first.

    A bucket of n documents has n²/2 pairs; chains over neighbours still connect what is alike.
    """
    first, second = np.triu_indices(min(size, _LARGEST_BUCKET), 1)
    if size <= _LARGEST_BUCKET:
        return first, second
    places = np.arange(size)
    near = [(places[:-step], places[step:]) for step in range(1, _LARGEST_BUCKET)]
    star = (np.zeros(size - 1, np.int64), places[1:])
    return np.concatenate([star[0], *(a for a, _ in near)]), np.concatenate([star[1], *(b for _, b in near)])


def _split_candidates(job: _Job) -> int:
    """Join the bands' pairs and write them by the shard of their first document; returns their number."""
    bands = range(job.settings.bands)
    pairs = np.empty(0, np.int64)
    for band in bands:
        pairs = np.union1d(pairs, np.load(job.work / "candidates" / f"band-{band:05d}.npy"))
    total = job.starts[-1]
    cuts = np.searchsorted(pairs, np.array(job.starts, np.int64) * total)
    for index in range(len(job.inputs)):
        _save(job.work / "comparison" / f"pairs-{index:05d}.npy", pairs[cuts[index] : cuts[index + 1]])
    return len(pairs)


def _compare(job: _Job, index: int) -> Counts:
    """Step three: exact similarity of the pairs whose first document is in this shard; keeps those above it."""
    sets: dict[int, minhash.Hashes] = {}
    links: list[tuple[int, int]] = []
    similarities: list[float] = []
    compared = 0
    for other, rows, other_rows in _likely_pairs(job, index):
        wanted = set(rows.tolist()) | (set(other_rows.tolist()) if other == index else set())
        sets.update(_shingle_sets(job, index, wanted - sets.keys()))
        other_sets = sets if other == index else _shingle_sets(job, other, set(other_rows.tolist()))
        compared += len(rows)
        for row, other_row in zip(rows.tolist(), other_rows.tolist(), strict=True):
            similarity = minhash.jaccard(sets[row], other_sets[other_row])
            if similarity > job.settings.threshold:
                links.append((job.starts[index] + row, job.starts[other] + other_row))
                similarities.append(similarity)
    _save(job.work / "comparison" / f"links-{index:05d}.npy", np.array(links, np.int64).reshape(-1, 2))
    _save(job.work / "comparison" / f"similarities-{index:05d}.npy", np.array(similarities, np.float64))
    return {"compared": compared}


def _likely_pairs(job: _Job, index: int) -> Iterator[tuple[int, Indices, Indices]]:
    """The pairs of this shard that are worth an exact comparison, grouped by the shard of the second document.

    Yields (the other shard, rows in this shard, rows in the other shard).
    """
    pairs = np.load(job.work / "comparison" / f"pairs-{index:05d}.npy")
    first, second = np.divmod(pairs, max(job.starts[-1], 1))
    shard_of_second = np.searchsorted(np.array(job.starts), second, side="right") - 1
    short = np.load(job.signature_file("short", index), mmap_mode="r")
    for other in np.unique(shard_of_second).tolist():
        chosen = shard_of_second == other
        rows, other_rows = first[chosen] - job.starts[index], second[chosen] - job.starts[other]
        other_short = np.load(job.signature_file("short", other), mmap_mode="r")
        likely = _likely(short, other_short, rows, other_rows, job.settings.threshold)
        yield other, rows[likely], other_rows[likely]


def _likely(
    short: npt.NDArray[np.uint8],
    other_short: npt.NDArray[np.uint8],
    rows: Indices,
    other_rows: Indices,
    threshold: float,
) -> npt.NDArray[np.bool_]:
    """Which pairs are worth an exact comparison, by their short signatures."""
    estimates = [np.empty(0)]
    for start in range(0, len(rows), _ESTIMATED_AT_ONCE):
        part = slice(start, start + _ESTIMATED_AT_ONCE)
        estimates.append(minhash.estimated_jaccard(short[rows[part]], other_short[other_rows[part]]))
    return np.concatenate(estimates) > threshold - _ESTIMATE_MARGIN


def _shingle_sets(job: _Job, index: int, rows: set[int]) -> dict[int, minhash.Hashes]:
    """The shingles of some documents of a shard, by row."""
    if not rows:
        return {}
    return {
        row: minhash.shingle_hashes(minhash.normalise(document.text), job.shingles)
        for row, document in enumerate(read_shard(job.inputs[index]))
        if row in rows
    }


def _write_clusters(job: _Job, firsts: Indices) -> int:
    """Connect linked documents; write the clusters, and what each shard has to leave out. Returns their number."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links, similarities = _load_links(job)
    total = len(firsts)
    copies = np.flatnonzero(firsts != np.arange(total))
    ends = np.concatenate([links[:, 0], firsts[copies]]), np.concatenate([links[:, 1], copies])
    graph = coo_matrix((np.ones(len(ends[0]), np.int32), ends), shape=(total, total))
    _, labels = connected_components(graph, directed=False)
    members = np.flatnonzero(np.bincount(labels, minlength=1)[labels] > 1)
    clusters: dict[int, list[int]] = {}
    for member in members.tolist():
        clusters.setdefault(int(labels[member]), []).append(member)  # ascending: the first one stays
    removed = np.zeros(total, np.uint8)
    removed[members] = np.where(firsts[members] == members, _NEAR, _EXACT)
    removed[[cluster[0] for cluster in clusters.values()]] = _KEPT
    for index, start in enumerate(job.starts[:-1]):
        _save(job.removed_file(index), removed[start : job.starts[index + 1]])
    similar: dict[int, list[tuple[int, int, float]]] = {}
    for (one, other), similarity in zip(links.tolist(), similarities.tolist(), strict=True):
        similar.setdefault(int(labels[one]), []).append((one, other, round(similarity, 4)))
    ids = _ids(job, members)
    with (
        atomic_write(job.output / CLUSTERS_FILE) as temporary,
        temporary.open("w", encoding="utf-8") as stream,
    ):
        for label, (kept, *others) in clusters.items():
            entry = {
                "kept": ids[kept],
                "removed": {ids[one]: _REASONS[int(removed[one])] for one in others},
                "similar": [[ids[one], ids[other], score] for one, other, score in similar.get(label, [])],
            }
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return len(clusters)


def _load_links(job: _Job) -> tuple[Indices, npt.NDArray[np.float64]]:
    """All pairs above the threshold, [pairs, 2], and their similarities."""
    links, similarities = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for index in range(len(job.inputs)):
        links.append(np.load(job.work / "comparison" / f"links-{index:05d}.npy"))
        similarities.append(np.load(job.work / "comparison" / f"similarities-{index:05d}.npy"))
    return np.concatenate(links), np.concatenate(similarities)


def _ids(job: _Job, members: Indices) -> dict[int, str]:
    """The ids of some documents, by number."""
    ids: dict[int, str] = {}
    shards = np.searchsorted(np.array(job.starts), members, side="right") - 1
    for index in np.unique(shards).tolist():
        names = read_ids(job.inputs[index])
        ids.update(
            (member, names[member - job.starts[index]]) for member in members[shards == index].tolist()
        )
    return ids


def _write_kept(job: _Job, index: int) -> Counts:
    """Step four: one shard without its duplicates."""
    removed = np.load(job.removed_file(index))
    counts: Counter[str] = Counter(documents_in=0, bytes_in=0, documents=0, bytes=0)
    dropped: Counter[str] = Counter()

    def kept() -> Iterator[Document]:
        for document, mark in zip(read_shard(job.inputs[index]), removed.tolist(), strict=True):
            size = text_bytes(document.text)
            counts.update(documents_in=1, bytes_in=size)
            if mark == _KEPT:
                counts.update(documents=1, bytes=size)
                yield document
            else:
                dropped[_REASONS[mark]] += 1

    write_shard(job.output / shard_name(index), kept())
    return {**counts, "dropped": dict(dropped)}
