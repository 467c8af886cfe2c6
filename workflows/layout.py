"""The layout of a program on ranks: what the recipe says, or where it leaves the device open, what this machine has.

Keys do not depend on it, nor do results, but for rounding and the masks of dropout; `run.json` says what it was.
"""

import dataclasses
from collections.abc import Callable, Iterator

from core.config import ParallelConfig
from recipes.schema import Recipe
from workflows.devices import visible_devices

Errors = Callable[[ParallelConfig], list[str]]


def layout_here(recipe: Recipe, asked: ParallelConfig, errors: Errors) -> ParallelConfig:
    """The layout on this machine; on a cluster's nodes the recipe's."""
    if recipe.launch.kind == "slurm":
        return asked
    return laid_out(asked, len(visible_devices()), errors)


def laid_out(asked: ParallelConfig, devices: int, errors: Errors) -> ParallelConfig:
    """The layout that uses a machine's CUDA devices; the asked one where there are none, or a device is asked for.

    Fewer devices than processes: less data parallelism, then fewer pipeline stages, then fewer tensor ranks, so that each
    process has a device. More: more data parallelism, as far as batches can be dealt.

    Args:
        errors: why a layout cannot be, as of a recipe.
    """
    if asked.device != "auto" or not devices:
        return asked
    for tensor in _divisors(asked.tensor_parallel):
        for pipeline in _divisors(asked.pipeline_parallel):
            for data in range(devices // (tensor * pipeline), 0, -1):
                layout = dataclasses.replace(
                    asked,
                    tensor_parallel=tensor,
                    pipeline_parallel=pipeline,
                    data_parallel=data,
                    pipeline_chunks=asked.pipeline_chunks if pipeline > 1 else 1,
                )
                if not [*layout.errors(), *errors(layout)]:
                    return layout
    return asked


def _divisors(number: int) -> Iterator[int]:
    """From the number itself down to 1."""
    return (size for size in range(number, 0, -1) if number % size == 0)


def described(layout: ParallelConfig, asked: ParallelConfig, devices: int) -> str:
    """What to say of a layout that is not the asked one."""

    def sizes(of: ParallelConfig) -> str:
        pipeline = f"{of.pipeline_parallel} pipeline × " if of.pipeline_parallel > 1 else ""
        return f"{pipeline}{of.data_parallel} data × {of.tensor_parallel} tensor"

    return (
        f"on {layout.world_size} of {devices} CUDA devices, {sizes(layout)} (the recipe: {sizes(asked)}; "
        'device = "cuda" insists on it)'
    )
