"""Train a small model on a device and print what each step gave: `python tests/core/on_device.py OUTPUT '{"family": …}'`.

A program of its own, so that `CUDA_VISIBLE_DEVICES` decides where it computes.
"""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from objectives import BERT, GPT2, RandomTask
from observing import AfterStep, signal_after

from core.config import TrainingConfig
from core.parallel.mesh import initialize
from core.training.trainer import train


def _watch(waits: list[str], on: bool) -> None:
    """From now on, or no longer: where this thread makes the processor wait for the GPU."""

    def heard(message: Warning | str, category: type[Warning], file: str, line: int, *others: object) -> None:
        waits.append(f"{file}:{line}: {message}")

    torch.cuda.set_sync_debug_mode("warn" if on else "default")
    if on:
        warnings.simplefilter("always")
        warnings.showwarning = heard


def main(output: Path, told: dict) -> None:
    mesh = initialize()
    shape = {"gpt2": GPT2, "bert": BERT}[told.pop("family")]
    told.setdefault("compile", False)
    dropout, die_at = told.pop("dropout", 0.0), told.pop("die_at", 0)
    count_waits = told.pop("count_waits", False)
    task = RandomTask(replace(shape, dropout=dropout, attention_dropout=dropout), mesh)
    config = TrainingConfig(
        **{"steps": 6, "global_batch": 4, "micro_batch": 2, "learning_rate": 1e-3, "warmup_steps": 2} | told
    )
    waits: list[str] = []
    watch = AfterStep(lambda done: _watch(waits, done == 3) if count_waits else None)
    train(task, mesh, config, output, observers=[watch, signal_after(die_at)])
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    steps = {line["step"]: [line["loss"], line["gradient_norm"]] for line in lines if "loss" in line}
    print(
        json.dumps(
            {"device": mesh.device.type, "steps": [steps[step] for step in sorted(steps)], "waits": waits}
        )
    )
    mesh.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
