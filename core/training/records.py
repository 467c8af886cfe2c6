"""Records of a run: `metrics.jsonl` (the same bytes in every run), `state.json`, and in `logs/` what differs from run to
run: `throughput.jsonl`, and `model.txt` (layout, peak and shards)."""

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.training.observers import Observer, Run
from core.training.options import RunOptions
from core.training.profiler import TRACE_FILE, StepTrace
from core.training.progress import ProgressLine
from core.training.tensorboard import TensorBoardLog
from core.training.throughput import Throughput

METRICS_FILE = "metrics.jsonl"
STATE_FILE = "state.json"
THROUGHPUT_FILE = "logs/throughput.jsonl"
DESCRIPTION_FILE = "logs/model.txt"


def write_state(output: Path, status: str, step: int, **facts: Any) -> None:
    """Say in `state.json` how the run stands: running, finished, stopped or failed."""
    output.mkdir(parents=True, exist_ok=True)
    temporary = output / f".{STATE_FILE}.tmp"
    temporary.write_text(_line({"status": status, "step": step, **facts}), encoding="utf-8")
    os.replace(temporary, output / STATE_FILE)


def read_state(output: Path) -> dict[str, Any]:
    """The content of `state.json`; empty when there is none yet (or it is damaged)."""
    try:
        return json.loads((output / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def standard_observers(run: Run, options: RunOptions) -> Iterator[Observer]:
    """What shows and records every run, and what the options ask for besides; for the main rank."""
    yield Recorder(run)
    yield ProgressLine(options.title, run.first_step, run.config.steps)
    if options.tensorboard:
        yield TensorBoardLog(run.output, run.first_step)
    if options.profile_steps:
        yield StepTrace(run.output / TRACE_FILE, options.profile_steps, run.paused)


def _describe(run: Run) -> str:
    """What trains where, as the main rank sees it."""
    layout = ", ".join(f"{name} {size}" for name, size in run.mesh.layout.items())
    peak = f"{run.peak.flops_per_second / 1e12:.3g} TFLOP/s ({run.peak.source})"
    return f"{layout}, device {run.mesh.device}\npeak of a device: {peak}\n{run.model}\n"


class Recorder(Observer):
    """Writes the records of one run; lines of later steps than its first, left by a killed run, are cut off."""

    def __init__(self, run: Run) -> None:
        (run.output / "logs").mkdir(parents=True, exist_ok=True)
        for name in (METRICS_FILE, THROUGHPUT_FILE):
            _cut_after(run.output / name, run.first_step)
        (run.output / DESCRIPTION_FILE).write_text(_describe(run), encoding="utf-8")
        self._metrics = (run.output / METRICS_FILE).open("a", encoding="utf-8")
        self._throughput = (run.output / THROUGHPUT_FILE).open("a", encoding="utf-8")

    def step_done(self, record: dict[str, Any], throughput: Throughput | None) -> None:
        self._write(record)
        if throughput is None:
            return
        known = {name: value for name, value in dataclasses.asdict(throughput).items() if value is not None}
        rates = {name: float(f"{value:.6g}") for name, value in known.items()}
        rates["memory_bytes"] = throughput.memory_bytes
        self._throughput.write(_line({"step": record["step"], "time": time.time(), **rates}))
        self._throughput.flush()

    def validated(self, record: dict[str, Any]) -> None:
        self._write(record)

    def measured(self, record: dict[str, Any]) -> None:
        self._write(record)

    def _write(self, record: dict[str, Any]) -> None:
        self._metrics.write(_line(record))
        self._metrics.flush()

    def ended(self) -> None:
        self._metrics.close()
        self._throughput.close()


def _line(record: dict[str, Any]) -> str:
    """A record as JSON, which has no NaN and no infinity: the trainer stops before there is one."""
    return json.dumps(record, allow_nan=False) + "\n"


def _cut_after(path: Path, step: int) -> None:
    """Keep the lines of steps up to `step`; an unfinished last line goes too.

    A validation or measurement at step s is recorded when s steps are done, and repeated on resume after s: so only
    those before `step` are kept.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        last = step - 1 if {"validation_loss", "measured"} & set(record) else step
        if record["step"] <= last:
            kept.append(line + "\n")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)
