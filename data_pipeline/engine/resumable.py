"""Work shard by shard: a finished shard is never done again, its counts are never lost, bad records never silent.

A stage's function writes the output of one shard (atomically) and returns its counts, which are written to
`stats/<shard>.json` as the shard's last act. Killed at any moment, the same call goes on with the first shard that
has no counts. What a stage does to documents lives in the stage's own module.
"""

import dataclasses
import functools
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core.files import atomic_write, read_json, write_json
from core.progress import Bar
from data_pipeline.engine.executors import Executor

Task = TypeVar("Task")
Counts = dict[str, Any]

_RAW_CHARACTERS = 200
_logger = logging.getLogger("data_pipeline")


def run_shards(
    stage: str,
    function: Callable[[Task], Counts],
    tasks: Mapping[str, Task],
    output: Path,
    executor: Executor,
    title: str = "",
) -> list[Counts]:
    """Apply a function to the shards that are not finished yet.

    Args:
        stage: the stage's name, for the log.
        function: writes one shard's output and returns its counts (JSON values); picklable.
        tasks: what the function gets, by shard name; the order is that of the result.
        output: the stage's directory; counts go to its `stats/`.
        executor: where the work is done.
        title: describes the progress bar.

    Returns:
        The counts of all shards, also of those finished by an earlier call.
    """
    stats = {name: Path(output) / "stats" / f"{name}.json" for name in tasks}
    pending = [name for name in tasks if not stats[name].exists()]
    finished = len(tasks) - len(pending)
    if finished and pending:
        first = list(tasks).index(pending[0])
        _logger.info(
            "%s: resuming at shard %d of %d (%d finished before)", stage, first, len(tasks), finished
        )
    work = functools.partial(_run_one, function)
    items = [(tasks[name], stats[name]) for name in pending]
    bar = Bar(total=len(tasks), initial=finished, desc=title or stage, unit="shard")
    started = time.monotonic()
    done: Counts = {}
    with bar:
        for counts in executor.map(work, items):
            done = add_counts([done, sizes(counts)])
            bar.set_postfix_str(speed(done, time.monotonic() - started), refresh=False)
            bar.update()
    return [read_json(path) for path in stats.values()]


def sizes(counts: Counts) -> Counts:
    """What of a shard's counts says how much was worked on."""
    found = {"documents": counts.get("documents_in", counts.get("documents", 0))}
    size = counts.get("bytes_in", counts.get("bytes"))
    return found if size is None else {**found, "bytes": size}


def speed(done: Counts, seconds: float) -> str:
    """ "1,234 documents/s, 5.6 MB/s" """
    parts = [f"{done['documents'] / max(seconds, 1e-9):,.0f} documents/s"]
    if "bytes" in done:
        parts.append(f"{done['bytes'] / 1e6 / max(seconds, 1e-9):,.1f} MB/s")
    return ", ".join(parts)


def _run_one(function: Callable[[Task], Counts], item: tuple[Task, Path]) -> Counts:
    task, stats = item
    try:
        counts = function(task)
        write_json(stats, counts)
        return counts
    except OSError as error:
        if error.filename is None:  # a full disk says nothing of where
            raise OSError(error.errno, error.strerror or str(error), str(stats.parent.parent)) from error
        raise


def add_counts(counts: Iterable[Counts]) -> Counts:
    """Add up counts key by key, nested tables included, keys in sorted order."""
    total: Counts = {}
    for table in counts:
        for key, value in table.items():
            if isinstance(value, dict):
                total[key] = add_counts([total.get(key, {}), value])
            else:
                total[key] = total.get(key, 0) + value
    return dict(sorted(total.items()))


@dataclass(frozen=True)
class BadRecord:
    """A record that could not be used.

    Attributes:
        source: the corpus and the number of the file in it.
        file: the file's name.
        line: the line, from 1; 0 for the file as a whole.
        reason: what is wrong with it.
        record: how the raw record starts.
    """

    source: str
    file: str
    line: int
    reason: str
    record: str

    @staticmethod
    def start(raw: bytes) -> str:
        """How a raw record starts, for people to read."""
        return raw[:_RAW_CHARACTERS].decode("utf-8", "backslashreplace").rstrip("\r\n")


def write_quarantine(output: Path, shard: str, records: list[BadRecord]) -> None:
    """Write a shard's bad records to `quarantine/<shard>.jsonl`; no file when there are none."""
    path = Path(output) / "quarantine" / f"{shard}.jsonl"
    if not records:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n")


def read_quarantine(output: Path) -> Iterable[BadRecord]:
    """All bad records of a stage's output, in order."""
    for path in sorted((Path(output) / "quarantine").glob("*.jsonl")):
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                yield BadRecord(**json.loads(line))
