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

WARMUP_STEPS = 3
SEQUENCE = 256
LAYERS = 4
VOCABULARY = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 256, 512], help="model widths")
    parser.add_argument("--micro-batch-tokens", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument(
        "--pairs", type=int, default=3, help="interleaved measurements of each (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=10, help="timed steps (default: %(default)s)")
    parser.add_argument(
        "--worker", type=int, nargs=3, help=argparse.SUPPRESS
    )  # hidden, tokens, tensor parallel
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> None:
    if arguments.worker:
        _work(*arguments.worker, arguments.steps, arguments.output)
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
                tuple(_measure(hidden, tokens, ranks, arguments.steps) for ranks in (1, 2))
                for _ in range(arguments.pairs)
            ]
            ratios = [two / one for one, two in pairs]
            one, two = (statistics.median(values) for values in zip(*pairs, strict=True))
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            print(f"| {hidden} | {tokens} | {one:.0f} | {two:.0f} | {ratio} |", flush=True)


def _measure(hidden: int, tokens: int, tensor_parallel: int, steps: int) -> float:
    """Tokens a second, by the median step after the warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        launch = [sys.executable, "-m"]
        if tensor_parallel > 1:
            launch += [
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node",
                str(tensor_parallel),
                "-m",
            ]
        output = Path(folder) / "seconds.json"
        worker = ["--worker", str(hidden), str(tokens), str(tensor_parallel), "--output", str(output)]
        subprocess.run(
            [*launch, "benchmarks", "tensor-parallel", *worker, "--steps", str(steps)],
            check=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": str(2 // tensor_parallel)},
        )
        return tokens / statistics.median(json.loads(output.read_text()))


def _work(hidden: int, tokens: int, tensor_parallel: int, steps: int, output: Path) -> None:
    from benchmarks.token_task import step_seconds
    from core.config import ModelConfig, TrainingConfig
    from core.parallel.mesh import initialize

    mesh = initialize(tensor_parallel)
    shape = ModelConfig(
        "gpt2", LAYERS, hidden, hidden // 32, SEQUENCE, VOCABULARY, dropout=0.0, attention_dropout=0.0
    )
    batch = tokens // SEQUENCE
    training = TrainingConfig(
        steps=WARMUP_STEPS + steps, global_batch=batch, micro_batch=batch, learning_rate=1e-4
    )
    seconds = step_seconds(shape, mesh, training, WARMUP_STEPS)
    if mesh.is_main:
        output.write_text(json.dumps(seconds))
    mesh.shutdown()
