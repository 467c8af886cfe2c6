"""What Luigi's side of a stage costs: stages through `luigi`, against the very commands that their logs name.

The stages of a finished run are made once more, all of a task in one `luigi` command, in a copy of its folder; then by hand,
one command after the other, as the first line of each log has it, into a folder of their own. Whole processes.
"""

import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import harness
from core.errors import UserError


@dataclass(frozen=True)
class Settings(harness.Settings):
    """What is measured.

    Attributes:
        runs: folder of a finished run.
        recipe: its recipe.
        tasks: whose stages are made again, each by the folder of its artifacts.
    """

    turns: int = 2
    runs: str = "runs"
    recipe: str = "sample"
    tasks: tuple[str, ...] = (
        "EvaluateLambada=lambada",
        "EvaluateWikiText103=wikitext103",
        "FinetuneRACE=race",
    )


def run(settings: Settings, report: harness.Report) -> None:
    runs = Path(settings.runs).resolve()
    for task, _, kind in (text.partition("=") for text in settings.tasks):
        stages = sorted(path for path in (runs / kind).glob("*-*") if (path / "manifest.json").exists())
        if not stages:
            raise UserError(f"{runs / kind} has no finished stage; run the recipe first")
        with tempfile.TemporaryDirectory() as name:
            copy = Path(name) / "runs"
            shutil.copytree(runs, copy, symlinks=True)
            sides = {
                "luigi": partial(_through_luigi, task, kind, settings.recipe, copy),
                "bare commands": partial(_bare, stages, Path(name) / "bare"),
            }
            case = {"task": task, "stages": len(stages)}
            report.compare(sides, settings.turns, ["processor s", "wall s"], case)


def _through_luigi(task: str, kind: str, recipe: str, runs: Path) -> harness.Measurement:
    shutil.rmtree(runs / kind)
    line = [str(Path(sys.executable).with_name("luigi")), "--module", "workflows", task]
    return harness.whole_process([*line, "--recipe", recipe, "--runs", str(runs)])


def _bare(stages: list[Path], folder: Path) -> harness.Measurement:
    measured = [harness.whole_process(command) for stage in stages for command in _commands(stage, folder)]
    shutil.rmtree(folder)
    return {title: sum(one[title] for one in measured) for title in measured[0]}


def _commands(stage: Path, folder: Path) -> Iterator[list[str]]:
    """What the stage's log says was run, with another place for what it writes."""
    output = folder / stage.name
    (output / "logs").mkdir(parents=True)
    log = next((stage / "logs").glob("*.log"))
    words = shlex.split(log.read_text().splitlines()[0].removeprefix("$ "))
    made = f"{stage}.partial"
    yield [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *(word.replace(made, str(output)) for word in words[1:]),
    ]
