"""Megabytes a processor second of every stage of the pipeline, and the hours that the paper's 174 GB take.

Recombined and edited real text, one process; the stages read and write what they do in a real run, and what they load
once a process is counted. The hours are those of the cores named, were each stage's work spread over them evenly;
training of tokenizers and of the sentence splitter reads a bounded share of a corpus and is left out.
"""

import gzip
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks import harness
from benchmarks.scaling import typographic
from benchmarks.texts import real_data, recombined
from data_pipeline.cleaning import clean
from data_pipeline.decontamination.decontamination import decontaminate
from data_pipeline.deduplication.deduplication import deduplicate
from data_pipeline.engine.documents import list_shards, text_bytes
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings
from data_pipeline.sources.local import fetch_local
from data_pipeline.sources.source import LocalSource
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.sentences import PUNKT_FILE, train_sentence_splitter

_CORPUS_MEGABYTES = 174_000
_FILE_DOCUMENTS = 4000


@dataclass(frozen=True)
class Settings(harness.Settings):
    """How much is worked on.

    Attributes:
        megabytes: text to work on.
        text: as the novels are, in ASCII, or with the quotes, dashes and dots of typesetters.
        cores: of the machine that the hours are computed for.
    """

    turns: int = 2
    megabytes: int = 50
    text: Literal["plain", "typographic"] = "plain"
    cores: int = 16


def run(settings: Settings, report: harness.Report) -> None:
    turns = []
    for _ in range(settings.turns):
        with tempfile.TemporaryDirectory() as directory:
            turns.append(_speeds(Path(directory), settings))
    report.note(f"{settings.megabytes} MB of recombined real text, {settings.text}; medians (min–max)")
    title = f"hours for {_CORPUS_MEGABYTES // 1000} GB on {settings.cores} cores"
    whole = 0.0
    for stage in turns[0]:
        speed = harness.Spread.of([speeds[stage] for speeds in turns])
        hours = _CORPUS_MEGABYTES / speed.median / settings.cores / 3600
        whole += hours
        report.row({"stage": stage, "MB/CPU s": speed, title: f"{hours:.2f}"})
    speed = harness.Spread.of([_CORPUS_MEGABYTES / (whole * settings.cores * 3600)])
    report.row({"stage": "all", "MB/CPU s": speed, title: f"{whole:.2f}"})


def _speeds(root: Path, settings: Settings) -> dict[str, float]:
    """Megabytes a processor second of each stage."""
    real = real_data()
    change = {"plain": str, "typographic": typographic}[settings.text]
    texts = [change(text) for text in recombined(settings.megabytes * 1_000_000)]
    size = sum(map(text_bytes, texts))
    speeds: dict[str, float] = {}

    def timed(stage: str, work: Callable[..., object], *given: Any, **named: Any) -> None:
        started = time.process_time()
        work(*given, **named, executor=LocalExecutor(1))
        speeds[stage] = size / 1e6 / (time.process_time() - started)

    raw, fetched, cleaned, apart, kept = (root / name for name in ("raw", "fetch", "clean", "apart", "kept"))
    source = LocalSource("b", paths=_write_files(texts, raw))
    timed("fetch (.jsonl.gz)", fetch_local, source, source.found(), fetched)
    timed("clean", clean, list_shards(fetched), cleaned, CleaningSettings(), length_tokenizer=None)
    benchmarks = {"wikitext103": real / "wikitext103.valid.tokens", "lambada": real / "lambada_500.jsonl"}
    thresholds = DecontaminationSettings()
    timed("decontaminate", decontaminate, list_shards(cleaned), apart, benchmarks, thresholds)
    timed("deduplicate", deduplicate, list_shards(apart), kept, DeduplicationSettings())
    shards, punkt = list_shards(kept), root / "punkt"
    train_sentence_splitter(shards, punkt)
    sizes = [json.loads(path.read_text())["bytes"] for path in sorted((kept / "stats").glob("documents-*"))]
    size = sum(sizes)
    for name, vocabulary, splitter in (
        ("GPT-2", "gpt2-vocab.json", None),
        ("BERT", "bert-base-uncased-vocab.txt", punkt / PUNKT_FILE),
    ):
        work = partial(tokenize_corpus, sentence_splitter=splitter)
        timed(f"tokenize for {name}", work, shards, real / vocabulary, root / name)
    return speeds


def _write_files(texts: list[str], directory: Path) -> list[str]:
    directory.mkdir()
    paths = []
    for start in range(0, len(texts), _FILE_DOCUMENTS):
        paths.append(str(directory / f"{start:08d}.jsonl.gz"))
        with gzip.open(paths[-1], "wt", compresslevel=1, encoding="utf-8") as stream:
            stream.writelines(
                json.dumps({"text": text}) + "\n" for text in texts[start : start + _FILE_DOCUMENTS]
            )
    return paths
