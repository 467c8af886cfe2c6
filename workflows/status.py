"""`python -m workflows status`: what is running in a folder of artifacts, how far, and what is left. From any terminal.

There is no daemon: a lock that is held says that a stage is at work, its folder how far (`workflows.progress`), and
`run.json` how one ended that is not.
"""

import argparse
import contextlib
import datetime
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import PARTIAL_SUFFIX, read_json
from data_pipeline.engine.artifacts import RUN_RECORD
from data_pipeline.engine.inventory import Entry, holder, inventory, is_locked, locks_in
from workflows.arguments import add_recipe, add_runs, add_task, root_of
from workflows.console import format_seconds
from workflows.progress import Progress, progress_of
from workflows.survey import survey

DESCRIPTION = """Show how each stage in the folder of artifacts (with --recipe: each of the recipe) stands: done; running, by the lock that
its process holds: how far, how fast, how long it will take, and who; or how one ended that is not finished: killed, stopped, failed
(the next run goes on with it). Nothing is asked but files, so it works from another terminal, and beside anything."""
EPILOG = """example:
  python -m workflows status --watch 5
    clean/articles-0123456789ab     done
    pretrain/gpt2-small-4567cdef01  running  300/900 steps, 33 %  12.1 steps/s, 49.6 s left  (process 123 on host, for 25.0 s)
"""


@dataclass(frozen=True)
class Row:
    """How one stage stands.

    Attributes:
        what: "pretrain/gpt2-small-0123456789ab", or a stage's label where it has no folder yet.
        state: done, running, waiting, damaged, or how an unfinished one ended.
        seconds: since a running one was begun.
        holder: "process 123 on host".
    """

    what: str
    state: str
    progress: Progress | None = None
    seconds: float | None = None
    holder: str = ""


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "status",
        help="what is running, how far it is, and how what is unfinished ended",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe(parser, default=None)
    add_runs(parser)
    add_task(parser)
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument(
        "--watch", type=float, default=0.0, metavar="SECONDS", help="again and again, until Ctrl-C"
    )
    parser.set_defaults(function=status)


def status(given: argparse.Namespace) -> int:
    """Print a line a stage, and how many there are of each; again and again where that is asked for."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            found = list(rows(given))
            if given.watch and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")
            print(
                json.dumps(as_table(found), ensure_ascii=False) if given.json else as_text(found), flush=True
            )
            if not given.watch:
                break
            time.sleep(given.watch)
    return 0


def rows(given: argparse.Namespace) -> Iterator[Row]:
    """How each stage stands: of a recipe in luigi's order, else of the folder.

    Raises:
        UserError: there is no such folder.
    """
    root = Path(given.runs)
    if given.recipe is None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; nothing was run there, or give another by --runs")
        yield from _rows_of_folder(root)
        return
    for standing in survey(root_of(given)):
        own = standing.stage.artifact.own if standing.directory else None
        if own is not None and (standing.status == "partial" or is_locked(own)):
            yield unfinished(own, standing.progress)
        else:
            state = "waiting" if standing.runs else standing.status
            yield Row(standing.stage.label() if own is None else _title(standing.directory or own), state)


def _rows_of_folder(root: Path) -> Iterator[Row]:
    entries = [entry for entry in inventory(root) if entry.condition != "aside"]
    begun = {entry.own for entry in entries if entry.condition == "partial"}
    yield from (_row(entry) for entry in entries)
    for own in locks_in(root):  # of those that have no folder yet
        if own not in begun and not own.exists() and is_locked(own):
            yield unfinished(own)


def _row(entry: Entry) -> Row:
    if entry.condition == "partial":
        return unfinished(entry.own, progress_of(entry.path))
    return Row(_title(entry.path), "done" if entry.condition == "finished" else "damaged")


def unfinished(own: Path, progress: Progress | None = None) -> Row:
    """How one stands that is not finished."""
    partial = Path(f"{own}{PARTIAL_SUFFIX}")
    last = _last_segment(partial)
    if is_locked(own):
        return Row(_title(own), "running", progress, _seconds_since(last.get("started", "")), holder(own))
    ended = str(last.get("ended", "killed"))
    if progress is not None and progress.state in ("stopped", "failed"):
        ended = progress.state
    return Row(_title(own), ended, progress)


def _title(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _last_segment(partial: Path) -> dict[str, Any]:
    with contextlib.suppress(UserError, KeyError, TypeError, IndexError):
        last: dict[str, Any] = read_json(partial / RUN_RECORD)["segments"][-1]
        return last
    return {}


def _seconds_since(started: str) -> float | None:
    with contextlib.suppress(ValueError):
        then = datetime.datetime.fromisoformat(started)
        return max(0.0, (datetime.datetime.now(datetime.UTC) - then).total_seconds())
    return None


def as_text(found: Sequence[Row]) -> str:
    """A line a stage, and the last: how many there are of each state."""
    width = max((len(row.what) for row in found), default=0)
    lines = [f"{row.what:{width}}  {row.state:8} {_details(row)}".rstrip() for row in found]
    counts = [
        f"{sum(row.state == state for row in found)} {state}"
        for state in dict.fromkeys(row.state for row in found)
    ]
    return "\n".join([*lines, ", ".join(counts) or "nothing was run here"])


def _details(row: Row) -> str:
    parts = []
    if (progress := row.progress) is not None:
        share = f", {100 * progress.done / progress.total:.0f} %" if progress.total else ""
        what = f"{progress.what} " if progress.what else ""
        parts.append(f"{what}{progress.done}/{progress.total or '?'} {progress.units}{share}")
        if row.state == "running" and progress.per_second:
            left = progress.seconds_left
            tail = "" if left is None else f", {format_seconds(left)} left"
            parts.append(f"{progress.per_second:.3g} {progress.units}/s{tail}")
    who = [row.holder] if row.holder else []
    who += [f"for {format_seconds(row.seconds)}"] if row.seconds is not None else []
    return "  ".join([*parts, f"({', '.join(who)})" if who else ""])


def as_table(found: Sequence[Row]) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "stages": [
            {
                "artifact": row.what,
                "state": row.state,
                "seconds": row.seconds,
                "holder": row.holder or None,
                "progress": None
                if (progress := row.progress) is None
                else {
                    "what": progress.what,
                    "unit": progress.unit,
                    "done": progress.done,
                    "kept": progress.kept,
                    "total": progress.total,
                    "per_second": progress.per_second,
                    "seconds_left": progress.seconds_left if row.state == "running" else None,
                },
            }
            for row in found
        ]
    }
