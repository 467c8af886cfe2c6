"""Training speed of pipeline parallelism: 2 stages × 1 thread against 1 process × 2 threads.

The same GPT-2, micro-batches and trainer on both sides, fp32 over gloo.
"""

import statistics
from dataclasses import dataclass
from functools import partial

from benchmarks import harness
from benchmarks.token_task import step_seconds
from core.config import ModelConfig
from core.parallel.mesh import initialize

SEQUENCE, LAYERS, VOCABULARY = 256, 4, 4096


@dataclass(frozen=True)
class Settings(harness.Settings):
    """What is tried: each number of micro-batches a step."""

    hidden: int = 512
    micro_batches: tuple[int, ...] = (4, 8)
    micro_batch_tokens: int = 512
    steps: int = 4


def run(settings: Settings, report: harness.Report) -> None:
    report.note(
        f"GPT-2, {LAYERS} layers, hidden {settings.hidden}, sequence {SEQUENCE}, vocabulary {VOCABULARY}, "
        f"{settings.micro_batch_tokens} tokens a micro-batch, fp32, gloo"
    )
    for count in settings.micro_batches:
        sides = {
            "2 stages × 1 thread": partial(_measure, 2, count, settings),
            "1 process × 2 threads": partial(_measure, 1, count, settings),
        }
        report.compare(sides, settings.turns, ["tokens/s"], {"micro-batches": count})


def _measure(stages: int, count: int, settings: Settings) -> harness.Measurement:
    """By the median step."""
    tokens = settings.micro_batch_tokens
    seconds = harness.in_fresh_process(
        train_on_ranks, ranks=stages, threads=2 // stages, stages=stages, hidden=settings.hidden, count=count,
        rows=tokens // SEQUENCE, steps=settings.steps,
    )  # fmt: skip
    return {"tokens/s": count * tokens / statistics.median(seconds)}


def train_on_ranks(stages: int, hidden: int, count: int, rows: int, steps: int) -> list[float] | None:
    """Seconds of each step, on the main rank."""
    mesh = initialize(pipeline_parallel=stages)
    shape = ModelConfig(
        "gpt2", LAYERS, hidden, hidden // 32, SEQUENCE, VOCABULARY, dropout=0.0, attention_dropout=0.0
    )
    seconds = step_seconds(shape, mesh, count * rows, steps, micro_batch=rows)
    main = mesh.is_main
    mesh.shutdown()
    return seconds if main else None
