"""`workflows.run` and `workflows.plan`: the workflow from Python, a notebook or a script.

`run` starts the command that a person would type, in a process of its own: nothing of it ends the caller, takes its
signals or stays in its memory. `plan` asks what `python -m workflows plan` tells.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import luigi
from luigi.task_register import Register

import workflows
from core.errors import ConfigurationError, UserError
from core.files import atomic_write, read_json
from data_pipeline.engine.run_record import CHECKOUT
from data_pipeline.sources.source import name_errors
from recipes.reader import load_recipe
from workflows.reasons import input_title
from workflows.recipe_plan import plan_of
from workflows.stage import RecipeTask, Stage
from workflows.survey import Standing, survey

RecipeOf = str | os.PathLike[str] | Mapping[str, Any]
_RESULTS = "results.json"
_FAILED = re.compile(r"FAILED|^\S.*error|Traceback", re.IGNORECASE)
_SHOWN_LINES = 15
# A luigi command that dies with the process whose id comes first.
_COMMAND = """
import os, sys
from core.processes import die_with_parent
die_with_parent()
if os.getppid() != int(sys.argv.pop(1)):
    sys.exit("the process that started this one is gone")
from luigi.cmdline import luigi_run
luigi_run(sys.argv[1:])
"""


class RunError(UserError):
    """A run that did not make what was asked for; the message is what it said of why.

    Attributes:
        exit_code: of the command, as `docs/workflow.md` lists them.
        output: all that it printed.
    """

    def __init__(self, message: str, exit_code: int, output: str) -> None:
        super().__init__(message)
        self.exit_code, self.output = exit_code, output


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan.

    Attributes:
        task: what makes it, as it is typed: "Pretrain gpt2-small".
        status: "done", "adopted", "partial", "to run" or "not needed".
        reason: why it is to run, in words; empty where it is not.
        directory: where its artifact is or will be; None as long as a remote source is pinned nowhere.
    """

    task: str
    label: str
    status: str
    reason: str
    directory: Path | None

    def __str__(self) -> str:
        return f"{self.status:10} {self.label:34} {self.reason}".rstrip()


@dataclass(frozen=True)
class Finished:
    """What a run made, or found made.

    Attributes:
        results: of a whole reproduction, what `results.json` holds; else empty.
        artifacts: folders of all stages, by their task as it is typed: "Pretrain gpt2-small".
        summaries: what each stage's manifest says of its artifact, by the same names: counts, accuracies, losses.
        page: the page for people, where the task has one.
        output: all that the command printed.
    """

    artifacts: Mapping[str, Path]
    summaries: Mapping[str, Mapping[str, Any]]
    results: Mapping[str, Any] = field(default_factory=dict)
    page: Path | None = None
    output: str = ""


def plan(
    recipe: RecipeOf = "sample",
    *,
    set: str = "",
    runs: str | os.PathLike[str] = "runs",
    task: str = "FullReproduction",
    **selectors: Any,
) -> list[PlannedStage]:
    """What a run would do: every stage, inputs first. No network is asked and nothing is made.

    Args:
        recipe: a recipe's name, the path of its file, or what a file would hold (see `written`).
        set: changes of its values, as `--set` takes them.
        runs: the folder of all artifacts.
        task: as after `luigi --module workflows`.
        selectors: the task's own, such as model="gpt2-small".

    Raises:
        UserError: the recipe or the task has errors; the message lists them all.
    """
    return [_planned(standing) for standing in survey(_root(written(recipe), set, runs, task, selectors))]


def run(
    recipe: RecipeOf = "sample",
    *,
    set: str = "",
    runs: str | os.PathLike[str] = "runs",
    task: str = "FullReproduction",
    workers: int = 1,
    quiet: bool = False,
    **options: Any,
) -> Finished:
    """Make what a task stands for, as `luigi --module workflows TASK` does, and say what it made.

    An interrupt ends it in order, and the same call goes on from there.

    Args:
        recipe, set, runs, task: as for `plan`.
        workers: stages at a time.
        quiet: print nothing.
        options: of the task, such as model="gpt2-small" or cpu_workers=2.

    Raises:
        UserError: the recipe or the task has errors; nothing was run.
        RunError: a stage failed; the others went on.
    """
    name = written(recipe)
    known = {parameter for parameter, _ in RecipeTask.get_params()}
    selectors = {option: value for option, value in options.items() if option not in known}
    root = _root(name, set, runs, task, selectors)
    words = ["--module", "workflows", task, "--recipe", name, "--runs", root.runs]
    words += ["--workers", str(workers)]
    words += ["--set", set] if set else []
    for option, value in options.items():
        words += [f"--{option.replace('_', '-')}", str(value)]
    code, output = _started(words, quiet)
    if code:
        raise RunError(_why(output, code), code, output)
    root = _root(name, set, runs, task, selectors)
    stages = survey(root)
    page = next((one.stage.page for one in reversed(stages) if one.stage.page and one.runs is False), None)
    results: Mapping[str, Any] = {}
    if page is not None and (page.parent / _RESULTS).exists():
        results = read_json(page.parent / _RESULTS)
    made = {_typed(one.stage): one.stage for one in stages if one.status in ("done", "adopted")}
    return Finished(
        {name: stage.directory for name, stage in made.items()},
        {name: stage.summary for name, stage in made.items()},
        results,
        page,
        output,
    )


def written(recipe: RecipeOf) -> str:
    """The name or the path of a recipe. One that is given as a table is written to `.NAME.recipe.json` in the working
    directory, which its paths are relative to, for every process of a run reads it; its lock file lies beside it.

    Raises:
        UserError: it cannot be written as JSON, or has no name.
    """
    if not isinstance(recipe, Mapping):
        return os.fspath(recipe)
    identity = recipe.get("recipe", {})
    name = identity.get("name") if isinstance(identity, Mapping) else None
    if not isinstance(name, str) or name_errors(name, "recipe.name"):
        raise ConfigurationError(name_errors(str(name or ""), "recipe.name"))
    try:
        text = json.dumps(recipe, indent=1, default=_path, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigurationError([f"the recipe {name}: holds what a recipe cannot: {error}"]) from error
    path = Path.cwd() / f".{name}.recipe.json"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return str(path)


def _path(value: object) -> str:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} is no text, number, list or table")


def _root(
    recipe: str, changes: str, runs: str | os.PathLike[str], task: str, selectors: Mapping[str, Any]
) -> RecipeTask:
    """The task that was asked for, of the recipe as it is now: what earlier calls read is forgotten.

    Raises:
        UserError: the recipe has errors, or there is no such task or member of it.
    """
    load_recipe.cache_clear()
    plan_of.cache_clear()
    Register.clear_instance_cache()
    load_recipe(recipe, changes)
    kind = getattr(workflows, task, None) if task in workflows.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, RecipeTask)):
        known = [name for name in workflows.__all__ if name[0].isupper()]
        raise ConfigurationError([f"no task is called {task!r}; known: {', '.join(known)}"])
    own = {name for name, _ in kind.get_params()}
    if unknown := [name for name in selectors if name not in own]:
        raise ConfigurationError([f"{task} has no option {name!r}" for name in unknown])
    chosen = {name: str(value) for name, value in selectors.items()}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            root: RecipeTask = kind(recipe=recipe, set=changes, runs=os.fspath(runs), **chosen)
    except SystemExit as error:
        raise ConfigurationError([said.getvalue().strip()]) from error
    except luigi.parameter.ParameterException as error:
        raise ConfigurationError([f"{task}: {error}"]) from error
    return root


def _started(words: list[str], quiet: bool) -> tuple[int, str]:
    """Run a luigi command to its end; its exit code and what it printed, which is shown as it comes."""
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, str(os.getpid()), *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # a terminal's Ctrl-C reaches the caller only, who passes it on once
    )
    assert process.stdout is not None
    lines: list[str] = []

    def show() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if not quiet:
                print(line, end="", flush=True)

    try:
        show()
        return process.wait(), "".join(lines)
    except KeyboardInterrupt:
        process.terminate()
        show()
        process.wait()
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def _why(output: str, code: int) -> str:
    """What a failed command said of why, without the lines of stages that went well."""
    lines = output.splitlines()
    first = next((number for number, line in enumerate(lines) if _FAILED.search(line)), None)
    told = lines[first : first + 2 * _SHOWN_LINES] if first is not None else lines[-_SHOWN_LINES:]
    return "\n".join(told) or f"the command ended with exit code {code} and said nothing"


def _planned(standing: Standing) -> PlannedStage:
    return PlannedStage(
        _typed(standing.stage),
        standing.stage.label(),
        standing.status,
        standing.reason.text if standing.reason and standing.runs else "",
        standing.directory,
    )


def _typed(stage: Stage) -> str:
    return input_title(stage.step)
