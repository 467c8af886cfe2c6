"""Executors: one function applied to many shards, in this process or in a pool of local processes.

Every stage of the pipeline takes an executor and calls nothing but `map`, so a cluster needs one more class here
and no other change. What a shard's function writes, and how a killed stage resumes, lives in
`data_pipeline.resumable`.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from data_pipeline.processes import die_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Applies functions to items, possibly elsewhere and many at a time."""

    @property
    def workers(self) -> int:
        """How many items may be worked on at the same time."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items; both must be picklable."""


class LocalExecutor:
    """Works on this machine.

    Args:
        workers: 1 works in the calling process; more start that many processes ("spawn"), for each `map` anew,
            which end with it, or with the calling process however that ends.
    """

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise ValueError(f"workers = {workers}: at least one is needed")
        self._workers = workers

    @property
    def workers(self) -> int:
        return self._workers

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items.

        Raises:
            RuntimeError: a worker process was killed.
        """
        if self._workers == 1 or len(items) < 2:
            yield from map(function, items)
            return
        pool = ProcessPoolExecutor(
            min(self._workers, len(items)), multiprocessing.get_context("spawn"), initializer=_start_worker
        )
        try:
            yield from pool.map(function, items)
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process was killed, often for want of memory: use fewer workers; "
                "finished shards are kept, so the same command goes on from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Set up a worker: it dies with its parent, leaves Ctrl-C to it, and uses one thread."""
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it died before this process could ask to die with it
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
