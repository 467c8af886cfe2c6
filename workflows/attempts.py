"""What is tried again: work that lost a process or the network, for it goes on from what is kept."""

import itertools
import time
from collections.abc import Callable
from typing import TypeVar

from core.errors import TransientError
from workflows.console import complain

Result = TypeVar("Result")
_WAIT_SECONDS = 5.0  # before the first; three times as long before the next


def again(work: Callable[[], Result], retries: int, title: str) -> Result:
    """Do it, and again after a `TransientError`, so many times at most; any other error is final."""
    for attempt in itertools.count(1):
        try:
            return work()
        except TransientError as error:
            if attempt > retries:
                raise
            wait = _WAIT_SECONDS * 3 ** (attempt - 1)
            complain(f"{title}: {error}\n  goes on from what is kept in {wait:g} s ({attempt} of {retries})")
            time.sleep(wait)
    raise AssertionError("without end")
