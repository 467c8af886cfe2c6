"""Megabytes a processor second of every stage of the pipeline, and the hours that the paper's 174 GB take.

Recombined and edited real text, one process; the stages read and write what they do in a real run, and what they load
once a process is counted. The hours are those of the cores named, were each stage's work spread over them evenly;
training of tokenizers and of the sentence splitter reads a bounded share of a corpus and is left out.
"""

import gzip
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import harness, stages
from benchmarks.scaling import typographic
from benchmarks.texts import recombined
from data_pipeline.engine.documents import text_bytes

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
    change = {"plain": str, "typographic": typographic}[settings.text]
    texts = [change(text) for text in recombined(settings.megabytes * 1_000_000)]
    size = sum(map(text_bytes, texts))
    speeds: dict[str, float] = {}
    inputs = root / "raw"
    _write_files(texts, inputs)
    for stage in stages.STAGES:
        if stage == stages.BERT:
            stages.train_splitter(inputs)
        work = stages.work_of(stage, inputs, root / stage, 1)
        started = time.process_time()
        work()
        speeds[stage] = size / 1e6 / (time.process_time() - started)
        if stage == stages.DEDUPLICATE:
            counts = sorted((root / stage / "stats").glob("documents-*"))
            size = sum(json.loads(path.read_text())["bytes"] for path in counts)
        if stage not in (stages.GPT2, stages.BERT):
            inputs = root / stage
    return speeds


def _write_files(texts: list[str], directory: Path) -> None:
    directory.mkdir()
    for start in range(0, len(texts), _FILE_DOCUMENTS):
        path = directory / f"{start:08d}.jsonl.gz"
        with gzip.open(path, "wt", compresslevel=1, encoding="utf-8") as stream:
            stream.writelines(
                json.dumps({"text": text}) + "\n" for text in texts[start : start + _FILE_DOCUMENTS]
            )
