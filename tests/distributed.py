"""Run a module-level function, or a program, on several real processes that share a gloo process group.

The children come from a fork server that has all imported already (`warm_ranks`), so a launch costs hundredths of a second.
A child that fails, or a group that hangs, fails the test with the rank's traceback; nothing is left running.
"""

import functools
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from core.processes import die_with_parent

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["warm_ranks"])
_TESTS = Path(__file__).parent


@functools.cache
def _start_fork_server() -> None:
    """Before Python 3.13 it is not told where to find modules."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in (_TESTS / "core", _TESTS, _TESTS.parent):
            patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        forkserver.ensure_running()


def run_distributed(
    function: Callable[..., Any], world_size: int, *arguments: Any, timeout_seconds: float = 180
) -> list[Any]:
    """Call `function(*arguments)` on every rank of a world and return the ranks' results, by rank.

    Args:
        function: a module-level function; it may call `core.parallel.mesh.initialize`.
        world_size: processes.
        arguments, results: picklable; tensors travel as numpy arrays or plain lists best.
    """
    _start_fork_server()
    with tempfile.TemporaryDirectory() as folder:
        queue = _context.Queue()
        processes = [
            _context.Process(target=_child, args=(function, rank, world_size, folder, queue, arguments))
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        try:
            results = _collect(processes, queue, world_size, timeout_seconds)
            for process in processes:
                process.join(timeout=10)
            return results
        finally:
            for process in processes:
                process.kill()
                process.join()


def exit_codes(
    function: Callable[..., Any],
    world_size: int,
    *arguments: Any,
    endless: int | None = None,
    timeout_seconds: float = 60,
) -> list[int | None]:
    """Call `function(*arguments)` on every rank of a world that does not end as others do; returns by rank how its process
    ended, None where it did not.

    Args:
        endless: a rank that is not waited for.
    """
    _start_fork_server()
    with tempfile.TemporaryDirectory() as folder:
        queue = _context.Queue()
        processes = [
            _context.Process(target=_child, args=(function, rank, world_size, folder, queue, arguments))
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        deadline = time.monotonic() + timeout_seconds
        for rank, process in enumerate(processes):
            if rank != endless:
                process.join(max(0.0, deadline - time.monotonic()))
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
            process.join()
        return codes


def _collect(processes: list, queue: Any, world_size: int, timeout_seconds: float) -> list[Any]:
    results: dict[int, Any] = {}
    deadline = time.monotonic() + timeout_seconds
    while len(results) < world_size:
        try:
            rank, error, value = queue.get(timeout=0.2)
        except Exception:
            dead = [i for i, p in enumerate(processes) if p.exitcode not in (None, 0) and i not in results]
            if dead and queue.empty():
                raise AssertionError(
                    f"rank {dead[0]} died with exit code {processes[dead[0]].exitcode}"
                ) from None
            if time.monotonic() > deadline:
                missing = sorted(set(range(world_size)) - set(results))
                raise AssertionError(f"ranks {missing} gave no result in {timeout_seconds} s") from None
            continue
        if error:
            raise AssertionError(f"rank {rank} failed:\n{error}")
        results[rank] = value
    return [results[rank] for rank in range(world_size)]


def _child(function: Callable, rank: int, world_size: int, folder: str, queue: Any, arguments: tuple) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE=str(world_size)
    )
    die_with_parent()
    torch.set_num_threads(1)
    try:
        store = dist.FileStore(os.path.join(folder, "store"), world_size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
        value = function(*arguments)
        dist.barrier()
        queue.put((rank, None, value))
        dist.destroy_process_group()
    except BaseException:
        queue.put((rank, traceback.format_exc(), None))
    queue.close()
    queue.join_thread()


def run_program(
    module: str, arguments: list[str], processes: int = 1, typed: str = "", timeout_seconds: float = 180
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments` on ranks, as torchrun starts them but without its seconds of imports.

    One process runs without torchrun's variables, as a program started by hand. Returns the first exit code that is
    not 0, and what all ranks printed.
    """
    _start_fork_server()
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        (folder / "in").write_text(typed)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        ranks = [
            _context.Process(target=_run_module, args=(module, arguments, rank, processes, port, folder))
            for rank in range(processes)
        ]
        for process in ranks:
            process.start()
        try:
            deadline = time.monotonic() + timeout_seconds
            for process in ranks:
                process.join(timeout=max(0.0, deadline - time.monotonic()))
            codes = [process.exitcode for process in ranks]
        finally:
            for process in ranks:
                process.kill()
                process.join()
        printed, complained = ((folder / stream).read_text() for stream in ("out", "err"))
    assert None not in codes, f"ranks gave no result in {timeout_seconds} s: {codes}\n{complained}"
    return subprocess.CompletedProcess(arguments, max(codes, key=abs), printed, complained)


def _run_module(
    module: str, arguments: list[str], rank: int, processes: int, port: int, folder: Path
) -> None:
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_APPEND | os.O_WRONLY), descriptor)
    sys.stdin = (folder / "in").open()
    if processes > 1:
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")
        values = map(str, (rank, rank, processes, processes, port))
        os.environ.update(zip(names, values, strict=True), MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    os.chdir(_TESTS.parent)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
