"""Who made an artifact, where and when: `run.json`, which no manifest covers."""

import datetime
import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files import read_json, write_json
from data_pipeline.engine.artifacts import RUN_RECORD

CHECKOUT = Path(__file__).resolve().parents[2]


class RunRecord:
    """One segment an attempt, so that a resumed stage lists them all.

    Args:
        partial: the folder of the artifact that is being made.
        layout: how the work is spread over processes.
    """

    def __init__(self, partial: Path, layout: Mapping[str, Any]) -> None:
        self._path = partial / RUN_RECORD
        self._started = time.monotonic()
        self._segments: list[dict[str, Any]] = []
        if self._path.exists():
            self._segments = read_json(self._path)["segments"]
        self._segments.append(
            {
                "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "host": socket.gethostname(),
                "process": os.getpid(),
                "layout": dict(layout),
                "ended": "killed",  # unless something later says otherwise
            }
        )
        write_json(self._path, {"segments": self._segments})

    def finished(self) -> dict[str, Any]:
        """The whole record, at the end."""
        self._segments[-1] |= {"ended": "finished", "seconds": round(time.monotonic() - self._started, 3)}
        return {
            "segments": self._segments,
            "seconds": self._segments[-1]["seconds"],
            "resumed": len(self._segments) - 1,
            "git_revision": git_revision(),
            "python": platform.python_version(),
            "torch": _version("torch"),
            "luigi": _version("luigi"),
        }


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def git_revision() -> str:
    """The checkout's revision, with "+changes" when files differ from it; "unknown" outside a checkout."""
    try:
        revision = _git("rev-parse", "HEAD")
        return revision + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()
