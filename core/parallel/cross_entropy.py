"""Cross entropy and argmax over logits that are split along the vocabulary; the logits are never gathered."""

from typing import Any

import torch
import torch.distributed as dist

from core.parallel.collectives import all_reduce

IGNORED = -100


def _shard(width: int, group: dist.ProcessGroup, vocabulary_size: int) -> tuple[int, int]:
    """First vocabulary id of this rank's columns, and how many of them are real (not padding)."""
    start = group.rank() * width
    return start, max(0, min(width, vocabulary_size - start))


class _VocabularyParallelCrossEntropy(torch.autograd.Function):
    """Two all-reduces of [rows]-sized tensors forward (the maximum; the sum of exponentials together with the
    target's logit), none backward, where the gradient is softmax − onehot on the local columns."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, group: dist.ProcessGroup, vocabulary_size: int
    ) -> torch.Tensor:
        start, real = _shard(logits.shape[-1], group, vocabulary_size)
        values = logits.detach()[..., :real].float()  # [..., real columns]
        if real:
            maximum = values.amax(dim=-1)
        else:
            maximum = torch.full(targets.shape, -torch.inf, device=logits.device)
        all_reduce(maximum, group, dist.ReduceOp.MAX)
        shifted = values - maximum.unsqueeze(-1)

        local_targets = targets - start
        is_local = (local_targets >= 0) & (local_targets < real)
        local_targets = torch.where(is_local, local_targets, 0)
        sums = torch.zeros(2, *targets.shape, device=logits.device)  # exponentials, target's logit
        if real:
            target_logit = shifted.gather(-1, local_targets.unsqueeze(-1)).squeeze(-1)
            sums[1] = torch.where(is_local, target_logit, 0.0)
            shifted.exp_()
            sums[0] = shifted.sum(dim=-1)
        all_reduce(sums, group)

        scored = targets != IGNORED
        ctx.save_for_backward(shifted, sums[0], local_targets, is_local, scored)
        ctx.columns, ctx.dtype = logits.shape[-1], logits.dtype
        return torch.where(scored, sums[0].log() - sums[1], 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        exponentials, total, local_targets, is_local, scored = ctx.saved_tensors
        gradient = torch.where(scored, gradient, 0.0)
        result = exponentials * (gradient / total).unsqueeze(-1)
        real = result.shape[-1]
        if real:
            at_target = torch.where(is_local, gradient, 0.0).unsqueeze(-1)
            result.scatter_add_(-1, local_targets.unsqueeze(-1), -at_target)
        if real < ctx.columns:
            result = torch.nn.functional.pad(result, (0, ctx.columns - real))
        return result.to(ctx.dtype), None, None, None


def vocabulary_parallel_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, *, group: dist.ProcessGroup, vocabulary_size: int
) -> torch.Tensor:
    """Per-token loss in nats, in fp32 (paper section 3: the fused output layer and loss).

    Args:
        logits: this rank's columns, [..., padded vocabulary / tensor ranks].
        targets: vocabulary ids, [...]; `IGNORED` (-100) gives loss 0 and no gradient.
        group: the tensor group.
        vocabulary_size: real tokens; padded columns beyond them take no part.

    Returns:
        [...] losses, the same on every rank of the group.
    """
    return _VocabularyParallelCrossEntropy.apply(logits, targets, group, vocabulary_size)


def vocabulary_parallel_argmax(
    logits: torch.Tensor, *, group: dist.ProcessGroup, vocabulary_size: int
) -> torch.Tensor:
    """Ids of the largest logits, [...] int64, the same on every rank; of equal logits the lowest id wins."""
    start, real = _shard(logits.shape[-1], group, vocabulary_size)
    if real:
        best, index = logits[..., :real].float().max(dim=-1)
    else:
        best = torch.full(logits.shape[:-1], -torch.inf, device=logits.device)
        index = torch.zeros(logits.shape[:-1], dtype=torch.int64, device=logits.device)
    overall = all_reduce(best.clone(), group, dist.ReduceOp.MAX)
    candidate = torch.where(best == overall, index + start, vocabulary_size)
    return all_reduce(candidate, group, dist.ReduceOp.MIN)
