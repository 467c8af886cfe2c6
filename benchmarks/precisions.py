"""fp16 and bf16 beside fp32: losses on real text, step by step, and the steps that fp16's loss scale had to try again.

The same GPT-2, initial weights and batches in each precision, one after the other. The text is in the folder named by
REAL_DATA, and so is GPT-2's vocabulary.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="gpt2-355m", help="a size by name (default: %(default)s)")
    parser.add_argument("--layers", type=int, help="fewer than the preset's")
    parser.add_argument("--hidden", type=int, help="narrower than the preset's")
    parser.add_argument("--sequence", type=int, help="shorter than the preset's")
    parser.add_argument("--batch", type=int, default=8, help="sequences a step (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=1.5e-4)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "fp16"])


def run(arguments: argparse.Namespace) -> None:
    import torch

    from core.parallel.mesh import initialize

    shape = _shape(arguments)
    tokens = _real_tokens(arguments.steps * arguments.batch * shape.sequence_length + 1)
    mesh = initialize()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(
        f"{where}, torch {torch.__version__}; GPT-2: {shape.layers} layers, hidden {shape.hidden}, sequence "
        f"{shape.sequence_length}; {arguments.batch} sequences a step"
    )
    runs = {
        precision: _train(arguments, shape, tokens, mesh, precision) for precision in arguments.precisions
    }
    mesh.shutdown()
    print(f"| step | {' | '.join(runs)} |\n|---|{'---|' * len(runs)}")
    shown = sorted(
        {1, *range(arguments.steps // 8, arguments.steps + 1, max(1, arguments.steps // 8)), arguments.steps}
    )
    for step in shown:
        losses = [f"{records[step - 1]['loss']:.4f}" for records in runs.values()]
        print(f"| {step} | {' | '.join(losses)} |")
    speeds = [f"{_speed(records):.0f}" for records in runs.values()]
    print(f"| tokens/s | {' | '.join(speeds)} |")
    if "fp16" in runs:
        overflows = sum(record["overflows"] for record in runs["fp16"])
        print(
            f"\nfp16: {overflows} tries overflowed; the loss scale ended at {runs['fp16'][-1]['loss_scale']:g}"
        )


def _shape(arguments: argparse.Namespace) -> Any:
    from dataclasses import replace

    from core.config import preset

    shape = preset(arguments.preset)
    hidden = arguments.hidden or shape.hidden
    return replace(
        shape,
        layers=arguments.layers or shape.layers,
        hidden=hidden,
        heads=hidden // shape.head_size,
        sequence_length=arguments.sequence or shape.sequence_length,
        dropout=0.0,
        attention_dropout=0.0,
    )


def _real_tokens(wanted: int) -> Any:
    """[wanted] int64, the texts one after the other, again and again."""
    import numpy as np

    from benchmarks.near_duplicates import real_texts
    from data_pipeline.tokenization.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(Path(os.environ["REAL_DATA"]) / "gpt2-vocab.json")
    parts: list[Any] = []
    for text in real_texts():
        parts.append(np.array([*tokenizer.encode(text), tokenizer.end_of_document], np.int64))
        if sum(map(len, parts)) >= wanted:
            break
    return np.resize(np.concatenate(parts), wanted)


def _train(
    arguments: argparse.Namespace, shape: Any, tokens: Any, mesh: Any, precision: str
) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, with the speed of the steps logged beside them."""
    import numpy as np
    import torch

    from benchmarks.token_task import TokenTask
    from core.config import TrainingConfig
    from core.training.trainer import train

    def rows(indices: np.ndarray) -> torch.Tensor:
        length = shape.sequence_length
        return torch.from_numpy(np.stack([tokens[i * length : (i + 1) * length + 1] for i in indices]))

    training = TrainingConfig(
        steps=arguments.steps, global_batch=arguments.batch, micro_batch=arguments.batch,
        learning_rate=arguments.learning_rate, warmup_steps=arguments.steps // 10, precision=precision,
        checkpoint_interval=arguments.steps + 1, log_interval=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        train(TokenTask(shape, mesh, arguments.steps * arguments.batch, rows), mesh, training, Path(folder))
        records = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
        speeds = [
            json.loads(line) for line in (Path(folder) / "logs/throughput.jsonl").read_text().splitlines()
        ]
    return [record | speed for record, speed in zip(records, speeds, strict=True)]


def _speed(records: list[dict[str, Any]]) -> float:
    """The median step's tokens a second, the first steps left out."""
    return statistics.median(record["tokens_per_second"] for record in records[len(records) // 10 :])
