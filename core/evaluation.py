"""Batches dealt to data ranks, and sums that do not depend on their number.

Batches are cut before they are dealt, data rank r takes batches r, r + n, …, each batch's sums are float64, and the
sums of all batches are added exactly. So the digits of a result are the same for any number of data ranks (given the
same threads a rank), and no row is ever scored twice to fill a batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from core.parallel.mesh import Mesh

Batch = TypeVar("Batch")


def total_over_batches(
    batches: Sequence[Batch],
    score: Callable[[Batch], Sequence[float]],
    columns: int,
    mesh: Mesh,
    title: str = "",
) -> list[float]:
    """Score every batch once, on some data rank, and add the sums up.

    Collective over all ranks; the ranks of a tensor group score the same batches together.

    Args:
        batches: the same list on every rank.
        score: `columns` sums of one batch, called in inference mode.
        title: description of the progress bar, which the main rank shows on a terminal.

    Returns:
        `columns` totals, the same on every rank, each the correctly rounded sum of the batches' float64 sums.
    """
    sums = torch.zeros(len(batches), columns, dtype=torch.float64)
    dealt = range(mesh.data_rank, len(batches), mesh.data_size)
    with torch.inference_mode():
        for index in tqdm(dealt, desc=title, unit="batch", disable=None if mesh.is_main else True):
            sums[index] = torch.tensor(score(batches[index]), dtype=torch.float64)
    # Adding the other ranks' zeros is exact. `fsum`: one rounding, whatever the Python version's `sum` does.
    sums = sums.to(mesh.device)
    dist.all_reduce(sums, group=mesh.data_group)
    return [math.fsum(column) for column in sums.T.tolist()]


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
