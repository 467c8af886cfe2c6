"""Tokenization for GPT-2 against `tokenizers` one document at a time, and against `tiktoken` alone.

All sides get the same real text, repeated, in the same shards, on as many processes, and are timed by the clock on
the wall, from the start of the processes to the last shard. Ours also checks, writes and joins the corpus; the others
read the shards and keep nothing. They take turns, so that a machine whose speed drifts is fair to all; the figures to
read are the ratios of each turn.
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
from data_pipeline.documents import (
    SHARD_BYTES,
    Document,
    batches,
    read_texts,
    shard_name,
    text_bytes,
    write_shard,
)
from data_pipeline.executors import LocalExecutor
from data_pipeline.tokenization import tokenize_corpus
from data_pipeline.tokenizers import load_tokenizer

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
        speeds: dict[str, list[float]] = {name: [] for name in (_OURS, _REFERENCE, _PUBLISHED, _ALONE)}
        for number in range(arguments.repetitions):
            for name, values in speeds.items():
                if name == _OURS:
                    seconds = _time_ours(shards, Path(directory) / str(number), arguments.workers)
                else:
                    seconds = _time_peer(name, shards, arguments.workers)
                values.append(megabytes / seconds)
        print("| what | MB/s | ours to it (min–max) |\n|---|---|---|")
        for name, values in speeds.items():
            ratios = [ours / other for ours, other in zip(speeds[_OURS], values, strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            print(f"| {name} | {statistics.median(values):.1f} | {'' if name == _OURS else ratio} |")


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


def _time_ours(shards: list[Path], output: Path, workers: int) -> float:
    start = time.perf_counter()
    tokenize_corpus(shards, _vocabulary(), output, sentence_splitter=None, executor=LocalExecutor(workers))
    return time.perf_counter() - start


def _time_peer(name: str, shards: list[Path], workers: int) -> float:
    start = time.perf_counter()
    for _ in LocalExecutor(workers).map(functools.partial(_encode_shard, name), shards):
        pass
    return time.perf_counter() - start


def _encode_shard(name: str, shard: Path) -> None:
    encode = _peer(name)
    for text in read_texts(shard):
        encode(text)


@functools.lru_cache(maxsize=1)
def _peer(name: str) -> Callable[[str], Any]:
    """The encoding of one document by a peer, loaded once a process."""
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str

    from data_pipeline.byte_pairs import BytePairEncoder

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
