"""Keys: what they hold, and that nothing stale is found under one, nor made under one."""

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import registry
from core.errors import UserError
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.engine import hashes
from data_pipeline.engine.artifacts import significant_version
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.hashes import ChangedFileError, HashCache, hash_file, hash_path
from data_pipeline.engine.steps import StageKind, Step, Store, Summary, Workplace, make
from data_pipeline.settings import (
    BenchmarkSettings,
    DecontaminationSettings,
    SampleSettings,
    TokenizerSettings,
)
from data_pipeline.sources.source import LocalSource
from data_pipeline.step_inputs import Documents, tokenizer_files
from data_pipeline.steps import benchmark as benchmark_step
from data_pipeline.steps import decontaminate, fetch, tokenizer, write_sample

COPY = StageKind("copy", 1, ())


def copying(source: Path, before: Callable[[], object] = lambda: None) -> Step:
    """A step that copies a file from outside, after `before`."""

    def work(directory: Path, place: Workplace) -> Summary:
        before()
        if not (directory / "copy").exists():
            shutil.copyfile(source, directory / "copy")
        return {}

    return Step(COPY, "mine", work, files={"file": source})


def make_in(root: Path, step: Step) -> Path:
    store = Store(root)
    make(step, Workplace(store, LocalExecutor(1)))
    return store.directory(step)


@pytest.fixture
def old_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file was written long ago, so that hashes are kept."""
    monkeypatch.setattr(hashes, "_SETTLED_SECONDS", -1e9)


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_of_the_same_size_and_date_is_read_anew(tmp_path: Path, old_clock: None, folder: bool) -> None:
    """As `cp -p` and `touch -r` leave it, in place or as another inode."""
    path = tmp_path / "in" / "data"
    path.parent.mkdir()
    given = path.parent if folder else path
    found = set()
    for content, replaced in (("one", False), ("two", False), ("six", True)):
        if replaced:
            path.unlink()
        path.write_text(content)
        os.utime(path, ns=(10**18, 10**18))
        found.add(hash_path(given, HashCache(tmp_path / "cache")))
    assert len(found) == 3


def test_what_changed_just_now_is_not_kept(tmp_path: Path) -> None:
    """Two changes within one tick of a file system's clock leave the same times."""
    (tmp_path / "a").write_text("one")
    cache = HashCache(tmp_path / "cache")
    hash_file(tmp_path / "a", cache)
    assert not cache.path.exists()
    os.utime(tmp_path / "a", (0, 0))
    hash_file(tmp_path / "a", cache)
    assert not cache.path.exists(), "a date can be set; when the inode changed cannot"


def test_the_cache_grows_by_a_line_a_file(tmp_path: Path, old_clock: None) -> None:
    """Linear: 300 files write some 100 bytes each, not all entries each."""
    for number in range(300):
        (tmp_path / f"{number}").write_text(str(number))
    cache = HashCache(tmp_path / "cache")
    sizes = []
    for number in range(300):
        hash_file(tmp_path / f"{number}", cache)
        sizes.append(cache.path.stat().st_size)
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    assert max(steps) < 500
    inode = cache.path.stat().st_ino
    again = HashCache(cache.path)
    assert all(again.get(tmp_path / f"{n}", hashes.identity(tmp_path / f"{n}")) for n in range(300))
    assert cache.path.stat().st_ino == inode, "it was never written anew"


def test_a_damaged_cache_costs_only_time(tmp_path: Path, old_clock: None) -> None:
    (tmp_path / "a").write_text("one")
    right = hash_file(tmp_path / "a", HashCache(tmp_path / "cache"))
    line = (tmp_path / "cache").read_bytes()
    for damaged in (line[:-20] + line, b"\xff\n3\n{}\n" + line, line * 3000):
        (tmp_path / "cache").write_bytes(damaged)
        assert hash_file(tmp_path / "a", HashCache(tmp_path / "cache")) == right
    assert (tmp_path / "cache").read_bytes() == line, "of many outdated lines the last is kept"


def test_a_folder_holds_what_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "data").write_text("one")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "near").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "in")
    before = hash_path(tmp_path / "in")
    (tmp_path / "far" / "data").write_text("two")
    assert hash_path(tmp_path / "in") != before


def test_a_file_that_changes_after_its_key_was_taken_is_not_read(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_text("one")
    step, store = copying(source), Store(tmp_path / "runs")
    key = store.artifact(step).key
    source.write_text("two")
    with pytest.raises(ChangedFileError, match=f"{source}: was changed since this command began"):
        make(step, Workplace(store, LocalExecutor(1)))
    directory = make_in(tmp_path / "runs", step)
    assert not directory.name.endswith(key[:12])
    assert (directory / "copy").read_text() == "two"


def test_a_file_that_changes_while_it_is_read_leaves_nothing_behind(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_text("one")
    step = copying(source, before=lambda: source.write_text("two"))
    with pytest.raises(ChangedFileError, match=f"{source}: was changed"):
        make_in(tmp_path / "runs", step)
    source.write_text("one")
    assert not list((tmp_path / "runs" / "copy").glob("mine-*[0-9a-f]"))
    assert not list((tmp_path / "runs" / "copy").glob("*.partial")), (
        "what was made of the other content is gone"
    )
    assert (make_in(tmp_path / "runs", copying(source)) / "copy").read_text() == "one"


def test_a_killed_attempt_on_another_content_is_not_gone_on_with(tmp_path: Path) -> None:
    """Changed while it was read, killed, and changed back: the key is the same, the shards are not."""
    source = tmp_path / "data"
    source.write_text("one")

    def killed(directory: Path, place: Workplace) -> Summary:
        source.write_text("two")
        shutil.copyfile(source, directory / "copy")
        raise KeyboardInterrupt

    step = dataclasses.replace(copying(source), work=killed)
    with pytest.raises(KeyboardInterrupt):
        make_in(tmp_path / "runs", step)
    assert [path.read_text() for path in (tmp_path / "runs").rglob("*.partial/copy")] == ["two"]
    source.write_text("one")
    assert (make_in(tmp_path / "runs", copying(source)) / "copy").read_text() == "one"


def test_a_killed_attempt_on_the_same_files_is_gone_on_with(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_text("one")
    store, step = Store(tmp_path / "runs"), copying(source)
    partial = store.start(step)
    (partial / "copy").write_text("made before")
    assert (make_in(tmp_path / "runs", copying(source)) / "copy").read_text() == "made before"


def test_a_file_that_comes_later_is_not_read_under_the_key_of_those_before(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    source = LocalSource("s", paths=[str(tmp_path / "*.jsonl")])
    step, store = fetch(source, None, None), Store(tmp_path / "runs")
    assert len(store.artifact(step).files) == 2
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "c"}) + "\n")
    make(step, Workplace(store, LocalExecutor(1)))
    assert store.summary(step)["documents"] == 2
    again = fetch(LocalSource("s", paths=source.paths), None, None)
    assert make_in(tmp_path / "runs", again) != store.directory(step)


def test_what_was_pinned_must_be_what_was_fetched(tmp_path: Path) -> None:
    step = Step(COPY, "mine", lambda directory, place: {"pins": {"x": 2}}, pins=lambda folder: {"x": 1})
    with pytest.raises(UserError, match=r"fetched \{'x': 2\}, but its key was taken for \{'x': 1\}"):
        make_in(tmp_path / "runs", step)
    assert not list((tmp_path / "runs" / "copy").glob("*.partial"))


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ("vocab.json", ("vocab.json", "merges.txt")),
        ("merges.txt", ("vocab.json", "merges.txt")),
        ("gpt2-vocab.json", ("gpt2-vocab.json", "gpt2-merges.txt")),
        ("vocab.bpe", ("encoder.json", "vocab.bpe")),
        ("vocab.txt", ("vocab.txt",)),
        ("tokenizer.json", ("tokenizer.json",)),
        ("", ("vocab.json", "merges.txt")),
    ],
)
def test_all_files_of_a_tokenizer_are_in_keys(tmp_path: Path, given: str, own: tuple[str, ...]) -> None:
    """A change of any of them, and one that comes or goes, makes another key; nothing else does."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for name in own:
        (folder / name).write_text("{}")

    def key() -> str:
        settings = TokenizerSettings(path=str(folder / given))
        return Store(tmp_path / "runs").artifact(tokenizer("t", "f", "gpt2", settings, Documents())).key

    first = key()
    found = [first]
    for name in own:
        (folder / name).write_text('{"a": 1}')
        found.append(key())
        (folder / name).write_text("{}")
    prefix = "gpt2-" if given.startswith("gpt2") else ""
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        for content in ("{}", '{"a": 1}'):
            (folder / f"{prefix}{name}").write_text(content)
            found.append(key())
        (folder / f"{prefix}{name}").unlink()
        assert key() == first
    assert len(set(found)) == 1 + len(own) + 2 * 3
    (folder / "corpus.bin").write_text("x")
    (folder / "stages").mkdir()
    assert key() == first


def test_a_file_beside_with_the_vocabularys_prefix_is_the_one_that_is_read(tmp_path: Path) -> None:
    for name in ("bert-vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    files = tokenizer_files("t", tmp_path / "bert-vocab.txt")
    assert [path.name for path in files.values()] == ["bert-vocab.txt", "tokenizer_config.json"]
    (tmp_path / "bert-tokenizer_config.json").write_text("{}")
    files = tokenizer_files("t", tmp_path / "bert-vocab.txt")
    assert [path.name for path in files.values()] == ["bert-vocab.txt", "bert-tokenizer_config.json"]
    assert tokenizer_files("t", None) == {}


def test_a_users_benchmark_is_in_the_keys_of_what_its_code_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "race").mkdir()
    settings = BenchmarkSettings(source="huggingface", path=str(tmp_path / "race"))

    def keys() -> set[str]:
        file = benchmark_step("race", settings, None, None)
        assert file.step is not None
        given = {"race": benchmark_step("race", BenchmarkSettings(path=str(tmp_path / "race")), None, None)}
        steps = [
            file.step,
            decontaminate("d", Documents(), given, DecontaminationSettings()),
            write_sample("s", 1, SampleSettings(documents=100), {}),
        ]
        return {Store(tmp_path / "runs").artifact(step).key for step in steps}

    before = keys()
    monkeypatch.setattr(BENCHMARKS, "plugin", lambda name: "0" * 64 if name == "race" else "")
    assert len(before | keys()) == 6


@pytest.mark.parametrize(
    "version, counts",
    [
        ("2.13.0+cpu", "2.13"),
        ("2.13.0", "2.13"),
        ("2.13.1+cu126", "2.13"),
        ("22.0.0", "22.0"),
        ("0.42", "0.42"),
        ("7", "7"),
        ("6.3.1.post2", "6.3"),
        ("1!2.3.4", "1!2.3"),
        ("2.14.0.dev20261101+cpu", "2.14.0.dev20261101"),
        ("2.14.0rc1", "2.14.0rc1"),
        ("5.0a2", "5.0a2"),
        ("unknown", "unknown"),
    ],
)
def test_a_patch_or_a_build_changes_no_key(version: str, counts: str) -> None:
    assert significant_version(version) == counts


def test_a_plugin_that_was_edited_since_is_not_run_under_its_key(tmp_path: Path) -> None:
    """Workers and ranks import it anew."""
    (tmp_path / "edited_plugin.py").write_text("import edited_part\n")
    (tmp_path / "edited_part.py").write_text("A = 1\n")
    registry.load_plugin(str(tmp_path / "edited_plugin.py"))
    step = Step(COPY, "mine", lambda directory, place: {})
    make_in(tmp_path / "runs", step)
    (tmp_path / "edited_part.py").write_text("A = 2\n")
    with pytest.raises(UserError, match=r"edited_plugin\.py: the plug-in was changed since"):
        make_in(tmp_path / "again", step)


def test_keys_hold_the_version_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0+cpu"}
    monkeypatch.setattr("importlib.metadata.version", versions.__getitem__)
    step = Step(StageKind("s", 1, (), ("torch",)), "mine", lambda directory, place: {})
    first = Store(tmp_path).artifact(step).key
    versions["torch"] = "2.13.5"
    assert Store(tmp_path).artifact(step).key == first
    versions["torch"] = "2.14.0"
    assert Store(tmp_path).artifact(step).key != first


def test_two_thousand_files_take_their_time_once(tmp_path: Path, old_clock: None) -> None:
    files = {}
    for number in range(2000):
        path = tmp_path / "in" / str(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        files[str(number)] = path
    step = Step(COPY, "mine", lambda directory, place: {}, files=files)
    started = time.process_time()
    Store(tmp_path / "runs").artifact(step)
    assert time.process_time() - started < 4  # with the cache written whole for each file it was 20 s


def test_hashes_are_written_once_a_batch_and_kept_when_it_breaks_off(
    tmp_path: Path, old_clock: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "data_pipeline")
    files = {str(number): tmp_path / f"{number}" for number in range(1500)}
    for name, path in files.items():
        path.write_text(name)
    writes: list[int] = []
    write = HashCache._write

    def counted(self: HashCache) -> None:
        writes.append(len(self._unwritten))
        write(self)

    monkeypatch.setattr(HashCache, "_write", counted)
    cache = HashCache(tmp_path / "cache")
    found = hashes.hash_paths(files, cache)
    assert writes == [1000, 500]
    assert "hashing 1,500 input files, 0.0 MB, once" in caplog.text
    assert found["7"] == hashlib.sha256(b"7").hexdigest() and len(found) == 1500
    assert hashes.hash_paths(files, HashCache(cache.path)) == found
    assert writes == [1000, 500, 0], "all are known"
    files["1400"].unlink()
    (tmp_path / "other").write_text("x")
    with pytest.raises(FileNotFoundError):
        hashes.hash_paths({"x": tmp_path / "other", **files}, cache)
    files["1400"].symlink_to(tmp_path / "other")
    hash_file_of = hashes.hash_file

    def breaks_off(path: Path, *given: Any) -> str:
        if path.name == "1400":
            raise KeyboardInterrupt
        return hash_file_of(path, *given)

    monkeypatch.setattr(hashes, "hash_file", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        hashes.hash_paths({"x": tmp_path / "other", **files}, cache)
    assert HashCache(cache.path).get(tmp_path / "other", hashes.identity(tmp_path / "other"))
