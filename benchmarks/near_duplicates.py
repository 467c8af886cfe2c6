"""Near-deduplication against `datasketch` and `rensa` at their best, and against brute force.

All sides get the same recombined and edited real text, one core and the same settings: character 5-grams, 256 values, 32
bands of 8. Ours runs end to end, from document shards to written shards and clusters; the others are timed on texts in
memory, without reading, verifying or writing anything. Recall and precision are those of pairs above the threshold, of
documents of which each has one copy at most.
"""

import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
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
_SIGNED_AT_ONCE = 1000
_DENSE_SHINGLES = 40
_BUCKETS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)

Pairs = dict[tuple[int, int], float]


@dataclass(frozen=True)
class Settings(harness.Settings):
    """What is compared.

    Attributes:
        megabytes: text to deduplicate.
        documents: compared by brute force; half of them copies.
    """

    turns: int = 2
    megabytes: int = 100
    documents: int = 5000


def run(settings: Settings, report: harness.Report) -> None:
    texts = list(recombined(settings.megabytes * 1_000_000))
    size = sum(map(len, texts)) / 1e6
    report.note(f"{len(texts):,} documents, {size:.0f} MB, one core a side")
    sides: dict[str, Callable[[list[str]], Iterable[tuple[int, int]]]] = {"ours, end to end": _our_pairs}
    if report.has_peer("datasketch", "xxhash"):
        sides["datasketch, signatures and index"] = _datasketch_pairs
    if report.has_peer("rensa"):
        sides["rensa, signatures and index"] = _rensa_pairs
    for pairs in sides.values():  # what is loaded and made once
        list(pairs(texts[:20]))
    report.compare(
        {
            side: lambda pairs=pairs: {"MB/CPU s": size / _seconds(lambda: pairs(texts))}  # type: ignore[misc]
            for side, pairs in sides.items()
        },
        settings.turns,
        ["MB/CPU s"],
    )
    _report_pairs(paired_corpus(settings.documents), sides, report)


def paired_corpus(documents: int, seed: int = 1) -> list[str]:
    """Real passages of about 1500 characters, each with one more and less edited copy."""
    draw = random.Random(seed)
    passages = [
        text[start : start + 1500] for text in real_texts() for start in range(0, len(text) - 1500, 1500)
    ]
    texts = draw.sample(passages, documents // 2)
    texts += [edited(text, draw.uniform(0.0, 0.12), draw) for text in texts]
    draw.shuffle(texts)
    return texts


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


def _report_pairs(
    texts: list[str],
    sides: Mapping[str, Callable[[list[str]], Iterable[tuple[int, int]]]],
    report: harness.Report,
) -> None:
    """Recall and precision of each side; and of ours by similarity, beside what the bands promise."""
    threshold = DeduplicationSettings().threshold
    truth = brute_force(texts, 0.4)
    alike = set(pairs_of_distinct(texts, truth, threshold, 1.0))
    copies = set(truth) - set(pairs_of_distinct(texts, truth, 0.0, 1.0))
    for side, pairs in sides.items():
        found = set(pairs(texts)) - copies
        report.row(
            {
                "side": side,
                f"pairs above {threshold}": len(alike),
                "found": len(found & alike),
                "recall": f"{len(found & alike) / len(alike):.4f}",
                "others found": len(found - alike),
                "precision": f"{len(found & alike) / max(len(found), 1):.4f}",
            }
        )
    ours = set(_our_pairs(texts))
    for low, high in itertools.pairwise(_BUCKETS):
        pairs_of = pairs_of_distinct(texts, truth, low, high)
        theory = np.mean([1 - (1 - truth[pair] ** 8) ** 32 for pair in pairs_of]) if pairs_of else 1.0
        hits = sum(pair in ours for pair in pairs_of)
        report.row(
            {
                "J": f"{low}–{high}",
                "pairs": len(pairs_of),
                "found": hits,
                "recall": f"{hits / len(pairs_of):.4f}" if pairs_of else None,
                "theory": f"{theory:.4f}",
            }
        )
    report.note(f"{len(texts):,} documents against brute force")


def _seconds(work: Callable[[], object]) -> float:
    """Processor seconds, of all threads."""
    started = time.process_time()
    work()
    return time.process_time() - started


def _our_pairs(texts: list[str]) -> list[tuple[int, int]]:
    """Pairs of a document that stays and one that went for it."""
    with tempfile.TemporaryDirectory() as directory:
        _, clusters = deduplicated(texts, Path(directory), shards=-(-len(texts) // _SHARD_DOCUMENTS))
    return [(int(cluster["kept"]), int(name)) for cluster in clusters for name in cluster["removed"]]


def _grams(text: str) -> set[str]:
    normal = " ".join(text.casefold().split())
    return {normal[start : start + 5] for start in range(len(normal) - 4)}


def _datasketch_pairs(texts: list[str]) -> list[tuple[int, int]]:
    """Signatures, index and one query a document."""
    import xxhash
    from datasketch import MinHash, MinHashLSH

    found: list[tuple[int, int]] = []
    index = MinHashLSH(num_perm=256, params=(32, 8))
    for number, text in enumerate(texts):
        signature = MinHash(num_perm=256, hashfunc=xxhash.xxh32_intdigest)
        signature.update_batch([gram.encode() for gram in _grams(text)])
        found += [(other, number) for other in index.query(signature)]
        index.insert(number, signature)
    return found


def _rensa_pairs(texts: list[str]) -> list[tuple[int, int]]:
    """Signatures, some at a time, an index of all, and one query a document."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(0.7, 256, 32)
    found: list[tuple[int, int]] = []
    for start in range(0, len(texts), _SIGNED_AT_ONCE):
        part = texts[start : start + _SIGNED_AT_ONCE]
        signatures = RMinHash.from_token_sets([list(_grams(text)) for text in part], 256, 42)
        index.insert_many(signatures, start)
        for number, others in enumerate(index.query_all(signatures), start):
            found += [(other, number) for other in others if other < number]
    return found
