"""`status`: what runs, how far, and who, by locks and files; while other processes are at work."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from finished import TINY, begin, finish_all, stages_of

from core.errors import UserError
from core.files import exclusive, write_json
from data_pipeline.engine.inventory import is_locked
from workflows.__main__ import build_parser
from workflows.progress import progress_of
from workflows.status import as_table, as_text, rows

MODEL, OTHER = "pretrain gpt2-tiny", "pretrain bert-tiny"


def looked(runs: Path, *words: str) -> tuple[str, dict[str, dict]]:
    """The text, and the rows by stage's name."""
    given = build_parser().parse_args(["status", "--runs", str(runs), *words])
    found = list(rows(given))
    return as_text(found), {row["artifact"].rsplit("-", 1)[0]: row for row in as_table(found)["stages"]}


def test_running_killed_stopped_and_done(tmp_path: Path) -> None:
    by_label = {stage.label(): stage for stage in stages_of(TINY, tmp_path)}
    running, killed, shards = (begin(by_label[label]) for label in (MODEL, OTHER, "clean books"))
    for partial in (running, killed):
        write_json(
            partial / "run.json", {"segments": [{"started": "2026-01-02T03:04:05+00:00", "ended": "killed"}]}
        )
        write_json(partial / "asked.json", {"training": {"steps": 60}})
        (partial / "metrics.jsonl").write_text('{"step": 14}\n{"step": 15}\n{"st')
        (partial / "logs").mkdir()
        (partial / "logs" / "throughput.jsonl").write_text('{"step": 15, "step_seconds": 0.25}\n')
    (killed / "state.json").write_text('{"status": "stopped", "step": 15}')
    now = {
        "what": "clean",
        "unit": "shard",
        "done": 37,
        "total": 120,
        "before": 7,
        "started": 100.0,
        "time": 160.0,
    }
    (shards / ".progress.json").write_text(json.dumps(now))
    with exclusive(by_label[MODEL].artifact.own), exclusive(by_label["clean books"].artifact.own):
        text, found = looked(tmp_path)
        of_recipe = looked(tmp_path, "--recipe", str(TINY))[1]
    line = next(line for line in text.splitlines() if line.startswith("pretrain/gpt2"))
    assert "running  15/60 steps, 25 %  4 steps/s, 11.2 s left" in line  # 45 steps of 0.25 s
    assert f"process {os.getpid()} on {socket.gethostname()}" in line
    assert found["pretrain/bert-tiny"]["state"] == "stopped" and "holder" in found["pretrain/bert-tiny"]
    books = found["clean/books"]
    assert (books["state"], books["progress"]["done"], books["progress"]["total"]) == ("running", 37, 120)
    assert books["progress"]["per_second"] == pytest.approx(0.5)  # 30 shards in 60 seconds
    assert books["progress"]["seconds_left"] == pytest.approx(166.0)
    assert text.splitlines()[-1] == "2 running, 1 stopped"
    assert of_recipe["pretrain/gpt2-tiny"]["state"] == "running"
    assert of_recipe["deduplicate"]["state"] == "waiting" if "deduplicate" in of_recipe else True
    assert not is_locked(by_label[MODEL].artifact.own)
    assert looked(tmp_path)[1]["pretrain/gpt2-tiny"]["state"] == "killed"
    finish_all(TINY, tmp_path)
    text, found = looked(tmp_path, "--recipe", str(TINY))
    assert {row["state"] for row in found.values()} == {"done"} and text.endswith(f"{len(found)} done")


def test_looking_is_in_nobodys_way(tmp_path: Path) -> None:
    """A process that takes the lock while another looks at it gets it; one that waits for it is told of by its holder."""
    own = tmp_path / "clean" / "mine-0123456789ab"
    program = f"""
from pathlib import Path
from core.files import exclusive
for _ in range(200):
    with exclusive(Path({str(own)!r}), waiting=print):
        pass
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        is_locked(own)
        time.sleep(0.001)
    assert process.stdout is not None and process.stdout.read() == ""
    assert process.returncode == 0 and not is_locked(own)


def test_what_files_say_is_read_with_care(tmp_path: Path) -> None:
    assert progress_of(tmp_path) is None
    (tmp_path / ".progress.json").write_text('{"done": 1')
    assert progress_of(tmp_path) is None
    (tmp_path / ".progress.json").write_text('{"done": 1}')
    assert progress_of(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "state.json").write_text("[]")
    assert progress_of(tmp_path).done == 0  # type: ignore[union-attr]
    assert progress_of(tmp_path).seconds_left is None  # type: ignore[union-attr]


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; nothing was run there"):
        looked(tmp_path / "runs")
    assert looked(tmp_path)[0] == "nothing was run here"
