"""The benchmarks' harness: turns, ratios of each turn, processes of their own, JSON; and one tiny benchmark."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import harness, memory

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Sizes(harness.Settings):
    megabytes: int = 5
    layers: int | None = None


def test_sides_take_turns_and_ratios_are_of_each_turn(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []
    speeds = {"ours": iter([10.0, 20.0, 60.0]), "theirs": iter([5.0, 4.0, 20.0])}

    def measure(side: str) -> harness.Measurement:
        calls.append(side)
        extra = {"wait": 1.0} if side == "ours" else {}
        return {"MB/s": next(speeds[side]), **extra}

    report = harness.Report("speed", Sizes())
    sides = {side: lambda side=side: measure(side) for side in speeds}
    report.compare(sides, 3, ["MB/s"], {"hidden": 64})
    assert calls == ["ours", "theirs"] * 3
    ours, theirs = report.content["rows"]
    assert (ours["hidden"], ours["side"], ours["MB/s: first to it"]) == (64, "ours", None)
    assert theirs["MB/s"] == {"median": 5.0, "least": 4.0, "most": 20.0, "turns": [5.0, 4.0, 20.0]}
    assert theirs["MB/s: first to it"] == {"median": 3.0, "least": 2.0, "most": 5.0, "turns": [2.0, 5.0, 3.0]}
    assert theirs["wait"] is None
    lines = capsys.readouterr().out.splitlines()
    assert "| hidden | side | MB/s | MB/s: first to it | wait |" in lines
    assert lines[-1] == "| 64 | theirs | 5.00 (4.00–20.00) | 3.00 (2.00–5.00) | – |"


@pytest.mark.parametrize(
    ("values", "text"),
    [([1234.4], "1,234"), ([12.34, 11.0, 13.06], "12.3 (11.0–13.1)"), ([0.123, 0.456], "0.29 (0.12–0.46)")],
)
def test_a_spread_shows_three_figures(values: list[float], text: str) -> None:
    assert str(harness.Spread.of(values)) == text


def test_numbers_below_one_are_refused_all_at_once() -> None:
    assert Sizes().errors("") == []
    problems = Sizes(turns=0, megabytes=-1).errors("")
    assert [problem.split(":")[0] for problem in problems] == [".turns", ".megabytes"]


def test_a_function_runs_in_a_process_of_its_own() -> None:
    assert harness.in_fresh_process(os.getpid) != os.getpid()
    assert harness.in_fresh_process(os.getenv, threads=3, key="OMP_NUM_THREADS") == "3"
    with pytest.raises(RuntimeError, match=r"statistics:mean failed(.|\n)*StatisticsError"):
        harness.in_fresh_process(statistics.mean, data=[])


def test_a_benchmark_prints_and_writes_the_same_figures(tmp_path: Path) -> None:
    sizes = ["--documents", "2000", "--reads", "10", "--blended", "1000", "--turns", "2"]
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "sample-index",
        *sizes,
        "--json",
        str(tmp_path / "found.json"),
    ]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["benchmark"] == "sample-index"
    assert found["settings"]["documents"] == 2000
    assert {"processor", "cores", "python", "numpy"} <= set(found["machine"])
    (blend,) = [row for row in found["rows"] if "blend" in row["what"] and row["side"] == "ours"]
    assert len(blend["a second"]["turns"]) == 2
    assert f"{blend['a second']['median']:,.0f}" in printed


def test_the_bounds_of_memory_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs" / "data-pipeline.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if "2 kB a shard" in line
    ]
    calling = f"{memory._CALLING_MEGABYTES} + {memory._SHARD_BYTES // 1000} kB a shard"
    expected = []
    for stage, bound in memory.BOUNDS.items():
        more = f", {memory._DOCUMENT_BYTES} bytes a document, {bound.clustered} bytes a document in a cluster"
        of_caller = calling + more * (bound.clustered > 0)
        expected.append([stage, str(bound.worker), str(bound.times_longest), of_caller])
    assert rows == expected
