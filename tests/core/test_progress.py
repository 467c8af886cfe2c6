"""How far long work is: told, kept in a file, printed where there is no terminal."""

import json
import math
import time
from pathlib import Path

import pytest

from core import progress
from core.progress import PROGRESS_FILE, Bar, Progress, kept_in, watched


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that have gone by, to be set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.time, "time", lambda: 1e9 + now[0])
    return now


def test_who_watches_hears_once_a_second_and_at_the_end(clock: list[float]):
    heard: list[Progress] = []
    with watched(heard.append), Bar(total=40, initial=10, desc="clean", unit="shard") as bar:
        for step in range(30):
            clock[0] = step * 0.3
            bar.update()
    assert [seen.done for seen in heard][:3] == [11, 15, 19]
    assert heard[-1].done == 40 and heard[-1].total == 40 and heard[-1].before == 10
    assert heard[-1].what == "clean"
    with watched(heard.append):
        pass
    Bar(total=1).update()
    assert heard[-1].done == 40, "nobody hears of what comes after"


def test_a_list_is_counted_as_it_is_gone_through(clock: list[float]):
    heard: list[Progress] = []
    with watched(heard.append):
        assert list(Bar(["a", "b", "c"], desc="read", unit="shard")) == ["a", "b", "c"]
    assert (heard[-1].done, heard[-1].total) == (3, 3)


def test_without_a_terminal_a_plain_line_a_minute(clock: list[float], capsys: pytest.CaptureFixture[str]):
    with Bar(total=200, desc="clean", unit="batch") as bar:
        for second in range(1, 151):
            clock[0] = second
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["clean 61 of 200 batches, 02:19 left", "clean 123 of 200 batches, 01:17 left"]


def test_what_is_hidden_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]):
    heard: list[Progress] = []
    with Bar(total=200, hidden=True) as bar:
        clock[0] = 1000
        bar.update()
    with watched(heard.append), Bar(total=200, hidden=True) as bar:
        bar.update()
    assert capsys.readouterr().err == "" and not heard


@pytest.mark.parametrize(
    "found, line",
    [
        (
            Progress("x", "shard", 37, 120, 0, 0, "5 documents/s"),
            "37 of 120 shards, 5 documents/s, 03:44 left",
        ),
        (Progress("x", "B", 5000, 0, 0, 0), "5,000 B"),
        (Progress("x", "step", 37, 120, 37, 0), "37 of 120 steps"),
    ],
)
def test_in_words(monkeypatch: pytest.MonkeyPatch, found: Progress, line: str):
    monkeypatch.setattr(progress.time, "time", lambda: 100.0)
    assert found.line() == line
    assert math.isinf(found.left_seconds) == ("left" not in line)


def test_a_file_says_how_far_for_others_to_read(tmp_path: Path):
    with kept_in(tmp_path):
        with Bar(total=3, initial=1, desc="clean", unit="shard") as bar:
            bar.update()
        found = json.loads((tmp_path / PROGRESS_FILE).read_text())
        assert {name: found[name] for name in ("what", "unit", "done", "total", "before")} == {
            "what": "clean",
            "unit": "shard",
            "done": 2,
            "total": 3,
            "before": 1,
        }
        assert 0 <= time.time() - found["started"] < 60 and found["time"] >= found["started"]
        (tmp_path / "gone").mkdir()
    assert not (tmp_path / PROGRESS_FILE).exists(), "it is over"
    with kept_in(tmp_path / "nowhere"):  # a folder that is gone ends no work
        Bar(total=1).update()
