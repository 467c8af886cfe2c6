"""What every process of a stage needs from the operating system: dying together, and thread limits."""

import ctypes
import os
import signal
import sys
import threading
import time


def die_with_parent() -> None:
    """Make the calling process end, by SIGKILL, as soon as its parent process is gone.

    A killed workflow must leave no process behind that still writes. On Linux the kernel does it
    (`prctl(PR_SET_PDEATHSIG)`); elsewhere a thread polls the parent's id once a second.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the request was in place
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_poll_parent, args=(parent,), daemon=True).start()


def _poll_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(137)


def available_cores() -> int:
    """Processor cores this process may use (honours affinity and containers' masks)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
