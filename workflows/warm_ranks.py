"""The fork server of one luigi command (`core.program.fork_server`): started once, asked by every stage on ranks.

Stages are in processes that luigi forked, or in the command itself: the command starts the server before, and it ends with
the command. Where there is none, programs are started anew.
"""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

from core.program.fork_server import Request, ask, exit_code, read
from data_pipeline.engine.run_record import CHECKOUT

_PROGRAMS = ("pretrain", "evaluate", "finetune")
_server: socket.socket | None = None


class WarmProgram:
    """A program that the server forked, to be used like a `subprocess.Popen`; it lives no longer than this process."""

    def __init__(self, pair: socket.socket) -> None:
        self._pair = pair
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code where it was waited for."""
        return self._code

    def wait(self) -> int:
        if self._code is None:
            answer = b""
            with contextlib.suppress(OSError):
                answer = read(self._pair, 4)
            self._code = exit_code(answer)
            self._pair.close()
        return self._code

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._pair.send(bytes([number]))

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start() -> None:
    """Start the server, unless there is one, or none can be."""
    global _server
    if _server is not None or sys.platform != "linux":
        return
    _server, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "core.program.fork_server", str(theirs.fileno()), *_PROGRAMS],
            cwd=CHECKOUT,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def run(words: Sequence[str], alone: bool, environment: Mapping[str, str], output: int) -> WarmProgram | None:
    """Have a program run; None where there is no server."""
    if _server is None:
        return None
    request = Request(list(words), alone, dict(environment), str(CHECKOUT))
    try:
        return WarmProgram(ask(_server, request, output))
    except OSError:  # it is gone
        return None
