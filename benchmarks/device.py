"""What this device makes of a preset: tokens a second, MFU and memory, eager and compiled, by micro-batch.

Trained by the trainer as users run it, with the preset's dropout. MFU is model FLOPs (`core.training.flops`) over the
fastest product of square matrices measured here in the same precision, not over a data sheet's figure.
"""

import itertools
import statistics
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks import harness, token_task
from core.parallel.mesh import initialize
from core.training.flops import sequence_flops
from core.training.peak import measured_peak
from core.training.throughput import peak_memory


@dataclass(frozen=True)
class Settings(token_task.Settings):
    """What is trained.

    Attributes:
        compile: 0: eager, 1: compiled, 0 1: both.
        micro_batches: sequences of one pass; a step takes `batch` of them.
    """

    turns: int = 1
    preset: str = "gpt2-355m"
    batch: int = 8
    steps: int = 10
    precision: str = "bf16"
    compile: tuple[int, ...] = (0, 1)
    micro_batches: tuple[int, ...] = (1, 2, 4, 8)

    def errors(self, where: str) -> list[str]:
        uneven = [size for size in self.micro_batches if size < 1 or self.batch % size]
        found = [f"{where}: micro_batches {size} does not divide the batch, {self.batch}" for size in uneven]
        return super().errors(where) + found


def run(settings: Settings, report: harness.Report) -> None:
    report.note(settings.describe())
    for compiled, size in itertools.product(settings.compile, settings.micro_batches):
        one = asdict(replace(settings, compile=(compiled,), micro_batches=(size,)))
        turns = [harness.in_fresh_process(measure, settings=one) for _ in range(settings.turns)]
        columns = {name: harness.Spread.of([turn[name] for turn in turns]) for name in turns[0]}
        report.row({"compiled": "yes" if compiled else "no", "micro-batch": size, **columns})


def measure(settings: dict[str, Any]) -> harness.Measurement:
    """One kind of layers and one micro-batch, in its own process."""
    told = Settings(**settings)
    mesh = initialize()
    shape = replace(told.shape(), dropout=told.base.dropout, attention_dropout=told.base.attention_dropout)
    durations = token_task.step_seconds(
        shape, mesh, told.batch, told.steps, precision=told.precision, compile=bool(told.compile[0]),
        micro_batch=told.micro_batches[0],
    )  # fmt: skip
    rate = told.batch / statistics.median(durations)
    length = shape.sequence_length
    operations = rate * sequence_flops(shape, length, length).model
    memory = peak_memory(mesh.device)
    peak = measured_peak(mesh.device, told.precision)
    mesh.shutdown()
    return {
        "tokens/s": rate * length,
        "TFLOP/s": operations / 1e12,
        "MFU, %": 100 * operations / peak,
        "peak measured, TFLOP/s": peak / 1e12,
        "memory, GB": memory / 1e9,
    }
