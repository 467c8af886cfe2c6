"""Two programs on one output: the second waits as long as the first holds it, on all its ranks, and takes over."""

import contextlib
import datetime
import threading
import time
from pathlib import Path

from distributed import run_distributed

from core.files import exclusive
from core.parallel.mesh import initialize
from core.program.output import writing


def _wait_and_write(output: Path) -> float:
    mesh = initialize(1, timeout=datetime.timedelta(seconds=2))
    started = time.monotonic()
    (output / f"waiting {mesh.rank}").touch()
    with writing(output, mesh) as finished:
        assert not finished
        if mesh.is_main:
            (output / "taken over").touch()
        return time.monotonic() - started


def _release_later(first: contextlib.ExitStack, output: Path) -> None:
    """End the first program four seconds after the second one began to wait."""
    deadline = time.monotonic() + 60
    while len(list(output.glob("waiting *"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(4.0)
    assert not (output / "taken over").exists()
    first.close()


def test_ranks_wait_for_another_program_longer_than_for_each_other(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    with contextlib.ExitStack() as first:
        first.enter_context(exclusive(output))
        threading.Thread(target=_release_later, args=(first.pop_all(), output)).start()
        waited = run_distributed(_wait_and_write, 2, output)
    assert (output / "taken over").exists()
    assert min(waited) > 3.5, "beyond the time-out of a collective"
