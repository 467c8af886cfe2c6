"""Near-deduplication against `datasketch` at its best, and recall against brute force.

Both sides get the same recombined and edited real text and one core. Ours runs end to end, from document shards to
written shards and clusters; `datasketch` is timed on texts in memory, without reading, verifying or writing anything.
"""

import argparse
import gzip
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.deduplication.deduplication import CLUSTERS_FILE, deduplicate
from data_pipeline.engine.documents import Document, shard_name, write_shard
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.settings import DeduplicationSettings

_DOCUMENT_CHARACTERS = 4_000
_COPIES = 0.2  # of the documents are edited copies of earlier ones
_DENSE_SHINGLES = 40
_BUCKETS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)

Pairs = dict[tuple[int, int], float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--megabytes", type=int, default=100, help="text to deduplicate (default: %(default)s)"
    )
    parser.add_argument("--repetitions", type=int, default=2, help="interleaved runs (default: %(default)s)")
    parser.add_argument(
        "--documents", type=int, default=5000, help="documents compared by brute force (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    texts = list(recombined(arguments.megabytes * 1_000_000))
    size = sum(map(len, texts)) / 1e6
    print(f"{len(texts):,} documents, {size:.0f} MB, one core a side; MB/s, medians")
    print("| run | ours, end to end | datasketch, signatures and index | ratio |\n|---|---|---|---|")
    ratios = []
    for number in range(arguments.repetitions):
        ours, theirs = size / _time_ours(texts), size / _time_datasketch(texts)
        ratios.append(ours / theirs)
        print(f"| {number + 1} | {ours:.1f} | {theirs:.2f} | {ratios[-1]:.1f} |", flush=True)
    print(f"ratio: median {statistics.median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})\n")
    print(recall_table(edited_corpus(arguments.documents)))


def real_texts() -> list[str]:
    """The novels in the folder named by REAL_DATA.

    Raises:
        ValueError: the variable is not set.
    """
    if "REAL_DATA" not in os.environ:
        raise ValueError("set REAL_DATA to the folder that holds gutenberg_small.jsonl.gz")
    with gzip.open(
        Path(os.environ["REAL_DATA"]) / "gutenberg_small.jsonl.gz", "rt", encoding="utf-8"
    ) as lines:
        return [json.loads(line)["text"] for line in lines]


def recombined(characters: int, seed: int = 1) -> Iterator[str]:
    """Documents of random paragraphs of real text, some of them edited copies of earlier ones."""
    draw = random.Random(seed)
    paragraphs = [part for text in real_texts() for part in text.split("\n\n") if len(part) > 80]
    recent: list[str] = []
    made = 0
    while made < characters:
        if recent and draw.random() < _COPIES:
            text = edited(draw.choice(recent), draw.uniform(0.0, 0.1), draw)
        else:
            parts: list[str] = []
            while sum(map(len, parts)) < draw.uniform(0.3, 1.7) * _DOCUMENT_CHARACTERS:
                parts.append(draw.choice(paragraphs))
            text = "\n\n".join(parts)
            recent = [*recent[-500:], text]
        made += len(text)
        yield text


def edited(text: str, share: float, draw: random.Random) -> str:
    """A text with this share of its words replaced, and sometimes without one of its paragraphs."""
    paragraphs = text.split("\n\n")
    if len(paragraphs) > 6 and draw.random() < 0.3:
        del paragraphs[draw.randrange(len(paragraphs))]
    words = "\n\n".join(paragraphs).split(" ")
    return " ".join(draw.choice(words) if draw.random() < share else word for word in words)


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
    from scipy.sparse import csr_matrix

    vocabulary: dict[str, int] = {}
    sets = []
    for text in texts:
        normal = " ".join(text.lower().split())
        grams = {normal[start : start + 5] for start in range(len(normal) - 4)}
        sets.append(sorted(vocabulary.setdefault(gram, len(vocabulary)) for gram in grams))
    sizes = np.array([len(grams) for grams in sets])
    columns = np.concatenate([np.array(grams) for grams in sets])
    rows = np.repeat(np.arange(len(sets)), sizes)
    occurs = csr_matrix(
        (np.ones(len(rows), np.float32), (rows, columns)), shape=(len(sets), len(vocabulary))
    ).tocsc()
    frequency = np.diff(occurs.indptr)
    rare = occurs[:, frequency <= _DENSE_SHINGLES]  # sparse products where few documents share a 5-gram …
    common = (rare @ rare.T).toarray()
    frequent = np.flatnonzero(frequency > _DENSE_SHINGLES)  # … and dense ones where many do
    for start in range(0, len(frequent), 4096):
        dense = occurs[:, frequent[start : start + 4096]].toarray()
        common += dense @ dense.T
    similarity: npt.NDArray[np.float64] = common / (sizes[:, None] + sizes - common)
    first, second = np.nonzero(np.triu(similarity >= least, 1))
    return dict(
        zip(
            zip(first.tolist(), second.tolist(), strict=True), similarity[first, second].tolist(), strict=True
        )
    )


def deduplicated(texts: list[str], directory: Path, shards: int = 5) -> tuple[set[int], list[dict[str, Any]]]:
    """What the pipeline keeps, by number, and its clusters."""
    inputs = _write_shards(texts, directory / "in", shards)
    deduplicate(inputs, directory / "out", DeduplicationSettings(), executor=LocalExecutor(1))
    clusters = [json.loads(line) for line in (directory / "out" / CLUSTERS_FILE).open(encoding="utf-8")]
    removed = {int(name) for cluster in clusters for name in cluster["removed"]}
    return set(range(len(texts))) - removed, clusters


def _write_shards(texts: list[str], directory: Path, shards: int) -> list[Path]:
    paths = []
    for index in range(shards):
        part = range(index * len(texts) // shards, (index + 1) * len(texts) // shards)
        paths.append(directory / shard_name(index))
        write_shard(paths[-1], (Document(f"{number:08d}", texts[number], "b", "{}") for number in part))
    return paths


def pairs_of_distinct(texts: list[str], truth: Pairs, low: float, high: float) -> list[tuple[int, int]]:
    """The pairs of a range of similarity in which neither document is an exact copy of an earlier one."""
    first: dict[str, int] = {}
    distinct = {
        number
        for number, text in enumerate(texts)
        if first.setdefault(" ".join(text.lower().split()), number) == number
    }
    return [pair for pair, value in truth.items() if low < value <= high and set(pair) <= distinct]


def recall_table(texts: list[str]) -> str:
    """Recall by similarity beside what the bands promise, as a table; exact copies are left out."""
    with tempfile.TemporaryDirectory() as directory:
        kept, clusters = deduplicated(texts, Path(directory))
    truth = brute_force(texts, _BUCKETS[0])
    found = {(int(one), int(other)) for cluster in clusters for one, other, _ in cluster["similar"]}
    lines = [f"{len(texts):,} documents against brute force", "| J | pairs | found | recall | theory |"]
    lines.append("|---|---|---|---|---|")
    for low, high in itertools.pairwise(_BUCKETS):
        pairs = pairs_of_distinct(texts, truth, low, high)
        hits = sum(pair in found for pair in pairs)
        theory = np.mean([1 - (1 - truth[pair] ** 8) ** 32 for pair in pairs]) if pairs else 1.0
        share = f"{hits / len(pairs):.4f}" if pairs else "–"
        lines.append(f"| {low}–{high} | {len(pairs):,} | {hits:,} | {share} | {theory:.4f} |")
    worst = max((value for pair, value in truth.items() if set(pair) <= kept), default=0.0)
    lines.append(f"most alike pair that was kept: J = {worst:.3f}")
    return "\n".join(lines)


def _time_ours(texts: list[str]) -> float:
    with tempfile.TemporaryDirectory() as directory:
        inputs = _write_shards(texts, Path(directory) / "in", max(1, len(texts) // 4000))
        started = time.perf_counter()
        deduplicate(inputs, Path(directory) / "out", DeduplicationSettings(), executor=LocalExecutor(1))
        return time.perf_counter() - started


def _time_datasketch(texts: list[str]) -> float:
    """Seconds for signatures, index and one query a document; 256 values, 32 bands of 8, as ours."""
    try:
        import xxhash
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise ValueError("the peers are not installed: pip install datasketch xxhash") from error

    started = time.perf_counter()
    index = MinHashLSH(num_perm=256, params=(32, 8))
    with index.insertion_session() as session:
        for number, text in enumerate(texts):
            normal = " ".join(text.casefold().split())
            grams = {normal[start : start + 5].encode() for start in range(len(normal) - 4)}
            signature = MinHash(num_perm=256, hashfunc=xxhash.xxh32_intdigest)
            signature.update_batch(list(grams))
            index.query(signature)
            session.insert(number, signature)
    return time.perf_counter() - started
