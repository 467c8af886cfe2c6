"""The output of a program on ranks: one writer at a time, and nothing done twice."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from core.files import MANIFEST, PARTIAL_SUFFIX, exclusive
from core.parallel.mesh import Mesh


@contextlib.contextmanager
def writing(output: Path, mesh: Mesh) -> Iterator[bool]:
    """Hold the output's lock on the main rank, which writes. Yields True when a `….partial` output has become a
    finished artifact in the meantime, and nothing is left to do. Collective.

    Another program may hold the lock for days; meanwhile the ranks hear of each other, so that no time-out ends them.
    """
    final = output.with_name(output.name.removesuffix(PARTIAL_SUFFIX))
    with contextlib.ExitStack() as held:
        if mesh.is_main:
            held.enter_context(
                exclusive(
                    final,
                    waiting=lambda line: print(line, file=sys.stderr, flush=True),
                    meanwhile=lambda: on_main(mesh, False),
                )
            )
            on_main(mesh, True)
        else:
            while not on_main(mesh, False):
                pass
        yield on_main(mesh, final != output and (final / MANIFEST).exists())


def on_main(mesh: Mesh, fact: bool) -> bool:
    """What the main rank found, on every rank; waits for it."""
    value = torch.tensor([float(fact)])
    dist.broadcast(value, src=0, group=mesh.control_group)
    return bool(value.item())
