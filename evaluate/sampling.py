"""Tokens from a causal model, one after the other: the likeliest, or drawn at random.

One text at a time: what a prompt gives depends on nothing but the model, the settings, the seed and its number. Every
rank of the tensor group computes the same choice from the same logits, so the text is the same on any layout, unless
two candidates are equal to rounding. The likeliest token is found among the ranks' shards of the vocabulary; only to
draw are the logits gathered.

The model reads `sequence_length` tokens. When they are full, it reads the last half of them again, from position 0, and
goes on from there.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from core.errors import UserError
from core.model_directory import Network
from core.models.cache import KeyValueCache
from core.parallel.cross_entropy import vocabulary_parallel_argmax
from core.parallel.mesh import Mesh
from core.parallel.random import derived_seed
from core.tables import out_of_range

_NOT_FINITE = "the model's logits are not finite numbers; was its training stopped by an overflow?"


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the likeliest token, always the same text; above 0, tokens are drawn with softmax(logits /
            temperature): 1 draws as the model believes.
        top_k: draw among the k likeliest tokens (and what is as likely as the last of them); 0 among all.
        top_p: draw among the likeliest tokens that together reach this probability, after top_k; 1 among all.
        seed: text i of a run is drawn from a stream of its own, derived from the seed and i.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1234

    def errors(self, where: str) -> list[str]:
        problems = out_of_range(self, where, temperature=(0, math.inf), top_k=(0, math.inf))
        if not 0.0 < self.top_p <= 1.0:
            problems.append(f"{where}.top_p: must be above 0 and at most 1, is {self.top_p}")
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            problems.append(
                f"{where}.temperature: must be above 0 where top_k or top_p choose among tokens drawn at random"
            )
        return problems

    def stream(self, number: int) -> torch.Generator:
        """The random numbers of the text with this number, from 0."""
        return torch.Generator().manual_seed(derived_seed(self.seed, "generate", number))


def generate_tokens(
    model: Network,
    mesh: Mesh,
    prompt: list[int],
    count: int,
    *,
    stop: int,
    sampling: Sampling,
    number: int = 0,
) -> Iterator[int]:
    """Up to `count` tokens that follow `prompt`, each as soon as it is chosen; ends before the token `stop`.

    Collective over the tensor group.

    Args:
        model: in evaluation mode.
        prompt: one token at least; of a longer one than the model reads, the last `sequence_length` are read.
        number: of this text among those of the run; it selects the random stream.

    Raises:
        UserError: the model's logits are not finite.
    """
    room = model.config.sequence_length
    cache = KeyValueCache(model.config, mesh)
    random = sampling.stream(number)
    text = prompt[-room:]  # what the model reads, or has read
    unread = text
    for _ in range(count):
        if len(text) > room:
            cache.clear()
            text = unread = text[-max(1, room // 2) :]
        token = _next_token(model, mesh, unread, cache, sampling, random)
        if token == stop:
            return
        yield token
        unread = [token]
        text = [*text, token]


@torch.inference_mode()
def _next_token(
    model: Network,
    mesh: Mesh,
    unread: list[int],
    cache: KeyValueCache,
    sampling: Sampling,
    random: torch.Generator,
) -> int:
    tokens = torch.tensor([unread], device=mesh.device)
    last = torch.tensor([len(unread) - 1], device=mesh.device)
    logits = model(tokens, places=(torch.zeros_like(last), last), cache=cache)[0]  # [padded vocabulary / tp]
    vocabulary_size = model.config.vocabulary_size
    if sampling.temperature == 0:
        best = vocabulary_parallel_argmax(logits, group=mesh.tensor_group, vocabulary_size=vocabulary_size)
        if best == vocabulary_size:  # of logits that are not numbers, none is the largest
            raise UserError(_NOT_FINITE)
        return int(best)
    whole = _gathered(logits, mesh)[:vocabulary_size].cpu()
    return draw(whole, sampling, torch.rand((), generator=random, dtype=torch.float64).item())


def _gathered(logits: torch.Tensor, mesh: Mesh) -> torch.Tensor:
    """[padded vocabulary / tp] on each rank → [padded vocabulary] on every rank."""
    if mesh.tensor_size == 1:
        return logits
    parts = [torch.empty_like(logits) for _ in range(mesh.tensor_size)]
    dist.all_gather(parts, logits.contiguous(), group=mesh.tensor_group)
    return torch.cat(parts)


def draw(logits: torch.Tensor, sampling: Sampling, uniform: float) -> int:
    """The token whose piece of the cumulative distribution, in the order of ids, `uniform` falls into.

    Args:
        logits: [vocabulary], without padding.
        uniform: in [0, 1).

    Raises:
        UserError: a logit is not finite.
    """
    if not torch.isfinite(logits).all():
        raise UserError(_NOT_FINITE)
    scaled = logits.double() / sampling.temperature
    if 0 < sampling.top_k < len(scaled):
        scaled = scaled.masked_fill(scaled < scaled.topk(sampling.top_k).values[-1], -torch.inf)
    probabilities = scaled.softmax(-1)
    if sampling.top_p < 1:
        ordered, tokens = probabilities.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # of all likelier tokens
        probabilities[tokens[before >= sampling.top_p]] = 0.0
    cumulative = probabilities.cumsum(-1)
    index = int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
    return min(index, int(probabilities.nonzero()[-1]))
