"""The base of every stage: a Luigi task whose output is an artifact. This is the one place that knows Luigi's traps.

A stage says what it is made of (`inputs`, `parameters`, `external_files`, `libraries`) and does its `work`; the base
gives it a key, a lock, a resumable partial directory, a manifest and its line on the console. A task with a selector
left empty (`EvaluateLambada` without `--model`) stands for all of its members.
"""

import datetime
import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import luigi

from core.errors import ConfigurationError, message_for_user
from core.files import exclusive, read_json, write_json
from core.processes import available_cores
from data_pipeline.engine.artifacts import (
    RUN_RECORD,
    Artifact,
    HashCache,
    hash_file,
    hash_tree,
)
from recipes.reader import load_recipe
from recipes.schema import Recipe
from workflows import console
from workflows.launch import CHECKOUT


class RecipeParameter(luigi.Parameter):
    """A recipe's name or path; errors in it end the command at once, all listed, with exit code 2."""

    def normalize(self, value: str) -> str:
        try:
            load_recipe(value)
        except ConfigurationError as error:
            print(f"{error}\n{len(error.errors)} error(s) in the recipe; nothing was run", file=sys.stderr)
            raise SystemExit(2) from None
        return value


class FolderParameter(luigi.Parameter):
    """A folder, made absolute."""

    def normalize(self, value: str) -> str:
        return os.path.abspath(os.path.expanduser(value))


class RecipeTask(luigi.Task):
    """What all tasks share: the recipe, where artifacts go, and how many processes pipeline stages may use."""

    recipe = RecipeParameter(default="sample", description="name of a recipe, or path of a .toml file")
    runs = FolderParameter(default="runs", description="folder of all artifacts (default: ./runs)")
    cpu_workers = luigi.IntParameter(
        default=0, significant=False, description="processes of a pipeline stage (default: all cores)"
    )
    ray = luigi.Parameter(
        default="",
        significant=False,
        description='pipeline stages work on the Ray cluster at this address ("auto", or "local" to start one)',
    )

    @property
    def settings(self) -> Recipe:
        return load_recipe(self.recipe)

    @property
    def priority(self) -> int:  # type: ignore[override]  # Luigi asks for a number, however made
        session = console.current()
        return session.priority(self) if session is not None and isinstance(self, Stage) else 0

    def label(self) -> str:
        return type(self).__name__


class ArtifactTarget(luigi.Target):
    """A stage's artifact as Luigi sees it: it exists when it is complete."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.path = str(artifact.directory)

    def exists(self) -> bool:
        return self.artifact.is_complete()

    def __str__(self) -> str:
        return self.path


class Stage(RecipeTask):
    """One stage of the chain. Subclasses set the class attributes and override the methods that raise or return {}.

    Attributes:
        stage: the artifact's folder below `runs`.
        version: bumped by hand when the code changes what it writes.
        sources: files and folders of the checkout whose code determines the output.
        library_names: distributions whose version affects the output's bytes.
        selectors: parameters that, left empty, make the task stand for all its members.
        unhashed: files of the output that show times, so that the manifest leaves them out.
    """

    stage: ClassVar[str]
    version: ClassVar[int] = 1
    sources: ClassVar[tuple[str, ...]] = ()
    library_names: ClassVar[tuple[str, ...]] = ()
    selectors: ClassVar[tuple[str, ...]] = ()
    unhashed: ClassVar[tuple[str, ...]] = ()

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

    # What a stage says of itself

    def choices(self) -> list[dict[str, str]]:
        """The members that a task with empty selectors stands for, as values of the selectors."""
        return [{}]

    def inputs(self) -> dict[str, "Stage"]:
        """Stages whose artifacts this one reads, by role."""
        return {}

    def parameters(self) -> dict[str, Any]:
        """What determines the output, besides inputs, files and library versions."""
        return {}

    def external_files(self) -> dict[str, Path]:
        """Files and folders from outside `runs` that this stage reads, by role."""
        return {}

    def artifact_name(self) -> str:
        """What the artifact is of, for people."""
        return "-".join(getattr(self, name) for name in self.selectors) or self.settings.name

    def work(self, directory: Path) -> Mapping[str, Any]:
        """Write the output into `directory`, going on from what is there; returns the summary (deterministic)."""
        raise NotImplementedError

    def facts(self, summary: Mapping[str, Any]) -> str:
        """The summary in a few words, for the console."""
        return ""

    @property
    def page(self) -> Path | None:
        """A page for people to open, named at the end of a command."""
        return None

    def layout(self) -> dict[str, int]:
        """How the work is spread over processes, for the record only."""
        return {"processes": self.processes()}

    # What the base makes of it

    def is_one(self) -> bool:
        """False for a task that stands for all its members."""
        return all(getattr(self, name) for name in self.selectors)

    def _matches(self, member: Mapping[str, str]) -> bool:
        return all(getattr(self, name) in ("", member[name]) for name in self.selectors)

    def members(self) -> list["Stage"]:
        return [self.clone(**member) for member in self.choices() if self._matches(member)]

    def requires(self) -> list["Stage"]:
        return list(self.inputs().values()) if self.is_one() else self.members()

    @functools.cached_property
    def artifact(self) -> Artifact:
        cache = hash_cache(self.runs)
        return Artifact(
            root=Path(self.runs),
            stage=self.stage,
            name=self.artifact_name(),
            version=self.version,
            parameters=self.parameters(),
            inputs={role: stage.artifact.key for role, stage in self.inputs().items()},
            files={
                role: (hash_tree if path.is_dir() else hash_file)(path, cache)
                for role, path in self.external_files().items()
            },
            libraries={name: importlib.metadata.version(name) for name in self.library_names},
            unhashed=self.unhashed,
        )

    @property
    def directory(self) -> Path:
        """Where the finished output is."""
        return self.artifact.directory

    def output(self) -> Any:
        if not self.is_one():
            return [member.output() for member in self.members()]
        return ArtifactTarget(self.artifact)

    def complete(self) -> bool:
        if not self.is_one():
            return all(member.complete() for member in self.members())
        return self.artifact.is_complete()

    def processes(self) -> int:
        return self.cpu_workers or available_cores()

    def run(self) -> None:
        if not self.is_one():
            return
        started = time.monotonic()
        try:
            with console.interrupted_quietly():
                finished = self.make()
        except Exception as error:
            if (message := message_for_user(error)) is not None:
                console.show_failure(self, error, message)
            raise
        if finished:
            summary = self.artifact.manifest()["summary"]
            console.stage_finished(self, time.monotonic() - started, self.facts(summary))

    def make(self) -> bool:
        """Make the artifact under its lock; False when another process finished it meanwhile."""
        with exclusive(self.directory, waiting=console.say):
            if self.artifact.is_complete():
                return False
            partial = self.artifact.start()
            record = RunRecord(partial, self.layout())
            with console.logged_to(partial / "logs" / f"{self.stage}.log"):
                summary = self.work(partial)
            self.artifact.finish(summary, record.finished())
        return True


class LinkedStage(Stage):
    """A stage whose newest output is linked from `runs/latest/<link_name>`, where people look for it."""

    @property
    def link_name(self) -> str:
        return self.settings.name

    @property
    def link(self) -> Path:
        return Path(self.runs) / "latest" / self.link_name

    def complete(self) -> bool:
        return super().complete() and self.link.resolve() == self.directory.resolve()

    def run(self) -> None:
        super().run()
        self.link.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.link.with_name(f".{self.link.name}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(self.directory, self.link.parent))
        os.replace(temporary, self.link)

    def layout(self) -> dict[str, int]:
        return {"processes": 1}


class RunRecord:
    """Who made an artifact, where and when: one segment an attempt, so that a resumed stage lists them all.

    It goes to `run.json`, which no manifest covers.
    """

    def __init__(self, partial: Path, layout: Mapping[str, int]) -> None:
        self._path = partial / RUN_RECORD
        self._started = time.monotonic()
        self._segments: list[dict[str, Any]] = []
        if self._path.exists():
            self._segments = read_json(self._path)["segments"]
        self._segments.append(
            {
                "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "host": socket.gethostname(),
                "process": os.getpid(),
                "layout": dict(layout),
                "ended": "killed",  # unless something later says otherwise
            }
        )
        write_json(self._path, {"segments": self._segments})

    def finished(self) -> dict[str, Any]:
        self._segments[-1] |= {"ended": "finished", "seconds": round(time.monotonic() - self._started, 3)}
        return {
            "segments": self._segments,
            "seconds": self._segments[-1]["seconds"],
            "resumed": len(self._segments) - 1,
            "git_revision": git_revision(),
            "python": platform.python_version(),
            "torch": library_version("torch"),
            "luigi": library_version("luigi"),
        }


def library_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def git_revision() -> str:
    """The checkout's revision, with "+changes" when files differ from it; "unknown" outside a checkout."""
    try:
        revision = _git("rev-parse", "HEAD")
        return revision + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()


@functools.cache
def hash_cache(runs: str) -> HashCache:
    return HashCache(Path(runs) / ".hashes.json")


def walk(root: luigi.Task) -> Iterator[Stage]:
    """Every stage that `root` stands on and is, each once, inputs first."""
    seen: set[str] = set()

    def visit(task: luigi.Task) -> Iterator[Stage]:
        if task.task_id in seen:
            return
        seen.add(task.task_id)
        for requirement in task.deps():
            yield from visit(requirement)
        if isinstance(task, Stage) and task.is_one():
            yield task

    return visit(root)


@RecipeTask.event_handler(luigi.Event.DEPENDENCY_DISCOVERED)
@RecipeTask.event_handler(luigi.Event.DEPENDENCY_PRESENT)
@RecipeTask.event_handler(luigi.Event.START)
def _begin_session(task: RecipeTask, *_: Any) -> None:
    """The first task that luigi says anything about is the root; later it may start one in a forked worker."""
    if console.current() is None:
        console.begin(type(task).__name__, list(walk(task)))
    elif console.in_luigi_worker():
        console.start_luigi_worker()


class Pipeline(RecipeTask, luigi.WrapperTask):
    """Several stages under one name."""
