"""Corpora and benchmarks of a recipe from wherever they are: what it may say, what is pinned, what the manifest tells."""

import json
from pathlib import Path
from typing import Any

import pytest
from hub_layout import stay_offline, write_hub_split
from unreliable_server import Remote, serve

from core.errors import ConfigurationError, UserError
from data_pipeline.engine.documents import list_shards, read_shard
from data_pipeline.engine.lock_file import LockError
from data_pipeline.sources.presets import CORPORA
from recipes.reader import load_recipe
from workflows.tasks import DecontaminateDocuments, FetchBenchmark, FetchDocuments

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


def test_files_on_the_web_are_pinned_beside_the_recipe(tmp_path: Path) -> None:
    with serve(Remote(LINES, troubles=["break"]), "lines.jsonl") as remote:
        path = recipe(tmp_path, corpus(name="web", source="http", urls=[remote.url]))
        stage = fetch_stage(path, tmp_path / "runs", "web")
        summary = made(stage)
        assert len(texts(stage)) == 20
        lock = tmp_path / "mine.lock.json"
        pins = json.loads(lock.read_text())
        assert pins == summary["pins"]
        assert set(pins[remote.url]) == {"bytes", "sha256"}
        remote.content = LINES.replace(b"line", b"LINE")
        other = fetch_stage(path, tmp_path / "elsewhere", "web")
        with pytest.raises(ValueError, match=f"{remote.url}: got sha256"):
            other.make()
    pins[remote.url]["sha256"] = "0" * 64  # as when a colleague's lock file says something else
    lock.write_text(json.dumps(pins))
    assert not stage.complete()
    with pytest.raises(UserError, match=r"was fetched as .*mine\.lock\.json pins .* restore the lock file"):
        stage.make()
    lock.write_text("{")
    assert not stage.complete()
    with pytest.raises(LockError, match=r"mine\.lock\.json: cannot be read .* restore it"):
        stage.make()


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
