"""Programs on the GPU of this machine, where it has one: each in a process of its own, since tests hide it from theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_GPU = os.environ["CUDA_DEVICES_FOR_TESTS"]  # set by conftest.py


def _has_cuda() -> bool:
    """Asked in a process of its own: what this one sees is settled before."""
    program = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": _GPU}
    return subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


needs_gpu = pytest.mark.skipif(
    not Path("/dev/nvidiactl").exists() or not _has_cuda(), reason="there is no GPU here"
)


def run_on(device: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program beside this file, which sees the GPU where `device` is "cuda"."""
    folders = [str(HERE), str(HERE.parent), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": _GPU if device == "cuda" else "",
        "PYTHONPATH": os.pathsep.join(folders),
    }
    command = [sys.executable, str(HERE / program), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
