"""On a GPU, where there is one: the CPU's numbers in every precision, eager and compiled, and resumption to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
GPU = os.environ["CUDA_DEVICES_FOR_TESTS"]  # set by conftest.py, which hides them from all other tests


def _has_cuda() -> bool:
    """Asked in a process of its own: what this one sees is settled before."""
    program = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": GPU}
    return subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not Path("/dev/nvidiactl").exists() or not _has_cuda(), reason="there is no GPU here"
)


def _run(output: Path, device: str, **told: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": GPU if device == "cuda" else "",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, str(HERE / "on_device.py"), str(output), json.dumps(told)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def _steps(output: Path, device: str, **told: Any) -> list[list[float]]:
    """[loss, gradient norm] of each step."""
    done = _run(output, device, **told)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["device"] == device
    return result["steps"]


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
