"""On a GPU, where there is one: the CPU's numbers in every precision, eager and compiled, and resumption to the bit."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gpu import needs_gpu, run_on

pytestmark = needs_gpu


def _run(output: Path, device: str, **told: Any) -> subprocess.CompletedProcess[str]:
    return run_on(device, "on_device.py", str(output), json.dumps(told))


def _steps(output: Path, device: str, **told: Any) -> list[list[float]]:
    """[loss, gradient norm] of each step."""
    return _trained(output, device, **told)["steps"]


def _trained(output: Path, device: str, **told: Any) -> dict[str, Any]:
    done = _run(output, device, **told)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["device"] == device
    return result


def _close(left: list[list[float]], right: list[list[float]], tolerance: float) -> None:
    assert len(left) == len(right) == 6
    for ours, theirs in zip(left, right, strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance)


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_gpu_gives_the_numbers_of_the_cpu(tmp_path, family):
    exact = _steps(tmp_path / "cpu", "cpu", family=family)
    _close(_steps(tmp_path / "fp32", "cuda", family=family), exact, 1e-4)
    for precision, tolerance in (("bf16", 3e-2), ("fp16", 5e-3)):
        _close(_steps(tmp_path / precision, "cuda", family=family, precision=precision), exact, tolerance)


def test_compiled_layers_give_the_eager_numbers(tmp_path):
    eager = _steps(tmp_path / "eager", "cuda", family="gpt2")
    _close(_steps(tmp_path / "compiled", "cuda", family="gpt2", compile=True), eager, 1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_killed_run_on_a_gpu_resumes_to_the_bit(tmp_path, precision):
    told = {"family": "gpt2", "dropout": 0.1, "precision": precision, "checkpoint_interval": 2}
    whole = _steps(tmp_path / "whole", "cuda", **told)
    assert _run(tmp_path / "killed", "cuda", **told, die_at=3).returncode == -9
    assert _steps(tmp_path / "killed", "cuda", **told) == whole


@pytest.mark.parametrize(
    "told", [{"compile": False}, {"compile": True}, {"micro_batch": 1, "precision": "bf16"}]
)
def test_a_step_waits_for_the_gpu_once(tmp_path, told):
    # What all ranks decide on, losses, norm and the wish to stop, is read together.
    waits = _trained(tmp_path, "cuda", family="gpt2", dropout=0.1, count_waits=True, **told)["waits"]
    assert len(waits) == 1, waits
