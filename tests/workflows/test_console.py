"""What a running stage says of itself: to the reader where there is no terminal, and to luigi's daemon."""

import threading
import types
from pathlib import Path

import luigi
import pytest

from core.progress import Progress
from workflows import Pretrain, central, console

TINY = str(Path(__file__).resolve().parents[1] / "recipes" / "tiny.toml")
HALF = Progress("pretrain gpt2-tiny", "step", 300, 600, 300, 0.0, "loss 3.2")


@pytest.fixture
def stage(tmp_path: Path) -> Pretrain:
    return Pretrain(recipe=TINY, runs=str(tmp_path), model="gpt2-tiny")


def test_where_there_is_no_terminal_a_line_a_minute(
    stage: Pretrain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    watch = console.Watch(stage, None)
    for second in range(200):
        now[0] = second
        watch(HALF)
    assert (
        capsys.readouterr().out.splitlines() == ["pretrain gpt2-tiny: 300 of 600 steps, loss 3.2"] * 3
    )  # at 61, 122, 183
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True)
    now[0] = 1000.0
    watch(HALF)
    assert capsys.readouterr().out == "", "a terminal has the bar"


def test_a_daemons_page_hears_how_far_a_stage_is(stage: Pretrain, monkeypatch: pytest.MonkeyPatch):
    heard: dict[str, object] = {}
    done = threading.Event()

    def percentage(value: int) -> None:
        heard["percent"] = value
        done.set()

    log = Path("/runs/pretrain/gpt2-tiny-0.partial/logs/pretrain.log")
    assert central.reporter(stage, log) is None, "outside luigi"
    monkeypatch.setattr(stage, "set_status_message", lambda text: heard.update(message=text), raising=False)
    monkeypatch.setattr(stage, "set_tracking_url", lambda url: heard.update(url=url), raising=False)
    monkeypatch.setattr(stage, "set_progress_percentage", percentage, raising=False)
    monkeypatch.setattr(luigi.interface, "core", lambda: types.SimpleNamespace(local_scheduler=True))
    assert central.reporter(stage, log) is None, "nobody looks at a scheduler of its own"
    monkeypatch.setattr(luigi.interface, "core", lambda: types.SimpleNamespace(local_scheduler=False))
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    watch = console.Watch(stage, central.reporter(stage, log))
    now[0] = 6.0
    watch(HALF)
    assert done.wait(10)
    assert heard == {
        "url": "file:///runs/pretrain/gpt2-tiny-0.partial/logs/pretrain.log",
        "message": f"300 of 600 steps, loss 3.2\n{log}",
        "percent": 50,
    }


def test_a_daemon_that_is_away_ends_no_stage(stage: Pretrain, monkeypatch: pytest.MonkeyPatch):
    def away(*_: object) -> None:
        raise luigi.rpc.RPCError("away")

    for name in ("set_status_message", "set_tracking_url", "set_progress_percentage"):
        monkeypatch.setattr(stage, name, away, raising=False)
    monkeypatch.setattr(luigi.interface, "core", lambda: types.SimpleNamespace(local_scheduler=False))
    report = central.reporter(stage, Path("/log"))
    assert report is not None
    report(HALF)
