"""Resume checkpoints: the private state of a training stage, loadable in any parallel layout.

`checkpoints/step-00000500/` holds what `torch.distributed.checkpoint` writes and `checkpoint.json` (step,
fingerprint of the run, sha256 of every file), which is written last. A checkpoint appears by a rename; one
that is damaged is reported and the one before is used. Nothing outside this stage should load one: their
metadata is a pickle.

Training waits only while the state is copied to buffers on the host, which are kept for the next time. A thread
does the rest, and it talks to the other ranks' threads over a process group that nothing else uses.
"""

import copy
import functools
import hashlib
import itertools
import json
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed._state_dict_utils import _copy_state_dict, _create_cpu_state_dict
from torch.distributed.checkpoint import DefaultSavePlanner, SavePlanner
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from core.config import TrainingConfig
from core.parallel.mesh import Mesh
from core.training.errors import CheckpointError

FOLDER = "checkpoints"  # in a training's output
RECORD = "checkpoint.json"
THREAD = "checkpoint"
_PATIENCE = 8  # time-outs: who is lost is found out by the steps; a slow disk is nobody's loss
_numbers = itertools.count()

Result = TypeVar("Result")


class Checkpoints:
    """The checkpoints of one run; all ranks make one and call its methods together.

    Args:
        directory: their folder.
        mesh: the current layout.
        fingerprint: identifies model and training settings; a checkpoint of another run is refused.
        config: says how many stay, and whether they are saved asynchronously.
        report: called with lines for people, on the main rank.
    """

    def __init__(
        self,
        directory: Path,
        mesh: Mesh,
        fingerprint: str,
        config: TrainingConfig,
        report: Callable[[str], None],
    ) -> None:
        self.directory = Path(directory)
        self._mesh = mesh
        self._fingerprint = fingerprint
        self._config = config
        self._report = report
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE * mesh.timeout)
        self._plans = f"checkpoints, {next(_numbers)}"  # a name of their own in torch's cache
        weakref.finalize(self, _forget_plans, self._plans)
        self._buffers: dict[str, Any] | None = None
        self._writer: threading.Thread | None = None
        self._failure: str | None = None

    @property
    def failed(self) -> bool:
        """This rank knows that a save in the background failed; `wait` then raises on every rank."""
        return self._failure is not None

    def folder(self, step: int) -> Path:
        """Of the checkpoint after `step` steps."""
        return self.directory / f"step-{step:08d}"

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]
    ) -> None:
        """Save the state after `step` steps, when the save before is done.

        With asynchronous saving it returns when the state is copied: see `wait`.

        Args:
            facts: the little that is not in model and optimizer, the same on every rank; goes through JSON.

        Raises:
            CheckpointError: this save (or the one before, when asynchronous) failed.
        """
        self.wait()
        state = _state(model, optimizer)
        if self._config.asynchronous_saving:
            state = self._staged(state)
        record = {"step": step, "fingerprint": self._fingerprint, "facts": facts}
        self._writer = threading.Thread(target=self._write, args=(state, record), name=THREAD, daemon=True)
        self._writer.start()
        if not self._config.asynchronous_saving:
            self.wait()

    def wait(self) -> None:
        """Return when no save is in flight.

        Raises:
            CheckpointError: the last one failed; raised on every rank.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            problem, self._failure = self._failure, None
            raise CheckpointError(problem)

    def settle(self) -> None:
        """As `wait`, but a failure is only reported: for a run that ends with an error of its own."""
        try:
            self.wait()
        except CheckpointError as error:
            if self._mesh.is_main:
                self._report(str(error))

    def load_latest(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, Any]]:
        """Load the newest intact checkpoint; returns its step and facts, or (0, {}) when none was ever saved.

        Raises:
            CheckpointError: the newest intact checkpoint belongs to another run, or none is intact.
        """
        chosen = self._choose()
        if chosen is None:
            return 0, {}
        path, record = chosen
        if record["fingerprint"] != self._fingerprint:
            raise CheckpointError(
                f"{path}: a checkpoint of another model or of other training settings; remove "
                f"{self.directory} to start anew, or give another --output"
            )
        state = _state(model, optimizer)
        settings = copy.deepcopy(state["optimizer"]["param_groups"])  # this rank's; saved are the main rank's
        dcp.load(state, checkpoint_id=path, process_group=self._group)
        state["optimizer"]["param_groups"] = settings
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        return record["step"], record.get("facts", {})

    def _choose(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest intact checkpoint and its record, None where there is none at all. The main rank says what is there,
        and each rank reads its share of the files.

        Raises:
            CheckpointError: none is intact.
        """
        paths = self._everywhere(lambda: saved_in(self.directory) if self._mesh.is_main else [])[0]
        for path in reversed(paths):
            read: Callable[[], tuple[str | None, dict[str, Any]]] = (
                functools.partial(_read_record, path) if self._mesh.is_main else lambda: (None, {})
            )
            problem, record = self._everywhere(read)[0]
            if problem is None:
                own = sorted(record["files"].items())[self._mesh.rank :: self._mesh.world_size]
                found = self._everywhere(functools.partial(_damaged_file, path, own))
                problem = next(filter(None, found), None)
            if problem is None:
                return path, record
            before = "the one before is used" if path != paths[0] else "there is none before"
            if self._mesh.is_main:
                self._report(f"{problem}; it is left aside, {before}")
        if not paths:
            return None
        raise CheckpointError(
            f"{self.directory}: no checkpoint is intact ({len(paths)} damaged); put back a good copy of one, or "
            "remove the folder to start anew"
        )

    def _staged(self, state: dict[str, Any]) -> dict[str, Any]:
        """A copy of the state on the host, in the buffers of the last time."""
        on_gpu = self._mesh.device.type == "cuda"
        if self._buffers is None:
            self._buffers = _create_cpu_state_dict(state, pin_memory=on_gpu)
        staged = _copy_state_dict(state, self._buffers, non_blocking=on_gpu)
        if on_gpu:
            torch.cuda.synchronize(self._mesh.device)
        return staged

    def _write(self, state: dict[str, Any], record: dict[str, Any]) -> None:
        """What the thread does, on all ranks; a failure on any is known to all of them in the end."""
        if self._mesh.device.type == "cuda":
            torch.cuda.set_device(self._mesh.device)  # a thread's own setting
        final = self.folder(record["step"])
        temporary = self.directory / f".{final.name}.tmp"
        try:
            self._on_main(lambda: self._prepare(temporary))
            files = self._everywhere(lambda: self._write_files(state, temporary))
            record["files"] = {name: digest for part in files for name, digest in part}
            self._on_main(lambda: self._complete(temporary, final, record))
        except Exception as error:
            if self._mesh.is_main:
                shutil.rmtree(temporary, ignore_errors=True)
            self._failure = (
                f"{final}: the checkpoint could not be saved ({error}); make room in {self.directory} or mend what "
                "is wrong there, and give the same command again: it goes on from the checkpoint before"
            )

    def _prepare(self, temporary: Path) -> None:
        for left_by_killed_run in self.directory.glob(".step-*.tmp"):
            shutil.rmtree(left_by_killed_run)
        temporary.mkdir(parents=True)

    def _write_files(self, state: dict[str, Any], temporary: Path) -> list[tuple[str, str]]:
        """Write this rank's part; returns (name, sha256) of its files."""
        planner = DefaultSavePlanner(enable_plan_caching=True)  # who writes what is the same every time
        planner._cached_plans_key = self._plans
        dcp.save(state, checkpoint_id=temporary, process_group=self._group, planner=planner)
        own = list(temporary.glob(f"__{self._mesh.rank}_*"))
        if self._mesh.is_main:
            own.append(temporary / ".metadata")
        return [(path.name, _sha256(path)) for path in sorted(own)]

    def _complete(self, temporary: Path, final: Path, record: dict[str, Any]) -> None:
        """Make a checkpoint of what all ranks wrote, and remove those that are not to stay."""
        (temporary / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        _sync(temporary / RECORD)
        _sync(temporary)
        if final.exists():
            shutil.rmtree(final)  # a damaged one, or the run would have gone on from it
        os.replace(temporary, final)
        _sync(self.directory)
        for path in outdated(
            saved_in(self.directory), record["step"], self._config.keep_last, self._config.keep_every
        ):
            shutil.rmtree(path)

    def _on_main(self, work: Callable[[], None]) -> None:
        self._everywhere(lambda: work() if self._mesh.is_main else None)

    def _everywhere(self, work: Callable[[], Result]) -> list[Result]:
        """Do `work` on every rank; returns what it gave, by rank. A failure on any is raised on all of them."""
        outcome: tuple[Result | None, str | None]
        try:
            outcome = work(), None
        except (Exception, CheckpointException) as error:
            outcome = None, _reason(error, self._mesh.rank)
        outcomes: list[Any] = [None] * self._mesh.world_size
        dist.all_gather_object(outcomes, outcome, group=self._group)
        for _, problem in outcomes:
            if problem is not None:
                raise RuntimeError(problem)
        return [result for result, _ in outcomes]


def outdated(paths: list[Path], step: int, keep_last: int, keep_every: int) -> list[Path]:
    """Of checkpoints in the order of their steps, those to remove after the one of `step` was saved.

    Later ones are damaged (the run would have gone on from them) and do not count.
    """
    steps = {path: int(path.name.removeprefix("step-")) for path in paths}
    sound = [path for path in paths if steps[path] <= step]
    return [path for path in sound[:-keep_last] if not keep_every or steps[path] % keep_every]


def saved_in(directory: Path) -> list[Path]:
    """The checkpoints in a folder, damaged or not, in the order of their steps."""
    return sorted(directory.glob("step-*")) if directory.exists() else []


def goes_on(output: Path, mesh: Mesh) -> bool:
    """Whether a training with this output begins with a checkpoint, not with initial values (or says why it cannot).
    Collective."""
    found = torch.tensor(int(mesh.is_main and bool(saved_in(Path(output) / FOLDER))))
    dist.broadcast(found, src=0, group=mesh.control_group)
    return bool(found.item())


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None when every file has its recorded sha256."""
    problem, record = _read_record(path)
    return problem or _damaged_file(path, record["files"].items())


def _read_record(path: Path) -> tuple[str | None, dict[str, Any]]:
    """What is wrong with a checkpoint's record, or None, and the record."""
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        for key in ("step", "fingerprint", "files"):
            record[key]
        return None, record
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{path / RECORD}: cannot be read ({error})", {}


def _damaged_file(path: Path, files: Iterable[tuple[str, str]]) -> str | None:
    """What is wrong with one of these files, or None.

    Args:
        files: names and their recorded sha256.
    """
    for name, digest in files:
        try:
            if _sha256(path / name) != digest:
                return f"{path / name}: damaged (its sha256 is not the recorded one)"
        except OSError as error:
            return f"{path / name}: cannot be read ({error})"
    return None


def _forget_plans(name: str) -> None:
    """A run's plans leave torch's cache, which holds them for the process."""
    caches = ("save_plan", "final_save_plan", "all_plans", "global_plan", "metadata")
    for cache in caches:
        getattr(SavePlanner, f"_cached_{cache}", {}).pop(name, None)


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {"model": model_state, "optimizer": optimizer_state}


def _reason(error: BaseException, rank: int) -> str:
    """An error of a rank in a line; of torch's, which carries the failures of several ranks, the first one's."""
    if isinstance(error, CheckpointException):
        rank, (error, _) = next(iter(error.failures.items()))
    return f"rank {rank}: {error or type(error).__name__}"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
