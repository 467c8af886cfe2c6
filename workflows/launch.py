"""Starting a program on ranks (several: under torchrun), showing its progress, and ending it cleanly.

How a training ended is for the caller to read from the files it left (`state.json`), never from torchrun's exit code:
that is 1 after every signal.
"""

import fcntl
import functools
import importlib.util
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from core.errors import UserError
from core.processes import available_cores
from data_pipeline.engine.run_record import CHECKOUT
from workflows.console import say

# How long ranks have, when they are asked to stop, to finish a step and save: torchrun kills them then (by itself after
# 30 s, and a step of a large model takes longer), and a little later we kill what is left.
SHUTDOWN_SECONDS = 600
_GRACE_SECONDS = SHUTDOWN_SECONDS + 5.0
_SHOWN_LINES = 15
# A program that dies with the process whose id comes first. (A function between fork and exec would do the same, but is
# unsafe beside Luigi's threads.)
_DIES_WITH_US = """
import os, sys
from core.processes import die_with_parent
die_with_parent()
if os.getppid() != int(sys.argv.pop(1)):
    sys.exit("the process that started this one is gone")
"""
_TORCHRUN = f"""{_DIES_WITH_US}
from core.program.start import main
main()
"""
_ONE_RANK = f"""{_DIES_WITH_US}
from core.program.start import run_alone
run_alone(sys.argv[1], sys.argv[2:])
"""


def run_ranks(module: str, arguments: Sequence[str], *, ranks: int, log: Path) -> int:
    """Run `python -m module arguments` as `ranks` processes of one machine; returns the exit code of it, or of torchrun.

    All its output goes to `log` (appended). On a terminal its progress bar shows live; lines that say where it
    resumes, and notes, are shown in any case. It dies with this process, however that ends. On KeyboardInterrupt it is asked to
    stop, given time for its checkpoint, and the interrupt goes on when no rank is left. A second one ends it at once.
    """
    if ranks == 1:
        program, typed, options = _ONE_RANK, "python -m", [module, *arguments]
    else:
        program, typed = _TORCHRUN, "torchrun"
        options = ["--standalone", "--nproc-per-node", str(ranks), *_patience(), "-m", module, *arguments]
    command = [sys.executable, "-c", program, str(os.getpid()), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, available_cores() // ranks))}
    log.parent.mkdir(parents=True, exist_ok=True)
    reader, writer = _channel()
    with log.open("ab") as log_stream:
        log_stream.write(f"$ {typed} {' '.join(options)}\n".encode())
        log_stream.flush()
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            start_new_session=True,  # the terminal's Ctrl-C reaches us only; we pass it on once
        )
        os.close(writer)
        relay = Relay(log_stream, sys.stderr.buffer if sys.stderr.isatty() else None)
        try:
            _pump(reader, relay)
            return process.wait()
        except KeyboardInterrupt:
            _stop(process, reader, relay)
            raise
        finally:
            relay.close()
            os.close(reader)
            if process.poll() is None:
                process.kill()
                process.wait()


@functools.cache
def _patience() -> tuple[str, ...]:
    """What makes torchrun wait for ranks that save; releases of torch without the option kill after 30 seconds."""
    spec = importlib.util.find_spec("torch")  # which imports nothing
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "distributed" / "run.py"
    known = "--shutdown-timeout" in source.read_text(encoding="utf-8")
    return ("--shutdown-timeout", str(SHUTDOWN_SECONDS)) if known else ()


def failure(what: str, log: Path) -> UserError:
    """The error of a program that did not do its work: the end of its log, and where the log is."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:]
    except OSError:
        lines = []
    shown = "\n".join(f"    {line}" for line in lines)
    return UserError(f"{what}\n{shown}\n  the whole log: {log}")


def _channel() -> tuple[int, int]:
    """(read end, write end): a pseudo-terminal when we are on one, so that the child draws its bar; else a pipe."""
    if not sys.stderr.isatty():
        return os.pipe()
    reader, writer = os.openpty()
    size = shutil.get_terminal_size()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, size.columns, 0, 0))
    return reader, writer


def _pump(reader: int, relay: "Relay", seconds: float | None = None) -> bool:
    """Relay what arrives until every process that holds the other end is gone; False when time ran out first."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        if not select.select([reader], [], [], left)[0]:
            return False
        try:
            block = os.read(reader, 65536)
        except OSError:  # a pseudo-terminal ends with EIO
            return True
        if not block:
            return True
        relay.feed(block)


def _stop(process: subprocess.Popen, reader: int, relay: "Relay") -> None:
    """Ask for an orderly end; too long a wait makes it a hard one."""
    process.send_signal(signal.SIGTERM)
    if _pump(reader, relay, _GRACE_SECONDS):
        process.wait()
        return
    process.kill()  # its ranks die with it
    process.wait()
    _pump(reader, relay, 5.0)


class Relay:
    """Splits a program's output into lines (to the log) and redrawn progress bars (to the terminal, if any).

    A bar is text that follows a carriage return: it is passed on as it comes and wiped out when its line ends;
    only its last state reaches the log, with whatever was printed over it.
    """

    def __init__(
        self, log: BinaryIO, terminal: BinaryIO | None, show: Callable[[str], None] | None = None
    ) -> None:
        self._log = log
        self._terminal = terminal
        self._show = show or _show_line
        self._line = b""
        self._in_bar = False
        self._returned = False

    def feed(self, block: bytes) -> None:
        for part in _split(block):
            if part == b"\n":
                self._end_line()
            elif part == b"\r":
                self._returned = True
            else:
                self._text(part)
        if self._terminal is not None and self._in_bar:
            self._terminal.flush()

    def _text(self, part: bytes) -> None:
        if self._returned:
            self._returned = False
            self._in_bar = True
            self._line = b""
            self._draw(b"\r")
        self._line += part
        if self._in_bar:
            self._draw(part)

    def _draw(self, part: bytes) -> None:
        if self._terminal is not None:
            self._terminal.write(part)

    def _end_line(self) -> None:
        self._returned = False  # a terminal's line end is \r\n
        if self._in_bar:
            self._draw(b"\r\x1b[K")
            self._in_bar = False
        self._log.write(self._line + b"\n")
        self._log.flush()
        self._show(self._line.decode("utf-8", errors="replace"))
        self._line = b""

    def close(self) -> None:
        if self._line:
            self._end_line()


def _split(block: bytes) -> list[bytes]:
    """Text, line ends and carriage returns, apart and in order."""
    return [part for part in re.split(rb"([\r\n])", block) if part]


def _show_line(line: str) -> None:
    """Of a program's own lines, the console shows where it resumes, and notes."""
    if "resum" in line.lower() or line.startswith("note: "):
        say(f"        {line.strip()}")
