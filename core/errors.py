"""What a user can cause and mend: one base for all such errors, whatever package raises them. No torch.

A program prints the message of a `UserError` without a traceback; every other exception is a bug and keeps its own.
"""

import sys
from collections.abc import Iterable


class UserError(ValueError):
    """What its user can mend: the message names the file, the record or the key, and the remedy.

    Attributes:
        exit_code: of a program that ends with it: 1, or 2 where it was called wrongly.
        ended: how the attempt that it ends is told of afterwards: "failed", or "stopped".
    """

    exit_code = 1
    ended = "failed"


class ConfigurationError(UserError):
    """One or more errors in settings; the message lists them all, a line each."""

    exit_code = 2

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(self.errors))


class TransientError(UserError):
    """A process was lost, or the network was: the same again may well succeed, and goes on from what is kept."""


class StoppedError(UserError):
    """Work that was asked to end from outside did so in order, and can go on."""

    ended = "stopped"


class MissingLibraryError(UserError):
    """A library that is needed is not installed."""

    def __init__(self, needing: str, library: str) -> None:
        super().__init__(
            f"{needing}: needs {library}, which is not installed (pip install -e '.[train]' in the checkout brings what "
            "trains and evaluates)"
        )


def message_for_user(error: BaseException) -> str | None:
    """What to print of an error without its traceback; None where it is a bug.

    Besides a `UserError` that is an `OSError` that names a file: a full disk, a folder without permission. Those of
    libraries, without a name, are bugs.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}"
    return None


def told_to_user(error: Exception, prefix: str = "error") -> int:
    """Print an error that a user can mend, one message without a traceback; returns the program's exit code.

    Raises:
        Exception: the error itself, where it is a bug.
    """
    message = message_for_user(error)
    if message is None:
        raise error
    print(f"{prefix}: {message}", file=sys.stderr, flush=True)
    return getattr(error, "exit_code", 1)
