"""`python -m workflows plan`: which stages would run, why, and what that costs. Nothing is run, no network is asked."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.engine.inventory import holder, inventory, is_locked
from workflows.arguments import add_recipe, add_runs, add_task, root_of
from workflows.console import format_seconds
from workflows.estimates import Estimate, estimate
from workflows.stage import RecipeTask
from workflows.survey import Standing, survey

DESCRIPTION = """Show every stage of a recipe once, in the order in which luigi would run them: done, adopted, partial (it goes on from there), to
run, or not needed (gone, but nothing that is to run reads it: below a complete stage luigi looks for nothing). Of what is
to run it says why: the values that differ from the nearest artifact made earlier of that stage, old → new. Minutes and bytes are
as earlier runs of the stage took, scaled by the amount of work; a pretraining that nothing comparable was measured for
is estimated in device-hours from its FLOPs. Nothing is run and no network asked: a source that is pinned nowhere says so."""
EPILOG = """example:
  python -m workflows plan --recipe sample --set deduplicate.threshold=0.8
    to run   deduplicate   …/runs/deduplicate/sample-1f2e3d4c5b6a  (deduplicate.threshold 0.7 → 0.8; about 4.1 s, 2.9 MB)
"""
_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "plan",
        help="which stages would run, in order, why, and what that costs",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe(parser)
    add_runs(parser)
    add_task(parser)
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument(
        "--tflops",
        type=float,
        default=0.0,
        metavar="N",
        help="what a device of yours sustains in training, instead of the paper's V100: for device-hours",
    )
    parser.set_defaults(
        function=lambda given: show_plan(root_of(given), as_json=given.json, tflops=given.tflops)
    )


def show_plan(root: RecipeTask, *, as_json: bool = False, tflops: float = 0.0) -> int:
    """Print one line a stage: how it stands, its label, its directory, why it runs and what that costs; then a total."""
    entries = inventory(Path(root.runs))
    standings = survey(root, entries)
    estimates = estimate(standings, entries, tflops)
    if as_json:
        print(json.dumps(as_table(root, standings, estimates), indent=2, ensure_ascii=False))
        return 0
    width = max((len(_status(standing)) for standing in standings), default=0)
    for standing in standings:
        guess = estimates.get(standing.stage.task_id)
        print(
            f"{_status(standing):{width}} {standing.stage.label():34} {_where(standing)}{_why(standing, guess)}"
        )
    for line in _bases(estimates.values()):
        print(line)
    print(total_line(standings, estimates))
    return 0


def _status(standing: Standing) -> str:
    if standing.status == "partial" and standing.progress is not None:
        return f"partial {standing.progress.kept_text()}"
    return standing.status


def _where(standing: Standing) -> str:
    return "" if standing.directory is None else f"{standing.directory}  "


def _why(standing: Standing, guess: Estimate | None) -> str:
    parts = [standing.reason.text] if standing.reason else []
    if standing.runs and standing.directory is not None and is_locked(own := standing.stage.artifact.own):
        parts.append(f"being made now by {holder(own) or 'another process'}")
    parts += [cost_text(guess)] if guess is not None and cost_text(guess) else []
    return f"({'; '.join(parts)})" if parts else ""


def cost_text(guess: Estimate) -> str:
    """ "about 4.1 s, 2.9 MB", "about 1,234 V100-hours (4.8 h on 256), 16.6 GB" """
    parts = []
    if guess.device_seconds is not None:
        elapsed = f" ({_duration(guess.device_seconds / guess.devices)} on {guess.devices})"
        hours = f"{_hours(guess.device_seconds)} {guess.device}-hours"
        parts.append(hours + (elapsed if guess.devices > 1 else ""))
    if guess.seconds is not None:
        parts.append(_duration(guess.seconds))
    if guess.bytes is not None:
        parts.append(size_text(guess.bytes))
    return f"about {', '.join(parts)}" if parts else ""


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _duration(seconds: float) -> str:
    days = seconds / 86400
    return f"{days:,.1f} days" if days >= 2 else format_seconds(seconds)


def size_text(size: float) -> str:
    """ "2.9 MB" """
    for unit, of in _UNITS:
        if size >= of:
            return f"{size / of:,.1f} {unit}"
    return f"{size:.0f} B"


def _bases(guesses: Iterable[Estimate]) -> list[str]:
    """What estimates stand on that nothing was measured for, each once."""
    unmeasured = [guess for guess in guesses if guess.device_seconds is not None]
    return list(dict.fromkeys(f"{guess.device}-hours are an estimate: {guess.basis}" for guess in unmeasured))


def total_line(standings: Sequence[Standing], estimates: Mapping[str, Estimate]) -> str:
    """ "3 of 16 stages to run, about 12.3 s, 34.0 MB (1 of them without an estimate)" """
    pending = [standing for standing in standings if standing.runs]
    line = f"{len(pending)} of {len(standings)} stages to run"
    whole = total(list(estimates.values()))
    unknown = _without_estimate(estimates)
    if not cost_text(whole):
        return line
    return f"{line}: {cost_text(whole)}" + (f"; {unknown} of them without an estimate" if unknown else "")


def _without_estimate(estimates: Mapping[str, Estimate]) -> int:
    return sum(guess.seconds is None and guess.device_seconds is None for guess in estimates.values())


def total(guesses: Sequence[Estimate]) -> Estimate:
    """All of them, one after the other; None of what is known of none."""

    def added(values: list[Any]) -> Any:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    return Estimate(
        added([guess.seconds for guess in guesses]),
        added([guess.bytes for guess in guesses]),
        added([guess.device_seconds for guess in guesses]),
        device=next((guess.device for guess in guesses if guess.device_seconds is not None), "device"),
    )


def as_table(
    root: RecipeTask, standings: Sequence[Standing], estimates: Mapping[str, Estimate]
) -> dict[str, Any]:
    """The plan as JSON values."""
    stages = []
    for standing in standings:
        reason, progress = standing.reason, standing.progress
        guess = estimates.get(standing.stage.task_id)
        stages.append(
            {
                "stage": standing.stage.step.kind.name,
                "name": standing.stage.step.name,
                "label": standing.stage.label(),
                "task": type(standing.stage).__name__,
                "selectors": dict(standing.stage.step.selectors),
                "status": standing.status,
                "directory": None if standing.directory is None else str(standing.directory),
                "key": None if standing.directory is None else standing.stage.artifact.key,
                "reason": None if reason is None else reason.text,
                "changes": [] if reason is None else [change._asdict() for change in reason.changes],
                "nearest": None if reason is None or reason.nearest is None else str(reason.nearest),
                "progress": None
                if progress is None
                else {
                    "done": progress.done,
                    "kept": progress.kept,
                    "total": progress.total,
                    "unit": progress.unit,
                },
                "estimate": None if guess is None else _estimate_table(guess),
            }
        )
    whole = total(list(estimates.values()))
    return {
        "task": type(root).__name__,
        "recipe": root.recipe,
        "set": root.set,
        "runs": root.runs,
        "stages": stages,
        "total": {
            "stages": len(standings),
            "to_run": sum(standing.runs for standing in standings),
            "without_estimate": _without_estimate(estimates),
            **_estimate_table(whole),
        },
    }


def _estimate_table(guess: Estimate) -> dict[str, Any]:
    hours = None if guess.device_seconds is None else guess.device_seconds / 3600
    table: dict[str, Any] = {"seconds": guess.seconds, "bytes": guess.bytes, "device_hours": hours}
    if hours is not None:
        table["device"] = guess.device
    return table | ({"basis": guess.basis} if guess.basis else {})
