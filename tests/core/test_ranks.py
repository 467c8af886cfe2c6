"""What a user can cause is one message from many ranks under torchrun, whichever of them fails, and first."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import UserError
from core.processes import allow_open_files

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
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "program").mkdir()
    (tmp_path / "program/__main__.py").write_text(PROGRAM)
    command = [sys.executable, "-m", launcher, "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*command, "-m", "program"],
        cwd=tmp_path,
        env={**os.environ, "FAILS_AFTER": fails_after, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode != 0
    assert run.stderr.count("error: no such file") == 1, run.stderr
    assert "RuntimeWarning" not in run.stderr
    if launcher == "core.program.start":
        assert not list(temporary.glob("torchelastic_*"))


@pytest.mark.parametrize(
    ("limits", "given"),
    [((1024, 4096), (1512, 4096)), ((4096, 4096), None), ((1024, -1), (1512, -1)), ((-1, -1), None)],
)
def test_the_limit_of_open_files_is_raised_where_it_is_too_low(monkeypatch, limits, given):
    """Of a thousand connections, and five hundred other files and some; -1 is no limit."""
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, values: asked.append(values))
    allow_open_files(1000)
    assert asked == ([given] if given else [])


def test_what_the_system_does_not_allow_is_said(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 1024))
    with pytest.raises(
        UserError, match=r"needs up to 1512 open files and connections, and may have 1024: .* -Hn 1512"
    ):
        allow_open_files(1000)
