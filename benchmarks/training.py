"""Training speed and memory against `transformers` and against plain torch.

The same GPT-2, batch and threads on all sides, each in a process of its own. Ours runs by the trainer as users run it.
Peers are at their best eager setting, fused AdamW and gradient clipping included: `transformers`' GPT2LMHeadModel with
its fused attention and GeLU, and a GPT-2 of torch's own transformer layers. bf16 computes in bf16 with fp32 master
weights on all sides (the peers by autocast). Memory is the peak over what the process held before it built the model.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import harness, token_task
from core.config import ModelConfig
from core.parallel.mesh import initialize

OURS, TRANSFORMERS, PLAIN = "ours", "transformers", "plain torch"


@dataclass(frozen=True)
class Settings(token_task.Settings):
    """What is trained, and by whom.

    Attributes:
        compile: 0: eager, 1: compiled, 0 1: both.
        recompute: of ours.
        sides: the first is compared with the others.
    """

    precisions: tuple[str, ...] = ("fp32", "bf16")
    compile: tuple[int, ...] = (0,)
    recompute: str = "none"
    sides: tuple[str, ...] = (OURS, TRANSFORMERS, PLAIN)


def run(settings: Settings, report: harness.Report) -> None:
    report.note(settings.describe())
    for precision, compiled in itertools.product(settings.precisions, settings.compile):
        one = asdict(replace(settings, precisions=(precision,), compile=(compiled,)))
        process = partial(harness.in_fresh_process, measure, settings=one)
        sides = {side: partial(process, side=side) for side in settings.sides}
        case = {"precision": precision, "compiled": "yes" if compiled else "no"}
        report.compare(sides, settings.turns, ["tokens/s", "memory, GB"], case)


def measure(settings: dict[str, Any], side: str) -> harness.Measurement:
    """One side, in its own process: the same random tokens, steps, and clock."""
    told = Settings(**settings)
    before = _memory("VmRSS")
    durations = _our_steps(told) if side == OURS else _peer_steps(told, side)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _memory("VmHWM") - before
    tokens = told.batch * told.shape().sequence_length
    return {"tokens/s": tokens / statistics.median(durations), "memory, GB": peak / 1e9}


def _memory(name: str) -> int:
    """Bytes that this process has resident (VmRSS), or had at most (VmHWM)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def _our_steps(settings: Settings) -> list[float]:
    mesh = initialize()
    durations = token_task.step_seconds(
        settings.shape(), mesh, settings.batch, settings.steps, precision=settings.precisions[0],
        compile=bool(settings.compile[0]), recompute=settings.recompute,
    )  # fmt: skip
    mesh.shutdown()
    return durations


def _peer_steps(settings: Settings, side: str) -> list[float]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = _Transformers if side == TRANSFORMERS else PlainGPT2
    model = network(settings.shape()).to(device).train()
    forward: Callable = torch.compile(model) if settings.compile[0] else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    ends: list[float] = []
    for step in range(token_task.WARMUP_STEPS + settings.steps):
        values = token_task.random_tokens(settings.shape(), settings.batch, step).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precisions[0] != "fp32"):
            loss = forward(values[:, :-1], values[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        ends.append(time.perf_counter())
    return [end - start for start, end in itertools.pairwise(ends[-settings.steps - 1 :])]


class _Transformers(nn.Module):
    def __init__(self, shape: ModelConfig) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        super().__init__()
        config = GPT2Config(
            vocab_size=shape.vocabulary_size, n_positions=shape.sequence_length, n_embd=shape.hidden,
            n_layer=shape.layers, n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            activation_function="gelu_pytorch_tanh", attn_implementation="sdpa", use_cache=False,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.model(tokens).logits.flatten(0, 1).float(), targets.flatten())


class PlainGPT2(nn.Module):
    """GPT-2 with nothing but torch's own layers."""

    def __init__(self, shape: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocabulary_size, shape.hidden)
        self.positions = nn.Embedding(shape.sequence_length, shape.hidden)
        layer = nn.TransformerEncoderLayer(
            shape.hidden, shape.heads, 4 * shape.hidden, dropout=0.0, norm_first=True, batch_first=True,
            activation=partial(F.gelu, approximate="tanh"),
        )  # fmt: skip
        norm = nn.LayerNorm(shape.hidden)
        self.layers = nn.TransformerEncoder(layer, shape.layers, norm, enable_nested_tensor=False)
        mask = nn.Transformer.generate_square_subsequent_mask(shape.sequence_length)
        self.register_buffer("mask", mask, persistent=False)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        values = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        logits = F.linear(self.layers(values, self.mask, is_causal=True), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
