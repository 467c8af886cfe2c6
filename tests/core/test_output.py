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
    with writing(output, mesh) as finished:
        assert not finished
        if mesh.is_main:
            (output / "taken over").touch()
        return time.monotonic() - started


def test_ranks_wait_for_another_program_longer_than_for_each_other(tmp_path):
    output, held = tmp_path / "out", 5.0
    output.mkdir()
    with contextlib.ExitStack() as first:
        first.enter_context(exclusive(output))
        threading.Timer(held, first.pop_all().close).start()
        waited = run_distributed(_wait_and_write, 2, output)
    assert (output / "taken over").exists()
    assert min(waited) > 3.0, "beyond the time-out of a collective"
