"""fp16 and bf16 beside fp32: losses on real text, step by step, and the steps that fp16's loss scale had to try again.

The same GPT-2, initial weights and batches in each precision, one after the other, each once. The text is in the folder
named by REAL_DATA, and so is GPT-2's vocabulary.
"""

import statistics
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks import harness, token_task
from benchmarks.texts import real_data, real_texts
from core.parallel.mesh import initialize
from data_pipeline.tokenization.tokenizers import load_tokenizer


@dataclass(frozen=True)
class Settings(token_task.Settings):
    """What is trained."""

    turns: int = 1
    preset: str = "gpt2-355m"
    batch: int = 8
    steps: int = 200
    learning_rate: float = 1.5e-4
    precisions: tuple[str, ...] = ("fp32", "bf16", "fp16")


def run(settings: Settings, report: harness.Report) -> None:
    report.note(settings.describe())
    length, steps = settings.shape().sequence_length, settings.steps
    tokens = _real_tokens(steps * settings.batch * length + 1)

    def rows(indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([tokens[i * length : (i + 1) * length + 1] for i in indices]))

    mesh = initialize()
    runs = {
        precision: token_task.train_on(
            rows, settings.shape(), mesh, settings.batch, steps, learning_rate=settings.learning_rate,
            warmup_steps=steps // 10, precision=precision, log_interval=1,
        )
        for precision in settings.precisions
    }  # fmt: skip
    mesh.shutdown()
    eighth = max(1, steps // 8)
    for step in sorted({1, *range(eighth, steps + 1, eighth), steps}):
        losses = {precision: f"{seen.records[step - 1]['loss']:.4f}" for precision, seen in runs.items()}
        report.row({"step": step, **losses})
    typical = {name: statistics.median(seen.speeds[steps // 10 :]) for name, seen in runs.items()}
    report.row({"step": "tokens/s", **{name: f"{speed:.0f}" for name, speed in typical.items()}})
    if "fp16" in runs:
        overflows = sum(record["overflows"] for record in runs["fp16"].records)
        scale = runs["fp16"].records[-1]["loss_scale"]
        report.note(f"fp16: {overflows} tries overflowed; the loss scale ended at {scale:g}")


def _real_tokens(wanted: int) -> np.ndarray:
    """[wanted] int64, the texts one after the other, again and again."""
    tokenizer = load_tokenizer(real_data() / "gpt2-vocab.json")
    parts: list[np.ndarray] = []
    for text in real_texts():
        parts.append(np.array([*tokenizer.encode(text), tokenizer.end_of_document], np.int64))
        if sum(map(len, parts)) >= wanted:
            break
    return np.resize(np.concatenate(parts), wanted)
