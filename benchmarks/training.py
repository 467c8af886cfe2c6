"""Training speed and memory against `transformers` and against plain torch.

The same GPT-2, batch and threads on all sides, each in a process of its own, in turn (A B C A B C …), so that a machine
whose speed drifts is fair to all; the figures to read are the ratios of each turn. Ours runs by the trainer as users
run it. Peers are at their best eager setting, fused AdamW and gradient clipping included: `transformers`'
GPT2LMHeadModel with its fused attention and GeLU, and a GPT-2 in plain torch. bf16 computes in bf16 with fp32 master
weights on all sides (the peers by autocast). Memory is the peak over what the process held before it built the model.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

PEERS = ("transformers", "plain torch")
OURS = "ours"
WARMUP_STEPS, GIGABYTE = 3, 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="", help="a size by name, for example gpt2-355m, scaling-1.2b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--sequence", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=50257)
    parser.add_argument("--batch", type=int, default=4, help="sequences of a micro-batch")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument(
        "--compile", type=int, nargs="+", default=[0], help="0: eager, 1: compiled, 0 1: both"
    )
    parser.add_argument("--recompute", default="none", help="of ours (default: %(default)s)")
    parser.add_argument("--sides", nargs="+", default=[OURS, *PEERS])
    parser.add_argument("--steps", type=int, default=8, help="timed steps (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each (default: %(default)s)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> None:
    if arguments.worker:
        print(json.dumps(_Worker(arguments).measure(arguments.worker)))
        return
    _describe(arguments)
    print("| precision | compiled | side | tokens/s | ours to it (min–max) | memory, GB | ours to it |")
    print("|---|---|---|---|---|---|---|")
    for precision in arguments.precisions:
        for compiled in arguments.compile:
            _compare(arguments, precision, compiled)


def _describe(arguments: argparse.Namespace) -> None:
    import torch

    where = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    )
    size = arguments.preset or (
        f"{arguments.layers} layers, hidden {arguments.hidden}, sequence {arguments.sequence}, "
        f"{arguments.vocabulary} tokens"
    )
    print(
        f"{where}, torch {torch.__version__}; GPT-2: {size}; {arguments.batch} sequences a micro-batch; medians"
    )


def _compare(arguments: argparse.Namespace, precision: str, compiled: int) -> None:
    results: dict[str, list[dict[str, float]]] = {side: [] for side in arguments.sides}
    for _ in range(arguments.repetitions):
        for side in arguments.sides:
            results[side].append(_measure(arguments, side, precision, compiled))
    for side in arguments.sides:
        speeds = [result["tokens_per_second"] for result in results[side]]
        ours = [result["tokens_per_second"] for result in results.get(OURS, results[side])]
        ratios = [own / other for own, other in zip(ours, speeds, strict=True)]
        memory = statistics.median(result["peak_bytes"] for result in results[side])
        own_memory = statistics.median(result["peak_bytes"] for result in results.get(OURS, results[side]))
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(
            f"| {precision} | {'yes' if compiled else 'no'} | {side} | {statistics.median(speeds):.0f} | {ratio} "
            f"| {memory / GIGABYTE:.2f} | {own_memory / memory:.2f} |",
            flush=True,
        )


def _measure(arguments: argparse.Namespace, side: str, precision: str, compiled: int) -> dict[str, float]:
    options = []
    for name in ("preset", "layers", "hidden", "sequence", "vocabulary", "batch", "steps", "recompute"):
        options += [f"--{name}", str(getattr(arguments, name))]
    options += ["--precisions", precision, "--compile", str(compiled), "--worker", side]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", "training", *options],
        check=False,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise SystemExit(f"{side}, {precision}: failed\n{process.stderr[-3000:]}")
    return json.loads(process.stdout.splitlines()[-1])


class _Worker:
    """One side, in its own process: the same random tokens, steps, and clock."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        import torch

        from core.config import ModelConfig, preset

        self.arguments, self.torch = arguments, torch
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision, self.compiled = arguments.precisions[0], bool(arguments.compile[0])
        shape = (
            preset(arguments.preset)
            if arguments.preset
            else ModelConfig(
                "gpt2",
                arguments.layers,
                arguments.hidden,
                arguments.hidden // 64,
                arguments.sequence,
                arguments.vocabulary,
            )
        )
        self.shape = replace(shape, dropout=0.0, attention_dropout=0.0)
        self.tokens_a_step = arguments.batch * shape.sequence_length

    def measure(self, side: str) -> dict[str, float]:
        self.before = _resident_bytes()
        return self._ours() if side == OURS else self._peer(side)

    def _ours(self) -> dict[str, float]:
        from benchmarks.token_task import step_seconds
        from core.config import TrainingConfig
        from core.parallel.mesh import initialize

        arguments = self.arguments
        steps = WARMUP_STEPS + arguments.steps
        training = TrainingConfig(
            steps=steps, global_batch=arguments.batch, micro_batch=arguments.batch, learning_rate=1e-4,
            precision=self.precision, compile=self.compiled, recompute=arguments.recompute,
            checkpoint_interval=steps + 1, log_interval=steps,
        )  # fmt: skip
        mesh = initialize()
        durations = step_seconds(self.shape, mesh, training, WARMUP_STEPS)
        mesh.shutdown()
        return self._result(durations)

    def _peer(self, side: str) -> dict[str, float]:
        from benchmarks.token_task import random_tokens

        torch = self.torch
        model = _transformers_model(self.shape) if side == "transformers" else _plain_model(self.shape)
        model.to(self.device).train()
        forward: Callable = torch.compile(model) if self.compiled else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
        low = self.precision != "fp32"
        ends: list[float] = []
        for step in range(WARMUP_STEPS + self.arguments.steps):
            values = random_tokens(self.shape, self.arguments.batch, step).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
                loss = forward(values[:, :-1], values[:, 1:])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
            ends.append(time.perf_counter())
        return self._result([end - start for start, end in itertools.pairwise(ends[WARMUP_STEPS - 1 :])])

    def _result(self, durations: list[float]) -> dict[str, float]:
        if self.device.type == "cuda":
            peak = self.torch.cuda.max_memory_allocated()
        else:
            peak = _peak_bytes() - self.before
        return {
            "tokens_per_second": self.tokens_a_step / statistics.median(durations),
            "peak_bytes": peak,
        }


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak_bytes() -> int:
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) * 1024


def _transformers_model(shape: Any) -> Any:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape.vocabulary_size, n_positions=shape.sequence_length, n_embd=shape.hidden,
        n_layer=shape.layers, n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        activation_function="gelu_pytorch_tanh", attn_implementation="sdpa", use_cache=False,
    )  # fmt: skip

    class LanguageModeling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = GPT2LMHeadModel(config)

        def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            logits = self.model(tokens).logits
            return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return LanguageModeling()


def _plain_model(shape: Any) -> Any:
    """GPT-2 with nothing but torch's own layers."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width = shape.hidden
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
            self.fused, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            batch, sequence, _ = values.shape
            parts = self.fused(self.norms[0](values)).view(batch, sequence, 3, shape.heads, -1)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            context = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            values = values + self.output(context.transpose(1, 2).reshape(values.shape))
            return values + self.contract(F.gelu(self.expand(self.norms[1](values)), approximate="tanh"))

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(shape.vocabulary_size, shape.hidden)
            self.positions = nn.Embedding(shape.sequence_length, shape.hidden)
            self.blocks = nn.ModuleList(Block() for _ in range(shape.layers))
            self.norm = nn.LayerNorm(shape.hidden)
            nn.init.normal_(self.tokens.weight, std=0.02)

        def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            values = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
            for block in self.blocks:
                values = block(values)
            logits = F.linear(self.norm(values), self.tokens.weight)
            return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return Plain()
