"""Near-deduplication against `datasketch` at its best, and recall against brute force.

Both sides get the same recombined and edited real text and one core. Ours runs end to end, from document shards to
written shards and clusters; `datasketch` is timed on texts in memory, without reading, verifying or writing anything.
"""

import itertools
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.texts import edited, real_texts, recombined, write_shards
from data_pipeline.deduplication.deduplication import CLUSTERS_FILE, deduplicate
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.settings import DeduplicationSettings

_SHARD_DOCUMENTS = 4000
_DENSE_SHINGLES = 40
_BUCKETS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)

Pairs = dict[tuple[int, int], float]


@dataclass(frozen=True)
class Settings(harness.Settings):
    """What is compared.

    Attributes:
        megabytes: text to deduplicate.
        documents: compared by brute force.
    """

    turns: int = 2
    megabytes: int = 100
    documents: int = 5000


def run(settings: Settings, report: harness.Report) -> None:
    texts = list(recombined(settings.megabytes * 1_000_000))
    size = sum(map(len, texts)) / 1e6
    report.note(f"{len(texts):,} documents, {size:.0f} MB, one core a side")
    sides = {"ours, end to end": lambda: {"MB/s": size / _time_ours(texts)}}
    if report.has_peer("datasketch", "xxhash"):
        sides["datasketch, signatures and index"] = lambda: {"MB/s": size / _time_datasketch(texts)}
    report.compare(sides, settings.turns, ["MB/s"])
    _report_recall(edited_corpus(settings.documents), report)


def edited_corpus(documents: int, seed: int = 1) -> list[str]:
    """Real passages of about 1500 characters; four of five documents are more and less edited copies of another."""
    draw = random.Random(seed)
    passages = [
        text[start : start + 1500] for text in real_texts() for start in range(0, len(text) - 1500, 1500)
    ]
    chosen = draw.sample(passages, documents // 5)
    texts = chosen + [
        edited(draw.choice(chosen), draw.choice([0.0, draw.uniform(0.0, 0.25)]), draw)
        for _ in range(documents - len(chosen))
    ]
    draw.shuffle(texts)
    return texts


def brute_force(texts: list[str], least: float) -> Pairs:
    """Exact Jaccard similarity in character 5-grams of all pairs that reach `least`, written without the pipeline."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(
        analyzer="char", ngram_range=(5, 5), lowercase=False, binary=True, dtype=np.float32
    )
    occurs = counter.fit_transform(" ".join(text.lower().split()) for text in texts).tocsc()
    sizes = np.asarray(occurs.sum(axis=1)).ravel()
    frequency = np.diff(occurs.indptr)
    rare = occurs[:, frequency <= _DENSE_SHINGLES]  # sparse products where few documents share a 5-gram …
    common = (rare @ rare.T).toarray()
    frequent = np.flatnonzero(frequency > _DENSE_SHINGLES)  # … and dense ones where many do
    for start in range(0, len(frequent), 4096):
        dense = occurs[:, frequent[start : start + 4096]].toarray()
        common += dense @ dense.T
    similarity = common / (sizes[:, None] + sizes - common)
    first, second = np.nonzero(np.triu(similarity >= least, 1))
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return dict(zip(pairs, similarity[first, second].tolist(), strict=True))


def deduplicated(texts: list[str], directory: Path, shards: int = 5) -> tuple[set[int], list[dict[str, Any]]]:
    """What the pipeline keeps, by number, and its clusters."""
    inputs = write_shards(texts, directory / "in", -(-len(texts) // shards))
    deduplicate(inputs, directory / "out", DeduplicationSettings(), executor=LocalExecutor(1))
    clusters = [json.loads(line) for line in (directory / "out" / CLUSTERS_FILE).open(encoding="utf-8")]
    removed = {int(name) for cluster in clusters for name in cluster["removed"]}
    return set(range(len(texts))) - removed, clusters


def pairs_of_distinct(texts: list[str], truth: Pairs, low: float, high: float) -> list[tuple[int, int]]:
    """The pairs of a range of similarity in which neither document is an exact copy of an earlier one."""
    first: dict[str, int] = {}
    distinct = {
        number
        for number, text in enumerate(texts)
        if first.setdefault(" ".join(text.lower().split()), number) == number
    }
    return [pair for pair, value in truth.items() if low < value <= high and set(pair) <= distinct]


def _report_recall(texts: list[str], report: harness.Report) -> None:
    """Recall by similarity beside what the bands promise; exact copies are left out."""
    with tempfile.TemporaryDirectory() as directory:
        kept, clusters = deduplicated(texts, Path(directory))
    truth = brute_force(texts, _BUCKETS[0])
    found = {(int(one), int(other)) for cluster in clusters for one, other, _ in cluster["similar"]}
    for low, high in itertools.pairwise(_BUCKETS):
        pairs = pairs_of_distinct(texts, truth, low, high)
        hits = sum(pair in found for pair in pairs)
        theory = np.mean([1 - (1 - truth[pair] ** 8) ** 32 for pair in pairs]) if pairs else 1.0
        recall = f"{hits / len(pairs):.4f}" if pairs else None
        report.row(
            {
                "J": f"{low}–{high}",
                "pairs": len(pairs),
                "found": hits,
                "recall": recall,
                "theory": f"{theory:.4f}",
            }
        )
    worst = max((value for pair, value in truth.items() if set(pair) <= kept), default=0.0)
    report.note(
        f"{len(texts):,} documents against brute force; most alike pair that was kept: J = {worst:.3f}"
    )


def _time_ours(texts: list[str]) -> float:
    with tempfile.TemporaryDirectory() as directory:
        inputs = write_shards(texts, Path(directory) / "in", _SHARD_DOCUMENTS)
        output = Path(directory) / "out"
        return harness.seconds(
            lambda: deduplicate(inputs, output, DeduplicationSettings(), executor=LocalExecutor(1))
        )


def _time_datasketch(texts: list[str]) -> float:
    """Seconds for signatures, index and one query a document; 256 values, 32 bands of 8, as ours."""
    import xxhash
    from datasketch import MinHash, MinHashLSH

    def work() -> None:
        index = MinHashLSH(num_perm=256, params=(32, 8))
        with index.insertion_session() as session:
            for number, text in enumerate(texts):
                normal = " ".join(text.casefold().split())
                grams = {normal[start : start + 5].encode() for start in range(len(normal) - 4)}
                signature = MinHash(num_perm=256, hashfunc=xxhash.xxh32_intdigest)
                signature.update_batch(list(grams))
                index.query(signature)
                session.insert(number, signature)

    return harness.seconds(work)
