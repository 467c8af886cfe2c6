"""Batches dealt to data ranks, sums that do not depend on their number, and how sure a mean is.

Batches are cut before they are dealt, data rank r takes batches r, r + n, …, each item's scores are float64, and their
sums are exact. So the digits of a result are the same for any number of data ranks (given the same threads a rank), and
no row is ever scored twice to fill a batch.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from core.parallel.mesh import Mesh


def scores_of_items(
    batches: Sequence[Sequence[int]],
    score: Callable[[Sequence[int]], np.ndarray],
    columns: int,
    mesh: Mesh,
    title: str = "",
) -> np.ndarray:
    """Score every batch once, on some data rank.

    Collective over all ranks; the ranks of a tensor group score the same batches together.

    Args:
        batches: of items, each item 0 … n - 1 in one of them; the same list on every rank.
        score: [items of the batch, columns] numbers, called in inference mode.
        title: description of the progress bar, which the main rank shows on a terminal.

    Returns:
        [n, columns] float64, the same on every rank.
    """
    scores = torch.zeros(sum(map(len, batches)), columns, dtype=torch.float64)
    dealt = range(mesh.data_rank, len(batches), mesh.data_size)
    with torch.inference_mode():
        for index in tqdm(dealt, desc=title, unit="batch", disable=None if mesh.is_main else True):
            scores[list(batches[index])] = torch.as_tensor(score(batches[index]), dtype=torch.float64)
    scores = scores.to(mesh.device)
    dist.all_reduce(scores, group=mesh.data_group)  # adding the other ranks' zeros is exact
    return scores.cpu().numpy()


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
    """What a model computes in: "fp32", "bf16" or "fp16"."""
    return _PRECISIONS[next(model.parameters()).dtype]


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
