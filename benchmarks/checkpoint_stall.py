"""How long training waits for a checkpoint: saved by a thread against saved at once.

One model in one process, and in turn (A B A B …) both ways of saving it: the stall is the time until the next step can
start. Steps while the thread writes are slower, on a CPU that has no core to spare above all; that is measured, too.
"""

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

QUIET_STEPS = 3


@dataclass
class Saving:
    """One checkpoint: seconds that training waited, the steps while it was written, and until it was there."""

    stall: float
    steps: list[float]
    total: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=640)
    parser.add_argument("--vocabulary", type=int, default=16384)
    parser.add_argument("--sequence", type=int, default=64)
    parser.add_argument("--micro-batch", type=int, default=2, help="sequences a step")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument(
        "--pairs", type=int, default=5, help="checkpoints of each kind (default: %(default)s)"
    )
    parser.add_argument("--directory", type=Path, help="where checkpoints go (default: a temporary folder)")


def run(arguments: argparse.Namespace) -> None:
    import torch

    from core.config import TrainingConfig
    from core.parallel.mesh import initialize
    from core.training.checkpoint import Checkpoints
    from core.training.data_parallel import shard_over_data
    from core.training.optimizer import build_optimizer

    mesh = initialize()
    training = TrainingConfig(
        steps=1, global_batch=1, micro_batch=1, learning_rate=1e-4, precision=arguments.precision, keep_last=1
    )
    objective, batch = _model_and_batch(arguments, mesh)
    shard_over_data(objective, mesh, training.precision)
    optimizer = build_optimizer(objective, training)

    def step() -> float:
        start = time.perf_counter()
        objective(**batch)["language_model"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if mesh.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        kinds = {
            kind: Checkpoints(
                Path(folder) / kind, mesh, "", replace(training, asynchronous_saving=background), print
            )
            for kind, background in (("synchronous", False), ("asynchronous", True))
        }
        quiet: list[float] = []
        savings: dict[str, list[Saving]] = {kind: [] for kind in kinds}
        for number in range(arguments.pairs + 1):
            for kind, checkpoints in kinds.items():
                quiet += [step() for _ in range(QUIET_STEPS)]
                save = partial(checkpoints.save, number + 1, objective, optimizer, {})
                savings[kind].append(_measure(save, checkpoints.wait, step))
        _print(objective, mesh.device, arguments, quiet[QUIET_STEPS:], savings)
    mesh.shutdown()


def _model_and_batch(arguments: argparse.Namespace, mesh):  # type: ignore[no-untyped-def]
    import torch

    from core.config import ModelConfig
    from core.model_directory import build_model
    from core.models.gpt2 import GPT2LanguageModeling

    shape = ModelConfig(
        "gpt2", arguments.layers, arguments.hidden, arguments.hidden // 64, arguments.sequence, arguments.vocabulary,
        dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    objective = GPT2LanguageModeling(build_model(shape, mesh)).train()
    size = (arguments.micro_batch, arguments.sequence + 1)
    tokens = torch.randint(arguments.vocabulary, size, generator=torch.Generator().manual_seed(1)).to(
        mesh.device
    )
    return objective, {"tokens": tokens[:, :-1], "targets": tokens[:, 1:]}


def _measure(save: Callable[[], None], wait: Callable[[], None], step: Callable[[], float]) -> Saving:
    from core.training.checkpoint import THREAD

    start = time.perf_counter()
    save()
    stall = time.perf_counter() - start
    steps = []
    while any(thread.name == THREAD for thread in threading.enumerate()):
        steps.append(step())
    wait()
    return Saving(stall, steps, time.perf_counter() - start)


def _print(objective, device, arguments, quiet, savings) -> None:  # type: ignore[no-untyped-def]
    import torch

    parameters = sum(parameter.numel() for parameter in objective.parameters())
    where = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{os.cpu_count()} cores of {platform.machine()}"
    )
    print(
        f"{where}, torch {torch.__version__}, {arguments.precision}: GPT-2 with {parameters / 1e6:.0f} M parameters, "
        f"{parameters * 12 / 1e6:.0f} MB of state, {arguments.micro_batch * arguments.sequence} tokens a step, "
        f"{arguments.pairs} checkpoints each; medians (min–max)"
    )
    print(
        "| saving | stall, s | to the synchronous | until it is there, s | steps meanwhile, s | lost in all, s |"
    )
    print("|---|---|---|---|---|---|")
    whole = statistics.median(saving.stall for saving in savings["synchronous"][1:])
    usual = statistics.median(quiet)
    for name, (_, *measured) in savings.items():
        stalls = [saving.stall for saving in measured]
        lost = [s.stall + sum(s.steps) - usual * len(s.steps) for s in measured]
        meanwhile = [duration for saving in measured for duration in saving.steps]
        print(
            f"| {name} | {_spread(stalls)} | {statistics.median(stalls) / whole:.2f} "
            f"| {_spread([saving.total for saving in measured])} | {_spread(meanwhile) if meanwhile else '–'} "
            f"| {_spread(lost)} |"
        )
    first = {name: saved[0].stall for name, saved in savings.items()}
    print(
        f"\nA step without a save: {_spread(quiet)} s. The first checkpoint, which is left out above: synchronous "
        f"{first['synchronous']:.2f} s, asynchronous {first['asynchronous']:.2f} s (it allocates the buffers)."
    )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
