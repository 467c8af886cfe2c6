"""Lock files: what remote sources were when they were first asked for, so that later fetches get the same.

A lock file is JSON beside a recipe, one entry a source, meant to be kept with the recipe; with it keys are taken, and
finished artifacts found, without a network. To move on to newer data, remove the entry.
"""

import json
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import exclusive, write_json


class LockError(UserError):
    """A source is not what the lock file says, or the lock file cannot be read; the message says what to do."""


class NotPinnedError(UserError):
    """Nothing says which version of a remote source is meant, and the network was not to be asked."""


class LockFile:
    """The pins of a recipe's remote sources: a revision, or a sha256 and a size, by source."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def entries(self) -> dict[str, dict[str, Any]]:
        """All pins.

        Raises:
            LockError: the file is there, but is no table of pins.
        """
        if not self.path.exists():
            return {}
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LockError(f"{self.path}: cannot be read ({error}); restore it, or remove it") from error
        if not isinstance(entries, dict) or not all(isinstance(pin, dict) for pin in entries.values()):
            raise LockError(f"{self.path}: no table of pins; restore it, or remove it")
        return entries

    def get(self, source: str) -> dict[str, Any] | None:
        """The pin of a source, or None before its first fetch."""
        return self.entries().get(source)

    def settle(self, source: str, pin: dict[str, Any]) -> None:
        """Write a source's pin, or check it against the one that is there.

        Raises:
            LockError: the pins differ.
        """
        with exclusive(self.path.with_name(f".{self.path.name}")):
            entries = self.entries()
            known = entries.setdefault(source, pin)
            if known != pin:
                raise LockError(
                    f"{source}: is now {pin}, but {self.path} pins {known}; to take it as it is now, remove that entry"
                )
            write_json(self.path, entries)
