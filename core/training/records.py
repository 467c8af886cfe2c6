"""Records of a run: `metrics.jsonl` (the same bytes in every run), `state.json`, and in `logs/` what differs from run to
run: `throughput.jsonl`, and `model.txt` (layout, peak and shards)."""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

from torch import nn

from core.parallel.mesh import Mesh
from core.training.peak import Peak
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
    temporary.write_text(json.dumps({"status": status, "step": step, **facts}) + "\n", encoding="utf-8")
    os.replace(temporary, output / STATE_FILE)


def read_state(output: Path) -> dict[str, Any]:
    """The content of `state.json`; empty when there is none yet (or it is damaged)."""
    try:
        return json.loads((output / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def describe_run(output: Path, model: nn.Module, mesh: Mesh, peak: Peak) -> None:
    """Write what trains where, as the main rank sees it."""
    layout = ", ".join(f"{name} {size}" for name, size in mesh.layout.items())
    lines = [
        f"{layout}, device {mesh.device}",
        f"peak of a device: {peak.flops_per_second / 1e12:.3g} TFLOP/s ({peak.source})",
        str(model),
    ]
    (output / DESCRIPTION_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


class Recorder:
    """Writes the records of one run and shows its progress; used on the main rank only.

    Args:
        output: the run's directory.
        first_step: steps done before; lines of later steps, left by a killed run, are cut off.
        total_steps: where the bar ends.
        title: before the progress bar.
        tensorboard: write event files, too.
    """

    def __init__(
        self, output: Path, first_step: int, total_steps: int, title: str, tensorboard: bool = False
    ) -> None:
        (output / "logs").mkdir(parents=True, exist_ok=True)
        for name in (METRICS_FILE, THROUGHPUT_FILE):
            _cut_after(output / name, first_step)
        self._metrics = (output / METRICS_FILE).open("a", encoding="utf-8")
        self._throughput = (output / THROUGHPUT_FILE).open("a", encoding="utf-8")
        self._progress = ProgressLine(title, first_step, total_steps)
        self._tensorboard = TensorBoardLog(output, first_step) if tensorboard else None

    def step(self, record: dict[str, Any], throughput: Throughput | None) -> None:
        """One optimizer step: `record` goes to metrics.jsonl; `throughput` of the steps since the last one that had
        it."""
        self._write(record)
        self._progress.advance()
        if throughput is None:
            return
        rates = {name: float(f"{value:.6g}") for name, value in dataclasses.asdict(throughput).items()}
        rates["memory_bytes"] = throughput.memory_bytes
        self._throughput.write(json.dumps({"step": record["step"], "time": time.time(), **rates}) + "\n")
        self._throughput.flush()
        self._progress.show(record, throughput)
        if self._tensorboard:
            self._tensorboard.step(record, throughput)

    def validation(self, record: dict[str, Any]) -> None:
        """One validation: `record` goes to metrics.jsonl."""
        self._write(record)
        self._progress.validation(record["step"], record["validation_loss"])
        if self._tensorboard:
            self._tensorboard.validation(record["step"], record["validation_loss"])

    def _write(self, record: dict[str, Any]) -> None:
        self._metrics.write(json.dumps(record) + "\n")
        self._metrics.flush()

    def close(self) -> None:
        self._progress.close()
        self._metrics.close()
        self._throughput.close()
        if self._tensorboard:
            self._tensorboard.close()


def _cut_after(path: Path, step: int) -> None:
    """Keep the lines of steps up to `step`; an unfinished last line goes too.

    A validation at step s is recorded when s steps are done, before a checkpoint of s is written, and repeated
    on resume: so of validations only those before `step` are kept.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        last = step - 1 if "validation_loss" in record else step
        if record["step"] <= last:
            kept.append(line + "\n")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)
