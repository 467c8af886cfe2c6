"""What `luigi --module workflows … --help` says: what a task makes, its own options once, the exit codes.

Luigi prints the options of a task twice, and nothing of what it is; a task that it does not know ends it with a traceback.
"""

import argparse
import difflib
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register, TaskClassNotFoundException

# Of `luigi --module workflows …`: code, what it means. `luigi_defaults` gives luigi's own these values.
EXIT_CODES = {
    0: "everything that was asked for is made",
    1: "nothing was started: a file is gone, or a remote source can be neither found in the lock file nor reached",
    2: "nothing was started: the recipe or the command line has errors, all of which are listed",
    10: "another luigi process is at it (at one luigid), and it is not made",
    20: "data from outside is missing (tasks of your own only)",
    25: "a stage was not run, though nothing failed",
    30: "a stage failed: its message and its log's path are printed; the others went on",
    35: "a task's own questions failed, before anything ran",
    40: "luigi's own trouble: a daemon that does not answer, an error that is a bug",
    130: "interrupted (SIGINT, SIGTERM, SIGHUP): what runs was ended in order, and the same command goes on",
}
_WIDTH = 96


_known: Callable[[], Iterable[Any]] = list


def install(known: Callable[[], Iterable[Any]]) -> None:
    """Have luigi's parser speak of our tasks; `known`: them, among other things."""
    global _known
    _known = known
    usual = CmdlineParser._build_parser

    @functools.wraps(usual)
    def build(root_task: str | None = None, help_all: bool = False) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = usual(root_task=root_task, help_all=help_all)
        parser.formatter_class = functools.partial(argparse.RawDescriptionHelpFormatter, width=_WIDTH)
        parser.prog = "luigi --module workflows"
        parser._actions[0].help = argparse.SUPPRESS  # the task's name, which the usage has
        if root_task is None:
            parser.usage, parser.description = "%(prog)s TASK [options]", task_list()
        elif (task := _task(root_task)) is not None and _is_ours(task):
            parser.usage, parser.description = f"%(prog)s {root_task} [options]", about(task)
            if not help_all:
                _say_once(parser, root_task)
        parser.epilog = "exit codes:\n" + "\n".join(
            textwrap.fill(
                f"{code:>5}  {text}", _WIDTH, subsequent_indent=" " * 7
            )
            for code, text in EXIT_CODES.items()
        )  # fmt: skip
        return parser

    CmdlineParser._build_parser = staticmethod(build)  # type: ignore[method-assign]


def _task(name: str) -> type[luigi.Task] | None:
    """A task by the name that was typed; ends the command where there is none."""
    try:
        found: type[luigi.Task] = Register.get_task_cls(name)
    except TaskClassNotFoundException:
        names = [task.__name__ for task in our_tasks()]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]}?)" if close else ""
        print(f"no task is called {name}{hint}; known: {', '.join(names)}", file=sys.stderr)
        raise SystemExit(2) from None
    return found


def _is_ours(task: type[luigi.Task]) -> bool:
    return hasattr(task, "makes")


def our_tasks() -> list[type[luigi.Task]]:
    """What can be asked for, by name."""
    return [thing for thing in _known() if inspect.isclass(thing) and issubclass(thing, luigi.Task)]


def task_list() -> str:
    """Every task with the first line of what it is."""
    tasks = our_tasks()
    width = max(len(task.__name__) for task in tasks)
    lines = [f"  {task.__name__:{width}}  {_first_line(task)}" for task in tasks]
    return "\n".join(["tasks (TASK --help says more of one):", *lines])


def _first_line(task: type[luigi.Task]) -> str:
    return (inspect.getdoc(task) or "").split("\n\n")[0].replace("\n", " ")


def about(task: Any) -> str:
    """What a task is, what it makes and where, and what it brings along."""
    made = textwrap.fill(f"makes: {task.makes}", _WIDTH, subsequent_indent="  ")
    return f"{inspect.getdoc(task)}\n\n{made}\n  and before, whatever of what it stands on is not there yet"


def _say_once(parser: argparse.ArgumentParser, task: str) -> None:
    """Luigi knows each option of a task by two names; the shorter is shown."""
    for action in parser._actions:
        if any(option.startswith(f"--{task}-") for option in action.option_strings):
            action.help = argparse.SUPPRESS
