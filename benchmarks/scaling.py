"""Time and memory of the stages that read documents as corpora grow: in bytes, in shards, in clusters.

Each point is measured in a process of its own, with one worker in it: processor seconds, and the most memory that it
ever had. The exponent is that of the power of the size that fits the seconds best: 1 is linear, less where what does not
grow weighs. Shards are simulated beyond what a disk holds: what is done once for all of them is done for names alone.
"""

import functools
import pickle
import random
import re
import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import harness, stages
from benchmarks.texts import edited, real_texts, recombined, write_shards
from data_pipeline.deduplication import candidates
from data_pipeline.deduplication.job import Job, on_job, share, shared
from data_pipeline.settings import DeduplicationSettings

_FACTORS = (1, 2, 4, 8, 16, 32)
_CLUSTERS = (1, 8, 64, 500, 2000)
_SHARDS = (3_000, 10_000, 30_000, 100_000, 300_000)
_SHARD_DOCUMENTS = 4000
_PASSAGE_CHARACTERS = 1500


@dataclass(frozen=True)
class Settings(harness.Settings):
    """How far corpora grow.

    Attributes:
        megabytes: of text at most; the least is a thirty-second of it.
        documents: in clusters at most; the least is a thirty-second of it.
        rows: those that grow in bytes alone, or in clusters and shards alone.
    """

    rows: Literal["all", "bytes", "clusters"] = "all"
    turns: int = 1
    megabytes: int = 32
    documents: int = 40_000


def run(settings: Settings, report: harness.Report) -> None:
    if settings.rows != "clusters":
        _run_bytes(settings, report)
    if settings.rows != "bytes":
        _run_clusters(settings, report)


def _run_bytes(settings: Settings, report: harness.Report) -> None:
    sizes = [settings.megabytes * 1_000_000 // factor for factor in reversed(_FACTORS)]
    for kind, change in (("plain", str), ("typographic", typographic)):
        corpora: dict[float, list[str]] = {}
        for size in sizes:
            texts = [change(text) for text in recombined(size)]
            corpora[sum(map(len, texts)) / 1e6] = texts
        for stage in stages.STAGES[1:]:
            _report(report, stage, f"MB of {kind} text", corpora, settings.turns)


def _run_clusters(settings: Settings, report: harness.Report) -> None:
    counts = [settings.documents // factor for factor in reversed(_FACTORS)]
    for clusters in (1, 2000):
        named = f"documents in clusters of {clusters}"
        corpora = {count: list(clustered(count, clusters)) for count in counts}
        _report(report, stages.DEDUPLICATE, named, corpora, settings.turns)
    named = f"documents in a cluster, of {settings.documents // 4}"
    corpora = {size: list(clustered(settings.documents // 4, size)) for size in _CLUSTERS}
    _report(report, stages.DEDUPLICATE, named, corpora, settings.turns)
    points = [
        (float(shards), harness.in_fresh_process(plan_shards, shards=shards, threads=1)) for shards in _SHARDS
    ]
    _report_points(report, "deduplicate: what runs once for all shards", "shards, simulated", points)
    _report_two_workers(report, clustered(settings.documents, 2000), "in clusters of 2000")


def typographic(text: str) -> str:
    """The text with curly quotes, dashes and dots as typesetters put them."""
    text = re.sub(r'"(?=\w)', "“", text).replace('"', "”")
    return text.replace("'", "’").replace("--", "—").replace("...", "…")


def clustered(documents: int, size: int, seed: int = 1) -> Iterator[str]:
    """Passages of about 1500 characters, each with edited copies to clusters of `size`, in random order."""
    draw = random.Random(seed)
    starts = [
        text[start : start + _PASSAGE_CHARACTERS]
        for text in real_texts()
        for start in range(0, len(text) - _PASSAGE_CHARACTERS, 200)
    ]
    passages = [" ".join(draw.sample(starts, 2)) for _ in range(-(-documents // size))]
    places = [number // size for number in range(documents)]
    draw.shuffle(places)
    return (edited(passages[place], draw.uniform(0.0, 0.06) * (size > 1), draw) for place in places)


def _report(
    report: harness.Report, stage: str, named: str, corpora: dict[Any, list[str]], turns: int
) -> None:
    points = []
    for size, texts in corpora.items():
        with tempfile.TemporaryDirectory() as directory:
            write_shards(texts, Path(directory) / "in", _SHARD_DOCUMENTS)
            if stage == stages.BERT:
                stages.train_splitter(Path(directory) / "in")
            measured = [
                harness.in_fresh_process(run_stage, stage=stage, directory=directory, turn=turn, threads=1)
                for turn in range(turns)
            ]
        best = min(measured, key=lambda values: values["seconds"])
        points.append((float(size), {**best, "bytes": sum(map(len, texts))}))
    _report_points(report, stage, named, points)


def _report_points(
    report: harness.Report, stage: str, named: str, points: Sequence[tuple[float, dict[str, float]]]
) -> None:
    sizes, measured = zip(*points, strict=True)
    seconds = [values["seconds"] for values in measured]
    last = measured[-1]
    report.row(
        {
            "stage": stage,
            "grows": f"{named}: {_number(sizes[0])} → {_number(sizes[-1])}",
            "CPU s": " · ".join(f"{value:.2f}" for value in seconds),
            "exponent": f"{exponent(sizes, seconds):.2f}",
            "MB/CPU s at last": f"{last['bytes'] / 1e6 / last['seconds']:.1f}" if "bytes" in last else None,
            "peak MB above the start": " · ".join(f"{values['peak']:.0f}" for values in measured),
        }
    )


def _number(size: float) -> str:
    return f"{size:,.0f}" if size >= 10 else f"{size:.1f}"


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of the straight line that fits the logarithms best."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def run_stage(stage: str, directory: str, turn: int, workers: int = 1) -> dict[str, float]:
    """Processor seconds of one stage on the shards in `in`, and the most memory, without what Python and libraries take."""
    root = Path(directory)
    work = stages.work_of(stage, root / "in", root / f"out-{turn}", workers)
    warm = root / f"warm-{turn}"
    write_shards([next(iter(real_texts()))[:3000]], warm / "in", 1)
    if stage == stages.BERT:
        stages.train_splitter(warm / "in")
    stages.work_of(stage, warm / "in", warm / "out", 1)()
    before, started = peak_megabytes(), _seconds()
    work()
    return {
        "seconds": _seconds() - started,
        "peak": peak_megabytes() - before,
        "peak of workers": peak_megabytes(of_children=True),
    }


def _seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_megabytes(of_children: bool = False) -> float:
    """Of this process, without those of the one it was started by, which Linux counts in `ru_maxrss`; or of the largest
    process that it started and that has ended."""
    who = resource.RUSAGE_CHILDREN if of_children else resource.RUSAGE_SELF
    status = Path("/proc/self/status")
    if not of_children and status.exists():
        return next(
            int(line.split()[1]) / 1e3 for line in status.read_text().splitlines() if line.startswith("VmHWM")
        )
    return resource.getrusage(who).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def plan_shards(shards: int) -> dict[str, float]:
    """What deduplication does once for all shards, for shards that are not there: 4000 documents in each."""
    before, started = peak_megabytes(), _seconds()
    with tempfile.TemporaryDirectory() as directory:
        inputs = tuple(
            f"/data/corpus/stages/decontaminate/documents-{number:05d}.parquet" for number in range(shards)
        )
        starts = np.arange(0, (shards + 1) * 4000, 4000)
        job = Job(inputs, Path(directory), DeduplicationSettings(), starts)
        share(job)
        work = functools.partial(on_job, candidates.write_buckets, shared(job))
        tasks = {task.name: task for task in candidates.band_tasks(job)}
        assert sum(len(pickle.dumps((work, task))) for task in tasks.values()) < 1000 * len(tasks)
        assert len(tasks) < 20_000 and len(job.groups) <= 512
        on_job(lambda loaded, _: {"documents": loaded.documents}, shared(job), None)
        job.by_shard(np.arange(0, job.documents, 4000))
        job.by_group(np.arange(0, job.documents, 4000))
    return {"seconds": _seconds() - started, "peak": peak_megabytes() - before}


def _report_two_workers(report: harness.Report, texts: Iterable[str], named: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        write_shards(texts, Path(directory) / "in", _SHARD_DOCUMENTS)
        found = harness.in_fresh_process(
            run_stage, stage=stages.DEDUPLICATE, directory=directory, turn=0, workers=2, threads=1
        )
    report.note(
        f"with two workers, {named}: the calling process took {found['peak']:.0f} MB more than at its start, a worker "
        f"{found['peak of workers']:.0f} MB with Python and libraries"
    )
