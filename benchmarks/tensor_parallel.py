"""Training speed of tensor parallelism: 2 processes × 1 thread against 1 process × 2 threads.

The same GPT-2, batch and trainer on both sides, in turn (A B A B …), so that a machine whose speed drifts is fair to
both; the figure to read is the ratio of each pair.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS, LOG_INTERVAL, WARMUP_STEPS = 30, 10, 10
SEQUENCE = 256
LAYERS = 4
VOCABULARY = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 256, 512], help="model widths")
    parser.add_argument("--micro-batch-tokens", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument(
        "--pairs", type=int, default=3, help="interleaved measurements of each (default: %(default)s)"
    )
    parser.add_argument(
        "--worker", type=int, nargs=3, help=argparse.SUPPRESS
    )  # hidden, tokens, tensor parallel
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> None:
    if arguments.worker:
        _work(*arguments.worker, arguments.output)
        return
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores, torch {torch.__version__}, fp32, gloo"
    )
    print(f"GPT-2, {LAYERS} layers, sequence {SEQUENCE}, vocabulary {VOCABULARY}; tokens/s, medians")
    print(
        "| hidden | tokens a micro-batch | 1 process × 2 threads | 2 processes × 1 thread | ratio (min–max) |"
    )
    print("|---|---|---|---|---|")
    for hidden in arguments.hidden:
        for tokens in arguments.micro_batch_tokens:
            pairs = [
                (_measure(hidden, tokens, 1), _measure(hidden, tokens, 2)) for _ in range(arguments.pairs)
            ]
            ratios = [two / one for one, two in pairs]
            one, two = (statistics.median(values) for values in zip(*pairs, strict=True))
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            print(f"| {hidden} | {tokens} | {one:.0f} | {two:.0f} | {ratio} |", flush=True)


def _measure(hidden: int, tokens: int, tensor_parallel: int) -> float:
    """Tokens a second after the warm-up, from the trainer's own record."""
    with tempfile.TemporaryDirectory() as output:
        launch = [sys.executable, "-m"]
        if tensor_parallel > 1:
            launch += [
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node",
                str(tensor_parallel),
                "-m",
            ]
        worker = ["--worker", str(hidden), str(tokens), str(tensor_parallel), "--output", output]
        subprocess.run(
            [*launch, "benchmarks", "tensor-parallel", *worker],
            check=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": str(2 // tensor_parallel)},
        )
        lines = (Path(output) / "logs" / "throughput.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return statistics.median(r["tokens_per_second"] for r in records if r["step"] > WARMUP_STEPS)


def _work(hidden: int, tokens: int, tensor_parallel: int, output: Path) -> None:
    import numpy as np
    import torch

    from core.config import ModelConfig, TrainingConfig
    from core.model_directory import build_model
    from core.models.gpt2 import GPT2LanguageModeling
    from core.parallel.mesh import initialize
    from core.training.trainer import train

    mesh = initialize(tensor_parallel)
    shape = ModelConfig(
        "gpt2", LAYERS, hidden, hidden // 32, SEQUENCE, VOCABULARY, dropout=0.0, attention_dropout=0.0
    )

    class RandomTokens:
        total_samples = STEPS * (tokens // SEQUENCE)
        validation = None
        model = GPT2LanguageModeling(build_model(shape, mesh))  # type: ignore[arg-type]

        def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
            generator = torch.Generator().manual_seed(int(indices[0]))
            values = torch.randint(VOCABULARY, (len(indices), SEQUENCE + 1), generator=generator)
            return {"tokens": values[:, :-1], "targets": values[:, 1:]}

        def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
            return {"language_model": float(batch["targets"].numel())}

        def save(self, directory: Path) -> None:
            """Nothing is kept."""

    batch = tokens // SEQUENCE
    training = TrainingConfig(
        steps=STEPS, global_batch=batch, micro_batch=batch, learning_rate=1e-4, log_interval=LOG_INTERVAL
    )
    train(RandomTokens(), mesh, training, output)
    mesh.shutdown()
