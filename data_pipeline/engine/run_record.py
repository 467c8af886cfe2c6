"""Who made an artifact, where, when and on what, and how each attempt ended: `run.json`, which no manifest covers.

The same bytes come from one layout on one kind of processor: libraries choose other instructions on another kind, and
sums round otherwise. So each segment says which it was.
"""

import contextlib
import datetime
import functools
import importlib.metadata
import logging
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json, write_json
from core.processes import available_cores, is_running
from data_pipeline.engine.artifacts import RUN_RECORD

CHECKOUT = Path(__file__).resolve().parents[2]
_LONGEST_ERROR = 500  # characters
MACHINE_FILE = "logs/machine.json"  # in it processes of a program on ranks say what they compute on
_PROCESSORS = Path("/proc/cpuinfo")
# As torch and other libraries choose their code by them: the first of which a processor has all flags.
_INSTRUCTION_SETS = (
    ("AVX512", {"avx512f", "avx512bw", "avx512dq", "avx512vl"}),
    ("AVX2", {"avx2", "fma"}),
    ("AVX", {"avx"}),
    ("SVE", {"sve"}),
    ("NEON", {"asimd"}),
)
_logger = logging.getLogger("data_pipeline")


class RunRecord:
    """One segment an attempt, so that a resumed stage lists them all.

    Args:
        partial: the folder of the artifact that is being made.
        layout: how the work is spread over processes.
        libraries: distributions whose whole versions are told; keys have less of them.
    """

    def __init__(self, partial: Path, layout: Mapping[str, Any], libraries: Iterable[str] = ()) -> None:
        self._path, self._machine = partial / RUN_RECORD, partial / MACHINE_FILE
        self._started = time.monotonic()
        self._segments: list[dict[str, Any]] = []
        here = this_machine()
        if self._path.exists():
            self._segments = read_json(self._path)["segments"]
            self._take_over_machine()
            self._compare(here)
        self._segments.append(
            {
                "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "host": socket.gethostname(),
                "process": os.getpid(),
                "layout": dict(layout),
                "machine": here,
                "libraries": {name: _version(name) for name in sorted(libraries)},
                "git_revision": git_revision(),
                "ended": "killed",  # unless something later says otherwise
            }
        )
        write_json(self._path, {"segments": self._segments})

    def laid_out(self, layout: Mapping[str, Any]) -> None:
        """Say how the work is spread, where that is known only after the segment began."""
        self._segments[-1]["layout"] = dict(layout)
        write_json(self._path, {"segments": self._segments})

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """While inside, an exception makes the segment one that "failed" or, asked to end from outside, "stopped"; what
        says nothing was "killed"."""
        try:
            yield
        except KeyboardInterrupt:
            self._broke_off("stopped", "interrupted")
            raise
        except Exception as error:
            self._broke_off(getattr(error, "ended", "failed"), str(error) or type(error).__name__)
            raise

    def _broke_off(self, how: str, why: str) -> None:
        """Write how the segment ended, in the folder as it is now: others may have begun theirs, or removed it."""
        self._take_over_machine()
        own = self._segments[-1]
        with contextlib.suppress(UserError, OSError, KeyError, TypeError):  # the error itself matters more
            segments = read_json(self._path)["segments"]
            told = {
                "ended": how,
                "seconds": round(time.monotonic() - self._started, 3),
                "error": why.splitlines()[0][:_LONGEST_ERROR],
            }
            marks = ("host", "process", "started")
            for segment in segments:
                if all(segment.get(mark) == own[mark] for mark in marks):
                    segment.update(own | told)
            write_json(self._path, {"segments": segments})

    def finished(self) -> dict[str, Any]:
        """The whole record, at the end."""
        self._take_over_machine()
        self._segments[-1] |= {"ended": "finished", "seconds": round(time.monotonic() - self._started, 3)}
        for segment in self._segments[:-1]:
            if segment.get("ended") == "killed" and _is_alive(segment):
                segment["ended"] = "left"  # to this one: two commands began it at once
        return {
            "segments": self._segments,
            "seconds": self._segments[-1]["seconds"],
            "resumed": sum(segment.get("ended") != "left" for segment in self._segments) - 1,
            "git_revision": git_revision(),
            "python": platform.python_version(),
            "torch": _version("torch"),
            "luigi": _version("luigi"),
        }

    def _take_over_machine(self) -> None:
        """What the ranks of the last segment said of themselves, if they did."""
        with contextlib.suppress(UserError):
            self._segments[-1].setdefault("machine", {}).update(read_json(self._machine))
        self._machine.unlink(missing_ok=True)

    def _compare(self, here: Mapping[str, Any]) -> None:
        there = self._segments[-1]["machine"]
        before, now = (
            f"{machine.get('processor')} ({machine.get('instruction_set')})" for machine in (there, here)
        )
        if "processor" in there and before != now:
            _logger.warning(
                "%s: was begun on %s and goes on on %s: the same to rounding, not byte for byte",
                self._path.parent,
                before,
                now,
            )


def this_machine() -> dict[str, Any]:
    """What this process computes on: the kind of processor, its instruction set, the threads it may use."""
    facts = _processor_facts()
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    numbers = [f"{name} {facts[name]}" for name in ("cpu family", "model", "stepping") if name in facts]
    name = facts.get("model name") or platform.processor() or platform.machine()
    return {
        "processor": f"{name} ({', '.join(numbers)})" if numbers else name,
        "instruction_set": next((known for known, needed in _INSTRUCTION_SETS if needed <= flags), "default"),
        "threads": available_cores(),
        "device": "cpu",
    }


def _processor_facts() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        first = _PROCESSORS.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


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


def _is_alive(segment: Mapping[str, Any]) -> bool:
    """Whether the process of a segment is one of this machine, another one than this, and runs."""
    process = segment.get("process")
    here = segment.get("host") == socket.gethostname()
    return here and isinstance(process, int) and process != os.getpid() and is_running(process)
