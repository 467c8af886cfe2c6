"""Corpora and benchmarks of a recipe from wherever they are: what it may say, what is pinned, what the manifest tells."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anew import begin_anew
from hub_layout import stay_offline, write_hub_split
from unreliable_server import Remote, serve

from core.errors import ConfigurationError, UserError
from data_pipeline.engine.documents import list_shards, read_shard
from data_pipeline.engine.lock_file import LockError, LockFile
from data_pipeline.sources.download import Patience
from data_pipeline.sources.presets import CORPORA
from data_pipeline.sources.remote_files import pin_files
from recipes.reader import load_recipe
from workflows.corpus_report import CorpusReport
from workflows.show_plan import show_plan
from workflows.tasks import CleanDocuments, DecontaminateDocuments, FetchBenchmark, FetchDocuments

RECIPE = '[recipe]\nname = "mine"\n[tokenizers.gpt2]\nvocabulary_size = 300\n'
LINES = b"".join(b'{"text": "line %d"}\n' % n for n in range(20))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    stay_offline(monkeypatch, tmp_path_factory.getbasetemp() / "hub-cache")


def recipe(folder: Path, tables: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(RECIPE + tables, encoding="utf-8")
    return str(folder / name)


def corpus(**keys: Any) -> str:
    return "[[corpora]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def made(stage: Any) -> dict[str, Any]:
    """Make a stage's artifact in this process; its summary."""
    assert not stage.complete()
    assert stage.make()
    assert stage.complete()
    return dict(stage.summary)


def texts(stage: Any) -> list[str]:
    return [document.text for shard in list_shards(stage.directory) for document in read_shard(shard)]


def fetch_stage(path: str, runs: Path, name: str) -> FetchDocuments:
    return FetchDocuments(recipe=path, runs=str(runs), cpu_workers=1, corpus=name)


def test_a_preset_says_what_the_recipe_leaves_out(tmp_path: Path) -> None:
    tables = "".join(corpus(name=name, preset=name) for name in CORPORA)
    tables += corpus(name="less", preset="openwebtext", streaming=True, revision="a" * 40, expected_rows=0)
    (tmp_path / "stories.txt").write_text("x")
    tables += corpus(name="copy", preset="cc-stories", source="local", paths=["stories.txt"])
    found = load_recipe(recipe(tmp_path, tables))
    corpora = {source.name: source for source in found.corpora}
    web = corpora["openwebtext"]
    assert (web.kind, web.dataset, web.revision, web.expected_rows) == (
        "huggingface",
        "Skylion007/openwebtext",
        "refs/convert/parquet",
        8_013_769,
    )
    assert corpora["bookscorpus"].families == ("bert",)
    less, copy = corpora["less"], corpora["copy"]
    assert (less.streaming, less.revision, less.expected_rows) == (True, "a" * 40, 0)
    assert copy.join_lines and copy.paths and copy.kind == "local"
    assert found.lock_path == tmp_path / "mine.lock.json"


def test_keys_that_do_not_belong_together_are_all_named(tmp_path: Path) -> None:
    tables = (
        corpus(name="a", preset="wikipedias")
        + corpus(name="b", source="huggingface")
        + corpus(
            name="c",
            source="http",
            urls=["ftp://x/a.jsonl"],
            sha256=["1", "2"],
            paths=["x"],
            maximum_record_bytes=0,
        )
        + corpus(name="d", source="huggingface", dataset="not/a/name")
        + '[benchmarks.lambada]\nrevision = "main"\npath = "mine.toml"\n'
        + '[benchmarks.race]\nsource = "huggingface"\npath = "absent"\n'
    )
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(recipe(tmp_path, tables))
    errors = "\n".join(caught.value.errors)
    for part in (
        "corpora[0].preset: must be one of wikipedia, openwebtext",
        'corpora[1]: source = "huggingface" needs dataset',
        "corpora[2].paths: unknown key (known: ",
        "corpora[2].urls: 'ftp://x/a.jsonl' is no http",
        "corpora[2].sha256: 2 of them for 1 urls",
        "corpora[2].sha256: '1' is not 64",
        "corpora[2].maximum_record_bytes: must be from 1",
        "corpora[3].dataset: ",
        "benchmarks.lambada: revision and check_counts are keys of",
        "benchmarks.race.path: ",
    ):
        assert part in errors, part


def test_a_folder_in_hub_layout_is_a_corpus_with_its_licence_in_the_manifest(tmp_path: Path) -> None:
    rows = [{"text": f"article {n}", "title": "T"} for n in range(30)]
    folder = write_hub_split(tmp_path / "wikipedia" / "20231101.en", "train", rows)
    path = recipe(tmp_path, corpus(name="wiki", preset="wikipedia", dataset="wikipedia"))
    stage = fetch_stage(path, tmp_path / "runs", "wiki")
    summary = made(stage)
    assert texts(stage) == [row["text"] for row in rows]
    assert summary["origin"]["licence"] == CORPORA["wikipedia"].licence
    assert "2019" in summary["origin"]["stand_in"]
    assert summary["origin"]["dataset"] == "wikipedia"
    assert summary["pins"] == {}
    assert not (tmp_path / "mine.lock.json").exists()
    write_hub_split(folder, "train", rows[:-1])  # other files, another key
    path = recipe(tmp_path, corpus(name="wiki", preset="wikipedia", dataset="wikipedia"), "again.toml")
    again = fetch_stage(path, tmp_path / "runs", "wiki")
    assert again.directory != stage.directory


def test_what_is_on_the_web_is_pinned_before_keys_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "mine.lock.json"
    with serve(Remote(LINES, troubles=["break"]), "lines.jsonl") as remote:
        path = recipe(tmp_path, corpus(name="web", source="http", urls=[remote.url]))
        stage = fetch_stage(path, tmp_path / "runs", "web")
        assert not stage.complete()
        assert json.loads(lock.read_text()) == {
            remote.url: {"sha256": hashlib.sha256(LINES).hexdigest(), "bytes": len(LINES)}
        }
        asked = len(remote.requests)
        summary = made(stage)
        assert len(remote.requests) == asked, "what was downloaded for the key is what is read"
        assert len(texts(stage)) == 20
        first = stage.directory
        assert not list((tmp_path / "runs" / ".downloads").glob("web-*[0-9a-f]"))
        pins = {remote.url: {"sha256": hashlib.sha256(LINES).hexdigest()}}
        assert stage.artifact.manifest()["pins"] == pins == summary["pins"]
        remote.content = LINES.replace(b"line", b"LINE")
        begin_anew()
        assert fetch_stage(path, tmp_path / "runs", "web").complete(), (
            "the lock file says which version is meant"
        )
        other = fetch_stage(path, tmp_path / "elsewhere", "web")
        with pytest.raises(UserError, match=f"{remote.url}: got sha256"):
            other.make()
        clean = CleanDocuments(recipe=path, runs=str(tmp_path / "runs"), corpus="web")
        before = clean.directory
        lock.write_text("{}")  # to move on to what is there now
        begin_anew()
        again = fetch_stage(path, tmp_path / "runs", "web")
        assert not again.complete()
        made(again)
        assert texts(again)[0] == "LINE 0"
        assert again.directory != first
        assert CleanDocuments(recipe=path, runs=str(tmp_path / "runs"), corpus="web").directory != before
    begin_anew()  # and without a network
    assert fetch_stage(path, tmp_path / "runs", "web").complete()
    lock.write_text("{}")
    begin_anew()
    with pytest.raises(UserError, match=f"{remote.url}: .*without a network, give its sha256 in the recipe"):
        short = Patience(1, 0.01, 1)
        source = load_recipe(path).corpora[0]
        pin_files(source, LockFile(lock), tmp_path / "downloads", short)
    lock.write_text("{")
    begin_anew()
    with pytest.raises(LockError, match=r"mine\.lock\.json: cannot be read .* restore it"):
        fetch_stage(path, tmp_path / "runs", "web").artifact  # noqa: B018
    with pytest.raises(SystemExit):
        fetch_stage(path, tmp_path / "runs", "web").complete()
    assert "fetch web: " in capsys.readouterr().err


def test_a_hash_in_the_recipe_and_one_in_the_lock_file_are_one_key(tmp_path: Path) -> None:
    digest = hashlib.sha256(LINES).hexdigest()
    with serve(Remote(LINES), "lines.jsonl") as remote:
        table = corpus(name="web", source="http", urls=[remote.url])
        locked = fetch_stage(recipe(tmp_path, table), tmp_path / "runs", "web").artifact.key
        given = recipe(tmp_path, f'{table}sha256 = ["{digest}"]\n', "given.toml")
        assert fetch_stage(given, tmp_path / "runs", "web").artifact.key == locked
        other = recipe(tmp_path, f'{table}sha256 = ["{"0" * 64}"]\n', "other.toml")
        assert fetch_stage(other, tmp_path / "runs", "web").artifact.key != locked
    assert not (tmp_path / "given.lock.json").exists()


def test_a_branch_on_the_hub_is_its_commit_in_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = {"main": "a" * 40}
    monkeypatch.setattr(
        "huggingface_hub.HfApi.dataset_info",
        lambda _, name, revision: SimpleNamespace(sha=commits[revision]),
    )

    def key(revision: str, name: str) -> str:
        begin_anew()
        table = corpus(name="wiki", source="huggingface", dataset="owner/wiki", revision=revision)
        return fetch_stage(recipe(tmp_path, table, name), tmp_path / "runs", "wiki").artifact.key

    first = key("main", "one.toml")
    assert first == key("a" * 40, "two.toml")
    commits["main"] = "b" * 40
    assert key("main", "one.toml") == first, "the lock file holds"
    assert key("main", "three.toml") == key("b" * 40, "four.toml") != first


def test_a_plan_asks_no_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(Remote(LINES), "lines.jsonl") as remote:
        path = recipe(tmp_path, corpus(name="web", source="http", urls=[remote.url]))
        assert show_plan(CorpusReport(recipe=path, runs=str(tmp_path / "runs"))) == 0
        assert remote.requests == []
    lines = capsys.readouterr().out.splitlines()
    assert "fetch web" in lines[0] and "not pinned yet" in lines[0]
    assert all(line.startswith("to run") for line in lines[:-1])
    assert lines[-1] == f"{len(lines) - 1} of {len(lines) - 1} stages to run"
    assert not (tmp_path / "runs").exists()


def test_what_a_manifest_says_of_a_corpus_is_in_its_key(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    keys = set()
    for name, more in (("plain", {}), ("preset", {"preset": "cc-stories"}), ("terms", {"terms": "none"})):
        table = corpus(name="a", source="local", paths=["a.jsonl"], **more)
        keys.add(fetch_stage(recipe(tmp_path, table, f"{name}.toml"), tmp_path / "runs", "a").artifact.key)
    assert len(keys) == 3


def test_a_benchmark_from_the_hub_is_what_decontamination_and_evaluation_read(tmp_path: Path) -> None:
    rows = ["", " = Some Title = \n", "", " The quick fox ran over the lazy dog and did not come back . \n"]
    write_hub_split(tmp_path / "wikitext" / "wikitext-103-v1", "test", [{"text": row} for row in rows])
    (tmp_path / "a.jsonl").write_bytes(LINES)
    path = recipe(
        tmp_path,
        corpus(name="a", source="local", paths=["a.jsonl"])
        + '[benchmarks.wikitext103]\nsource = "huggingface"\npath = "wikitext"\ncheck_counts = false\n',
    )
    stage = FetchBenchmark(recipe=path, runs=str(tmp_path / "runs"), benchmark="wikitext103")
    assert made(stage)["words"] == 20
    decontaminate = DecontaminateDocuments(recipe=path, runs=str(tmp_path / "runs"))
    assert decontaminate.step.inputs["benchmark wikitext103"] is stage.step
    assert stage in decontaminate.requires()
    assert decontaminate.step.files == {}
    file = stage.directory / decontaminate.plan.corpus.benchmark("wikitext103").path
    assert file == stage.directory / "wiki.test.tokens"
    assert file.read_text() == " \n = Some Title = \n \n" + rows[3]
