"""Tokenization for GPT-2 against `tokenizers` one document at a time, and against `tiktoken` alone.

All sides get the same real text, repeated, in the same shards, on as many processes, and are timed from the start of
the processes to the last shard: by the clock on the wall and by the processor time used, which other work on the
machine disturbs less. Ours also checks, writes and joins the corpus; the others read the shards and keep nothing.
They take turns, so that a machine whose speed drifts is fair to all; the figures to read are the ratios of each turn.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.near_duplicates import real_texts
from data_pipeline.engine.documents import (
    SHARD_BYTES,
    Document,
    batches,
    read_texts,
    shard_name,
    text_bytes,
    write_shard,
)
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.tokenizers import load_tokenizer

Cost = tuple[float, float]

_OURS = "ours, end to end"
_REFERENCE = "`tokenizers.encode`, document by document"
_PUBLISHED = "`tiktoken` alone, its own pattern"
_ALONE = "`tiktoken` alone, our pattern"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--megabytes", type=int, default=400, help="text to encode (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        shards, megabytes = _write_shards(Path(directory), arguments.megabytes)
        print(f"{megabytes:.0f} MB in {len(shards)} shards, {arguments.workers} processes a side; medians")
        print(
            "| what | MB/s | ours to it (min–max) | MB/CPU s | ours to it (min–max) |\n|---|---|---|---|---|"
        )
        executor = LocalExecutor(arguments.workers)
        costs: dict[str, list[Cost]] = {name: [] for name in (_OURS, _REFERENCE, _PUBLISHED, _ALONE)}
        for number in range(arguments.repetitions):
            for name, values in costs.items():
                work = (
                    functools.partial(_run_ours, shards, Path(directory) / str(number), executor)
                    if name == _OURS
                    else functools.partial(_run_peer, name, shards, executor)
                )
                values.append(_measure(work))
    for name, values in costs.items():
        columns = [
            _column(megabytes, [cost[part] for cost in costs[_OURS]], [cost[part] for cost in values])
            for part in range(2)
        ]
        print(f"| {name} | {' | '.join(columns)} |")


def _column(megabytes: float, ours: list[float], others: list[float]) -> str:
    """The speed of one side, and by how much ours is faster in the same turn."""
    ratios = [other / own for own, other in zip(ours, others, strict=True)]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    return f"{megabytes / statistics.median(others):.1f} | {ratio}"


def _measure(work: Callable[[], None]) -> Cost:
    """Seconds by the clock, and processor seconds of this process and of those that it started and that ended."""
    start, used = time.perf_counter(), _processor_seconds()
    work()
    return time.perf_counter() - start, _processor_seconds() - used


def _processor_seconds() -> float:
    return sum(os.times()[:4])


def _vocabulary() -> Path:
    return Path(os.environ["REAL_DATA"]) / "gpt2-vocab.json"


def _write_shards(directory: Path, megabytes: int) -> tuple[list[Path], float]:
    """Real documents, over and over, as shards of the usual size; how many megabytes they are."""
    texts = real_texts()
    repeated = megabytes * 1_000_000 // sum(map(text_bytes, texts)) + 1
    documents = (
        Document(f"real/{number:08d}", text, "real", "{}")
        for number, text in enumerate(islice(cycle(texts), repeated * len(texts)))
    )
    shards: list[Path] = []
    pending: list[Document] = []
    for batch in batches(documents):
        pending += batch
        if sum(text_bytes(document.text) for document in pending) >= SHARD_BYTES // 2:
            shards.append(directory / shard_name(len(shards)))
            write_shard(shards[-1], pending)
            pending = []
    if pending:
        shards.append(directory / shard_name(len(shards)))
        write_shard(shards[-1], pending)
    return shards, repeated * sum(map(text_bytes, texts)) / 1e6


def _run_ours(shards: list[Path], output: Path, executor: LocalExecutor) -> None:
    tokenize_corpus(shards, _vocabulary(), output, sentence_splitter=None, executor=executor)


def _run_peer(name: str, shards: list[Path], executor: LocalExecutor) -> None:
    for _ in executor.map(functools.partial(_encode_shard, name), shards):
        pass


def _encode_shard(name: str, shard: Path) -> None:
    encode = _peer(name)
    for text in read_texts(shard):
        encode(text)


@functools.lru_cache(maxsize=1)
def _peer(name: str) -> Callable[[str], Any]:
    """The encoding of one document by a peer, loaded once a process."""
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str

    from data_pipeline.tokenization.byte_pairs import BytePairEncoder

    tokenizer = load_tokenizer(_vocabulary())
    if name == _REFERENCE:
        encode = tokenizer.backend.encode
        return lambda text: encode(text, add_special_tokens=False).ids
    ours = BytePairEncoder(tokenizer)._encoding
    encoding = tiktoken.Encoding(
        "gpt2",
        pat_str=ours._pat_str if name == _ALONE else r50k_pat_str,
        mergeable_ranks=ours._mergeable_ranks,
        special_tokens=ours._special_tokens,
    )
    return lambda text: encoding.encode_to_numpy(text, disallowed_special=())
