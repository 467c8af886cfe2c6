"""Executors: one function applied to many shards, in a pool of local processes or on a Ray cluster (`ray_executor`).

Every stage of the pipeline takes an executor and calls nothing but `map`; the bytes are the same from either. What a
shard's function writes, and how a killed stage resumes, lives in `data_pipeline.engine.resumable`.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol, TypeVar

from core.errors import TransientError, UserError
from core.processes import die_with_parent
from core.registry import load_plugins
from data_pipeline.engine.ray_executor import RayExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Applies functions to items, possibly elsewhere and many at a time."""

    @property
    def workers(self) -> int:
        """How many items may be worked on at the same time."""

    def check(self, output: Path, reads: Sequence[Path] = ()) -> None:
        """Look, before work begins, whether all that will work see a folder to write to, and what is to be read."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items; both must be picklable."""

    def kept(self) -> contextlib.AbstractContextManager[None]:
        """While this is open, processes may stay from one `map` to the next: for many that are short."""


class LocalExecutor:
    """Works on this machine.

    Args:
        workers: 1 works in the calling process; more start that many processes ("spawn"), for each `map` anew
            unless they are `kept`, which end with it, or with the calling process however that ends.
        plugins: users' modules that functions and items need, loaded in every process.
    """

    def __init__(self, workers: int = 1, plugins: Sequence[str] = ()) -> None:
        if workers < 1:
            raise UserError(f"workers = {workers}: at least one is needed")
        self._workers = workers
        self._plugins = tuple(plugins)
        self._keeps = False
        self._pool: ProcessPoolExecutor | None = None

    @property
    def workers(self) -> int:
        return self._workers

    def check(self, output: Path, reads: Sequence[Path] = ()) -> None:
        """All processes of this machine see the same."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items.

        Raises:
            RuntimeError: a worker process was killed.
        """
        if self._workers == 1 or len(items) < 2:
            yield from map(function, items)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(self._plugins,),
            )
        whole = False
        try:
            yield from self._pool.map(function, items)
            whole = True
        except BrokenProcessPool as error:
            raise TransientError(
                "a worker process was killed, often for want of memory: use fewer workers; "
                "finished shards are kept, so the same command goes on from here"
            ) from error
        except KeyboardInterrupt:  # a shard may take hours: its work is begun again, what is finished is kept
            for process in multiprocessing.active_children():
                process.kill()
            raise
        finally:
            if not (whole and self._keeps):
                self._end()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """While this is open, processes stay from one `map` to the next; they start when they are needed."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps = False
            self._end()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def make_executor(workers: int, ray_address: str = "", plugins: Sequence[str] = ()) -> Executor:
    """A pool of so many local processes, or with an address a Ray cluster."""
    return RayExecutor(ray_address, plugins) if ray_address else LocalExecutor(workers, plugins)


def _start_worker(plugins: Sequence[str]) -> None:
    """Set up a worker: it dies with its parent, leaves Ctrl-C to it, and uses one thread."""
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it died before this process could ask to die with it
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    load_plugins(plugins)
