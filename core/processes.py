"""What every process of a stage needs from the operating system: dying together, ending in order, and thread limits."""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

from core.errors import UserError

_OTHER_FILES = 512  # than those that are counted


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


def is_running(process: int) -> bool:
    """Whether there is such a process on this machine, and it is not one that has died and waits for its parent."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    try:
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):  # no Linux, or gone meanwhile
        return sys.platform != "linux"


def asked_to_end() -> tuple[signal.Signals, ...]:
    """The signals that ask a process to end in order: SIGTERM, SIGINT, and, unless it was started to outlive its
    terminal (`nohup`), SIGHUP."""
    signals = (signal.SIGTERM, signal.SIGINT)
    return signals if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*signals, signal.SIGHUP)


class LostTerminal:
    """What to do with the standard streams when their terminal hangs up; make it while the terminal is there.

    From then on each write to it fails, which would end the process in the middle of its orderly end.
    """

    def __init__(self) -> None:
        self._descriptors = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def let_go(self) -> None:
        """What is printed from now on goes nowhere, where it went to a terminal."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in self._descriptors:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


def allow_open_files(count: int) -> None:
    """Raise this process's limit of open files, connections among them, to `count` and some, where it is lower.

    Raises:
        UserError: the system's limit is lower; the message says what is needed.
    """
    import resource  # not on every system

    needed = count + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise UserError(
                f"each process needs up to {needed} open files and connections, and may have {hard}: raise the limit "
                f"(ulimit -Hn {needed}, or LimitNOFILE of the service that starts it)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def available_cores() -> int:
    """Processor cores this process may use (honours affinity and containers' masks)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
