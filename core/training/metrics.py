"""Records of a run: `metrics.jsonl` (the same bytes in every run), `logs/throughput.jsonl` (times), `state.json`,
and the progress line."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

METRICS_FILE = "metrics.jsonl"
STATE_FILE = "state.json"
THROUGHPUT_FILE = "logs/throughput.jsonl"
_PLAIN_LINE_INTERVAL_SECONDS = 10.0
_BAR_FORMAT = "{desc} {bar:10} {n_fmt}/{total_fmt}{postfix}, {remaining} left"  # fits 80 columns


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


class Recorder:
    """Writes the records of one run and shows its progress; used on the main rank only.

    Args:
        output: the run's directory.
        first_step: steps done before; lines of later steps, left by a killed run, are cut off.
        total_steps: where the bar ends.
        title: before the progress bar.
    """

    def __init__(self, output: Path, first_step: int, total_steps: int, title: str) -> None:
        (output / "logs").mkdir(parents=True, exist_ok=True)
        _cut_after(output / METRICS_FILE, first_step)
        self._metrics = (output / METRICS_FILE).open("a", encoding="utf-8")
        self._throughput = (output / THROUGHPUT_FILE).open("a", encoding="utf-8")
        self._title = title
        self._total = total_steps
        self._bar = tqdm(
            total=total_steps, initial=first_step, desc=title, disable=None, bar_format=_BAR_FORMAT
        )
        self._window_start = self._started = self._last_line = time.monotonic()
        self._window_tokens = 0
        self._first_step = first_step

    def step(self, record: dict[str, Any], tokens: int, log: bool) -> None:
        """One optimizer step: `record` goes to metrics.jsonl; `log` closes a throughput window."""
        self._write(record)
        self._window_tokens += tokens
        self._bar.update(1)
        if log:
            self._log(record)

    def validation(self, record: dict[str, Any]) -> None:
        """One validation: `record` goes to metrics.jsonl."""
        self._write(record)

    def _write(self, record: dict[str, Any]) -> None:
        self._metrics.write(json.dumps(record) + "\n")
        self._metrics.flush()

    def _log(self, record: dict[str, Any]) -> None:
        now = time.monotonic()
        rate = self._window_tokens / max(now - self._window_start, 1e-9)
        done = record["step"]
        self._throughput.write(
            json.dumps({"step": done, "time": time.time(), "tokens_per_second": round(rate, 1)}) + "\n"
        )
        self._throughput.flush()
        self._bar.set_postfix_str(f"loss {record['loss']:.3f}, {rate / 1000:.1f}k tokens/s")
        if self._bar.disable and (
            now - self._last_line > _PLAIN_LINE_INTERVAL_SECONDS or done == self._total
        ):
            left = (now - self._started) / (done - self._first_step) * (self._total - done)
            print(
                f"{self._title} step {done} of {self._total}, loss {record['loss']:.4f}, "
                f"lr {record['learning_rate']:.2e}, gradient norm {record['gradient_norm']:.3f}, "
                f"{rate:.0f} tokens/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
            self._last_line = now
        self._window_start, self._window_tokens = now, 0

    def close(self) -> None:
        self._bar.close()
        self._metrics.close()
        self._throughput.close()


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
