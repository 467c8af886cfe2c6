"""What commands of `python -m workflows` have in common: which recipe, which task, which folder."""

import argparse

import workflows
from recipes.overrides import SET, SET_HELP
from workflows.stage import RecipeTask


def task_names() -> list[str]:
    """The tasks that can be asked for."""
    return [
        name
        for name in workflows.__all__
        if isinstance(task := getattr(workflows, name), type) and issubclass(task, RecipeTask)
    ]


def add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", default="runs", help="folder of the artifacts (default: ./runs)")


def add_recipe(parser: argparse.ArgumentParser, default: str | None = "sample") -> None:
    said = f" (default: {default})" if default else ""
    parser.add_argument("--recipe", default=default, help=f"name of a recipe, or path of a .toml file{said}")
    parser.add_argument(SET, default="", metavar="KEY=VALUE,…", help=SET_HELP)


def add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        default="FullReproduction",
        choices=task_names(),
        metavar="TASK",
        help="the task whose stages are meant (default: %(default)s)",
    )


def root_of(given: argparse.Namespace) -> RecipeTask:
    """The task that a command was given."""
    root: RecipeTask = getattr(workflows, given.task)(recipe=given.recipe, set=given.set, runs=given.runs)
    return root
