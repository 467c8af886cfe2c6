"""What a user can cause is one message from many ranks under torchrun, whichever of them fails, and first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import argparse, atexit, json, os, sys, time
from core.errors import UserError
from core.program.ranks import run_on_ranks

def command(arguments):
    seconds = json.loads(os.environ["FAILS_AFTER"])[int(os.environ["LOCAL_RANK"])]
    atexit.register(time.sleep, 1)  # as an interpreter on a busy machine: torchrun does not know of the failure yet
    time.sleep(seconds if seconds >= 0 else 60)
    raise UserError("no such file")

if __name__ == "__main__":
    sys.exit(run_on_ranks(argparse.ArgumentParser, command))
"""


@pytest.mark.parametrize(
    ("launcher", "fails_after"),
    [
        ("torch.distributed.run", "[-1, 0]"),
        ("core.program.start", "[2.5, 0]"),
    ],
)
def test_one_message_under_torchrun_whoever_fails_first(
    tmp_path: Path, launcher: str, fails_after: str
) -> None:
    """[seconds until rank 0 fails, rank 1]; -1: it does not fail, and would go on for a minute."""
    (tmp_path / "program").mkdir()
    (tmp_path / "program/__main__.py").write_text(PROGRAM)
    command = [sys.executable, "-m", launcher, "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*command, "-m", "program"],
        cwd=tmp_path,
        env={**os.environ, "FAILS_AFTER": fails_after, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode != 0
    assert run.stderr.count("error: no such file") == 1, run.stderr
    assert "RuntimeWarning" not in run.stderr
