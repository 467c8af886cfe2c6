"""`python -m workflows adopt`: accept artifacts of other keys for those that a recipe wants, after a look at what differs.

What is accepted of one stays accepted for the chain: the same change of a library in another stage's key, and the keys
of inputs that were adopted themselves. So one look is enough where a library was updated.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import UserError
from data_pipeline.engine.adoption import Difference, Finished, adopt, differences, finished, others
from workflows.arguments import add_recipe, add_runs, add_task, root_of
from workflows.stage import Stage, walk

DESCRIPTION = """Take finished artifacts, made elsewhere or under another key, for those that a recipe wants: their files get a second
name (a link; a copy from another disk) under the wanted key, and both manifests record it with all that differs. Without
FOLDER it shows which there are and what differs, and does nothing."""
EPILOG = """example:
  python -m workflows adopt runs/pretrain/gpt2-small-0123456789ab
    pretrain gpt2-small: gpt2-small-0123456789ab
        libraries.torch: "2.13" → "2.14"
    adopt 1 artifact(s)? [y/N]
"""


class Adoption(NamedTuple):
    """A stage's artifact that can be had from another's files, what differs, and whether all of that is accepted."""

    stage: Stage
    other: Finished
    differences: list[Difference]
    open: list[Difference]


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "adopt",
        help="accept finished artifacts of other keys for those of a recipe, after a look at what differs",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="artifacts to accept, and all that differs by nothing else; without any, show which there are",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_recipe(parser)
    add_runs(parser)
    add_task(parser)
    parser.set_defaults(
        function=lambda given: adopt_artifacts(list(walk(root_of(given))), given.folders, given.yes)
    )


def adopt_artifacts(stages: Sequence[Stage], given: Sequence[Path], agreed: bool) -> int:
    """Show what could be adopted or, where folders are given, what will be; adopt it when it is agreed to.

    Args:
        stages: of a recipe, inputs first.
        given: artifacts that shall be adopted, whatever differs; what then differs by nothing else follows them.
        agreed: do not ask.

    Returns:
        1 when nothing was adopted that was asked for.

    Raises:
        UserError: a given folder is no finished artifact of any of these stages, or nobody can be asked.
    """
    found = _look(stages, [finished(path) for path in given])
    wanted = [adoption for adoption in found if not adoption.open]
    for adoption in wanted if given else found:
        print(f"{adoption.stage.label()}: {adoption.other.directory.name}")
        for difference in adoption.differences:
            print(f"    {difference}")
    if not given:
        print(
            f"{len(found)} of {len(stages)} stages have a finished artifact of another key; to accept some of these,"
        )
        print("name their folders: python -m workflows adopt FOLDER …")
        return 0
    if not agreed and not _ask(len(wanted)):
        print("nothing was adopted")
        return 1
    for adoption in wanted:
        adopt(adoption.stage.artifact, adoption.other, adoption.differences)
    print(f"{len(wanted)} artifact(s) adopted, recorded in their manifests")
    return 0


def _look(stages: Sequence[Stage], given: Sequence[Finished]) -> list[Adoption]:
    """For each stage that is not complete, the artifact that comes nearest."""
    chosen = _by_stage(stages, given)
    accepted = {
        difference
        for stage, other in chosen.items()
        for difference in differences(other, stage.artifact)
        if difference.where.startswith("libraries.")
    }
    inputs: set[tuple[str, str]] = set()  # (old key, new key) of what is adopted

    def is_accepted(difference: Difference) -> bool:
        follows = difference.where.startswith("inputs.") and (difference.old, difference.new) in inputs
        return follows or difference in accepted

    found = []
    for stage in stages:
        artifact = stage.artifact
        if artifact.is_complete():
            continue
        candidates = [chosen[stage]] if stage in chosen else others(artifact)
        looked = []
        for other in candidates:
            every = differences(other, artifact)
            left = [] if stage in chosen else [one for one in every if not is_accepted(one)]
            looked.append(Adoption(stage, other, every, left))
        if not looked:
            continue
        nearest = min(looked, key=lambda adoption: len(adoption.open))
        found.append(nearest)
        if not nearest.open:
            inputs.add((f'"{nearest.other.key}"', f'"{artifact.key}"'))
    return found


def _by_stage(stages: Sequence[Stage], given: Sequence[Finished]) -> dict[Stage, Finished]:
    """Which stage each given artifact is for: that of its kind and name, or the only one of its kind."""
    chosen = {}
    for other in given:
        alike = [stage for stage in stages if stage.step.kind.name == other.manifest["stage"]]
        named = [stage for stage in alike if stage.step.name == other.manifest["name"]]
        fitting = named or alike
        if len(fitting) != 1:
            known = ", ".join(sorted(stage.step.name for stage in alike)) or "none"
            raise UserError(
                f"{other.directory}: for which stage? The recipe has of {other.manifest['stage']}: {known}"
            )
        if fitting[0].artifact.is_complete():
            raise UserError(f"{other.directory}: {fitting[0].label()} is done: {fitting[0].directory}")
        chosen[fitting[0]] = other
    return chosen


def _ask(count: int) -> bool:
    if not sys.stdin.isatty():
        raise UserError(
            f"{count} artifact(s) would be adopted: when the differences change nothing, say --yes"
        )
    return input(f"adopt {count} artifact(s)? [y/N] ").strip().lower() in ("y", "yes")
