"""Starting programs on ranks, and ending them in order."""

import json
import os
import signal
import subprocess
import threading
import time
import types
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from core.errors import StoppedError, TransientError, UserError
from data_pipeline.engine.steps import StageKind
from recipes.schema import LaunchSettings
from workflows import launch, training
from workflows.launch import failure, run_ranks

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


@pytest.mark.parametrize("known", [True, False])
def test_torchrun_gets_no_option_that_its_release_does_not_know(tmp_path: Path, monkeypatch, known: bool):
    (tmp_path / "distributed").mkdir()
    (tmp_path / "distributed" / "run.py").write_text('"--shutdown-timeout"' if known else '"--max-restarts"')
    spec = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: spec)
    launch._torchrun_can_wait.cache_clear()
    assert launch._patience(600) == (("--shutdown-timeout", "600") if known else ())
    launch._torchrun_can_wait.cache_clear()


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
        assert given.shutdown_timeout == LaunchSettings().grace_seconds >= 300
        assert launch._MARGIN_SECONDS > 0, "torchrun kills first, by its children's ids"
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
    asked = ["--seed", "1", "--title", "[2/3] it's $HOME"]
    assert run_ranks("program", asked, ranks=ranks, log=tmp_path / "log") == 0
    typed, *printed = (tmp_path / "log").read_text().splitlines()
    if ranks == 1:
        assert (typed.split()[:4], printed) == (["$", "python", "-m", "program"], [f"__main__ {asked} None"])
    else:
        assert (
            typed.startswith("$ torchrun --standalone --nproc-per-node 2 ")
            and " -m program --seed 1 " in typed
        )
    read = ["sh", "-c", f'for word in {typed.removeprefix("$ ")}; do printf "%s\\n" "$word"; done']
    words = subprocess.run(read, capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[-4:] == asked
    if ranks == 2:
        assert printed == [str(words[1:])]


TORCHRUNS = """
Root Cause (first observed failure):
[0]:
  exitcode  : {code} (pid: 4711)
  traceback : Signal 9 (SIGKILL) received by PID 4711
"""


@pytest.mark.parametrize(
    "printed, code, lost",
    [
        (TORCHRUNS.format(code=-9), 1, True),
        (TORCHRUNS.format(code=-15), 1, True),
        (TORCHRUNS.format(code=-11), 1, False),  # a crash, which the same would come to again
        (TORCHRUNS.format(code=1), 1, False),
        ("python -m pretrain: error: no such file", 1, False),
        ("", -9, True),
        ("", -11, False),
    ],
)
def test_a_killed_process_is_told_from_one_that_failed(tmp_path: Path, printed: str, code: int, lost: bool):
    log = tmp_path / "log"
    log.write_text(printed)
    error = failure("training failed", log, code)
    assert isinstance(error, TransientError) == lost
    assert str(log) in str(error)


@pytest.mark.parametrize(
    "before, after, kind, told",
    [
        (None, {"status": "stopped", "step": 7}, StoppedError, "training stopped at step 7"),
        (None, {"status": "running", "step": 5}, TransientError, "training broke off after step 5"),
        (None, {"status": "failed", "step": 5, "error": "rank 1 is gone", "lost": True}, TransientError, "rank 1 is gone"),
        (None, {"status": "failed", "step": 5, "error": "the loss is infinite"}, UserError, "step 5: the loss is infinite"),
        ({"status": "running", "step": 5}, {"status": "running", "step": 5}, UserError, "failed before its first step"),
        (None, None, UserError, "failed before its first step"),
    ],
)  # fmt: skip
def test_how_a_training_ended_is_told_from_its_state(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: dict | None,
    after: dict | None,
    kind: type,
    told: str,
):
    """A state that an attempt did not touch is that of an earlier one: what ends an attempt before is no lost process."""
    monkeypatch.setitem(training._state_before, tmp_path, before)
    if after is not None:
        (tmp_path / "state.json").write_text(json.dumps(after))
    work = training.trained(StageKind("pretrain", 1, ()), lambda directory: {})
    with pytest.raises(UserError, match=told) as error:
        work(tmp_path, None)
    assert type(error.value) is kind
