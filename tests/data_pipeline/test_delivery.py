"""What a command gives its output folder: all of one artifact, whoever else writes there, and never into an artifact."""

import dataclasses
import json
import logging
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from core.files import atomic_write, write_json
from data_pipeline.build import Command, _share, run_stage
from data_pipeline.engine.artifacts import content_files
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.steps import StageKind, Step, Store, Summary, Workplace
from data_pipeline.sources.source import LocalSource

NAMES = ("documents-00000.parquet", "hits.jsonl", "dropped/documents-00000.jsonl")


def step(setting: int, names: tuple[str, ...] = NAMES) -> Step:
    """A stage whose files all hold its setting."""

    def work(directory: Path, place: Workplace) -> Summary:
        for name in names:
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(str(setting))
        return {"documents": 1, "setting": setting}

    return Step(StageKind("stage", 1, ()), "mine", work, parameters={"setting": setting})


def command(output: Path) -> Command:
    source = LocalSource("s", paths=[])
    return Command(output, source, LocalExecutor(1), Store(output / "stages"))


def delivered(output: Path) -> dict[str, str]:
    return {name: (output / name).read_text() for name in NAMES if (output / name).exists()}


def test_two_at_once_with_other_settings_do_not_mix(tmp_path: Path) -> None:
    def deliver(setting: int) -> None:
        for _ in range(20):
            run_stage(command(tmp_path), step(setting))

    threads = [threading.Thread(target=deliver, args=(setting,)) for setting in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = delivered(tmp_path)
    assert set(found) == set(NAMES) and len(set(found.values())) == 1
    summary = json.loads((tmp_path / "funnel.json").read_text())["stage"]
    assert str(summary["setting"]) == found["hits.jsonl"]
    for setting in (1, 2):
        folder = Store(tmp_path / "stages").directory(step(setting))
        assert {(folder / name).read_text() for name in NAMES} == {str(setting)}
    assert not [path for path in tmp_path.rglob(".*") if path.suffix in (".tmp", ".link")]


def test_a_copy_is_never_written_through_a_link_into_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command linked its artifact's file to the temporary name between our two steps."""
    for name in ("ours", "theirs"):
        (tmp_path / name).write_text(name)
    link = os.link

    def too_late(source: Path, target: Path) -> None:
        link(tmp_path / "theirs", target)
        raise FileExistsError

    monkeypatch.setattr(os, "link", too_late)
    _share(tmp_path / "ours", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "ours"
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_writers_of_one_file_do_not_write_into_each_others(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as first:
        first.write_text("first, long")
        with atomic_write(tmp_path / "a") as second:
            second.write_text("second")
        assert (tmp_path / "a").read_text() == "second"
        assert first.read_text() == "first, long"
    assert (tmp_path / "a").read_text() == "first, long"
    assert os.listdir(tmp_path) == ["a"]


def test_what_an_earlier_command_left_goes_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_stage(command(tmp_path), step(1))
    (tmp_path / "mine.txt").write_text("the user's")
    with caplog.at_level(logging.WARNING, "data_pipeline"):
        run_stage(command(tmp_path), step(1))
        assert caplog.messages == []
        run_stage(command(tmp_path), step(2, NAMES[:1]))
    assert f"{tmp_path}: held what other settings give, which is replaced" in caplog.text
    assert delivered(tmp_path) == {NAMES[0]: "2"}
    assert not (tmp_path / "dropped").exists()
    assert (tmp_path / "mine.txt").exists()


def test_what_a_killed_writer_left_is_no_part_of_an_artifact(tmp_path: Path) -> None:
    store, wanted = Store(tmp_path), step(1)
    partial = store.start(wanted)
    (partial / ".hits.jsonl.0123abcd.tmp").write_text("half")
    store.start(wanted)
    assert not list(partial.glob(".*.tmp"))


def test_a_manifests_files_stand_folder_by_folder(tmp_path: Path) -> None:
    """A folder's files come before what begins like its name and goes on, though "-" is less than "/"."""
    for name in ("a/b", "a/.hidden", "a-b", "0", ".partial", "logs/x", "b/logs/x", "run.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    assert content_files(tmp_path) == ["0", "a/b", "a-b", "b/logs/x"]


def test_a_long_manifest_is_never_held_as_text(tmp_path: Path) -> None:
    entries = {
        f"stats/documents-{number:05d}.json": {"bytes": 1, "sha256": "0" * 64} for number in range(5000)
    }
    path = tmp_path / "manifest.json"
    tracemalloc.start()
    write_json(path, {"outputs": entries})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    expected = json.dumps({"outputs": entries}, indent=2, sort_keys=True) + "\n"
    assert path.read_text() == expected
    assert peak < len(expected), "as one text it took five times as much"


def test_two_at_once_of_one_key_under_two_names_both_finish(tmp_path: Path) -> None:
    """As two recipes that hold the same corpus, on one folder of artifacts."""
    store = Store(tmp_path)
    first, second = (dataclasses.replace(step(1), name=name) for name in ("first", "second"))
    partials = {one.name: store.start(one) for one in (second, first)}
    for one in (first, second):
        assert store.artifact(one).partial == partials[one.name]
        (partials[one.name] / "result").write_text("same")
        store.artifact(one).finish({}, {"segments": []})
    for one in (first, second):
        assert Store(tmp_path).is_complete(one)
        assert (store.directory(one) / "result").read_text() == "same"
