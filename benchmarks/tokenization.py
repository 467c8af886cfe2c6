"""Tokenization for GPT-2 or BERT, end to end, against `tokenizers.encode_batch_fast` and `tiktoken.encode_batch`.

All sides get the same text in the same shards: novels recombined, in which a share of the words occur nowhere else, so
that no cache knows them. Ours runs on as many processes as the others have threads, finds sentences for BERT, checks,
writes and joins the corpus; the others read the shards and keep nothing. Measured is the clock on the wall and the
processor time used, from the start of processes to the last shard, which other work on the machine disturbs less.
"""

import os
import random
import string
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks import harness
from benchmarks.texts import real_data, recombined, write_shards
from data_pipeline.engine.documents import read_text_batches, read_texts, text_bytes
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.sentences import PUNKT_FILE, load_sentence_splitter, train_sentence_splitter
from data_pipeline.tokenization.tokenizers import load_tokenizer

_SHARD_DOCUMENTS = 2_000
_VOCABULARIES = {"gpt2": "gpt2-vocab.json", "bert": "bert-base-uncased-vocab.txt"}


@dataclass(frozen=True)
class Settings(harness.Settings):
    """How much is encoded, and for which family.

    Attributes:
        kind: "gpt2", or "bert", whose corpus has a sequence a sentence.
        megabytes: text to encode.
        new_words: of a thousand words, those that occur nowhere else.
        workers: processes of ours, threads of the others.
    """

    kind: Literal["gpt2", "bert"] = "gpt2"
    megabytes: int = 200
    new_words: int = 5
    workers: int = os.cpu_count() or 1


def run(settings: Settings, report: harness.Report) -> None:
    os.environ["RAYON_NUM_THREADS"] = str(settings.workers)  # of `tokenizers`, before its first batch
    with tempfile.TemporaryDirectory() as directory:
        texts = _texts(settings.megabytes * 1_000_000, settings.new_words / 1000)
        shards = write_shards(texts, Path(directory) / "shards", _SHARD_DOCUMENTS)
        megabytes = sum(text_bytes(text) for shard in shards for text in read_texts(shard)) / 1e6
        splitter = Path(directory) / PUNKT_FILE
        if settings.kind == "bert":
            train_sentence_splitter(shards, Path(directory))
        report.note(
            f"{settings.kind}: {megabytes:.0f} MB in {len(shards)} shards, {settings.workers} processes or threads a side; "
            f"{settings.new_words} of 1000 words occur nowhere else"
        )
        works = _works(settings, shards, splitter, Path(directory))
        sides = {name: partial(_measure, work, megabytes) for name, work in works.items()}
        report.compare(sides, settings.turns, ["MB/s", "MB/CPU s"])


def _texts(characters: int, share: float) -> Iterator[str]:
    """Recombined novels with this share of their words replaced by random letters."""
    draw = random.Random(1)

    def word(usual: str) -> str:
        if draw.random() >= share:
            return usual
        return "".join(draw.choices(string.ascii_lowercase, k=draw.randint(5, 12)))

    return (" ".join(map(word, text.split(" "))) for text in recombined(characters))


def _works(
    settings: Settings, shards: list[Path], splitter: Path, directory: Path
) -> dict[str, Callable[[], None]]:
    vocabulary = real_data() / _VOCABULARIES[settings.kind]
    encode = load_tokenizer(vocabulary).backend.encode_batch_fast
    bert = settings.kind == "bert"

    def ours() -> None:
        tokenize_corpus(
            shards,
            vocabulary,
            directory / f"{time.time_ns()}",
            sentence_splitter=splitter if bert else None,
            executor=LocalExecutor(settings.workers),
        )

    def by_tokenizers(split: Callable[[str], list[str]] | None) -> None:
        for shard in shards:
            for texts in read_text_batches(shard):
                parts = texts if split is None else [part for text in texts for part in split(text)]
                encode(parts, add_special_tokens=False)

    works = {"ours, end to end": ours, "`tokenizers.encode_batch_fast`": partial(by_tokenizers, None)}
    if bert:
        return {
            **works,
            "nltk's Punkt, then the same": partial(by_tokenizers, load_sentence_splitter(splitter)),
        }
    return {**works, "`tiktoken.encode_batch`": partial(_by_tiktoken, shards, settings.workers)}


def _by_tiktoken(shards: list[Path], threads: int) -> None:
    encoding = _published_encoding()
    for shard in shards:
        for texts in read_text_batches(shard):
            encoding.encode_batch(texts, num_threads=threads, disallowed_special=())


def _published_encoding() -> Any:
    """`tiktoken`'s GPT-2 with its own pattern, made of the same vocabulary: nothing is downloaded."""
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str

    from data_pipeline.tokenization.byte_pair_libraries import Tiktoken
    from data_pipeline.tokenization.byte_pairs import vocabulary_of

    ours = Tiktoken(vocabulary_of(load_tokenizer(real_data() / _VOCABULARIES["gpt2"]))).encoding
    return tiktoken.Encoding(
        "gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks=ours._mergeable_ranks,
        special_tokens=ours._special_tokens,
    )


def _measure(work: Callable[[], None], megabytes: float) -> harness.Measurement:
    """By the clock, and by the processor time of this process and of those that it started and that ended."""
    used = sum(os.times()[:4])
    seconds = harness.seconds(work)
    return {"MB/s": megabytes / seconds, "MB/CPU s": megabytes / (sum(os.times()[:4]) - used)}
