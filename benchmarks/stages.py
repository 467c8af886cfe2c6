"""The data pipeline's stages as benchmarks run them: one after the other, each on a folder, with its default settings."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.texts import real_data
from data_pipeline.cleaning import clean
from data_pipeline.decontamination.decontamination import decontaminate
from data_pipeline.deduplication.deduplication import deduplicate
from data_pipeline.engine.documents import list_shards
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.resumable import Counts
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings
from data_pipeline.sources.local import fetch_local
from data_pipeline.sources.source import LocalSource
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.sentences import PUNKT_FILE, train_sentence_splitter

FETCH, CLEAN, DECONTAMINATE, DEDUPLICATE = "fetch", "clean", "decontaminate", "deduplicate"
GPT2, BERT = "tokenize for GPT-2", "tokenize for BERT"
STAGES = (FETCH, CLEAN, DECONTAMINATE, DEDUPLICATE, GPT2, BERT)


_LEARNED_BYTES = 2_000_000  # of a corpus, some ten seconds


def train_splitter(inputs: Path) -> None:
    """What `BERT` needs beside its inputs, a folder of document shards."""
    train_sentence_splitter(list_shards(inputs), _splitter_folder(inputs), limit_bytes=_LEARNED_BYTES)


def _splitter_folder(inputs: Path) -> Path:
    return inputs.with_name(f"{inputs.name}-sentences")


def work_of(stage: str, inputs: Path, output: Path, workers: int) -> Callable[[], Counts]:
    """A stage's work, with what it imports at first imported.

    Args:
        inputs: a folder of `.jsonl` or `.jsonl.gz` files for `FETCH`, of document shards for the others.
    """
    real, named = real_data(), {"executor": LocalExecutor(workers)}
    if stage == FETCH:
        source = LocalSource("b", paths=[str(inputs / "*.jsonl*")])
        return partial(fetch_local, source, source.found(), output, **named)
    shards = list_shards(inputs)
    benchmarks = {"wikitext103": real / "wikitext103.valid.tokens", "lambada": real / "lambada_500.jsonl"}
    vocabularies = {GPT2: real / "gpt2-vocab.json", BERT: real / "bert-base-uncased-vocab.txt"}
    splitter = _splitter_folder(inputs) / PUNKT_FILE if stage == BERT else None
    works: dict[str, Callable[..., Any]] = {
        CLEAN: partial(clean, shards, output, CleaningSettings(), length_tokenizer=None),
        DECONTAMINATE: partial(decontaminate, shards, output, benchmarks, DecontaminationSettings()),
        DEDUPLICATE: partial(deduplicate, shards, output, DeduplicationSettings()),
        **{
            name: partial(tokenize_corpus, shards, vocabulary, output / "tokens", sentence_splitter=splitter)
            for name, vocabulary in vocabularies.items()
        },
    }
    return partial(works[stage], **named)
