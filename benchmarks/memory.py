"""The most memory that the calling process and a worker of each stage take, beside what the documentation bounds them by.

Every stage runs in a process of its own, which starts two workers: on text in documents of some thousand characters,
and on the same with one document of many megabytes. Bounds are those of docs/data-pipeline.md; what Python and the
libraries take before anything is read is in the worker's, and not in the calling process's.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import harness
from benchmarks.scaling import peak_megabytes
from benchmarks.texts import real_data, recombined, write_shards
from data_pipeline.engine.documents import Document, list_shards, write_shard
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.resumable import Counts
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings

_SHARD_DOCUMENTS = 2000
_FILES = 4
_WORKERS = 2


class Bound(NamedTuple):
    """Megabytes, for a corpus and its longest document.

    Attributes:
        worker: of a worker, besides the longest document.
        times_longest: what that adds to it, in its bytes.
        clustered: bytes a document in a cluster, of the calling process.
    """

    worker: int
    times_longest: int
    clustered: int = 0


_DOCUMENT_BYTES, _SHARD_BYTES, _CALLING_MEGABYTES = 2, 2000, 200
BOUNDS = {
    "fetch": Bound(400, 10),
    "clean": Bound(400, 10),
    "decontaminate": Bound(500, 25),
    "deduplicate": Bound(700, 10, 600),
    "tokenize for GPT-2": Bound(900, 20),
    "tokenize for BERT": Bound(900, 20),
}


@dataclass(frozen=True)
class Settings(harness.Settings):
    """What is worked on.

    Attributes:
        megabytes: of text in documents of some thousand characters.
        longest: megabytes of the one long document.
    """

    turns: int = 1
    megabytes: int = 40
    longest: int = 16


def run(settings: Settings, report: harness.Report) -> None:
    with tempfile.TemporaryDirectory() as folder:
        size = _write(Path(folder), settings)
        for stage, bound in BOUNDS.items():
            found = {
                name: harness.in_fresh_process(
                    run_stage,
                    threads=1,
                    stage=stage,
                    inputs=f"{folder}/{name}",
                    output=f"{folder}/{name}-{stage}",
                )
                for name in ("short", "long")
            }
            calling = (
                _DOCUMENT_BYTES * size.documents + _SHARD_BYTES * size.shards
            ) / 1e6 + _CALLING_MEGABYTES
            calling += bound.clustered * found["long"]["clustered"] / 1e6
            worker = bound.worker + bound.times_longest * settings.longest
            report.row(
                {
                    "stage": stage,
                    "calling process, MB": f"{found['long']['calling']:.0f}",
                    "its bound": f"{calling:.0f}",
                    "worker, MB": f"{found['short']['worker']:.0f}",
                    "its bound ": f"{bound.worker:.0f}",
                    f"with a document of {settings.longest} MB": f"{found['long']['worker']:.0f}",
                    "bound": f"{worker:.0f}",
                    "all within": str(
                        found["long"]["calling"] <= calling
                        and found["short"]["worker"] <= bound.worker
                        and found["long"]["worker"] <= worker
                    ),
                }
            )


class _Size(NamedTuple):
    documents: int
    shards: int


def _write(folder: Path, settings: Settings) -> _Size:
    """Two corpora, as shards and as lines of JSON."""
    texts = list(recombined(settings.megabytes * 1_000_000))
    long = "\n\n".join(recombined(settings.longest * 1_000_000, seed=2))
    shards = write_shards(texts, folder / "short", _SHARD_DOCUMENTS)
    (folder / "long").mkdir()
    for shard in shards:
        (folder / "long" / shard.name).hardlink_to(shard)
    write_shard(folder / "long" / f"documents-{len(shards):05d}.parquet", [Document("long", long, "b", "{}")])
    parts = [texts[start::_FILES] for start in range(_FILES)]
    for name, files in (("short", parts), ("long", [*parts, [long]])):
        for number, part in enumerate(files):
            with (folder / name / f"{number}.jsonl").open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps({"text": text}) + "\n" for text in part)
    return _Size(len(texts) + 1, len(shards) + 1)


def run_stage(stage: str, inputs: str, output: str) -> dict[str, float]:
    """Peaks of this process, beyond what it had before, and of the largest worker; and how many documents were in clusters."""
    work = _work(stage, Path(inputs), Path(output))
    before = peak_megabytes()
    counts = work()
    return {
        "calling": peak_megabytes() - before,
        "worker": peak_megabytes(of_children=True),
        "clustered": sum(counts.get("dropped", {}).values()) + counts.get("clusters", 0),
    }


def _work(stage: str, inputs: Path, output: Path) -> Callable[[], Counts]:
    """A stage's work, with what it imports imported."""
    from data_pipeline.cleaning import clean
    from data_pipeline.decontamination.decontamination import decontaminate
    from data_pipeline.deduplication.deduplication import deduplicate
    from data_pipeline.sources.local import fetch_local
    from data_pipeline.sources.source import LocalSource
    from data_pipeline.tokenization.corpus import tokenize_corpus
    from data_pipeline.tokenization.sentences import PUNKT_FILE, train_sentence_splitter

    real, shards = real_data(), list_shards(inputs)
    named: dict[str, Any] = {"executor": LocalExecutor(_WORKERS)}
    if stage == "fetch":
        source = LocalSource("b", paths=[str(inputs / "*.jsonl")])
        return partial(fetch_local, source, source.found(), output, **named)
    if stage == "clean":
        return partial(clean, shards, output, CleaningSettings(), length_tokenizer=None, **named)
    if stage == "decontaminate":
        files = {"wikitext103": real / "wikitext103.valid.tokens", "lambada": real / "lambada_500.jsonl"}
        return partial(decontaminate, shards, output, files, DecontaminationSettings(), **named)
    if stage == "deduplicate":
        return partial(deduplicate, shards, output, DeduplicationSettings(), **named)
    vocabulary, splitter = real / "gpt2-vocab.json", None
    if stage == "tokenize for BERT":
        vocabulary, splitter = real / "bert-base-uncased-vocab.txt", output / PUNKT_FILE
        train_sentence_splitter(shards[:1], output)
    return partial(
        tokenize_corpus, shards, vocabulary, output / "tokens", sentence_splitter=splitter, **named
    )
