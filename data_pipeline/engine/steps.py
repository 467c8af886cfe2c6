"""Steps: what a stage makes of what, described once. Luigi's tasks and the command lines are two faces of them.

A `Step` says all that determines an artifact; `make` makes it, once, whoever asks: under its lock, going on from what a
killed attempt left, with a manifest and a run record. So the same step from anywhere has the same key, and whoever
finds it made makes it no more.
"""

import contextlib
import importlib.metadata
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import exclusive
from data_pipeline.engine.artifacts import Artifact, HashCache, hash_file, hash_tree
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.lock_file import LockError, LockFile
from data_pipeline.engine.run_record import RunRecord

LOGGER = logging.getLogger("data_pipeline")
Summary = Mapping[str, Any]


@dataclass(frozen=True)
class StageKind:
    """What all steps of one stage share.

    Attributes:
        name: the artifacts' folder.
        version: bumped by hand when the code changes what it writes.
        code: the modules whose code, with all that they import, determines the output.
        libraries: distributions whose version affects the output's bytes.
        unhashed: files of the output that show times, so that the manifest leaves them out.
        group: of stages that are asked for by one task; by default the stage is alone.
    """

    name: str
    version: int
    code: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    unhashed: tuple[str, ...] = ()
    group: str = ""


def no_facts(summary: Summary) -> str:
    """Nothing to add on the console."""
    return ""


@dataclass(frozen=True, eq=False)
class Step:
    """One artifact, before or after it is made.

    Attributes:
        kind: of which stage.
        name: what it is of, for people; no part of the key.
        work: writes the output into a directory, going on from what is there; returns the summary (deterministic).
        label: what it does, for people.
        parameters: what determines the output, besides inputs, files and versions.
        inputs: steps whose artifacts it reads, by role.
        files: files and folders from outside that it reads, by role.
        selectors: which of the stage's steps of one recipe it is.
        facts: the summary in a few words, for the console.
        layout: how its work is spread over processes; None for the executor's.
        ranks: for work by processes that hold the lock while they write: called first, without the lock; `work` then
            looks at what they left, and raises if that is not all.
        lock_file: pins of what it fetches; the summary's "pins" must be among them.
    """

    kind: StageKind
    name: str
    work: Callable[[Path, "Workplace"], Summary]
    label: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, "Step"] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    selectors: Mapping[str, str] = field(default_factory=dict)
    facts: Callable[[Summary], str] = no_facts
    layout: Mapping[str, Any] | None = None
    ranks: Callable[[Path, "Workplace"], None] | None = None
    lock_file: LockFile | None = None


class Store:
    """A folder of artifacts: knows which artifact a step is, and whether it is there.

    Args:
        root: the folder; the same step has the same key in any.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._hashes = HashCache(self.root / ".hashes.json")
        self._artifacts: dict[Step, Artifact] = {}

    def artifact(self, step: Step) -> Artifact:
        """The artifact of a step; the key is taken at the first call."""
        if step not in self._artifacts:
            self._artifacts[step] = Artifact(
                root=self.root,
                stage=step.kind.name,
                name=step.name,
                version=step.kind.version,
                parameters=dict(step.parameters),
                inputs={role: self.artifact(used).key for role, used in step.inputs.items()},
                files={
                    role: (hash_tree if path.is_dir() else hash_file)(path, self._hashes)
                    for role, path in step.files.items()
                },
                libraries={name: importlib.metadata.version(name) for name in step.kind.libraries},
                unhashed=step.kind.unhashed,
            )
        return self._artifacts[step]

    def directory(self, step: Step) -> Path:
        return self.artifact(step).directory

    def summary(self, step: Step) -> dict[str, Any]:
        """The deterministic facts of a finished step."""
        return dict(self.artifact(step).manifest()["summary"])

    def is_complete(self, step: Step) -> bool:
        """Whether the artifact is there, and what it fetched is what the lock file says."""
        try:
            return self.artifact(step).is_complete() and not self.contradictions(step)
        except LockError:
            return False  # `make` says what is wrong

    def contradictions(self, step: Step) -> list[str]:
        """Where a finished artifact is not what the lock file says."""
        if step.lock_file is None or not self.artifact(step).is_complete():
            return []
        pins = self.summary(step).get("pins", {})
        locked = step.lock_file.entries() if pins else {}
        return [
            f"{source} was fetched as {pin}, but {step.lock_file.path} pins {locked[source]}"
            for source, pin in pins.items()
            if locked.get(source, pin) != pin
        ]


@dataclass(frozen=True)
class Workplace:
    """A store, and how to work in it."""

    store: Store
    executor: Executor
    title: str = ""

    def directory(self, step: Step) -> Path:
        """The finished output of a step."""
        return self.store.directory(step)

    def summary(self, step: Step) -> dict[str, Any]:
        """The deterministic facts of a finished step."""
        return self.store.summary(step)


def make(step: Step, place: Workplace, waiting: Callable[[str], None] = LOGGER.warning) -> bool:
    """Make a step's artifact, unless it is there; its inputs are.

    Args:
        waiting: told who else works on it.

    Returns:
        False when it was there, or another process finished it meanwhile.
    """
    artifact = place.store.artifact(step)
    if wrong := place.store.contradictions(step):
        raise UserError(
            f"{artifact.directory}: {'; '.join(wrong)}: move the folder away to fetch what the lock file says, or "
            "restore the lock file"
        )
    layout = {"processes": place.executor.workers} if step.layout is None else step.layout
    with exclusive(artifact.directory, waiting):
        if artifact.is_complete():
            return False
        partial = artifact.start()
        record = RunRecord(partial, layout)
        if step.ranks is None:
            _finish(step, place, artifact, record)
            return True
    step.ranks(partial, place)
    with exclusive(artifact.directory, waiting):
        if artifact.is_complete():
            return False
        _finish(step, place, artifact, record)
    return True


def _finish(step: Step, place: Workplace, artifact: Artifact, record: RunRecord) -> None:
    with logged_to(log_of(step.kind, artifact.partial)):
        summary = step.work(artifact.partial, place)
    artifact.finish(summary, record.finished())


def log_of(kind: StageKind, directory: Path) -> Path:
    """Where what a stage prints is kept; no manifest covers it."""
    return directory / "logs" / f"{kind.name}.log"


class _Log(logging.FileHandler):
    """A log that a full disk may leave short, without a word about it."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Keep the pipeline's log lines, and the traceback of a failure, in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _Log(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOGGER.addHandler(handler)
    try:
        yield
    except Exception:
        record = LOGGER.makeRecord(
            LOGGER.name, logging.ERROR, __file__, 0, f"the stage failed\n{traceback.format_exc()}", (), None
        )
        handler.emit(record)
        raise
    finally:
        LOGGER.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


def walk(steps: Iterable[Step]) -> Iterator[Step]:
    """These steps and all that they stand on, each once, inputs first."""
    seen: set[Step] = set()

    def visit(step: Step) -> Iterator[Step]:
        if step not in seen:
            seen.add(step)
            for used in step.inputs.values():
                yield from visit(used)
            yield step

    for step in steps:
        yield from visit(step)
