"""Relaying a program's output: lines to the log, redrawn bars to the terminal. And ending it in order."""

import io
import os
import signal
import threading
import time
import types
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from workflows import launch
from workflows.launch import Relay, run_ranks

# Stands in for torchrun: says how it was called, and ends some time after it was asked to.
_SLOW_TO_END = """
import signal, sys, time
from pathlib import Path
output = Path(sys.argv[-1])
def end(*_):
    time.sleep(1.0)
    (output / "saved").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
(output / "called").write_text("\\n".join(sys.argv[2:]))
time.sleep(60)
"""


def relayed(blocks: list[bytes], on_terminal: bool = True) -> tuple[str, str, list[str]]:
    """(log, terminal, shown lines) of some output, read in these blocks."""
    log, terminal = io.BytesIO(), io.BytesIO()
    shown: list[str] = []
    relay = Relay(log, terminal if on_terminal else None, shown.append)
    for block in blocks:
        relay.feed(block)
    relay.close()
    return log.getvalue().decode(), terminal.getvalue().decode(), shown


def test_lines_go_to_the_log_only():
    log, terminal, shown = relayed([b"one\r\ntw", b"o\r", b"\nthree"])
    assert log == "one\ntwo\nthree\n"
    assert terminal == ""
    assert shown == ["one", "two", "three"]


def test_a_bar_shows_live_and_leaves_its_last_state_in_the_log():
    log, terminal, _ = relayed([b"start\n", b"\r10%", b"\r50%", b"\r100%\r\n", b"end\n"])
    assert terminal.startswith("\r10%\r50%\r100%")
    assert terminal.endswith("\r\x1b[K")
    assert log == "start\n100%\nend\n"


def test_a_line_after_a_bar_that_was_wiped_is_not_lost():
    log, _, shown = relayed([b"\r50%|###  |", b"\r          \r", b"resumes at step 3\n"], on_terminal=False)
    assert "resumes at step 3" in log
    assert shown == ["resumes at step 3"]


def test_notes_and_where_it_resumes_are_shown(capfd):
    for line in ("note: 2 processes, 1 device", "a step", "resumes at step 3", "a footnote: none"):
        launch._show_line(line)
    shown = capfd.readouterr()
    assert "note: 2 processes" in shown.out + shown.err and "resumes at step 3" in shown.out + shown.err
    assert "a step" not in shown.out + shown.err and "footnote" not in shown.out + shown.err


@pytest.mark.parametrize("known", [True, False])
def test_torchrun_gets_no_option_that_its_release_does_not_know(tmp_path: Path, monkeypatch, known: bool):
    (tmp_path / "distributed").mkdir()
    (tmp_path / "distributed" / "run.py").write_text('"--shutdown-timeout"' if known else '"--max-restarts"')
    spec = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: spec)
    launch._patience.cache_clear()
    assert launch._patience() == (("--shutdown-timeout", "600") if known else ())
    launch._patience.cache_clear()


def test_ranks_have_minutes_to_save_before_torchrun_kills_them(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(launch, "_TORCHRUN", _SLOW_TO_END)

    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while not (tmp_path / "called").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        if (tmp_path / "called").exists():
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_ranks("program", [str(tmp_path)], ranks=2, log=tmp_path / "log")
    assert (tmp_path / "saved").exists()
    words = (tmp_path / "called").read_text().split("\n")
    given = get_args_parser().parse_args(words)  # torchrun's own reading of it
    if hasattr(given, "shutdown_timeout"):  # not in torch 2.11
        assert given.shutdown_timeout == launch.SHUTDOWN_SECONDS >= 300
        assert given.shutdown_timeout < launch._GRACE_SECONDS, "torchrun kills first, by its children's ids"
    assert (given.nproc_per_node, given.training_script, given.training_script_args) == (
        "2",
        "program",
        [str(tmp_path)],
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_log_begins_with_a_command_that_can_be_typed_again(tmp_path: Path, monkeypatch, ranks: int):
    """One rank is started without torchrun, whose imports take seconds."""
    (tmp_path / "program.py").write_text(
        "import os, sys; print(__name__, sys.argv[1:], os.environ.get('WORLD_SIZE'))"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(launch, "_TORCHRUN", "import runpy, sys; print(sys.argv[2:])")
    assert run_ranks("program", ["--seed", "1"], ranks=ranks, log=tmp_path / "log") == 0
    typed, *printed = (tmp_path / "log").read_text().splitlines()
    if ranks == 1:
        assert (typed, printed) == ("$ python -m program --seed 1", ["__main__ ['--seed', '1'] None"])
    else:
        assert typed.startswith("$ torchrun --standalone --nproc-per-node 2 ") and typed.endswith(
            "-m program --seed 1"
        )
        assert printed == [str(typed.split()[2:])]
