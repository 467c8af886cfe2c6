"""`python -m workflows init|plan|adopt|compare-layouts|verify|refresh-hashes`: what would run, which artifacts of other keys are
accepted for it, whether layouts agree, whether artifacts are intact, and the table that notices changed stages. The work itself is started by `luigi --module workflows …`."""

import argparse
import sys
from pathlib import Path
from typing import Any

import workflows
from core.errors import told_to_user
from data_pipeline.engine.adoption import ADOPTED
from data_pipeline.engine.integrity import repair, verify_store
from data_pipeline.engine.lock_file import NotPinnedError
from recipes.overrides import SET, SET_HELP
from workflows import init
from workflows.adopt import adopt_artifacts
from workflows.compare_layouts import Layout, compare_layouts
from workflows.source_hashes import write_table
from workflows.stage import RecipeTask, Stage, walk
from workflows.tasks import Pretrain

_TO_RUN = "to run"
_REPAIR = "python -m workflows verify --repair"
EPILOG = """examples:
  python -m workflows plan                           what the sample recipe would run
  python -m workflows plan --recipe my.toml --task EvaluateLambada
  python -m workflows init books/ --output my.toml   a recipe for text of your own
  python -m workflows adopt                          finished artifacts of other keys, and what differs
  python -m workflows adopt runs/pretrain/gpt2-small-0123456789ab
  python -m workflows compare-layouts --model gpt2-small --layouts 1,1,1 2,1,1
  python -m workflows verify --runs runs             sha256 of every file of every artifact
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflows",
        description="Look at the chain of stages without running it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="which stages would run, in order, and where their output goes")
    taking = commands.add_parser(
        "adopt",
        help="accept finished artifacts of other keys for those of a recipe, after a look at what differs",
    )
    taking.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="artifacts to accept, and all that differs by nothing else; without any, show which there are",
    )
    taking.add_argument("--yes", action="store_true", help="do not ask")
    comparing = commands.add_parser(
        "compare-layouts",
        help="run a model's first steps on several layouts, and say whether what differs is rounding",
        description="Run the first steps of a recipe's model, dropout off, on each layout; print the losses and the largest "
        "relative differences of layers and gradients to the first layout's, and whether they are rounding or from which "
        "layer on another thing is computed. The corpus must be made. Ends with 1 where more than rounding differs.",
    )
    comparing.add_argument("--model", required=True, help="a model of the recipe")
    comparing.add_argument(
        "--layouts",
        nargs="+",
        type=Layout.parse,
        default=[Layout(1, 1, 1), Layout(1, 1, 2), Layout(1, 2, 1), Layout(2, 1, 1)],
        metavar="P,D,T",
        help="pipeline, data and tensor parallel sizes; the others are compared with the first (default: 1,1,1 1,1,2 "
        "1,2,1 2,1,1)",
    )
    comparing.add_argument(
        "--steps", type=int, default=3, metavar="N", help="steps on each (default: %(default)s)"
    )
    comparing.add_argument(
        "--micro-batch",
        type=int,
        default=0,
        metavar="N",
        help="instead of the recipe's: a pipeline needs as many micro-batches as stages",
    )
    for command in (plan, taking, comparing):
        command.add_argument(
            "--recipe", default="sample", help="name of a recipe, or path of a .toml file (default: sample)"
        )
        command.add_argument(SET, default="", metavar="KEY=VALUE,…", help=SET_HELP)
    for command in (plan, taking):
        command.add_argument("--task", default="FullReproduction", choices=workflows.__all__, metavar="TASK")
    starting = commands.add_parser(
        "init",
        help="write a recipe for files of your own, and show what it would run",
        description="Look at files of text, guess their format and fields, write a commented recipe that runs as it is, and "
        "show its plan. A small part of the text is held out, beside the recipe, to measure the model.",
    )
    init.add_arguments(starting)
    check = commands.add_parser("verify", help="check every finished artifact against its manifest")
    for command in (plan, taking, comparing, check, starting):
        command.add_argument("--runs", default="runs", help="folder of the artifacts (default: ./runs)")
    check.add_argument(
        "--repair", action="store_true", help="set damaged artifacts aside: the next run makes them anew"
    )
    commands.add_parser(
        "refresh-hashes", help="record the stages' sources as they are (for developers, after a version bump)"
    )
    return parser


def _state(stage: Stage) -> tuple[str, str]:
    """How a stage's artifact stands, and where it is; the network is not asked."""
    stage.store.asks = False
    try:
        where = str(stage.directory)
    except NotPinnedError as error:
        return _TO_RUN, f"(not pinned yet: {error})"
    if not stage.complete():
        return _TO_RUN, where
    return "adopted" if ADOPTED in stage.artifact.manifest() else "done", where


def show_plan(root: RecipeTask) -> int:
    """Print one line a stage: whether it is done, its label and its directory."""
    stages = list(walk(root))
    pending = 0
    for stage in stages:
        state, where = _state(stage)
        pending += state == _TO_RUN
        print(f"{state:7} {stage.label():34} {where}")
    print(f"{pending} of {len(stages)} stages to run")
    return 0


def verify_artifacts(runs: Path, mend: bool) -> int:
    """Print every problem of every finished artifact, and with `mend` set aside what is damaged.

    Returns:
        1 when there is a problem that was not mended.
    """
    checked = unfinished = problems = mended = 0
    for found in verify_store(runs):
        checked += not (found.unfinished or found.aside)
        unfinished += found.unfinished
        problems += len(found.problems)
        for problem in found.problems:
            print(problem)
        if mend and (aside := repair(found)) is not None:
            mended += len(found.problems)
            print(f"{found.directory}: what is wrong was set aside as {aside}")
    more = f", {unfinished} unfinished" if unfinished else ""
    print(f"{checked} artifacts checked{more}, {problems} problem(s)")
    if mended:
        print("the next run makes anew what is gone, with the same bytes")
    elif problems and not mend:
        print(
            f"to set damaged artifacts aside, for the next run to make them anew: {_REPAIR} --runs '{runs}'"
        )
    return 1 if problems > mended else 0


def main() -> int:
    arguments = build_parser().parse_args()
    try:
        if arguments.command == "init":
            written = init.write_recipe(
                arguments.files, arguments.output, Path(arguments.runs), arguments.text_field
            )
            print(written)
            return show_plan(workflows.FullReproduction(recipe=str(arguments.output), runs=arguments.runs))
        if arguments.command in ("plan", "adopt"):
            root: RecipeTask = getattr(workflows, arguments.task)(
                recipe=arguments.recipe, set=arguments.set, runs=arguments.runs
            )
            if arguments.command == "plan":
                return show_plan(root)
            return adopt_artifacts(list(walk(root)), arguments.folders, arguments.yes)
        if arguments.command == "compare-layouts":
            face: Any = Pretrain  # Luigi's parameters are keywords that no type checker knows
            stage = face(
                recipe=arguments.recipe, set=arguments.set, runs=arguments.runs, model=arguments.model
            )
            alike = compare_layouts(
                stage, arguments.model, arguments.layouts, arguments.steps, arguments.micro_batch
            )
            return 0 if alike else 1
        if arguments.command == "verify":
            return verify_artifacts(Path(arguments.runs), arguments.repair)
        write_table()
    except Exception as error:
        return told_to_user(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
