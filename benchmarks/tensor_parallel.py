"""Training speed of tensor parallelism: 2 processes × 1 thread against 1 process × 2 threads.

The same GPT-2, batch and trainer on both sides, fp32 over gloo.
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
    """What is tried: each model width with each size of micro-batch."""

    hidden: tuple[int, ...] = (128, 256, 512)
    micro_batch_tokens: tuple[int, ...] = (2048, 4096)
    steps: int = 10


def run(settings: Settings, report: harness.Report) -> None:
    report.note(f"GPT-2, {LAYERS} layers, sequence {SEQUENCE}, vocabulary {VOCABULARY}, fp32, gloo")
    for hidden in settings.hidden:
        for tokens in settings.micro_batch_tokens:
            sides = {
                "2 processes × 1 thread": partial(_measure, 2, hidden, tokens, settings.steps),
                "1 process × 2 threads": partial(_measure, 1, hidden, tokens, settings.steps),
            }
            case = {"hidden": hidden, "tokens a micro-batch": tokens}
            report.compare(sides, settings.turns, ["tokens/s"], case)


def _measure(ranks: int, hidden: int, tokens: int, steps: int) -> harness.Measurement:
    """By the median step."""
    seconds = harness.in_fresh_process(
        train_on_ranks, ranks=ranks, threads=2 // ranks, tensor_parallel=ranks, hidden=hidden, tokens=tokens, steps=steps
    )  # fmt: skip
    return {"tokens/s": tokens / statistics.median(seconds)}


def train_on_ranks(tensor_parallel: int, hidden: int, tokens: int, steps: int) -> list[float] | None:
    """Seconds of each step, on the main rank."""
    mesh = initialize(tensor_parallel)
    shape = ModelConfig(
        "gpt2", LAYERS, hidden, hidden // 32, SEQUENCE, VOCABULARY, dropout=0.0, attention_dropout=0.0
    )
    seconds = step_seconds(shape, mesh, tokens // SEQUENCE, steps)
    main = mesh.is_main
    mesh.shutdown()
    return seconds if main else None
