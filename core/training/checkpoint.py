"""Resume checkpoints: the private state of a training stage, loadable in any parallel layout.

`checkpoints/step-00000500/` holds what `torch.distributed.checkpoint` writes and `checkpoint.json` (step,
fingerprint of the run, sha256 of every file), which is written last. A checkpoint appears by a rename; one
that is damaged is reported and the one before is used. Nothing outside this stage should load one: their
metadata is a pickle.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from core.parallel.mesh import Mesh
from core.training.errors import CheckpointError

RECORD = "checkpoint.json"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: their folder.
        mesh: the current layout.
        fingerprint: identifies model and training settings; a checkpoint of another run is refused.
        keep: how many stay.
        report: called with lines for people, on the main rank.
    """

    def __init__(
        self, directory: Path, mesh: Mesh, fingerprint: str, keep: int, report: Callable[[str], None]
    ) -> None:
        self.directory = Path(directory)
        self._mesh = mesh
        self._fingerprint = fingerprint
        self._keep = keep
        self._report = report

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]
    ) -> None:
        """Write the state after `step` steps; all ranks call it.

        Args:
            facts: the little that is not in model and optimizer, the same on every rank; goes through JSON.
        """
        final = self.directory / f"step-{step:08d}"
        temporary = self.directory / f".step-{step:08d}.tmp"
        if self._mesh.is_main:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(final, ignore_errors=True)
            temporary.mkdir(parents=True)
        dist.barrier(self._mesh.control_group)
        state = _state(model, optimizer)
        dcp.save(state, checkpoint_id=temporary, process_group=self._mesh.control_group)
        if self._mesh.is_main:
            files = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
            record = {"step": step, "fingerprint": self._fingerprint, "facts": facts, "files": files}
            (temporary / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            _sync(temporary)
            os.replace(temporary, final)
            for old in self._all()[: -self._keep]:
                shutil.rmtree(old)
        dist.barrier(self._mesh.control_group)

    def load_latest(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, Any]]:
        """Load the newest intact checkpoint; returns its step and facts, or (0, {}) when there is none.

        Raises:
            CheckpointError: the newest intact checkpoint belongs to another run.
        """
        chosen: list[Any] = [None]
        if self._mesh.is_main:
            chosen = [self._choose()]
        dist.broadcast_object_list(chosen, src=0, group=self._mesh.control_group)
        if chosen[0] is None:
            return 0, {}
        step, path, fingerprint, facts = chosen[0]
        if fingerprint != self._fingerprint:
            raise CheckpointError(
                f"{path}: a checkpoint of another model or of other training settings; remove "
                f"{self.directory} to start anew, or give another --output"
            )
        state = _state(model, optimizer)
        dcp.load(state, checkpoint_id=path, process_group=self._mesh.control_group)
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        return step, facts

    def _all(self) -> list[Path]:
        return sorted(self.directory.glob("step-*")) if self.directory.exists() else []

    def _choose(self) -> tuple[int, str, str, dict[str, Any]] | None:
        for path in reversed(self._all()):
            problem = damage(path)
            if problem is None:
                record = json.loads((path / RECORD).read_text(encoding="utf-8"))
                return record["step"], str(path), record["fingerprint"], record.get("facts", {})
            self._report(f"{problem}; it is left aside, the one before is used")
        return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None when every file has its recorded sha256."""
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        files = record["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"{path / RECORD}: cannot be read ({error})"
    for name, digest in files.items():
        try:
            if _sha256(path / name) != digest:
                return f"{path / name}: damaged (its sha256 is not the recorded one)"
        except OSError as error:
            return f"{path / name}: cannot be read ({error})"
    return None


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {"model": model_state, "optimizer": optimizer_state}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(directory: Path) -> None:
    for path in directory.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
