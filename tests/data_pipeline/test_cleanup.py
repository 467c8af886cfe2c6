"""`summary.json`, and `build --clean`: what an output's earlier commands made goes, what anybody uses stays."""

import contextlib
import fcntl
import io
import json
import os
from pathlib import Path

import pytest
from corpus_files import english, write_jsonl
from filelock import FileLock

from core.files import exclusive
from data_pipeline import cleanup
from data_pipeline.__main__ import main
from data_pipeline.build import Command, run_stage
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.steps import StageKind, Step, Store, Summary, Workplace, make
from data_pipeline.sources.source import LocalSource


def step(stage: str, setting: int, *inputs: Step) -> Step:
    def work(directory: Path, place: Workplace) -> Summary:
        (directory / "documents-00000.parquet").write_text(f"{stage} {setting}")
        return {"documents": 1}

    return Step(
        StageKind(stage, 1, ()),
        "mine",
        work,
        parameters={"setting": setting},
        inputs={str(number): used for number, used in enumerate(inputs)},
    )


def run(output: Path, root: Path, wanted: Step) -> Path:
    """Make and deliver a step; returns its artifact's folder."""
    command = Command(output, LocalSource("s", paths=[]), LocalExecutor(1), Store(root))
    run_stage(command, wanted)
    return command.store.directory(wanted)


def old(root: Path, output: Path) -> set[Path]:
    return {folder.directory for folder in cleanup.old_artifacts(root, output)}


def test_what_earlier_settings_made_is_old_and_what_is_shared_is_not(tmp_path: Path) -> None:
    output, root = tmp_path / "out", tmp_path / "out" / "stages"
    first, fetched = step("b", 1, step("a", 1)), step("a", 1)
    gone = run(output, root, first)
    assert old(root, output) == set()
    kept = run(output, root, step("b", 2, fetched))
    assert old(root, output) == {gone}
    cleanup.clean(root, output, agreed=True)
    assert not gone.exists() and kept.exists() and (root / "a").exists()
    assert old(root, output) == set() and not (root / ".removed").exists()
    assert run(output, root, first) == gone and gone.exists()  # made again


def test_what_others_use_stays(tmp_path: Path) -> None:
    """On one folder of artifacts: another output, a workflow's link, what a workflow made of ours, its own."""
    root, ours, theirs = tmp_path / "runs", tmp_path / "ours", tmp_path / "theirs"
    shared, linked, used, plain = (run(ours, root, step("a", setting)) for setting in range(4))
    current = run(ours, root, step("a", 9))
    run(theirs, root, step("a", 0))
    (root / "latest").mkdir()
    (root / "latest" / "mine").symlink_to(os.path.relpath(linked, root / "latest"))
    store = Store(root)
    workflows = step("train", 1, step("a", 2))
    make(workflows, Workplace(store, LocalExecutor(1)))
    assert old(root, ours) == {plain}
    cleanup.clean(root, ours, agreed=True)
    assert all(path.exists() for path in (shared, linked, used, current, store.directory(workflows)))
    assert old(root, theirs) == set()
    for path in (theirs / "summary.json", *theirs.glob("*.parquet")):
        path.unlink()
    assert old(root, ours) == set()  # theirs is not finished
    theirs.rename(tmp_path / "gone")
    assert old(root, ours) == {shared}


def test_nothing_is_removed_while_something_is_made(tmp_path: Path) -> None:
    output, root = tmp_path / "out", tmp_path / "out" / "stages"
    gone = run(output, root, step("a", 1))
    run(output, root, step("a", 2))
    with contextlib.ExitStack() as held:
        held.enter_context(cleanup.in_use(root))
        with pytest.raises(ValueError, match="something is being made there, so nothing was removed"):
            cleanup.clean(root, output, agreed=True)
    with exclusive(root / "a" / "of-a-workflow"), pytest.raises(ValueError, match="nothing was removed"):
        cleanup.clean(root, output, agreed=True)
    assert gone.exists()
    cleanup.clean(root, output, agreed=True)
    assert not gone.exists()
    with FileLock(f"{gone}.lock").acquire(timeout=0), (root / ".in-use.lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # both were given back


def test_unfinished_work_of_earlier_settings_is_old(tmp_path: Path) -> None:
    output, root = tmp_path / "out", tmp_path / "out" / "stages"

    def killed(directory: Path, place: Workplace) -> Summary:
        (directory / "half").write_text("x")
        raise KeyboardInterrupt

    broken = Step(StageKind("a", 1, ()), "mine", killed, parameters={"setting": 1})
    with pytest.raises(KeyboardInterrupt):
        run(output, root, broken)
    run(output, root, step("a", 2))
    (root / "a" / "foreign-0123456789ab.partial").mkdir()
    partial = Path(f"{Store(root).artifact(broken).own}.partial")
    assert old(root, output) == {partial}
    (root / ".made.jsonl").write_text((root / ".made.jsonl").read_text() + '{"output": "..", "art')
    assert old(root, output) == {partial}
    cleanup.clean(root, output, agreed=True)
    assert not partial.exists() and (root / "a" / "foreign-0123456789ab.partial").exists()
    gone = run(output, root, step("a", 3))
    run(output, root, step("a", 2))
    assert old(root, output) == {gone}
    (output / "summary.json").write_text("{")  # nobody knows what is current
    assert old(root, output) == set()


def test_nobody_to_ask_is_an_error_that_removes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, root = tmp_path / "out", tmp_path / "out" / "stages"
    gone = run(output, root, step("a", 1))
    run(output, root, step("a", 2))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(ValueError, match=r"1 old folder.*say --yes"):
        cleanup.clean(root, output, agreed=False)
    assert f"{gone}: 0.0 MB" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, stays in (("n", True), ("", True), ("y", False)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        cleanup.clean(root, output, agreed=False)
        assert gone.exists() == stays


def test_build_names_its_stages_and_cleans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "in.jsonl", [english(seed) for seed in range(6)])
    write_jsonl(tmp_path / "lambada.jsonl", ["the old ferryman gave away a brass lantern on the quay"])
    common = ["build", "--input", str(tmp_path / "in.jsonl"), "--train-tokenizer", "gpt2:300", "--workers", "1",
              "--output", str(tmp_path / "out"), "--benchmark", f"lambada={tmp_path / 'lambada.jsonl'}"]  # fmt: skip
    assert main(common) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    stages = ["fetch", "clean", "decontaminate", "deduplicate", "tokenizer", "tokenize"]
    assert [stage["stage"] for stage in summary["stages"]] == stages
    for stage in summary["stages"]:
        manifest = json.loads((tmp_path / "out" / stage["directory"] / "manifest.json").read_text())
        assert (manifest["key"], manifest["summary"]) == (stage["key"], stage["counts"])
    assert summary["inputs"] == ["../in.jsonl"] and summary["benchmarks"] == {"lambada": "../lambada.jsonl"}
    markdown = (tmp_path / "out" / "summary.md").read_text()
    assert all(f"`{stage['directory']}`" in markdown for stage in summary["stages"])
    assert "documents in" in markdown
    capsys.readouterr()
    assert main([*common, "--minimum-tokens", "10", "--clean", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "5 removed"
    now = json.loads((tmp_path / "out" / "summary.json").read_text())
    left = sorted((tmp_path / "out" / "stages").glob("*/*/manifest.json"))
    assert {path.parent.name for path in left} == {Path(stage["directory"]).name for stage in now["stages"]}
    assert main([*common, "--minimum-tokens", "10", "--clean"]) == 0
    assert "nothing old of" in capsys.readouterr().out
