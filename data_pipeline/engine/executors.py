"""Executors: one function applied to many shards, in a pool of local processes or on a Ray cluster.

Every stage of the pipeline takes an executor and calls nothing but `map`; the bytes are the same from either. What a shard's function writes, and how a killed stage resumes, lives in
`data_pipeline.engine.resumable`.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from core.errors import UserError
from core.processes import available_cores, die_with_parent
from core.registry import load_plugins

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
        plugins: users' modules that functions and items need, loaded in every process.
    """

    def __init__(self, workers: int = 1, plugins: Sequence[str] = ()) -> None:
        if workers < 1:
            raise UserError(f"workers = {workers}: at least one is needed")
        self._workers = workers
        self._plugins = tuple(plugins)

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
            min(self._workers, len(items)),
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._plugins,),
        )
        try:
            yield from pool.map(function, items)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, often for want of memory: use fewer workers; "
                "finished shards are kept, so the same command goes on from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


class RayExecutor:
    """Works on a Ray cluster, a thin adapter: one task an item, one processor core a task.

    All nodes must see the input and output folders under the same paths, and have this package installed.

    Args:
        address: of the cluster ("auto" finds the one this machine is in); "local" starts one on this machine's cores,
            which ends with this process.
        plugins: users' modules that functions and items need; their files must be there on all nodes, too.

    Raises:
        ValueError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str, plugins: Sequence[str] = ()) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("Ray is not installed: pip install 'megatron-reproduction[ray]'") from error
        self._ray = ray
        self._plugins = tuple(plugins)
        if not ray.is_initialized():
            _check_reachable(address)
            started_here: dict[str, Any] = {"num_cpus": available_cores(), "include_dashboard": False}
            try:
                ray.init(
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **(started_here if address == "local" else {"address": address}),
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise UserError(f"Ray at {address!r} cannot be reached: {error}") from error
        self._call: Any = ray.remote(num_cpus=1)(_call_alone)

    @property
    def workers(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items; a few more than there are cores are under way.

        Raises:
            RuntimeError: a worker process was killed, again and again.
        """
        pending = deque(items)
        running: deque[Any] = deque()
        shared = self._ray.put((tuple(sys.path), self._plugins, pickle.dumps(function)))
        try:
            while pending or running:
                while pending and len(running) < 2 * self.workers:
                    running.append(self._call.remote(shared, pending.popleft()))
                yield self._ray.get(running.popleft())
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            raise UserError(
                f"a task was lost on the Ray cluster ({type(error).__name__}); finished shards are kept, so the "
                "same command goes on from here"
            ) from error
        finally:
            for reference in running:
                self._ray.cancel(reference)


def _check_reachable(address: str) -> None:
    """Ray itself tries for five minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise UserError(f"Ray at {address!r} cannot be reached: {error}") from error


def _call_alone(shared: tuple[tuple[str, ...], tuple[str, ...], bytes], item: Item) -> Any:
    """Call a pickled function where its modules and plug-ins are found, as the calling process finds them, and with one
    thread for the libraries that would start more."""
    paths, plugins, function = shared
    sys.path += [path for path in paths if path not in sys.path]
    load_plugins(plugins)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return pickle.loads(function)(item)


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
