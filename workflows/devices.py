"""CUDA devices of this machine, counted without torch, and each for one program at a time, whichever process starts it.

A device is taken by the lock of a file that all processes of the machine see; the kernel lets go of it when its holder
dies. On a machine without devices, and for programs that compute on the CPU, nothing is locked.
"""

import contextlib
import functools
import glob
import importlib.util
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from workflows.console import say

_DEVICE_FILE = "/dev/nvidia"  # and a number
_LOCKS = Path(tempfile.gettempdir()) / "devices-of-trainings"
_WAIT_SECONDS = 1.0


def visible_devices() -> list[str]:
    """The CUDA devices that programs started from here see, as `CUDA_VISIBLE_DEVICES` names them."""
    found = sorted((path.removeprefix(_DEVICE_FILE) for path in glob.glob(f"{_DEVICE_FILE}[0-9]*")), key=int)
    if not found or not _torch_has_cuda():
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return found
    names = []
    for name in (word.strip() for word in chosen.split(",")):
        if not (name.startswith(("GPU-", "MIG-")) or name in found):
            break  # as CUDA does: what comes behind one that is none does not count
        names.append(name)
    return names


@functools.cache
def _torch_has_cuda() -> bool:
    """Whether torch, which is not imported here, is a build for CUDA."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b.*=\s*['\"]", version, re.MULTILINE) is not None


@contextlib.contextmanager
def devices_for(ranks: int, device: str, *, share: bool = False) -> Iterator[list[str]]:
    """Hold a device for each rank, waiting for those that other programs have; none where the ranks use the CPU.

    Args:
        device: as in `ParallelConfig`.
        share: take them as they come, whoever uses them.
    """
    known = visible_devices()
    if device == "cpu" or len(known) < ranks:  # the program itself says what is missing
        yield []
        return
    with contextlib.ExitStack() as held:
        yield known[:ranks] if share else _take(known, ranks, held)


def _take(known: list[str], count: int, held: contextlib.ExitStack) -> list[str]:
    """Lock so many of the devices, all or none at a time, so that two who want several never wait for each other."""
    _LOCKS.mkdir(mode=0o777, exist_ok=True)
    with contextlib.suppress(OSError):  # another user's
        _LOCKS.chmod(0o1777)
    told = False
    while True:
        taken: list[str] = []
        with contextlib.ExitStack() as attempt:
            for name in known:
                lock = FileLock(_LOCKS / f"{name}.lock", mode=0o666)
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=0)
                    attempt.callback(lock.release)
                    taken.append(name)
                if len(taken) == count:
                    held.push(attempt.pop_all().__exit__)
                    return taken
        if not told:
            told = True
            say(
                f"        waiting for {count} of the CUDA devices {', '.join(known)}, which other programs have"
            )
        time.sleep(_WAIT_SECONDS)
