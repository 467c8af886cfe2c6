"""Deduplication: exact duplicates by hash, near duplicates by locality-sensitive hashing (paper section 4.1).

Signatures (per input shard), candidate pairs (per band, `candidates`), exact similarity of the candidates (per
block of shards, `verification`), connected components, and writing what is kept (per input shard); each step resumes.
Documents whose similarity is above the threshold are linked, connected documents are a cluster, and of a cluster the
first document in the order of the inputs stays. So a document may go that is less like the one that stays than the
threshold says, by a chain of others between them; `clusters.jsonl` gives every removed document's similarity to the one
that stays, and `removed_by_chain` counts those.

Memory for N documents: 80 N bytes in the calling process, and in each worker, whatever N, 400 to 800 MB (the more, the
more documents share a band); so 50 million documents take 4 GB and the workers. Disk, besides the output: 530 N bytes, and the text of
the documents that are compared.
"""

import functools
import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.files import read_json, write_json
from data_pipeline.deduplication import minhash, verification
from data_pipeline.deduplication.candidates import DISTINCT_FILE, band_tasks, write_candidates
from data_pipeline.deduplication.clusters import CLUSTERS_FILE, KEPT, REASONS, Clusters, removed_file
from data_pipeline.deduplication.job import Job, Numbers, save_array
from data_pipeline.engine.documents import filter_shard, read_texts, shard_name
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.resumable import Counts, add_counts, run_shards
from data_pipeline.settings import DeduplicationSettings

__all__ = ["CLUSTERS_FILE", "DeduplicationSettings", "deduplicate"]

_BLOCK_BYTES = 1 << 21


def deduplicate(
    inputs: list[Path], output: Path, settings: DeduplicationSettings, *, executor: Executor, title: str = ""
) -> Counts:
    """Remove exact and near duplicates; `clusters.jsonl` lists what was removed for what.

    Args:
        inputs: document shards in the order of their sources: of duplicates the first stays.
        output: directory to write to.

    Returns:
        Counts: documents and bytes in and out, dropped (exact and near), clusters, candidate_pairs, compared_pairs,
        removed_by_chain.
    """
    job = Job(tuple(map(Path, inputs)), Path(output), settings)
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


def _find_duplicates(job: Job, executor: Executor, title: str) -> Counts:
    """All steps up to the clusters; returns their counts."""

    def step(name: str, function: Any, tasks: Mapping[str, Any]) -> list[Counts]:
        directory, bar = job.work / name, _titled(title, name)
        return run_shards(f"deduplicate: {name}", function, tasks, directory, executor, bar)

    def numbered(tasks: int) -> dict[str, int]:
        return {f"{index:05d}": index for index in range(tasks)}

    counts = step("signatures", functools.partial(_write_signatures, job), numbered(len(job.inputs)))
    starts = [0, *itertools.accumulate(count["documents"] for count in counts)]
    job = Job(job.inputs, job.output, job.settings, tuple(starts))
    firsts = _first_occurrences(job)
    tasks = {task.name: task for task in band_tasks(job)}
    step("candidates", functools.partial(write_candidates, job), tasks)
    blocks = numbered(len(job.blocks()))
    likely = step("likely", functools.partial(verification.write_likely, job), blocks)
    verification.write_compared(job)
    step("texts", functools.partial(verification.write_texts, job), blocks)
    compared = step("comparison", functools.partial(verification.compare, job), blocks)
    clusters = Clusters(job, firsts)
    verification.write_chained(job, clusters.chained_pairs())
    step("chains", functools.partial(verification.measure_chained, job), blocks)
    return {
        "candidate_pairs": sum(count["candidates"] for count in likely),
        "compared_pairs": sum(count["compared"] for count in compared),
        **clusters.write(),
    }


def _write_signatures(job: Job, shard: int) -> Counts:
    """Hashes for exact duplicates, band hashes and short signatures of one shard."""
    settings = job.settings
    exact: list[bytes] = []
    bands = [np.empty((settings.bands, 0), np.uint64)]
    short = [np.empty((0, settings.permutations), np.uint8)]
    for texts in _text_blocks(job.inputs[shard]):
        exact += map(minhash.text_hash, texts)
        signature = minhash.signatures(texts, settings.shingles, settings.permutations)
        bands.append(minhash.band_hashes(signature, settings.bands))
        short.append(minhash.short_signature(signature))
    hashes = np.frombuffer(b"".join(exact), np.uint64).reshape(-1, 2)
    save_array(job.signature_file("exact", shard), hashes)
    save_array(job.signature_file("bands", shard), np.concatenate(bands, axis=1))
    save_array(job.signature_file("short", shard), np.concatenate(short))
    return {"documents": len(exact)}


def _text_blocks(shard: Path) -> Iterator[list[minhash.Codes]]:
    """The normalised texts of a shard, some megabytes at a time."""
    block: list[minhash.Codes] = []
    size = 0
    for text in read_texts(shard):
        block.append(minhash.normalise(text))
        size += block[-1].nbytes
        if size >= _BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _first_occurrences(job: Job) -> Numbers:
    """[documents]: the number of the first document with the same normalised text; marks those for the next steps."""
    shards = range(len(job.inputs))
    high, low = (
        np.concatenate(
            [np.load(job.signature_file("exact", index), mmap_mode="r")[:, half] for index in shards]
        )
        for half in (0, 1)
    )
    order = np.lexsort((high, low))  # stable: within equal hashes in document order
    is_new = np.ones(len(order), np.bool_)
    for half in (high, low):
        ordered = half[order]
        changes = ordered[1:] != ordered[:-1]
        is_new[1:] = changes if half is high else is_new[1:] | changes
    firsts = np.empty(len(order), np.int64)
    firsts[order] = order[is_new][np.cumsum(is_new) - 1]
    save_array(job.work / DISTINCT_FILE, (firsts == np.arange(len(firsts))).astype(np.uint8))
    return firsts


def _write_kept(job: Job, index: int) -> Counts:
    """One shard without its duplicates."""
    marks = np.load(removed_file(job, index))
    sizes = filter_shard(job.inputs[index], job.output / shard_name(index), marks == KEPT)
    dropped = {reason: int(np.count_nonzero(marks == mark)) for mark, reason in REASONS.items()}
    return {**sizes._asdict(), "dropped": {reason: count for reason, count in dropped.items() if count}}
