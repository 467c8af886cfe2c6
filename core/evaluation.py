"""Batches dealt to data ranks, sums that do not depend on their number, and how sure a mean is.

Batches are cut before they are dealt, data rank r takes batches r, r + n, …, each item's scores are float64, and their
sums are exact. So the digits of a result are the same for any number of data ranks (given the same threads a rank), and
no row is ever scored twice to fill a batch.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist

from core.parallel.mesh import Mesh
from core.progress import RANKS_LINE_SECONDS, Bar
from core.tf32 import NAME as TF32
from core.tf32 import is_tf32

_KEPT_SECONDS = 10.0  # of work that a kill may cost


class Keep(Protocol):
    """Where the scores of finished batches outlive a killed program; the main rank asks."""

    def read(self, sizes: Sequence[int]) -> np.ndarray | None:
        """Those of the first batches, [their items, columns], of the pass that is to begin; None for none."""

    def write(self, first: int, scores: np.ndarray) -> None:
        """Keep those of finished batches.

        Args:
            first: the number of the first one.
        """


def scores_of_batches(
    sizes: Sequence[int],
    score: Callable[[Sequence[int]], np.ndarray],
    columns: int,
    mesh: Mesh,
    title: str = "",
    at_once: int = 1,
    keep: Keep | None = None,
) -> np.ndarray:
    """Score every batch once, on some data rank.

    Collective over all ranks; the ranks of a tensor group score the same batches together.

    Args:
        sizes: of each batch, in items; the same list on every rank.
        score: numbers of batches → [all their items, columns] numbers, in inference mode.
        title: description of the progress bar, which the main rank shows on a terminal.
        at_once: batches in one call of `score`.
        keep: on every rank or on none; what it holds is not scored again.

    Returns:
        [all items, columns] float64 in the order of the batches, the same on every rank.
    """
    ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    scores = np.zeros((int(ends[-1]), columns))
    first = _kept(scores, ends, sizes, mesh, keep)
    bar = Bar(
        total=len(sizes),
        initial=first,
        desc=title,
        unit="batch",
        every=RANKS_LINE_SECONDS,
        hidden=not mesh.is_main,
    )
    stretch = 1 if keep else max(1, len(sizes))  # batches of each rank between two collectives
    with torch.inference_mode(), bar:
        while first < len(sizes):
            last = min(first + stretch * mesh.data_size, len(sizes))
            started = time.monotonic()
            part = scores[ends[first] : ends[last]]
            dealt = range(first + mesh.data_rank, last, mesh.data_size)
            for start in range(0, len(dealt), at_once):
                batches = dealt[start : start + at_once]
                items = np.concatenate([np.arange(ends[number], ends[number + 1]) for number in batches])
                part[items - ends[first]] = score(batches)
                bar.update(len(batches) * mesh.data_size)
            seconds = time.monotonic() - started
            longer = float(2 * stretch if seconds < _KEPT_SECONDS / 2 else stretch)
            stretch = int(_summed(part, longer if mesh.is_main else 0.0, mesh))
            if keep and mesh.is_main:
                keep.write(first, part)
            first = last
    return scores


def _kept(scores: np.ndarray, ends: np.ndarray, sizes: Sequence[int], mesh: Mesh, keep: Keep | None) -> int:
    """Fill in what is kept; returns how many batches that are."""
    if keep is None:
        return 0
    found = [keep.read(sizes) if mesh.is_main else None]
    dist.broadcast_object_list(found, src=0, group=mesh.control_group)
    (known,) = found
    if known is None:
        return 0
    scores[: len(known)] = known
    return int(np.searchsorted(ends, len(known)))


def _summed(part: np.ndarray, said: float, mesh: Mesh) -> float:
    """Add up what the data ranks scored, in place; returns what the main rank said."""
    values = torch.from_numpy(np.append(part.ravel(), said)).to(mesh.device)
    dist.all_reduce(values, group=mesh.data_group)  # adding the other ranks' zeros is exact
    if mesh.tensor_size > 1:  # the main rank is in one of the data groups only
        dist.broadcast(values, src=0)
    result = values.cpu().numpy()
    part[...] = result[:-1].reshape(part.shape)
    return float(result[-1])


def scores_of_items(
    batches: Sequence[Sequence[int]],
    score: Callable[[Sequence[int]], np.ndarray],
    columns: int,
    mesh: Mesh,
    title: str = "",
) -> np.ndarray:
    """Score every batch once, on some data rank: `scores_of_batches` for batches of items in any order. Collective.

    Args:
        batches: of items, each item 0 … n - 1 in one of them; the same list on every rank.
        score: the items of one batch → [items, columns] numbers, in inference mode.

    Returns:
        [n, columns] float64, the same on every rank.
    """
    flat = scores_of_batches(
        list(map(len, batches)), lambda numbers: score(batches[numbers[0]]), columns, mesh, title
    )
    scores = np.empty_like(flat)
    if batches:
        scores[np.concatenate([list(batch) for batch in batches])] = flat
    return scores


def exact_sum(values: np.ndarray) -> float:
    """The correctly rounded sum, whatever the order."""
    return math.fsum(values.tolist())


def ratio_standard_error(
    sums: np.ndarray, sizes: np.ndarray, groups: np.ndarray | None = None
) -> float | None:
    """The standard error of Σ sums / Σ sizes, over independent groups of items: of a ratio of means by linearization
    (Cochran, Sampling Techniques, 1977, section 6.4), which for sizes of 1 is the sample's standard deviation over √n.

    Args:
        sums, sizes: [items]: loss and words, or right answers and ones.
        groups: [items], equal numbers for items that are not independent of each other; by default all are.

    Returns:
        None for fewer than two groups.
    """
    if groups is not None:
        _, places = np.unique(groups, return_inverse=True)
        sums, sizes = np.bincount(places, weights=sums), np.bincount(places, weights=sizes)
    count = len(sums)
    if count < 2:
        return None
    residuals = sums - sums.sum() / sizes.sum() * sizes
    return math.sqrt(count / (count - 1) * float(residuals @ residuals)) / float(sizes.sum())


_PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def precision_of(model: torch.nn.Module) -> str:
    """What a model computes in: "fp32", "tf32", "bf16" or "fp16"."""
    weights = next(model.parameters())
    found = _PRECISIONS[weights.dtype]
    return TF32 if found == "fp32" and weights.device.type == "cuda" and is_tf32() else found


def pad(rows: Sequence[np.ndarray], value: int) -> np.ndarray:
    """Rows of different lengths as one int64 array [rows, longest], padded on the right with `value`."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def batches_by_length(lengths: Sequence[int] | np.ndarray, tokens: int) -> list[list[int]]:
    """Cut the items 0 … n - 1, the longest first, into batches of at most `tokens` when padded, but one item at least.

    The longest first: when memory is short, it shows in the first second.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > tokens:
            batches.append([])
        batches[-1].append(index)
    return batches
