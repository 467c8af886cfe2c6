"""What the user sees of a run: one line a stage, where a resumed stage goes on, how far it is, a summary at the end.

A `Session` is one luigi command. It begins when luigi first asks about the root task (`stage.py` hooks it there),
numbers the stages, and ends with the process. Nothing here decides what runs. Where bars are drawn is `terminal.py`'s.
"""

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol

from core.processes import LostTerminal, asked_to_end, die_with_parent
from core.progress import Progress
from workflows import terminal

PIPELINE_LOGGER = "data_pipeline"
_LINE_SECONDS = 60.0
_REPORT_SECONDS = 5.0


class Planned(Protocol):
    """What the console needs of a stage."""

    task_id: str

    @property
    def page(self) -> Path | None: ...
    def label(self) -> str: ...
    def complete(self) -> bool: ...


class Session:
    """The stages of one command, numbered in the order in which they run.

    Args:
        not_needed: how many more there are whose artifacts are gone, below others that are complete.
        held: is kept as long as the process lives.
    """

    def __init__(
        self, root: str, stages: Sequence[Planned], not_needed: int = 0, held: object = None
    ) -> None:
        self.root = root
        self.stages = list(stages)
        self.not_needed = not_needed
        self.held = held
        self.started = time.monotonic()
        self.process = os.getpid()
        self.finished_before = {stage.task_id for stage in self.stages if stage.complete()}
        self._number = {stage.task_id: index for index, stage in enumerate(self.stages, start=1)}
        self.interrupted = False

    def title(self, stage: Planned) -> str:
        """ "[ 3/16] clean stories", the start of every line about a stage."""
        total = len(self.stages)
        return f"[{self._number.get(stage.task_id, 0):>{len(str(total))}}/{total}] {stage.label()}"

    def priority(self, stage: Planned) -> int:
        """Luigi runs the highest first: the order of the plan."""
        return len(self.stages) - self._number.get(stage.task_id, len(self.stages))

    def summary(self) -> str:
        """The last lines of a command."""
        total, before = len(self.stages), len(self.finished_before)
        done = sum(stage.complete() for stage in self.stages)
        seconds = format_seconds(time.monotonic() - self.started)
        if before == total:
            gone = f", {self.not_needed} gone and not needed" if self.not_needed else ""
            return f"{self.root}: nothing to run, {_stages(total)} already done{gone} ({seconds})"
        line = f"{self.root}: {_stages(done - before)} run, {before} already done"
        if done < total:
            reason = "interrupted" if self.interrupted else "failed"
            line += f", {total - done} not done ({reason}; the same command goes on from here)"
        return f"{line}, {seconds}"


_session: Session | None = None


def current() -> Session | None:
    """The running session; None outside a luigi command (tests, `python -m workflows`)."""
    return _session


def begin(
    root: str, stages: Sequence[Planned], not_needed: int = 0, held: object = None, workers: int = 1
) -> None:
    """Start the session of this process, once: header, signals, log lines, and the summary at exit.

    Args:
        workers: how many stages luigi may run at a time, each in a process of its own.
    """
    global _session
    if _session is not None:
        return
    terminal.share(workers)
    _session = Session(root, stages, not_needed, held)
    done = len(_session.finished_before)
    if done < len(stages):
        say(f"{root}: {_stages(len(stages))}" + (f", {done} already done" if done else ""))
    _relay_pipeline_log()
    logging.getLogger("luigi-interface").addFilter(_not_shown_yet)
    _install_signals()
    atexit.register(_end)


def _end() -> None:
    session = _session
    if session is None or os.getpid() != session.process:
        return
    say(session.summary())
    for stage in session.stages:
        if stage.page is not None and stage.complete():
            say(f"report: {stage.page}")


def say(text: str) -> None:
    """Print a line, over whatever bars stand on the terminal."""
    with terminal.over_bars(), contextlib.suppress(BrokenPipeError):
        print(text, flush=True)


def complain(text: str) -> None:
    """Print an error to stderr."""
    with terminal.over_bars():
        print(text, file=sys.stderr, flush=True)


def show_failure(stage: Planned, error: Exception, message: str | None, log: Path) -> None:
    """Print why a stage failed and where its log is, once: luigi's own account of the same error is left out.

    Args:
        message: for the user; None for a bug, whose traceback luigi prints.
    """
    text = "a bug, whose traceback comes next" if message is None else message
    where = "" if str(log) in text or not log.exists() else f"\n  the whole log: {log}"
    complain(f"{stage_title(stage)} FAILED: {text}{where}")
    if message is not None:
        error.already_shown = True  # type: ignore[attr-defined]


class Watch:
    """Says how far a stage is: once a minute where there is no terminal for a bar, and to whoever schedules."""

    def __init__(self, stage: Planned, report: Callable[[Progress], object] | None) -> None:
        """`report`: tells a scheduler that others look at; it may take its time."""
        self._title, self._report = stage_title(stage), report
        self._said = self._reported = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._said > _LINE_SECONDS and not sys.stderr.isatty():
            self._said = now
            say(f"{self._title}: {progress.line()}")
        if self._report is not None and now - self._reported > _REPORT_SECONDS:
            self._reported = now
            threading.Thread(target=self._report, args=(progress,), daemon=True).start()


def _not_shown_yet(record: logging.LogRecord) -> bool:
    return not (record.exc_info and getattr(record.exc_info[1], "already_shown", False))


def stage_title(stage: Planned) -> str:
    """The stage's numbered title, or its plain label outside a session."""
    return _session.title(stage) if _session is not None else stage.label()


def stage_finished(stage: Planned, seconds: float, facts: str) -> None:
    """The line of a finished stage."""
    tail = f", {facts}" if facts else ""
    say(f"{stage_title(stage)} … {format_seconds(seconds)}{tail}")


def _stages(count: int) -> str:
    return f"{count} stage" if count == 1 else f"{count} stages"


def format_seconds(seconds: float) -> str:
    """4.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"        {record.getMessage()}")


def _relay_pipeline_log() -> None:
    logger = logging.getLogger(PIPELINE_LOGGER)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(_ConsoleHandler())


class _Interrupts:
    """SIGTERM, SIGINT and SIGHUP raise KeyboardInterrupt, which stages and Luigi let through; the exit code is then 130.

    A repeat within two seconds is the same request, come on another way (a terminal tells all processes, and Luigi
    its workers again). A later one ends this process at once, and with it everything that it started.
    """

    same_request_seconds = 2.0

    def __init__(self) -> None:
        self.first: float | None = None
        self.terminal = LostTerminal()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.terminal.let_go()
        now = time.monotonic()
        if self.first is None:
            self.first = now
            if _session is not None:
                _session.interrupted = True
            raise KeyboardInterrupt
        if now - self.first > self.same_request_seconds:
            os._exit(130)


def _install_signals() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    interrupts = _Interrupts()
    for number in asked_to_end():
        signal.signal(number, interrupts)
    usual = sys.excepthook

    def quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            raise SystemExit(130)
        usual(kind, error, trace)

    sys.excepthook = quiet


def in_luigi_worker() -> bool:
    """True in a process that Luigi forked for `--workers`."""
    return _session is not None and os.getpid() != _session.process


def start_luigi_worker() -> None:
    """Make such a process die with the command, and leave to it what a terminal tells all: it sends SIGTERM on."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lost = LostTerminal()
    if signal.SIGHUP in asked_to_end():
        signal.signal(signal.SIGHUP, lambda *_: lost.let_go())
    terminal.take_row()


@contextlib.contextmanager
def interrupted_quietly() -> Iterator[None]:
    """In a forked worker an interrupt is a failure without a traceback; the command itself says what happened."""
    try:
        yield
    except KeyboardInterrupt:
        if not in_luigi_worker():
            raise
        stop = SystemExit(130)
        stop.already_shown = True  # type: ignore[attr-defined]
        raise stop from None
