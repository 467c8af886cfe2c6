"""Finished artifacts of the stages of a recipe, without their work: for tests of what is looked at, not made."""

from pathlib import Path
from typing import Any

from anew import begin_anew

from core.files import PARTIAL_SUFFIX
from workflows import FullReproduction
from workflows.stage import LinkedStage, Stage, walk

TINY = Path(__file__).resolve().parent / "recipes" / "tiny.toml"
SEGMENT: dict[str, Any] = {"started": "2026-01-02T03:04:05+00:00", "ended": "finished", "seconds": 2.0}


def root_of(recipe: Path | str, runs: Path, overrides: str = "") -> FullReproduction:
    """The whole reproduction, as a new command sees it."""
    begin_anew()
    return FullReproduction(recipe=str(recipe), runs=str(runs), set=overrides)


def stages_of(recipe: Path | str, runs: Path, overrides: str = "") -> list[Stage]:
    return list(walk(root_of(recipe, runs, overrides)))


def finish(stage: Stage, **segment: Any) -> Path:
    """As if a stage had run: its artifact, with its key, and its link."""
    if not stage.is_made():
        partial = stage.artifact.start()
        (partial / "result").write_text(stage.label())
        (partial / "logs").mkdir(exist_ok=True)
        (partial / "logs" / "it.log").write_text("made")
        for name in stage.artifact.unhashed:
            path = partial / name / "part" if name.endswith("/") else partial / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("now")
        record = {**SEGMENT, **segment}
        stage.artifact.finish({"of": stage.label()}, {"segments": [record], "seconds": record["seconds"]})
    if isinstance(stage, LinkedStage):
        stage.deliver()
    return stage.directory


def finish_all(recipe: Path | str, runs: Path, overrides: str = "") -> dict[str, Path]:
    """As if all stages had run; their folders by label."""
    return {stage.label(): finish(stage) for stage in stages_of(recipe, runs, overrides)}


def begin(stage: Stage) -> Path:
    """As if a stage had been begun and killed: its unfinished folder."""
    return stage.artifact.start()


def partial_of(directory: Path) -> Path:
    return Path(f"{directory}{PARTIAL_SUFFIX}")
