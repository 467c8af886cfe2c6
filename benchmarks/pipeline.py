"""Megabytes a second and core of every stage of the pipeline, and the hours that the paper's 174 GB take.

Recombined and edited real text, one core; the stages read and write what they do in a real run. The hours count every
stage's own time at this speed on the cores named; training of tokenizers and of the sentence splitter reads a bounded
share of a corpus and is left out.
"""

import argparse
import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.near_duplicates import recombined
from data_pipeline.cleaning import clean
from data_pipeline.decontamination.decontamination import decontaminate
from data_pipeline.deduplication.deduplication import deduplicate
from data_pipeline.engine.documents import list_shards
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings
from data_pipeline.sources.local import fetch_local
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.sentences import PUNKT_FILE, train_sentence_splitter

_CORPUS_GIGABYTES = 174
_FILE_DOCUMENTS = 4000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--megabytes", type=int, default=50, help="text to work on (default: %(default)s)")
    parser.add_argument(
        "--cores", type=int, default=16, help="of the machine for the hours (default: %(default)s)"
    )
    parser.add_argument(
        "--repetitions", type=int, default=2, help="runs; the best counts (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    best: dict[str, tuple[float, float]] = {}
    for _ in range(arguments.repetitions):
        with tempfile.TemporaryDirectory() as directory:
            for stage, (size, seconds) in _measure(Path(directory), arguments.megabytes).items():
                if stage not in best or seconds < best[stage][1]:
                    best[stage] = size, seconds
    print(f"{arguments.megabytes} MB of recombined real text, one core, best of {arguments.repetitions}")
    print(
        f"| stage | MB/s a core | hours for {_CORPUS_GIGABYTES} GB on {arguments.cores} cores |\n|---|---|---|"
    )
    total = 0.0
    for stage, (size, seconds) in best.items():
        speed = size / 1e6 / seconds
        hours = _CORPUS_GIGABYTES * 1e3 / speed / arguments.cores / 3600
        total += hours
        print(f"| {stage} | {speed:.1f} | {hours:.2f} |")
    print(f"| all | {_CORPUS_GIGABYTES * 1e3 / (total * arguments.cores * 3600):.1f} | {total:.2f} |")


def _measure(root: Path, megabytes: int) -> dict[str, tuple[float, float]]:
    """Bytes and seconds of each stage."""
    real = Path(os.environ["REAL_DATA"])
    executor = LocalExecutor(1)
    texts = list(recombined(megabytes * 1_000_000))
    size = sum(map(len, texts))
    files = _write_files(texts, root / "raw")
    found: dict[str, tuple[float, float]] = {}

    def timed(stage: str, function: Callable[[], object]) -> None:
        started = time.perf_counter()
        function()
        found[stage] = size, time.perf_counter() - started

    timed("fetch (.jsonl.gz)", lambda: fetch_local(files, root / "fetch", source="b", executor=executor))
    fetched = list_shards(root / "fetch")
    settings = CleaningSettings()
    timed("clean", lambda: clean(fetched, root / "clean", settings, length_tokenizer=None, executor=executor))
    benchmarks = {"wikitext103": real / "wikitext103.valid.tokens", "lambada": real / "lambada_500.jsonl"}
    cleaned = list_shards(root / "clean")
    timed(
        "decontaminate",
        lambda: decontaminate(
            cleaned, root / "apart", benchmarks, DecontaminationSettings(), executor=executor
        ),
    )
    apart = list_shards(root / "apart")
    timed(
        "deduplicate", lambda: deduplicate(apart, root / "dedup", DeduplicationSettings(), executor=executor)
    )
    kept = list_shards(root / "dedup")
    stats = [json.loads(path.read_text()) for path in sorted((root / "dedup" / "stats").glob("documents-*"))]
    size = sum(count["bytes"] for count in stats)
    timed(
        "tokenize for GPT-2",
        lambda: tokenize_corpus(
            kept, real / "gpt2-vocab.json", root / "gpt2", sentence_splitter=None, executor=executor
        ),
    )
    train_sentence_splitter(kept, root / "punkt")
    part = kept[:1]
    size = stats[0]["bytes"]
    timed(
        "tokenize for BERT",
        lambda: tokenize_corpus(
            part,
            real / "bert-base-uncased-vocab.txt",
            root / "bert",
            sentence_splitter=root / "punkt" / PUNKT_FILE,
            executor=executor,
        ),
    )
    return found


def _write_files(texts: list[str], directory: Path) -> list[str]:
    directory.mkdir()
    paths = []
    for start in range(0, len(texts), _FILE_DOCUMENTS):
        path = directory / f"{start:08d}.jsonl.gz"
        with gzip.open(path, "wt", compresslevel=1, encoding="utf-8") as stream:
            stream.writelines(
                json.dumps({"text": text}) + "\n" for text in texts[start : start + _FILE_DOCUMENTS]
            )
        paths.append(str(path))
    return paths
