"""Steps: what a stage makes of what, described once. Luigi's tasks and the command lines are two faces of them.

A `Step` says all that determines an artifact; `make` makes it, once, whoever asks: under its lock, going on from what a
killed attempt left, with a manifest and a run record. So the same step from anywhere has the same key, and whoever
finds it made makes it no more.
"""

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import MissingLibraryError, UserError
from core.files import canonical_json, exclusive, read_json, write_json
from core.progress import kept_in
from core.registry import check_plugins
from data_pipeline.engine.artifacts import Artifact, significant_version
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.hashes import ChangedFileError, HashCache, hash_paths, identity
from data_pipeline.engine.run_record import RunRecord

LOGGER = logging.getLogger("data_pipeline")
DOWNLOADS = (
    ".downloads"  # hidden, so that no manifest covers it: in an artifact that is being made, and in a store
)
_READ_FILES = ".files.json"
Summary = Mapping[str, Any]
Pins = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class StageKind:
    """What all steps of one stage share.

    Attributes:
        name: the artifacts' folder.
        version: bumped by hand when the code changes what it writes.
        code: the modules whose code, with all that they import, determines the output.
        libraries: distributions whose version affects the output's bytes.
        unhashed: files of the output that show times, and folders of such with "/" at their end, so that the manifest
            leaves them out.
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
        reads: steps whose artifacts it reads, too: those that its inputs stand on, so no part of the key.
        files: files and folders from outside that it reads, by role.
        selectors: which of the stage's steps of one recipe it is.
        facts: the summary in a few words, for the console.
        layout: how its work is spread over processes; None for the executor's.
        ranks: for work by processes that hold the lock while they write: called first, without the lock; `work` then
            looks at what they left, and raises if that is not all.
        pins: asked before the key is taken, of which they are part: a commit or a sha256, by remote source. What has
            to be downloaded to know goes to the folder that is given, which becomes `DOWNLOADS` of the artifact; with
            None, what is in no recipe and no lock file yet is a `NotPinnedError`. A summary's "pins" must agree.
    """

    kind: StageKind
    name: str
    work: Callable[[Path, "Workplace"], Summary]
    label: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, "Step"] = field(default_factory=dict)
    reads: tuple["Step", ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    selectors: Mapping[str, str] = field(default_factory=dict)
    facts: Callable[[Summary], str] = no_facts
    layout: Mapping[str, Any] | None = None
    ranks: Callable[[Path, "Workplace"], object] | None = None
    pins: Callable[[Path | None], Pins] | None = None


class Store:
    """A folder of artifacts: knows which artifact a step is, and whether it is there.

    Args:
        root: the folder; the same step has the same key in any.

    Attributes:
        asks: whether the network may be asked what a remote source is now; else one that is pinned nowhere is a
            `NotPinnedError`.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.asks = True
        self._hashes = HashCache(self.root / ".hashes.jsonl")
        self._artifacts: dict[Step, Artifact] = {}

    def artifact(self, step: Step) -> Artifact:
        """The artifact of a step; the key is taken at the first call, when its remote sources are pinned.

        Raises:
            UserError: a remote source is pinned nowhere and cannot be reached.
        """
        if step not in self._artifacts:
            artifact = Artifact(
                root=self.root,
                stage=step.kind.name,
                name=step.name,
                version=step.kind.version,
                parameters=dict(step.parameters),
                inputs={role: self.artifact(used).key for role, used in step.inputs.items()},
                files=hash_paths(step.files, self._hashes),
                pins=dict(step.pins(self._downloads(step) if self.asks else None)) if step.pins else {},
                libraries={name: _version(name, step.kind) for name in step.kind.libraries},
                unhashed=step.kind.unhashed,
            )
            if step.pins and artifact.is_complete():  # made elsewhere, of the same bytes
                shutil.rmtree(self._downloads(step), ignore_errors=True)
            self._artifacts[step] = artifact
        return self._artifacts[step]

    def _downloads(self, step: Step) -> Path:
        """Where what a step fetches to pin it waits until the step is made."""
        what = canonical_json([step.kind.name, step.name, step.parameters])
        return self.root / DOWNLOADS / f"{step.name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"

    def directory(self, step: Step) -> Path:
        return self.artifact(step).directory

    def summary(self, step: Step) -> dict[str, Any]:
        """The deterministic facts of a finished step."""
        return dict(self.artifact(step).manifest()["summary"])

    def is_complete(self, step: Step) -> bool:
        """Whether the artifact is there."""
        return self.artifact(step).is_complete()

    def start(self, step: Step) -> Path:
        """The folder in which a step is made, with what an earlier attempt left there if it read the same files; call
        it while holding the artifact's lock.

        Raises:
            UserError: a file or a plug-in is not what it was when the key was taken.
        """
        check_plugins()
        self.check_files(step)
        partial = self.artifact(step).start()
        files, known = {role: identity(path) for role, path in step.files.items()}, partial / _READ_FILES
        if known.exists() and _content(known) != files:
            LOGGER.warning("%s: files that it reads were written to since it began: it starts anew", partial)
            shutil.rmtree(partial)
            self.artifact(step).start()
        if files:
            write_json(known, files)
        if self._downloads(step).is_dir():
            shutil.rmtree(partial / DOWNLOADS, ignore_errors=True)
            os.replace(self._downloads(step), partial / DOWNLOADS)
        return partial

    def check_files(self, step: Step) -> None:
        """Look whether the files from outside are what they were when the key was taken.

        Raises:
            ChangedFileError: one is not.
        """
        known = self.artifact(step).files
        for role, digest in hash_paths(step.files, self._hashes).items():
            if digest != known[role]:
                raise ChangedFileError(
                    f"{step.files[role]}: was changed since this command began; the same command again takes it as it is now"
                )

    def finish(self, step: Step, summary: Summary, record: RunRecord) -> None:
        """Make a finished artifact of the folder; call it while holding the artifact's lock.

        Raises:
            UserError: what was read is not what the key says: the folder is removed, for nothing in it can be trusted.
        """
        artifact = self.artifact(step)
        try:
            self.check_files(step)
            if (found := summary.get("pins", artifact.pins)) != artifact.pins:
                raise UserError(
                    f"{artifact.partial}: fetched {found}, but its key was taken for {artifact.pins}; the same command "
                    "again takes what is pinned now"
                )
        except UserError:
            shutil.rmtree(artifact.partial, ignore_errors=True)
            raise
        (artifact.partial / _READ_FILES).unlink(missing_ok=True)
        artifact.finish(summary, record.finished())


def _version(library: str, kind: StageKind) -> str:
    try:
        return significant_version(importlib.metadata.version(library))
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingLibraryError(kind.name, library) from error


def _content(path: Path) -> Any:
    """JSON, or None where it is damaged."""
    try:
        return read_json(path)
    except UserError:
        return None


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
    layout = {"processes": place.executor.workers} if step.layout is None else step.layout
    with exclusive(artifact.own, waiting):
        if artifact.is_complete():
            return False
        partial = place.store.start(step)
        record = RunRecord(partial, layout, step.kind.libraries)
        if step.ranks is None:
            with record.attempt():
                _finish(step, place, artifact.partial, record)
            return True
    with record.attempt(), kept_in(partial):
        step.ranks(partial, place)
        with exclusive(artifact.own, waiting):
            if artifact.is_complete():
                return False
            _finish(step, place, artifact.partial, record)
    return True


def _finish(step: Step, place: Workplace, partial: Path, record: RunRecord) -> None:
    if step.layout is None:
        place.executor.check(partial, [*step.files.values(), *map(place.directory, step.inputs.values())])
    with logged_to(log_of(step.kind, partial)), kept_in(partial):
        summary = step.work(partial, place)
    place.store.finish(step, summary, record)


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
