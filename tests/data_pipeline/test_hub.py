"""Datasets in hub layout: rows into shards, streamed or downloaded, resumed, counted; and what cannot be had."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from corpus_files import contents, english, read_documents
from hub_layout import stay_offline, write_hub_split

from core.errors import UserError
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.lock_file import LockError, LockFile
from data_pipeline.engine.resumable import read_quarantine
from data_pipeline.engine.steps import Store, Workplace, make
from data_pipeline.sources import hub
from data_pipeline.sources.hub import HubDataset, fetch_hub, hub_rows, pin_of, pinned
from data_pipeline.sources.records import SourceError
from data_pipeline.sources.source import HubSource
from data_pipeline.steps import fetch as fetch_step

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [{"id": str(n), "text": f"{english(n, 20)} ü"} for n in range(500)]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    stay_offline(monkeypatch, tmp_path_factory.getbasetemp() / "hub-cache")
    monkeypatch.setattr(hub, "SHARD_ROWS", 100)


def fetch(folder: Path, output: Path, workers: int = 1, **settings: Any) -> dict[str, Any]:
    dataset = HubDataset(str(folder), settings.pop("configuration", ""), settings.pop("split", "train"))
    source = HubSource("wiki", dataset=str(folder), **settings)
    return fetch_hub(source, dataset, output, executor=LocalExecutor(workers))


def test_rows_become_documents_the_same_streamed_or_downloaded(tmp_path: Path) -> None:
    folder = write_hub_split(tmp_path / "wiki" / "data", "train", ROWS, files=3).parent
    summary = fetch(folder, tmp_path / "downloaded", expected_rows=500)
    fetch(folder, tmp_path / "streamed", streaming=True, expected_rows=500)
    assert contents(tmp_path / "downloaded") == contents(tmp_path / "streamed")
    found = read_documents(tmp_path / "downloaded")
    assert [document.text for document in found] == [row["text"] for row in ROWS]
    assert found[499].id == "wiki/00000/000000500"
    assert json.loads(found[0].metadata) == {"id": "0"}
    assert (summary["records"], summary["documents"]) == (500, 500)
    assert len(list((tmp_path / "downloaded").glob("documents-*"))) == 5


@pytest.mark.parametrize("streaming", [True, False])
def test_later_tasks_have_more_rows_and_a_resumed_stream_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    monkeypatch.setattr(hub, "SHARDS_OF_A_SIZE", 2)  # tasks of 100, 100, 200, 200 rows
    folder = write_hub_split(tmp_path / "wiki", "train", ROWS)
    for _ in range(2):
        fetch(folder, tmp_path / "out", streaming=streaming)
        found = read_documents(tmp_path / "out")
        assert [document.id[-9:] for document in found] == [f"{n:09d}" for n in range(1, 501)]
        stats = sorted((tmp_path / "out/stats").iterdir())
        assert [json.loads(path.read_text())["records"] for path in stats] == [100, 100, 200, 100]
        stats[-1].unlink()


@pytest.mark.parametrize("streaming", [True, False])
def test_pictures_are_not_looked_at_and_other_fields_kept_as_asked(tmp_path: Path, streaming: bool) -> None:
    rows = [
        {
            "text": "a",
            "blob": b"\x89PNG",
            "url": "u",
            "n": 1,
            "image": {"bytes": b"no picture", "path": "x.png"},
        }
    ]
    folder = tmp_path / "wiki"
    write_hub_split(folder, "train", rows)
    path = next(folder.rglob("*.parquet"))
    table = pq.read_table(path)
    feature = {"info": {"features": {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"},
               "blob": {"dtype": "binary", "_type": "Value"}, "url": {"dtype": "string", "_type": "Value"},
               "n": {"dtype": "int64", "_type": "Value"}}}}  # fmt: skip
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(feature)}), path)
    for name, kept, expected in (("all", ["*"], {"url": "u", "n": 1}), ("some", ["n"], {"n": 1})):
        fetch(folder, tmp_path / name, streaming=streaming, metadata=kept)
        (document,) = read_documents(tmp_path / name)
        assert json.loads(document.metadata) == expected


@pytest.mark.parametrize("streaming", [True, False])
def test_a_limit_takes_the_first_documents_of_a_nested_field(tmp_path: Path, streaming: bool) -> None:
    rows = [{"page": {"body": row["text"], "n": number}} for number, row in enumerate(ROWS)]
    folder = write_hub_split(tmp_path / "wiki", "train", rows)
    settings = {"text_field": "page.body", "limit": 3, "expected_rows": 500, "streaming": streaming}
    assert fetch(folder, tmp_path / "out", **settings)["documents"] == 3
    found = [(document.text, document.metadata) for document in read_documents(tmp_path / "out")]
    assert found == [(ROWS[n]["text"], f'{{"page": {{"n": {n}}}}}') for n in range(3)]
    with pytest.raises(SourceError, match=r"no column 'pages\.body', only \['page'\]"):
        fetch(folder, tmp_path / "none", **{**settings, "text_field": "pages.body"})


def test_a_limited_fetch_of_a_folder_stands_on_what_it_reads_alone(tmp_path: Path) -> None:
    """Files after the limit are no part of the key, and need not even be whole; what comes first is, and is held to it."""
    folder = tmp_path / "wiki"

    def write(first: str) -> None:
        write_hub_split(folder, "train", [{"text": first}, *ROWS], files=3)
        last = max(folder.rglob("*.parquet"))
        last.write_bytes(last.read_bytes()[:-4] + b"cut!")

    def artifact(limit: int) -> tuple[Store, Any]:
        store = Store(tmp_path / "runs")
        return store, fetch_step(HubSource("s", dataset=str(folder), limit=limit), None, None)

    write("one")
    store, step = artifact(2)
    first = store.artifact(step).key
    make(step, Workplace(store, LocalExecutor(1)))
    assert [document.text for document in read_documents(store.directory(step))] == ["one", ROWS[0]["text"]]
    sorted(folder.rglob("*.parquet"))[1].write_bytes(b"anything")
    store, step = artifact(2)
    assert store.artifact(step).key == first and store.is_complete(step)
    assert store.artifact(artifact(3)[1]).key != first
    write("two")
    store, step = artifact(2)
    assert store.artifact(step).key != first
    write("three")  # after the key was taken
    with pytest.raises(UserError, match=r"fetched .*but its key was taken for .*the same command again"):
        make(step, Workplace(store, LocalExecutor(1)))


def test_workers_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SHARD_ROWS", 2000)  # what spawned workers have
    rows = [{"text": f"row {n}"} for n in range(5000)]
    folder = write_hub_split(tmp_path / "wiki", "train", rows)
    for workers in (1, 2):
        fetch(folder, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("finished", [1, 3, 5, 6])
def test_a_killed_fetch_goes_on_at_the_first_missing_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool, finished: int
) -> None:
    folder = write_hub_split(tmp_path / "wiki", "train", ROWS)
    fetch(folder, tmp_path / "whole")
    done: list[int] = []
    write = hub._write_task

    def write_until_killed(*arguments: Any) -> Any:
        if len(done) == finished:
            raise KeyboardInterrupt
        done.append(arguments[-1])
        return write(*arguments)

    monkeypatch.setattr(hub, "_write_task", write_until_killed)
    if finished < 6:  # the last of six tasks has no rows
        with pytest.raises(KeyboardInterrupt):
            fetch(folder, tmp_path / "out", streaming=streaming)
    finished = 100
    summary = fetch(folder, tmp_path / "out", streaming=streaming)
    assert done == [0, 1, 2, 3, 4, 5]  # none twice
    assert summary["records"] == 500
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("streaming", [True, False])
def test_another_number_of_rows_is_an_error(tmp_path: Path, streaming: bool) -> None:
    folder = write_hub_split(tmp_path / "wiki", "train", ROWS[:7])
    with pytest.raises(
        SourceError, match=r"wiki train: 7 rows, expected 8,013,769; it changed, or is not whole"
    ):
        fetch(folder, tmp_path / "out", streaming=streaming, expected_rows=8_013_769)


def test_configurations_are_folders_or_what_the_readme_says(tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    write_hub_split(folder / "20231101.en", "train", ROWS[:3])
    write_hub_split(folder / "20231101.de", "train", ROWS[3:5])
    assert fetch(folder, tmp_path / "de", configuration="20231101.de")["documents"] == 2
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: german\n  data_files: 20231101.de/*.parquet\n---\n"
    )
    assert fetch(folder, tmp_path / "readme", configuration="german")["documents"] == 2
    with pytest.raises(SourceError, match=r"sets french train: ValueError: BuilderConfig 'french' not found"):
        fetch(folder, tmp_path / "french", configuration="french")
    with pytest.raises(SourceError, match=r"sets german test: .*Unknown split"):
        fetch(folder, tmp_path / "test", configuration="german", split="test")


def test_the_layout_of_converted_datasets_is_read(tmp_path: Path) -> None:
    """As on the revision refs/convert/parquet: a folder for the configuration, one for the split, no README."""
    for split, rows in (("train", ROWS[:3]), ("test", ROWS[3:4])):
        folder = tmp_path / "set" / "plain_text" / split
        write_hub_split(folder, "x", rows)
        next(folder.iterdir()).rename(folder / "0000.parquet")
    for configuration in ("", "plain_text"):
        output = tmp_path / f"out {configuration}"
        assert fetch(tmp_path / "set", output, configuration=configuration, expected_rows=3)["documents"] == 3


def test_a_folder_that_happens_to_be_called_like_a_dataset_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hub_split(tmp_path / "wikimedia" / "wikipedia", "train", ROWS[:3])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"has the same name; run from another folder"):
        list(hub_rows(HubDataset("wikimedia/wikipedia")))


def test_bad_rows_go_to_quarantine(tmp_path: Path) -> None:
    rows = [{"text": "good"}, {"text": None}, {"text": "x" * 200}]
    folder = write_hub_split(tmp_path / "wiki", "train", rows)
    assert fetch(folder, tmp_path / "out", maximum_record_bytes=100)["quarantined"] == 2
    found = {record.line: record.reason for record in read_quarantine(tmp_path / "out")}
    assert found[2].startswith("field 'text' is not a string")
    assert found[3].startswith("longer than the 100 bytes")
    with pytest.raises(
        SourceError, match=r"no column 'body', only \['text'\]; name the texts' as text_field"
    ):
        fetch(folder, tmp_path / "body", text_field="body")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = write_hub_split(tmp_path / "wiki", "train", ROWS)
    path = next(folder.glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-100])
    for streaming in (True, False):
        with pytest.raises(SourceError, match=r"wiki train: .*whether its files are damaged"):
            fetch(folder, tmp_path / "out", streaming=streaming)


def test_scripts_and_the_absent_hub_are_explained(tmp_path: Path) -> None:
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").write_text("import datasets\n")
    with pytest.raises(SourceError, match=r'made by a script, which is not run: .*refs/convert/parquet"'):
        fetch(tmp_path / "script", tmp_path / "out")
    with pytest.raises(
        SourceError, match=r"nobody/nothing train at main: .*check the network, or give a local"
    ):
        list(hub_rows(HubDataset("nobody/nothing")))
    with pytest.raises(SourceError, match="check the network"):
        pinned(HubDataset("nobody/nothing"), LockFile(tmp_path / "lock.json"))
    assert not (tmp_path / "lock.json").exists()


def test_the_first_fetch_pins_and_later_ones_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[str] = []

    def dataset_info(_: object, name: str, revision: str) -> SimpleNamespace:
        asked.append(f"{name} {revision}")
        return SimpleNamespace(sha=COMMIT)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    lock = LockFile(tmp_path / "recipe.lock.json")
    wanted = HubDataset("wikimedia/wikipedia", "20231101.en")
    for _ in range(2):
        dataset = pinned(wanted, lock)
        assert dataset == HubDataset("wikimedia/wikipedia", "20231101.en", "train", COMMIT)
    assert asked == ["wikimedia/wikipedia main"]
    assert lock.entries() == {"wikimedia/wikipedia at main": {"revision": COMMIT}}
    assert pin_of(dataset) == {"wikimedia/wikipedia": {"revision": COMMIT}}
    assert pinned(dataset, lock) is dataset  # a commit needs no pin
    with pytest.raises(LockError, match=r"is now .*recipe\.lock\.json pins .*remove that entry"):
        lock.settle("wikimedia/wikipedia at main", {"revision": "f" * 40})


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_broken_lock_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lock.json"
    path.write_text(content)
    with pytest.raises(LockError, match=f"{path}: .*restore it, or remove it"):
        LockFile(path).get("a")


def test_a_network_that_fails_is_called_that(monkeypatch: pytest.MonkeyPatch) -> None:
    class ConnectError(Exception):
        """As the HTTP libraries have it: no ConnectionError of Python's."""

    def fail(*arguments: object, **more: object) -> None:
        raise ConnectError("[Errno -2] Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", fail)
    with pytest.raises(SourceError, match=r"owner/tales .* Name or service not known \(check the network"):
        pinned(HubDataset("owner/tales"), None)
