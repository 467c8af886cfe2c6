"""`run.json`: what every segment of a stage's work was done on."""

import json
import logging
import os
from pathlib import Path

import pytest

from core.errors import StoppedError, UserError
from core.files import read_json, write_json
from data_pipeline.engine import run_record
from data_pipeline.engine.run_record import MACHINE_FILE, RunRecord, this_machine

ZEN3 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu sse4_2 fma avx f16c avx2 bmi2

processor\t: 1
flags\t\t: avx512f avx512bw avx512dq avx512vl
"""
ZEN4 = ZEN3.replace("avx2 bmi2", "avx2 bmi2 avx512f avx512dq avx512bw avx512vl").replace(
    ": 1\nmodel name", ": 17\nmodel name"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd crc32\n"


@pytest.mark.parametrize(
    "text, expected",
    [
        (ZEN3, ("AMD EPYC (cpu family 25, model 1, stepping 1)", "AVX2")),
        (ZEN4, ("AMD EPYC (cpu family 25, model 17, stepping 1)", "AVX512")),
        (ZEN3.replace("fma ", ""), ("AMD EPYC (cpu family 25, model 1, stepping 1)", "AVX")),
        (ZEN4.replace(" avx512vl", ""), ("AMD EPYC (cpu family 25, model 17, stepping 1)", "AVX2")),
        (ARM, (None, "NEON")),
        (None, (None, "default")),
    ],
)
def test_processors_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: tuple[str | None, str]
) -> None:
    monkeypatch.setattr(run_record, "_PROCESSORS", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    found = this_machine()
    assert found["instruction_set"] == expected[1]
    assert found["processor"] == expected[0] if expected[0] else found["processor"]
    assert found["threads"] >= 1 and found["device"] == "cpu"


def test_a_segment_says_what_its_ranks_computed_on(tmp_path: Path) -> None:
    """Also one that was killed: the next one writes it down."""
    RunRecord(tmp_path, {"tensor_parallel": 2}, ["numpy"])
    write_json(tmp_path / MACHINE_FILE, {"device": "NVIDIA H100", "threads": 1})
    record = RunRecord(tmp_path, {"tensor_parallel": 2}, ["numpy"])
    assert not (tmp_path / MACHINE_FILE).exists(), "it was the killed one's"
    first, second = record.finished()["segments"]
    assert first["machine"]["device"] == "NVIDIA H100"
    assert first["machine"]["processor"] == this_machine()["processor"]
    assert second["machine"] == this_machine()
    assert list(first["libraries"]) == ["numpy"]
    assert read_json(tmp_path / "run.json")["segments"][0]["ended"] == "killed"


def test_going_on_on_another_kind_of_processor_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_record, "_PROCESSORS", tmp_path / "cpuinfo")
    with caplog.at_level(logging.WARNING, "data_pipeline"):
        for text in (ZEN4, ZEN4, ZEN3):
            (tmp_path / "cpuinfo").write_text(text)
            assert caplog.messages == []
            RunRecord(tmp_path, {"processes": 1})
    (message,) = caplog.messages
    assert "model 17, stepping 1) (AVX512) and goes on on AMD EPYC" in message
    assert "the same to rounding, not byte for byte" in message


def test_a_record_of_before_machines_were_told_is_gone_on_with(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"segments": [{"layout": {"processes": 1}, "ended": "killed"}]})
    assert len(RunRecord(tmp_path, {"processes": 1}).finished()["segments"]) == 2


@pytest.mark.parametrize(
    "error, ended",
    [
        (KeyboardInterrupt(), "stopped"),
        (StoppedError("training stopped at step 3"), "stopped"),
        (UserError("no such column\nand more"), "failed"),
        (KeyError("frog"), "failed"),
    ],
)
def test_each_segment_says_how_it_ended(tmp_path: Path, error: BaseException, ended: str) -> None:
    record = RunRecord(tmp_path, {"processes": 1})
    with pytest.raises(type(error)), record.attempt():
        raise error
    (segment,) = read_json(tmp_path / "run.json")["segments"]
    assert segment["ended"] == ended
    assert segment["error"] == (str(error).splitlines() or ["interrupted"])[0]
    assert segment["seconds"] >= 0
    assert {"host", "process", "git_revision", "machine", "layout"} <= segment.keys()
    again = RunRecord(tmp_path, {"processes": 1})
    with again.attempt():
        pass
    assert [segment["ended"] for segment in again.finished()["segments"]] == [ended, "finished"]


def test_how_a_segment_ended_overwrites_nobody_elses(tmp_path: Path) -> None:
    """The lock is not held while ranks end: another process may have gone on, or the folder may be gone."""
    first = RunRecord(tmp_path, {"processes": 1})
    write_json(
        tmp_path / "run.json",
        {"segments": [*read_json(tmp_path / "run.json")["segments"], {"host": "other", "process": 1, "started": "now"}]},
    )  # fmt: skip
    with pytest.raises(UserError), first.attempt():
        raise UserError("broken")
    found = read_json(tmp_path / "run.json")["segments"]
    assert [segment.get("ended") for segment in found] == ["failed", None]
    (tmp_path / "run.json").unlink()
    with pytest.raises(UserError), first.attempt():
        raise UserError("broken")
    assert not (tmp_path / "run.json").exists()


def test_an_attempt_beside_another_command_was_not_killed(tmp_path: Path) -> None:
    for _ in range(2):
        RunRecord(tmp_path, {"processes": 1})  # of this process, and said no end
    written = json.loads((tmp_path / "run.json").read_text())
    written["segments"][1]["process"] = os.getppid()  # of a process that lives
    (tmp_path / "run.json").write_text(json.dumps(written))
    record = RunRecord(tmp_path, {"processes": 1}).finished()
    assert [segment["ended"] for segment in record["segments"]] == ["killed", "left", "finished"]
    assert record["resumed"] == 1
