"""Tokenization for GPT-2 against `tokenizers` one document at a time, and against `tiktoken` alone.

All sides get the same real text, repeated, in the same shards, on as many processes, and are timed from the start of
the processes to the last shard: by the clock on the wall and by the processor time used, which other work on the
machine disturbs less. Ours also checks, writes and joins the corpus; the others read the shards and keep nothing.
"""

import functools
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.texts import real_data, real_texts, write_shards
from data_pipeline.engine.documents import SHARD_BYTES, read_texts, text_bytes
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.tokenizers import load_tokenizer

_REFERENCE = "`tokenizers.encode`, document by document"
_PUBLISHED = "`tiktoken` alone, its own pattern"
_ALONE = "`tiktoken` alone, our pattern"


@dataclass(frozen=True)
class Settings(harness.Settings):
    """How much is encoded.

    Attributes:
        megabytes: text to encode.
        workers: processes of each side.
    """

    megabytes: int = 400
    workers: int = os.cpu_count() or 1


def run(settings: Settings, report: harness.Report) -> None:
    executor = LocalExecutor(settings.workers)
    texts = real_texts()
    size = sum(map(text_bytes, texts))
    repeated = settings.megabytes * 1_000_000 // size + 1
    with tempfile.TemporaryDirectory() as directory:
        shard_documents = max(1, len(texts) * SHARD_BYTES // size)
        corpus = itertools.chain.from_iterable(itertools.repeat(texts, repeated))
        shards = write_shards(corpus, Path(directory) / "shards", shard_documents)
        megabytes = repeated * size / 1e6
        report.note(f"{megabytes:.0f} MB in {len(shards)} shards, {settings.workers} processes a side")
        works: dict[str, Callable[[], None]] = {
            "ours, end to end": functools.partial(_run_ours, shards, Path(directory), executor)
        }
        for peer in (_REFERENCE, _PUBLISHED, _ALONE):
            works[peer] = functools.partial(_run_peer, peer, shards, executor)
        sides = {name: functools.partial(_measure, work, megabytes) for name, work in works.items()}
        report.compare(sides, settings.turns, ["MB/s", "MB/CPU s"])


def _measure(work: Callable[[], None], megabytes: float) -> harness.Measurement:
    """By the clock, and by the processor time of this process and of those that it started and that ended."""
    used = sum(os.times()[:4])
    seconds = harness.seconds(work)
    return {"MB/s": megabytes / seconds, "MB/CPU s": megabytes / (sum(os.times()[:4]) - used)}


def _vocabulary() -> Path:
    return real_data() / "gpt2-vocab.json"


def _run_ours(shards: list[Path], directory: Path, executor: LocalExecutor) -> None:
    output = directory / f"{time.time_ns()}"
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
