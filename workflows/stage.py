"""The base of every stage: a Luigi task that is the face of a step. This is the one place that knows Luigi's traps.

What a step is made of and does is said once, in `data_pipeline.steps` or beside the programs on ranks; a task adds
selectors, the console and Luigi's questions. A task with a selector left empty (`EvaluateLambada` without `--model`)
stands for all of its members.
"""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import luigi
import luigi.interface
from luigi.cmdline_parser import CmdlineParser

from core.errors import ConfigurationError, message_for_user
from core.processes import available_cores
from core.progress import watched
from data_pipeline.engine.artifacts import DAMAGED, LATEST, Artifact
from data_pipeline.engine.executors import make_executor
from data_pipeline.engine.lock_file import NotPinnedError
from data_pipeline.engine.steps import Step, Store, Workplace, log_of, make
from recipes.overrides import SET_HELP
from recipes.reader import load_recipe
from recipes.schema import Recipe
from workflows import central, console, luigi_defaults, warm_ranks
from workflows.attempts import again
from workflows.devices import visible_devices
from workflows.latest import set_link
from workflows.noted import begin_work
from workflows.recipe_plan import Plan, plan_of

luigi_defaults.install()  # before there is a task


class FolderParameter(luigi.Parameter):
    """A folder, made absolute."""

    def normalize(self, value: str) -> str:
        return os.path.abspath(os.path.expanduser(value))


class RecipeTask(luigi.Task):
    """What all tasks share: the recipe, where artifacts go, and how many processes pipeline stages may use.

    Attributes:
        makes: where its output goes and what is in it, for `--help`; its documentation says what it is.
    """

    makes: ClassVar[str] = "an artifact below runs/"

    recipe = luigi.Parameter(default="sample", description="name of a recipe, or path of a .toml file")
    set = luigi.Parameter(default="", description=SET_HELP)
    runs = FolderParameter(default="runs", description="folder of all artifacts (default: ./runs)")
    cpu_workers = luigi.IntParameter(
        default=0, significant=False, description="processes of a pipeline stage (default: all cores)"
    )
    ray = luigi.Parameter(
        default="",
        significant=False,
        description='pipeline stages work on the Ray cluster at this address ("auto", or "local" to start one)',
    )

    retries = luigi.IntParameter(
        default=2,
        significant=False,
        description="how often a stage goes on by itself after a process of it was killed, or the network was lost",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Errors in the recipe end the command at once, all listed, with exit code 2."""
        super().__init__(*args, **kwargs)
        try:
            load_recipe(self.recipe_read, self.set)
        except ConfigurationError as error:
            print(f"{error}\n{len(error.errors)} error(s) in the recipe; nothing was run", file=sys.stderr)
            raise SystemExit(error.exit_code) from None

    @property
    def recipe_read(self) -> str:
        """The recipe that is meant, by name or path."""
        return self.recipe

    @property
    def settings(self) -> Recipe:
        return load_recipe(self.recipe_read, self.set)

    @property
    def plan(self) -> Plan:
        return plan_of(self.recipe_read, self.set)

    @property
    def priority(self) -> int:  # type: ignore[override]  # Luigi asks for a number, however made
        session = console.current()
        return session.priority(self) if session is not None and isinstance(self, Stage) else 0

    def label(self) -> str:
        return type(self).__name__


class ArtifactTarget(luigi.Target):
    """A step's artifact as Luigi sees it: it exists when it is complete."""

    def __init__(self, store: Store, step: Step) -> None:
        self._store, self._step = store, step
        self.path = str(store.directory(step))

    def exists(self) -> bool:
        return self._store.is_complete(self._step)

    def __str__(self) -> str:
        return self.path


class Stage(RecipeTask):
    """The face of a stage's steps. Subclasses say which by `make_step`.

    Attributes:
        stage: the name of the steps' kind, or of its group.
        selectors: parameters that, left empty, make the task stand for all its members.
    """

    stage: ClassVar[str]
    selectors: ClassVar[tuple[str, ...]] = ()
    faces: ClassVar[dict[str, type["Stage"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "stage" in cls.__dict__:
            Stage.faces[cls.stage] = cls

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = {name: getattr(self, name) for name in self.selectors}
        if not any(self._matches(member) for member in self.choices()):
            known = "; ".join(" ".join(member.values()) for member in self.choices()) or "none"
            wanted = " ".join(f"--{name} {value}" for name, value in chosen.items() if value)
            print(
                f"{type(self).__name__} {wanted}: not in recipe {self.settings.name} (it has: {known})",
                file=sys.stderr,
            )
            raise SystemExit(2)

    def choices(self) -> list[dict[str, str]]:
        """The members that a task with empty selectors stands for, as values of the selectors."""
        return [{}]

    def make_step(self) -> Step:
        """The step that this task is the face of; asked of members only."""
        raise NotImplementedError

    @functools.cached_property
    def step(self) -> Step:
        return self.make_step()

    @property
    def store(self) -> Store:
        return _store(self.runs)

    @property
    def artifact(self) -> Artifact:
        return self.store.artifact(self.step)

    @property
    def directory(self) -> Path:
        """Where the finished output is."""
        return self.artifact.directory

    @property
    def summary(self) -> dict[str, Any]:
        """The deterministic facts of a finished stage."""
        return self.store.summary(self.step)

    @property
    def page(self) -> Path | None:
        """A page for people to open, named at the end of a command."""
        return None

    def label(self) -> str:
        return self.step.label

    def is_one(self) -> bool:
        """False for a task that stands for all its members."""
        return all(getattr(self, name) for name in self.selectors)

    def is_on_ranks(self) -> bool:
        """Whether its work is done by a program on ranks."""
        return self.step.layout is not None and "tensor_parallel" in self.step.layout

    def _matches(self, member: Mapping[str, str]) -> bool:
        return all(getattr(self, name) in ("", member[name]) for name in self.selectors)

    def members(self) -> list["Stage"]:
        return [self.clone(**member) for member in self.choices() if self._matches(member)]

    def face_of(self, step: Step) -> "Stage":
        """The task of another step of this recipe."""
        return self.clone(Stage.faces[step.kind.group or step.kind.name], **step.selectors)

    def stands_on(self) -> list["Stage"]:
        """The stages whose artifacts it reads; of a task that stands for all its members, these."""
        if not self.is_one():
            return self.members()
        return [self.face_of(used) for used in dict.fromkeys((*self.step.inputs.values(), *self.step.reads))]

    def requires(self) -> list["Stage"]:
        return self.stands_on()

    def output(self) -> Any:
        if not self.is_one():
            return [member.output() for member in self.members()]
        return ArtifactTarget(self.store, self.step)

    def is_made(self) -> bool:
        """Whether its artifact is there."""
        return self.store.is_complete(self.step)

    def is_finished(self) -> bool:
        """Whether there is nothing left to do for it."""
        return self.is_made()

    def complete(self) -> bool:
        """Whether the artifact is there; ends the command where no key can be taken (a remote source that is pinned
        nowhere and not to be reached, a file that is gone), for then nothing can be planned."""
        _begin_command()
        if not self.is_one():
            return all(member.complete() for member in self.members())
        try:
            return self.is_finished()
        except Exception as error:
            if (message := message_for_user(error)) is None:
                raise
            known = "step" in self.__dict__  # else to look for it again would fail again
            print(f"{self.label() if known else type(self).__name__}: {message}", file=sys.stderr)
            raise SystemExit(getattr(error, "exit_code", 1)) from error

    def run(self) -> None:
        if not self.is_one():
            return
        started = time.monotonic()
        log = log_of(self.step.kind, self.artifact.partial)
        try:
            watch = console.Watch(self, central.reporter(self, log))
            with console.interrupted_quietly(), watched(watch):
                finished = again(self.make, self.retries, console.stage_title(self))
            self.deliver()
        except Exception as error:
            console.show_failure(self, error, message_for_user(error), log)
            raise
        if finished:
            console.stage_finished(self, time.monotonic() - started, self.step.facts(self.summary))

    def make(self) -> bool:
        """Make the artifact; False when another process finished it meanwhile."""
        launch = self.settings.launch
        address = self.ray or (launch.ray_address if launch.kind == "ray" else "")
        ray = address if self.step.layout is None else ""  # others do not ask for the executor
        executor = make_executor(self.cpu_workers or available_cores(), ray, self.settings.plugins)
        return make(self.step, Workplace(self.store, executor, console.stage_title(self)), console.say)

    def deliver(self) -> None:
        """What is done when the artifact is there."""


class LinkedStage(Stage):
    """A stage whose newest output is linked from `runs/latest/<link_name>`, where people look for it."""

    @property
    def link_name(self) -> str:
        return self.settings.name

    @property
    def link(self) -> Path:
        return Path(self.runs) / LATEST / self.link_name

    def is_linked(self) -> bool:
        """Whether `link` leads to its artifact."""
        return self.link.resolve() == self.directory.resolve()

    def is_finished(self) -> bool:
        return self.is_made() and self.is_linked()

    def requires(self) -> list[Stage]:
        """Nothing where only the link is to be set."""
        return [] if self.is_made() else self.stands_on()

    def deliver(self) -> None:
        """Let `link` lead to its artifact."""
        set_link(self.link, self.directory, self.settings.path)


@functools.cache
def _store(runs: str) -> Store:
    return Store(Path(runs))


@contextlib.contextmanager
def offline(stages: Iterable[Stage]) -> Iterator[None]:
    """While inside, no remote source is asked what it is."""
    stores = {stage.store for stage in stages}
    asked = {store: store.asks for store in stores}
    for store in stores:
        store.asks = False
    try:
        yield
    finally:
        for store in stores:
            store.asks = asked[store]


def walk(root: luigi.Task) -> Iterator[Stage]:
    """Every stage that `root` stands on and is, each once, inputs first."""
    seen: set[str] = set()

    def visit(task: luigi.Task) -> Iterator[Stage]:
        if task.task_id in seen:
            return
        seen.add(task.task_id)
        for below in task.stands_on() if isinstance(task, Stage) else task.deps():
            yield from visit(below)
        if isinstance(task, Stage) and task.is_one():
            yield task

    return visit(root)


def to_run(root: luigi.Task, is_finished: Callable[[Stage], bool] = Stage.complete) -> set[str]:
    """The task ids of the stages that luigi runs for `root`: it looks below a task only where that is not complete, so
    what is gone below a complete stage is not made again."""
    found: set[str] = set()
    seen: set[str] = set()

    def visit(task: luigi.Task) -> None:
        if task.task_id in seen:
            return
        seen.add(task.task_id)
        if isinstance(task, Stage) and task.is_one():
            if is_finished(task):
                return
            found.add(task.task_id)
        for below in _needed_by(task):
            visit(below)

    visit(root)
    return found


def _needed_by(task: luigi.Task) -> Sequence[luigi.Task]:
    """What luigi looks at below a task that is not complete."""
    try:
        found: Sequence[luigi.Task] = task.deps()
    except NotPinnedError:  # so it is not made, either
        assert isinstance(task, Stage)
        return task.stands_on()
    return found


_begun = False


def _begin_command() -> None:
    """What comes first in a luigi command, before it forks: luigi says nothing of a task that stands on no other."""
    global _begun
    parser = CmdlineParser.get_instance()
    if _begun or parser is None:
        return
    _begun = True
    central.check_answers()
    if isinstance(root := parser.get_task_obj(), RecipeTask):
        _begin_session(root)


@RecipeTask.event_handler(luigi.Event.DEPENDENCY_DISCOVERED)
@RecipeTask.event_handler(luigi.Event.DEPENDENCY_PRESENT)
@RecipeTask.event_handler(luigi.Event.START)
def _begin_session(task: RecipeTask, *_: Any) -> None:
    """The first task that luigi says anything about is the root; later it may start one in a forked worker."""
    if console.current() is None:
        held = begin_work(Path(task.runs), task.settings.path)
        wanted = to_run(task)
        stages = list(walk(task))
        shown = [stage for stage in stages if stage.task_id in wanted or stage.complete()]
        workers = luigi.interface.core().workers
        console.begin(type(task).__name__, shown, len(stages) - len(shown), held, workers)
        on_ranks = [stage for stage in shown if stage.task_id in wanted and stage.is_on_ranks()]
        if len(on_ranks) > 1 and task.settings.launch.kind != "slurm" and not visible_devices():
            warm_ranks.start()
    elif console.in_luigi_worker():
        console.start_luigi_worker()


class Pipeline(RecipeTask, luigi.WrapperTask):
    """Several stages under one name."""

    def deps(self) -> list[luigi.Task]:
        """What it requires, and what of it was found damaged, set aside, and not made again since."""
        required: list[luigi.Task] = super().deps()
        if not any(Path(self.runs).glob(f"*/*{DAMAGED}*")):
            return required
        below = {stage.task_id: stage for task in required for stage in walk(task)}
        return required + [stage for stage in below.values() if _waits_for_repair(stage)]

    def complete(self) -> bool:
        return all(task.complete() for task in self.deps())


def _waits_for_repair(stage: Stage) -> bool:
    try:
        return set_aside_of(stage) is not None and not stage.is_made()
    except NotPinnedError:
        return False


def set_aside_of(stage: Stage) -> Path | None:
    """Where a stage's artifact was set aside as damaged; None where it is there, or was not."""
    own = stage.artifact.own
    if own.exists():
        return None
    return max(own.parent.glob(f"{own.name}{DAMAGED}*"), default=None)
