"""The most memory that the calling process and a worker of each stage take, beside what the documentation bounds them by.

Every stage runs in a process of its own, which starts two workers: on text in documents of some thousand characters,
and on the same with one document of many megabytes. Bounds are those of docs/data-pipeline.md; what Python and the
libraries take before anything is read is in the worker's, and not in the calling process's.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import harness, stages
from benchmarks.scaling import peak_megabytes
from benchmarks.texts import recombined, write_shards
from data_pipeline.engine.documents import Document, write_shard

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
    stages.FETCH: Bound(400, 10),
    stages.CLEAN: Bound(400, 10),
    stages.DECONTAMINATE: Bound(500, 25),
    stages.DEDUPLICATE: Bound(700, 10, 600),
    stages.GPT2: Bound(900, 20),
    stages.BERT: Bound(900, 20),
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
        stages.train_splitter(folder / name)
    return _Size(len(texts) + 1, len(shards) + 1)


def run_stage(stage: str, inputs: str, output: str) -> dict[str, float]:
    """Peaks of this process, beyond what it had before, and of the largest worker; and how many documents were in clusters."""
    work = stages.work_of(stage, Path(inputs), Path(output), _WORKERS)
    before = peak_megabytes()
    counts = work()
    return {
        "calling": peak_megabytes() - before,
        "worker": peak_megabytes(of_children=True),
        "clustered": sum(counts.get("dropped", {}).values()) + counts.get("clusters", 0),
    }
