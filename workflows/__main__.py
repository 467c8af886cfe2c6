"""`python -m workflows plan|verify|refresh-hashes`: what would run, whether artifacts are intact, and the table that
notices changed stages. The work itself is started by `luigi --module workflows …`."""

import argparse
import sys
from pathlib import Path

import workflows
from core.errors import told_to_user
from core.files import MANIFEST
from data_pipeline.engine.artifacts import verify
from workflows.source_hashes import write_table
from workflows.stage import RecipeTask, walk

EPILOG = """examples:
  python -m workflows plan                           what the sample recipe would run
  python -m workflows plan --recipe my.toml --task EvaluateLambada
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
    plan.add_argument(
        "--recipe", default="sample", help="name of a recipe, or path of a .toml file (default: sample)"
    )
    plan.add_argument("--task", default="FullReproduction", choices=workflows.__all__, metavar="TASK")
    check = commands.add_parser("verify", help="check every finished artifact against its manifest")
    for command in (plan, check):
        command.add_argument("--runs", default="runs", help="folder of the artifacts (default: ./runs)")
    commands.add_parser(
        "refresh-hashes", help="record the stages' sources as they are (for developers, after a version bump)"
    )
    return parser


def show_plan(recipe: str, runs: str, task: str) -> int:
    """Print one line a stage: whether it is done, its label and its directory."""
    root: RecipeTask = getattr(workflows, task)(recipe=recipe, runs=runs)
    stages = list(walk(root))
    pending = 0
    for stage in stages:
        done = stage.complete()
        pending += not done
        print(f"{'done   ' if done else 'to run '} {stage.label():34} {stage.directory}")
    print(f"{pending} of {len(stages)} stages to run")
    return 0


def verify_artifacts(runs: Path) -> int:
    """Print every problem of every finished artifact; 1 when there is one."""
    manifests = sorted(runs.glob(f"*/*/{MANIFEST}"))
    problems = 0
    for manifest in manifests:
        if manifest.parent.is_symlink() or manifest.parent.suffix == ".partial":
            continue
        for problem in verify(manifest.parent):
            problems += 1
            print(problem)
    print(f"{len(manifests)} artifacts checked, {problems} problem(s)")
    return 1 if problems else 0


def main() -> int:
    arguments = build_parser().parse_args()
    try:
        if arguments.command == "plan":
            return show_plan(arguments.recipe, arguments.runs, arguments.task)
        if arguments.command == "verify":
            return verify_artifacts(Path(arguments.runs))
        write_table()
    except Exception as error:
        return told_to_user(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
