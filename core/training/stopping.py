"""Reasons to end a training before its last step: a signal, or a time limit."""

import math
import signal
import time

from core.processes import LostTerminal, asked_to_end

NO_REASON, TIME_LIMIT, SAVE_FAILED, BAD_SAMPLES = (
    0,
    1000,
    1001,
    1002,
)  # others are numbers of signals, which are below


def reason_name(reason: int) -> str:
    """For people and `state.json`."""
    return "the time limit" if reason == TIME_LIMIT else signal.Signals(reason).name


class StopRequest:
    """While inside, SIGTERM, SIGINT and SIGHUP, or the time limit, ask the loop to stop after the current step. A second
    SIGINT ends the process at once, whatever it does, as a kill does.

    SIGHUP says that the terminal is gone, as when an ssh connection is closed: what would be printed goes nowhere then.
    """

    def __init__(self, minutes: float) -> None:
        self._reason = NO_REASON
        self._deadline = time.monotonic() + minutes * 60 if minutes else math.inf

    def reason(self) -> int:
        """Why to stop: the number of a signal, the time limit, or not at all."""
        if self._reason == NO_REASON and time.monotonic() > self._deadline:
            self._reason = TIME_LIMIT
        return self._reason

    def _request(self, number: int, frame: object) -> None:
        if number == signal.SIGHUP:
            self._terminal.let_go()
        if number == signal.SIGINT:  # in foreign code a handler of Python's would wait for its end
            signal.signal(number, signal.SIG_DFL)
        self._reason = number

    def __enter__(self) -> "StopRequest":
        self._terminal = LostTerminal()
        self._previous = {number: signal.signal(number, self._request) for number in asked_to_end()}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
