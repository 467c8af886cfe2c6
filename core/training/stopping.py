"""Reasons to end a training before its last step: a signal, or a time limit."""

import math
import signal
import time

NO_REASON, TIME_LIMIT, SAVE_FAILED = 0, 1, 100  # others are numbers of signals, between these two


def reason_name(reason: int) -> str:
    """For people and `state.json`."""
    return "the time limit" if reason == TIME_LIMIT else signal.Signals(reason).name


class StopRequest:
    """While inside, SIGTERM and SIGINT, or the time limit, ask the loop to stop after the current step."""

    def __init__(self, minutes: float) -> None:
        self._reason = NO_REASON
        self._deadline = time.monotonic() + minutes * 60 if minutes else math.inf

    def reason(self) -> int:
        """Why to stop: the number of a signal, the time limit, or not at all."""
        if self._reason == NO_REASON and time.monotonic() > self._deadline:
            self._reason = TIME_LIMIT
        return self._reason

    def _request(self, number: int, frame: object) -> None:
        self._reason = number

    def __enter__(self) -> "StopRequest":
        signals = (signal.SIGTERM, signal.SIGINT)
        self._previous = {number: signal.signal(number, self._request) for number in signals}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
