"""Killed at any moment, the same call ends with the same bytes; killed parents leave no workers behind."""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from corpus_files import contents, english, write_documents, write_jsonl

from core.errors import UserError
from data_pipeline.__main__ import main
from data_pipeline.cleaning import clean
from data_pipeline.deduplication import candidates, clusters, verification
from data_pipeline.deduplication.deduplication import deduplicate
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.settings import CleaningSettings, DeduplicationSettings

_PROGRAM = Path(__file__).with_name("killed_build.py")


def test_builds_killed_twenty_times_end_with_the_same_bytes(tmp_path: Path) -> None:
    """And every way through the pipeline is gone: what the program builds is in its summary."""
    arguments = [tmp_path, "--megabytes", 0.15, "--kills", 20, "--tokens", 400, "--longest", 0.6]
    finished = subprocess.run(
        [sys.executable, _PROGRAM, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(_PROGRAM.parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert json.loads(finished.stdout)["killed"] == 20
    funnel = json.loads((tmp_path / "calm" / "bert" / "funnel.json").read_text())
    cleaned = [counts for stage, counts in funnel.items() if stage.startswith("clean ")]
    assert sum(counts["changed"].get("pii.email", 0) for counts in cleaned) > 5
    assert sum(counts["dropped"].get("blocklist.domain", 0) for counts in cleaned) > 1
    assert funnel["decontaminate"]["cut"] > 1
    assert set(funnel["deduplicate"]["dropped"]) == {"exact_duplicate", "near_duplicate"}
    assert len(list((tmp_path / "calm" / "runs" / "fetch").glob("web-*/documents-*.parquet"))) > 4


def test_two_builds_at_once_of_one_output(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [english(seed) for seed in range(20)])
    command = [sys.executable, "-m", "data_pipeline", "build", "--input", str(tmp_path / "a.jsonl")]
    command += ["--train-tokenizer", "gpt2:400", "--workers", "1", "--output"]
    subprocess.run([*command, str(tmp_path / "calm")], check=True, capture_output=True, timeout=120)
    both = [
        subprocess.Popen(
            [*command, str(tmp_path / "both")], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert any("in use by process" in text or "there already" in text for text in said)
    assert contents(tmp_path / "both") == contents(tmp_path / "calm")


def test_finished_shards_are_kept_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shards = write_documents(tmp_path / "in", [english(seed) for seed in range(8)], shards=4)

    def call() -> dict[str, object]:
        return clean(
            shards, tmp_path / "out", CleaningSettings(), length_tokenizer=None, executor=LocalExecutor(1)
        )

    whole = call()
    for name in ("stats/documents-00002.json", "stats/documents-00003.json", "documents-00003.parquet"):
        (tmp_path / "out" / name).unlink()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}
    with caplog.at_level(logging.INFO, "data_pipeline"):
        assert call() == whole
    assert "clean: resuming at shard 2 of 4 (2 finished before)" in caplog.text
    redone = {path.name for path, before in times.items() if path.stat().st_mtime_ns != before}
    assert redone == {"documents-00002.parquet"}


def test_a_full_disk_is_an_error_with_a_name_and_can_be_resumed(tmp_path: Path) -> None:
    shards = write_documents(tmp_path / "in", [english(seed) for seed in range(200)], shards=2)
    settings = CleaningSettings()
    executor = LocalExecutor(1)
    clean(shards, tmp_path / "calm", settings, length_tokenizer=None, executor=executor)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=str(tmp_path / "out")):
            clean(shards, tmp_path / "out", settings, length_tokenizer=None, executor=executor)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    clean(shards, tmp_path / "out", settings, length_tokenizer=None, executor=executor)
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


@pytest.mark.parametrize("limit", [300, 3_000, 8_000, 20_000, 30_000])
def test_a_build_on_a_full_disk_names_the_place_and_goes_on_when_there_is_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: int
) -> None:
    """The limits stop it in different stages: no file may become larger."""
    write_jsonl(tmp_path / "a.jsonl", [english(seed % 90) for seed in range(100)])
    command = [
        "build",
        "--input",
        str(tmp_path / "a.jsonl"),
        "--train-tokenizer",
        "bert:500",
        "--workers",
        "1",
    ]
    assert main([*command, "--output", str(tmp_path / "calm")]) == 0
    capsys.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        assert main([*command, "--output", str(tmp_path / "out")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ")
    assert str(tmp_path / "out") in message
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


_STEPS = (
    "signatures",
    "copies",
    "candidates",
    "likely",
    "texts",
    "comparison",
    "chains",
    "ids",
    "documents",
)


@pytest.mark.parametrize("stopped_in", _STEPS)
def test_deduplication_resumes_in_its_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, stopped_in: str
) -> None:
    texts = [english(seed % 10) for seed in range(20)]
    for start in (3, 7):  # each is like the one before, and less and less like the first
        for step in range(1, 9):
            words = texts[-1].split(" ") if step > 1 else texts[start].split(" ")
            words[step * 20 : step * 20 + 14] = ["zorb"] * 14
            texts.append(" ".join(words))
    for module, name, value in (
        (candidates, "_TASK_HASHES", 18),
        (candidates, "_LEAST_MEMBERS", 8),
        (verification, "_LEAST_CHAINED", 1),
        (clusters, "_LEAST_IDS", 4),
    ):
        monkeypatch.setattr(module, name, value)
    shards = write_documents(tmp_path / "in", texts, shards=4)
    settings = DeduplicationSettings(permutations=64, bands=8)
    deduplicate(shards, tmp_path / "calm", settings, executor=LocalExecutor(1))

    again = _STEPS.index("comparison")  # in turns: of three parts of the bands, and of all
    calls = (*_STEPS[:again], *["comparison"] * 3, *_STEPS[again:])

    class Stopped(LocalExecutor):
        """Stops at the first result of one step."""

        calls = 0

        def map(self, function, items):  # type: ignore[no-untyped-def]
            self.calls += 1
            for result in super().map(function, items):
                yield result
                if calls[self.calls - 1] == stopped_in:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deduplicate(shards, tmp_path / "out", settings, executor=Stopped(1))
    with caplog.at_level(logging.INFO, "data_pipeline"):
        deduplicate(shards, tmp_path / "out", settings, executor=LocalExecutor(1))
    (message,) = caplog.messages
    assert message.startswith(f"deduplicate: {stopped_in}: resuming at shard 1 of ")
    assert message.endswith("(1 finished before)")
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


_PARENT = """
import os, sys, time
from pathlib import Path
from data_pipeline.engine.executors import LocalExecutor

def work(directory):
    (Path(directory) / str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    list(LocalExecutor(2).map(work, [sys.argv[1]] * 2))
"""


def test_killed_parent_takes_its_workers_along(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(_PARENT)
    started = tmp_path / "started"
    started.mkdir()
    parent = subprocess.Popen([sys.executable, program, started])
    try:
        deadline = time.monotonic() + 60
        while len(list(started.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = [int(path.name) for path in started.iterdir()]
    finally:
        parent.kill()
        parent.wait()
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(worker) for worker in workers)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def _die(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(item: int) -> None:
    raise ValueError(f"item {item} is bad")


def test_killed_and_failing_workers_are_reported() -> None:
    with pytest.raises(UserError, match=r"a worker process was killed.*the same command goes on"):
        list(LocalExecutor(2).map(_die, [1, 2]))
    with pytest.raises(ValueError, match="item 1 is bad"):
        list(LocalExecutor(2).map(_fail, [1, 2]))


def _process(item: int) -> int:
    return os.getpid()


def test_processes_are_kept_from_one_map_to_the_next_where_that_is_asked() -> None:
    executor = LocalExecutor(2)
    with executor.kept():
        first = {process for _ in range(3) for process in executor.map(_process, range(8))}
        assert len(first) <= 2
        with pytest.raises(ValueError, match="item 1 is bad"):
            list(executor.map(_fail, [1, 2]))
        again = {*executor.map(_process, range(8))}
    assert os.getpid() not in first | again
    deadline = time.monotonic() + 10
    while any(map(is_running, first | again)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, first | again))


def test_no_workers_make_no_executor() -> None:
    with pytest.raises(ValueError, match="workers = 0"):
        LocalExecutor(0)


def test_counts_of_a_killed_shard_are_not_lost(tmp_path: Path) -> None:
    """Statistics are the last file of a shard: with them the shard is there, without them it is made again."""
    shards = write_documents(tmp_path / "in", [english(1), "short"])
    clean(shards, tmp_path / "out", CleaningSettings(), length_tokenizer=None, executor=LocalExecutor(1))
    counts = json.loads((tmp_path / "out" / "stats" / "documents-00000.json").read_text())
    assert counts["dropped"] == {"too_short": 1}
