"""Deduplication: exact duplicates by hash, near duplicates by locality-sensitive hashing (paper section 4.1).

Signatures (per group of input shards), copies and buckets (per range of hashes, `candidates`), exact similarity of the
candidates (per range of buckets, in turns, `verification`), connected components (`clusters`), and writing what is kept (per input
shard); each step resumes. Documents whose similarity is above the threshold are linked, connected documents are a
cluster, and of a cluster the first document in the order of the inputs stays. So a document may go that is less like the
one that stays than the threshold says, by a chain of others between them; `clusters.jsonl` gives every removed document's
similarity to the one that stays, and `removed_by_chain` counts those.

Bounds, for N documents of which C are in clusters, in S input shards: the calling process takes 2 N + 600 C + 2000 S
bytes, a worker 700 MB, ten times its two longest documents, N / 4 bytes that all share, and 300 S bytes, whatever the size
of clusters. Time is linear in bytes,
in N, in S and in C. Disk, besides the output: 610 N bytes, and the text of the documents that are compared. No step has more than
512 work files of a kind, or one for each four million hashes or each million members of buckets.
"""

import functools
import itertools
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.files import read_json, write_json
from data_pipeline.deduplication import candidates, clusters, similarity, verification
from data_pipeline.deduplication.clusters import CLUSTERS_FILE, KEPT, REASONS, Clusters
from data_pipeline.deduplication.job import Job, Numbers, on_job, save_bits, share, shared
from data_pipeline.deduplication.signatures import write_signatures
from data_pipeline.engine.documents import filter_shard, shard_name
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.resumable import Counts, add_counts, run_shards
from data_pipeline.settings import DeduplicationSettings

__all__ = ["CLUSTERS_FILE", "DeduplicationSettings", "deduplicate"]


def deduplicate(
    inputs: list[Path], output: Path, settings: DeduplicationSettings, *, executor: Executor, title: str = ""
) -> Counts:
    """Remove exact and near duplicates; `clusters.jsonl` lists what was removed for what.

    Args:
        inputs: document shards in the order of their sources: of duplicates the first stays.
        output: directory to write to.

    Returns:
        Counts: documents and bytes in and out, dropped (exact and near), clusters, candidates (documents whose texts
        were compared), compared_pairs, removed_by_chain.
    """
    job = Job(tuple(map(str, inputs)), Path(output), settings)
    found_file = job.output / "stats" / "clusters.json"
    with executor.kept():
        if not found_file.exists():
            write_json(found_file, _find_duplicates(job, executor, title))
        work = functools.partial(on_job, _write_kept, shared(job))
        tasks = {f"documents-{index:05d}": index for index in range(len(job.inputs))}
        counts = run_shards(
            "deduplicate: documents", work, tasks, job.output, executor, _titled(title, "documents")
        )
    shutil.rmtree(job.work, ignore_errors=True)
    return {**add_counts(counts), **read_json(found_file)}


def _titled(title: str, step: str) -> str:
    return f"{title}: {step}" if title else ""


def _find_duplicates(job: Job, executor: Executor, title: str) -> Counts:
    """All steps up to the clusters; returns their counts."""

    def step(name: str, function: Callable[[Job, Any], Counts], tasks: Mapping[str, Any]) -> list[Counts]:
        work = functools.partial(on_job, function, shared(job))
        return run_shards(
            f"deduplicate: {name}", work, tasks, job.work / name, executor, _titled(title, name)
        )

    groups = {f"{group:05d}": group for group in range(len(job.groups))}
    share(job)
    counts = step("signatures", write_signatures, groups)
    sizes = itertools.chain.from_iterable(count["shards"] for count in counts)
    job = Job(job.inputs, job.output, job.settings, np.cumsum([0, *sizes], dtype=np.int64))
    share(job)
    step("copies", candidates.write_copies, candidates.copy_tasks(job))
    copies = candidates.load_copies(job)
    save_bits(candidates.distinct_file(job), ~_marked(job, [copies[:, 0]]))
    step("candidates", candidates.write_buckets, {task.name: task for task in candidates.band_tasks(job)})
    tasks = {task.name: task for bands in candidates.waves(job) for task in candidates.pair_tasks(job, bands)}
    step("likely", verification.write_likely, tasks)
    likely = _marked(job, (np.load(verification.likely_file(job, task)) for task in tasks.values()))
    save_bits(similarity.marks_file(job), likely)
    step("texts", similarity.write_texts, groups)
    counts = []
    links = np.empty(0, verification.LINK)
    for turn in verification.turns(job):
        comparisons = verification.comparisons(job, turn)
        verification.write_joined(job, turn, links)
        counts += step("comparison", verification.compare, comparisons)
        links = np.concatenate([links, *verification.load_links(job, comparisons.values())])
    found = Clusters(job, copies, [links])
    chain_tasks = verification.write_chained(job, found.chained_pairs())
    step("chains", verification.measure_chained, chain_tasks)
    id_tasks = found.id_tasks()
    step("ids", clusters.write_ids, id_tasks)
    return {
        "candidates": int(np.count_nonzero(likely)),
        "compared_pairs": sum(count["compared"] for count in counts),
        **found.write(verification.load_chained(job, chain_tasks), id_tasks.values()),
    }


def _marked(job: Job, numbers: Iterable[Numbers]) -> npt.NDArray[np.bool_]:
    """Marks some documents."""
    marks = np.zeros(job.documents, np.bool_)
    for part in numbers:
        marks[part] = True
    return marks


def _write_kept(job: Job, index: int) -> Counts:
    """One shard without its duplicates."""
    removed = np.load(clusters.removed_file(job), mmap_mode="r")
    marks = np.array(removed[job.starts[index] : job.starts[index + 1]])
    sizes = filter_shard(Path(job.inputs[index]), job.output / shard_name(index), marks == KEPT)
    dropped = {reason: int(np.count_nonzero(marks == mark)) for mark, reason in REASONS.items()}
    return {**sizes._asdict(), "dropped": {reason: count for reason, count in dropped.items() if count}}
