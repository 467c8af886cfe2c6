"""Processor time and memory of keys and fetches over numbers of files, bytes and shards, with fitted exponents.

An exponent of 1 is linear. Each size runs in a process of its own, which counts its processor seconds, those of the
file system included, and its peak of memory. Shards are simulated: what a stage does in the calling process for each of
them (progress, manifest, checks of what is finished), on files of a few bytes.
"""

import contextlib
import json
import math
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from data_pipeline import steps
from data_pipeline.engine import hashes
from data_pipeline.engine.artifacts import Artifact
from data_pipeline.engine.documents import list_shards
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.integrity import verify
from data_pipeline.engine.resumable import add_counts, run_shards
from data_pipeline.engine.steps import Store, Workplace, make
from data_pipeline.sources.source import LocalSource

_WORDS = (
    "the old ferryman walked along a quiet river and told his friends about many ships that had come home "
)
_FILES = (100, 600, 3_500, 20_000)
_FILE_BYTES = 2_000
_MEGABYTES = (4, 12, 40, 120)
_SHARDS = (3_000, 30_000, 300_000)


@dataclass(frozen=True)
class Settings(harness.Settings):
    """How much is worked on.

    Attributes:
        most: of each series only sizes up to this share of its largest, in percent.
    """

    turns: int = 1
    most: int = 100


def run(settings: Settings, report: harness.Report) -> None:
    for what, sizes, measure in (
        ("files", _FILES, _measure_files),
        ("MB", _MEGABYTES, _measure_bytes),
        ("shards", _SHARDS, _measure_shards),
    ):
        taken = [size for size in sizes if size * 100 <= sizes[-1] * settings.most] or [sizes[0]]
        found = {size: harness.in_fresh_process(measure, threads=1, size=size) for size in taken}
        report.note(f"{what}: processor seconds for {', '.join(f'{size:,}' for size in taken)}")
        for measured in found.values():
            measured["seconds"]["all of it"] = sum(measured["seconds"].values())
        for part in found[taken[0]]["seconds"]:
            seconds = [found[size]["seconds"][part] for size in taken]
            row: dict[str, Any] = {"what": part}
            row |= {f"{size:,}": f"{value:.2f}" for size, value in zip(taken, seconds, strict=True)}
            report.row({**row, "exponent": f"{exponent(taken, seconds):.2f}"})
        memory = [found[size]["megabytes"] for size in taken]
        row = {"what": "peak memory, MB"}
        row |= {f"{size:,}": f"{value:.0f}" for size, value in zip(taken, memory, strict=True)}
        report.row({**row, "exponent": f"{exponent(taken, memory):.2f}"})


def exponent(sizes: list[int], values: list[float]) -> float:
    """The slope of a straight line through the logarithms, by least squares; 0 for a single size."""
    xs, ys = [math.log(size) for size in sizes], [math.log(max(value, 1e-3)) for value in values]
    middle, height = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - middle) ** 2 for x in xs)
    return sum((x - middle) * (y - height) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


class _Clock:
    """Processor seconds of named parts, and the peak of memory."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, part: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = work()
        self.seconds[part] = time.process_time() - started
        return result

    def found(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "megabytes": _peak_kilobytes() / 1000}


def _peak_kilobytes() -> int:
    """Of this process; what the kernel says of its resources counts what the process was before its program started."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    hashes._SETTLED_SECONDS = -math.inf  # as if the files had been there for a while
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _measure_files(size: int) -> dict[str, Any]:
    with _folder() as folder:
        for number in range(size):
            path = folder / "in" / f"{number // 1000:03d}" / f"{number:06d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number} " + _WORDS * (_FILE_BYTES // len(_WORDS)))
        return _fetch(folder)


def _measure_bytes(size: int) -> dict[str, Any]:
    with _folder() as folder:
        (folder / "in").mkdir()
        line = json.dumps({"text": _WORDS * 40, "url": "https://example.org"}) + "\n"
        with (folder / "in" / "a.jsonl").open("w") as stream:
            stream.writelines(line for _ in range(size * 1_000_000 // len(line)))
        return _fetch(folder)


def _fetch(folder: Path) -> dict[str, Any]:
    clock = _Clock()

    def step() -> steps.Step:
        return steps.fetch(LocalSource("s", paths=[str(folder / "in")]), None, None)

    (folder / "first.jsonl").write_text('{"text": "one"}\n')  # imports
    small = steps.fetch(LocalSource("s", paths=[str(folder / "first.jsonl")]), None, None)
    make(small, Workplace(Store(folder / "small"), LocalExecutor(1)))
    first = clock.timed("list the files", step)
    store = Store(folder / "runs")
    clock.timed("take the key", lambda: store.artifact(first))
    clock.timed("fetch", lambda: make(first, Workplace(store, LocalExecutor(1))))
    again = step()
    clock.timed("find it made", lambda: Store(folder / "runs").is_complete(again))
    return clock.found()


def _nothing(task: int) -> dict[str, Any]:
    raise AssertionError(f"shard {task} was finished before")


def _measure_shards(size: int) -> dict[str, Any]:
    clock = _Clock()
    with _folder() as folder:
        artifact = Artifact(folder, "stage", "name", 1)
        partial = artifact.start()
        counts = {"documents_in": 10, "bytes_in": 100, "documents": 9, "bytes": 90, "dropped": {"short": 1}}
        (partial / "stats").mkdir()
        written = json.dumps(counts)
        for number in range(size):
            (partial / "stats" / f"documents-{number:05d}.json").write_text(written)
            os.link(
                partial / "stats" / f"documents-{number - number % 1000:05d}.json",
                partial / f"documents-{number:05d}.parquet",
            )
        tasks = {f"documents-{number:05d}": number for number in range(size)}
        found = clock.timed(
            "go on with a finished stage",
            lambda: add_counts(run_shards("stage", _nothing, tasks, partial, LocalExecutor(1))),
        )
        clock.timed("list the shards", lambda: list_shards(partial))
        clock.timed("write the manifest", lambda: artifact.finish(found, {"segments": []}))
        complete = clock.timed("find it complete", artifact.is_complete)
        checked = clock.timed("verify", lambda: verify(artifact.directory))
        assert complete and not checked.problems and found["documents"] == 9 * size
        result = clock.found()
        shutil.rmtree(artifact.directory)
        return result
