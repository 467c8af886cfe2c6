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
    """The loss of the paper's section 3. With a rank's own columns `logits`, and `max` and `sum` over all ranks' columns:

        shifted = logits - max(logits)
        total = sum(shifted.exp())
        loss = total.log() - sum(shifted * onehot(target))    and its gradient: shifted.exp() / total - onehot(target)

    That is two all-reduces of [rows]-sized tensors forward (the maximum; both sums together), none backward.

    Logits are the largest tensors of a step, so they are passed over and copied as seldom as can be: one softmax over
    the local columns, which the ranks' sums later correct by a factor a row, and which becomes the gradient in its place.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        targets: torch.Tensor,
        group: dist.ProcessGroup,
        vocabulary_size: int,
        in_place: bool,
    ) -> torch.Tensor:
        start, real = _shard(logits.shape[-1], group, vocabulary_size)
        values = logits.detach()
        values[..., real:] = -torch.inf
        local_targets = targets - start
        is_local = (local_targets >= 0) & (local_targets < real)
        local_targets = torch.where(is_local, local_targets, 0)
        target_logit = values.gather(-1, local_targets.unsqueeze(-1)).squeeze(-1).float()
        if real:
            maximum = values.amax(dim=-1).float()
            softmax = _softmax(values, in_place)  # [..., columns], of this rank alone
            exponentials = 1.0 / softmax.amax(dim=-1)  # their sum: the largest is 1
        else:
            maximum = torch.full(targets.shape, -torch.inf, device=logits.device)
            softmax = torch.zeros(logits.shape, device=logits.device)
            exponentials = torch.zeros_like(maximum)
        overall = all_reduce(maximum.clone(), group, dist.ReduceOp.MAX)
        exponentials = exponentials * (maximum - overall).exp()
        sums = torch.stack([exponentials, torch.where(is_local, target_logit - overall, 0.0)])
        total, target_logit = all_reduce(sums, group)

        scored = targets != IGNORED
        unknown = scored & ((targets < 0) | (targets >= vocabulary_size))
        ctx.save_for_backward(softmax, exponentials / total, local_targets, is_local, scored)
        ctx.dtype = logits.dtype
        return torch.where(scored, total.log() - target_logit, 0.0).masked_fill(unknown, torch.nan)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        softmax, share, local_targets, is_local, scored = ctx.saved_tensors
        gradient = torch.where(scored, gradient, 0.0)
        result = softmax.mul_((gradient * share).unsqueeze(-1))  # a second backward pass would be refused
        at_target = torch.where(is_local, gradient, 0.0).unsqueeze(-1)
        places = local_targets.unsqueeze(-1)  # one a row: nothing is added up, in whatever order
        result.scatter_(-1, places, result.gather(-1, places) - at_target)
        return result.to(ctx.dtype), None, None, None, None


def _softmax(values: torch.Tensor, in_place: bool) -> torch.Tensor:
    """fp32, over the last dimension. A new tensor of this size costs a CPU more than the computation."""
    if in_place and values.dtype == torch.float32 and values.device.type == "cpu":
        return torch.softmax(values, dim=-1, out=values)
    return values.softmax(dim=-1, dtype=torch.float32)


def vocabulary_parallel_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, *, group: dist.ProcessGroup, vocabulary_size: int
) -> torch.Tensor:
    """Per-token loss in nats, in fp32 (paper section 3: the fused output layer and loss).

    Args:
        logits: this rank's columns, [..., padded vocabulary / tensor ranks]. The padded ones become -inf; where a
            gradient is asked for, all are used up.
        targets: vocabulary ids, [...]; `IGNORED` (-100) gives loss 0 and no gradient, what is no token a loss of NaN.
        group: the tensor group.
        vocabulary_size: real tokens; padded columns beyond them take no part.

    Returns:
        [...] losses, the same on every rank of the group.
    """
    in_place = torch.is_grad_enabled() and logits.requires_grad
    return _VocabularyParallelCrossEntropy.apply(logits, targets, group, vocabulary_size, in_place)


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


def vocabulary_parallel_candidates(
    logits: torch.Tensor, count: int, *, group: dist.ProcessGroup, vocabulary_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens, found among each rank's own; the logits are not gathered.

    Args:
        logits: this rank's columns, [rows, padded vocabulary / tensor ranks].
        count: how many tokens are asked for; a smaller vocabulary gives all.

    Returns:
        their log-probabilities (fp32) and ids (int64), [rows, count] each, the likeliest first, the same on every rank.
    """
    start, real = _shard(logits.shape[-1], group, vocabulary_size)
    values = logits[..., :real].float()
    own = torch.full((len(logits), count), -torch.inf, device=logits.device)
    ids = torch.zeros((len(logits), count), dtype=torch.int64, device=logits.device)
    maximum = torch.full((len(logits),), -torch.inf, device=logits.device)
    if real:
        best, places = values.topk(min(count, real))
        own[:, : best.shape[1]], ids[:, : best.shape[1]] = best, places + start
        maximum = best[:, 0]
    overall = all_reduce(maximum.clone(), group, dist.ReduceOp.MAX)
    total = all_reduce((values - overall[:, None]).exp().sum(-1), group)
    if group.size() > 1:
        owns, all_ids = ([torch.empty_like(part) for _ in range(group.size())] for part in (own, ids))
        dist.all_gather(owns, own, group=group)
        dist.all_gather(all_ids, ids, group=group)
        own, ids = torch.cat(owns, dim=1), torch.cat(all_ids, dim=1)
    best, places = own.topk(min(count, vocabulary_size))
    return best - (overall + total.log())[:, None], ids.gather(1, places)
