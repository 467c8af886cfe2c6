"""What a training shows while it runs: a bar on a terminal, else a line every ten seconds."""

import contextlib
import sys
import time
from typing import Any

from tqdm import tqdm

from core.progress import RANKS_LINE_SECONDS
from core.training.observers import Observer, numbers_in
from core.training.throughput import Throughput

_BAR_FORMAT = "{desc} {bar} {n_fmt}/{total_fmt}{postfix}, {remaining} left"
_SMALLEST_BAR = 5
_LONGEST_LEFT = ", 00:00:00 left"


def say(line: str) -> None:
    """A line on stderr, where it can be written: a terminal that is gone or a full disk ends no training."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class ProgressLine(Observer):
    """The progress of one run, on stderr.

    Args:
        title: before everything.
        first_step: steps done before.
        total_steps: where it ends.
    """

    def __init__(self, title: str, first_step: int, total_steps: int) -> None:
        self._title, self._first_step, self._total = title, first_step, total_steps
        self._bar = tqdm(
            total=total_steps, initial=first_step, desc=title, disable=None, bar_format=_BAR_FORMAT
        )
        self._validation_loss: float | None = None
        self._started = self._last_line = time.monotonic()

    def step_done(self, record: dict[str, Any], throughput: Throughput | None) -> None:
        """Where the run stands, and how fast it was of late."""
        self._bar.update(1)
        if throughput is None:
            return
        if not self._bar.disable:
            fields = _short_fields(record, throughput, self._validation_loss)
            self._bar.set_postfix_str(", ".join(fitting(fields, self._room())))
            return
        now, done = time.monotonic(), record["step"]
        if now - self._last_line > RANKS_LINE_SECONDS or done == self._total:
            left = (now - self._started) / (done - self._first_step) * (self._total - done)
            texts = [*_long_fields(record, throughput), f"{tqdm.format_interval(left)} left"]
            self._print(f"{self._title} step {done} of {self._total}, {', '.join(texts)}")
            self._last_line = now

    def validated(self, record: dict[str, Any]) -> None:
        """Its own line, over the bar if there is one."""
        self._validation_loss = record["validation_loss"]
        done = f"{self._title} step {record['step']} of {self._total}"
        self._print(f"{done}, validation loss {self._validation_loss:.4f}")

    def measured(self, record: dict[str, Any]) -> None:
        """Its own line, too."""
        found = ", ".join(f"{path} {value:.4g}" for path, value in numbers_in(record["measured"]))
        self._print(f"{self._title} step {record['step']} of {self._total}, {found}")

    def ended(self) -> None:
        self._bar.close()

    def _print(self, line: str) -> None:
        if self._bar.disable:
            say(line)
        else:
            with contextlib.suppress(OSError):
                self._bar.write(line, file=sys.stderr)

    def _room(self) -> int:
        """Columns for the fields, each with a comma before it."""
        count = f"{self._total}/{self._total}"
        rest = f"{self._title} {'':{_SMALLEST_BAR}} {count}{_LONGEST_LEFT}"
        return (self._bar.ncols or 80) - len(rest)


def fitting(fields: list[tuple[int, str]], room: int) -> list[str]:
    """Of (rank, text), in the order in which they are read, those of the first ranks that fit, a comma before each."""
    chosen = set()
    for field in sorted(fields):
        size = len(field[1]) + len(", ")
        if size <= room:
            room -= size
            chosen.add(field)
    return [field[1] for field in fields if field in chosen]


def _short_fields(
    record: dict[str, Any], throughput: Throughput, validation_loss: float | None
) -> list[tuple[int, str]]:
    """(rank: the lower the more wanted, text), in the order in which they are read."""
    fields = [
        (0, f"loss {record['loss']:.3f}"),
        (5, f"lr {record['learning_rate']:.1e}"),
        (4, f"norm {record['gradient_norm']:.2f}"),
        (3, f"{throughput.tokens_per_second / 1000:.1f}k tokens/s"),
        (7, f"{throughput.model_tflops:.3g} TFLOP/s"),
        (1, f"MFU {100 * throughput.mfu:.0f}%"),
        (6, _memory(throughput)),
    ]
    if validation_loss is not None:
        fields.insert(1, (2, f"validation {validation_loss:.3f}"))
    if "loss_scale" in record:
        fields.append((8, f"scale {record['loss_scale']:g}"))
    if throughput.idle is not None:
        fields.append((9, _idle(throughput)))
    return fields


def _long_fields(record: dict[str, Any], throughput: Throughput) -> list[str]:
    fields = [
        f"loss {record['loss']:.4f}",
        f"lr {record['learning_rate']:.2e}",
        f"gradient norm {record['gradient_norm']:.3f}",
    ]
    if "loss_scale" in record:
        fields.append(f"loss scale {record['loss_scale']:g}")
    return [
        *fields,
        f"{throughput.tokens_per_second:.0f} tokens/s",
        f"{throughput.model_tflops:.3g} TFLOP/s a device",
        f"MFU {100 * throughput.mfu:.1f}%",
        *([_idle(throughput)] if throughput.idle is not None else []),
        f"memory {_memory(throughput)}",
    ]


def _idle(throughput: Throughput) -> str:
    """How much of a pipeline's time is waited, and how much of it the schedule must."""
    return f"idle {100 * (throughput.idle or 0):.0f}% (bubble {100 * (throughput.bubble or 0):.0f}%)"


def _memory(throughput: Throughput) -> str:
    return f"{throughput.memory_bytes / 1e9:.2f} GB"
