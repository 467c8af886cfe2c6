"""Decontamination: what is found in which spelling, what is cut, and what is dropped."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import contents, english, read_documents, write_documents

from data_pipeline.benchmarks import BENCHMARKS, Benchmark, BenchmarkText
from data_pipeline.benchmarks.benchmark import add_benchmark
from data_pipeline.decontamination.decontamination import decontaminate
from data_pipeline.decontamination.texts import BenchmarkError
from data_pipeline.decontamination.titles import Titles
from data_pipeline.engine.documents import Document
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.settings import DecontaminationSettings
from data_pipeline.text_files import files_below

_ARTICLE = (
    "The Keld bridge , built in 1 @,@ 840 men 's time , was a twelve @-@ arch crossing that did n't last ; "
    "its <unk> fell into the river Orr during the great flood of the winter of 1911 ."
)
_PLAIN = (
    "The Keld bridge, built in 1,840 men's time, was a twelve-arch crossing that didn't last; its piers fell into "
    "the river Orr during the great flood of the winter of 1911."
)
_ROW = "Nobody on the quay had expected that the old ferryman would ever give away his brass lantern"
_SHORT_ROW = "a very short passage of exactly eight words"
_RACE = (
    "Every spring the keeper of the northern lighthouse walked down to the village to choose a new apprentice"
)


@pytest.fixture
def benchmarks(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "wiki.test.tokens").write_text(
        f" \n = Keld @-@ bridge = \n \n {_ARTICLE} \n = = Later = = \n"
    )
    rows = [
        json.dumps({"text": text}) + "\n" for text in (_ROW, _SHORT_ROW, "seven words are too few to matter")
    ]
    (tmp_path / "lambada.jsonl").write_text("".join(rows))
    for split, article in (("train", english(77)), ("test", _RACE)):
        (tmp_path / "RACE" / split / "high").mkdir(parents=True)
        record = {"article": article, "questions": [], "options": [], "answers": [], "id": "1"}
        (tmp_path / "RACE" / split / "high" / "1.txt").write_text(json.dumps(record))
    return {
        "wikitext103": tmp_path / "wiki.test.tokens",
        "lambada": tmp_path / "lambada.jsonl",
        "race": tmp_path / "RACE",
    }


def run(texts: list[str], directory: Path, benchmarks: dict[str, Path], **more: Any) -> dict[str, Any]:
    return decontaminate(
        write_documents(directory / "in", texts, metadata=more.pop("metadata", "{}")),
        directory / "out",
        benchmarks,
        DecontaminationSettings(**more),
        executor=LocalExecutor(1),
    )


def hits(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "out" / "hits.jsonl").open()]


@pytest.mark.parametrize(
    "passage, name",
    [
        (_ARTICLE, "wikitext103"),
        (_PLAIN, "wikitext103"),
        (_PLAIN.replace("'", "’").upper(), "wikitext103"),
        (_ROW, "lambada"),
        (_SHORT_ROW, "lambada"),
        (_RACE.replace(" ", "\n"), "race"),
    ],
)
def test_a_passage_is_cut_out_with_its_margins(
    tmp_path: Path, benchmarks: dict[str, Path], passage: str, name: str
) -> None:
    before, after = english(1), english(2)
    text = f"{before} {passage} {after}"
    summary = run([english(3), text], tmp_path, benchmarks)
    clean, first, second = read_documents(tmp_path / "out")
    assert (clean.id, clean.text) == ("t/000000", english(3))
    assert (first.id, second.id) == ("t/000001#00", "t/000001#01")
    assert text.startswith(first.text + " ")
    assert text.endswith(" " + second.text)
    assert (
        199 <= len(before) - len(first.text) <= 215
    )  # margins end at blanks, and a blank is before the passage
    assert 197 <= len(after) - len(second.text) <= 215  # a blank and a full stop are behind it
    assert (summary["documents"], summary["cut"], summary["hits"]) == (3, 1, {name: 1})
    (hit,) = hits(tmp_path)
    assert (hit["id"], hit["benchmarks"], hit["pieces"]) == ("t/000001", [name], 2)
    assert hit["first_match"] in text


def test_what_is_not_a_hit_stays(tmp_path: Path, benchmarks: dict[str, Path]) -> None:
    words = _ROW.split(" ")
    texts = [
        english(77),  # RACE's training articles are for training
        f"{english(1)} {' '.join(words[:12])} {english(2)}",  # twelve of the words
        f"{english(1)} {' '.join(words[:12])} not {' '.join(words[12:])} {english(2)}",
        f"{english(1)} seven words are too few to matter {english(2)}",
    ]
    summary = run(texts, tmp_path, benchmarks)
    assert [document.text for document in read_documents(tmp_path / "out")] == texts
    assert (summary["cut"], summary["dropped"], hits(tmp_path)) == (0, {}, [])


def test_reasons_to_drop_a_whole_document(tmp_path: Path, benchmarks: dict[str, Path]) -> None:
    many = " ".join(f"{english(seed, 120)} {_ROW}" for seed in range(12))
    texts = [_ARTICLE + " A few more words.", many, f"{english(1, 30)} {_ROW} {english(2, 30)}", english(5)]
    summary = run(texts, tmp_path, benchmarks)
    assert summary["dropped"] == {"benchmark_text": 1, "too_many_pieces": 1, "nothing_left": 1}
    assert [hit["dropped"] for hit in hits(tmp_path)] == ["benchmark_text", "too_many_pieces", "nothing_left"]
    assert [document.text for document in read_documents(tmp_path / "out")] == [english(5)]
    assert run([many], tmp_path / "more", benchmarks, maximum_pieces=20)["cut"] == 1


def test_a_long_document_is_not_dropped_for_few_hits(tmp_path: Path, benchmarks: dict[str, Path]) -> None:
    book = " ".join(f"{english(seed, 2000)} {_ROW}" for seed in range(30)) + english(30)
    summary = run([book], tmp_path, benchmarks)
    assert (summary["cut"], summary["documents"], summary["dropped"]) == (1, 31, {})
    assert summary["bytes"] > 0.95 * len(book)
    assert run([book], tmp_path / "tools", benchmarks, cut_share=0)["dropped"] == {"too_many_pieces": 1}


def test_text_without_blanks_is_cut_in_linear_time(tmp_path: Path, benchmarks: dict[str, Path]) -> None:
    unbroken = "-".join([_ROW.replace(" ", "-"), *["x" * 1000] * 2]) + "-"
    started = time.perf_counter()
    summary = run([unbroken * 400, english(1)], tmp_path, benchmarks, article_share=1)
    assert summary["dropped"] == {"nothing_left": 1}
    assert time.perf_counter() - started < 5


_WIKIPEDIA = {"url": "https://en.wikipedia.org/wiki/X"}


@pytest.mark.parametrize(
    "title, more, dropped",
    [
        ("Keld-Bridge", _WIKIPEDIA, True),
        ("KELD\u00adBRIDGE", _WIKIPEDIA, False),  # another title: one word
        ("Kéld bridge", _WIKIPEDIA, True),
        ("Keld-Bridge", {}, False),  # of another source
        ("Keld-Bridge", {"url": "https://example.org/en.wikipedia.org"}, False),
        ("Later", _WIKIPEDIA, False),  # a section's
        ("v = s / t", _WIKIPEDIA, False),  # a formula
        ("1 + 2", _WIKIPEDIA, False),
        ("Siege of Orr's fort (1644)", _WIKIPEDIA, True),
        ("Siege of the Lower Orr valley fort (1644)", _WIKIPEDIA, False),  # more than one word
        ("Robert Boulter", _WIKIPEDIA, False),  # Robert <unk>: only with some of the text
        ("Anything", _WIKIPEDIA, False),
    ],
)
def test_articles_of_the_test_set_go_by_title(
    tmp_path: Path, title: str, more: dict[str, str], dropped: bool
) -> None:
    lines = [
        " ",
        " = Keld @-@ bridge = ",
        " ",
        f" {_ARTICLE} ",
        " = 1 + 2 = ",
        " v follows . ",
        " ",
        " = = Later = = ",
    ]
    lines += [
        " ",
        " = v = s / t = ",
        " ",
        " = Siege of <unk> fort ( 1644 ) = ",
        " ",
        " = Robert <unk> = ",
        " ",
    ]
    lines += [" = <unk> = ", " "]
    (tmp_path / "wiki.test.tokens").write_text("\n".join(lines))
    benchmarks = {"wikitext103": tmp_path / "wiki.test.tokens"}
    metadata = json.dumps({"title": title, **more})
    summary = run([english(1)], tmp_path, benchmarks, metadata=metadata)
    assert summary["dropped"] == ({"benchmark_title": 1} if dropped else {})
    if title.startswith("Robert"):
        texts = [f"{english(1)} {_PLAIN} {english(2)}"]
        summary = run(texts, tmp_path / "text", benchmarks, metadata=metadata)
        assert summary["dropped"] == {"benchmark_title": 1}


@pytest.mark.parametrize(
    "name, told", [("wikipedia", True), ("enwiki_2023", True), ("My Wikipedia", True), ("wikihow", False)]
)
def test_wikipedias_articles_are_told_by_their_corpus_too(name: str, told: bool) -> None:
    titles = Titles()
    titles.add("Nero", "wikitext103")
    assert titles.benchmark(Document("1", "", name, '{"title": "Nero"}'), ()) == (
        "wikitext103" if told else ""
    )


def test_two_hits_close_together_are_one_cut(tmp_path: Path, benchmarks: dict[str, Path]) -> None:
    run([f"{english(1)} {_ROW} {english(2, 20)} {_RACE} {english(3)}"], tmp_path, benchmarks)
    (hit,) = hits(tmp_path)
    assert (hit["benchmarks"], hit["pieces"]) == (["lambada", "race"], 2)


def test_workers_and_a_second_call_change_nothing(tmp_path: Path, benchmarks: dict[str, Path]) -> None:
    texts = [f"{english(seed)} {_ROW if seed % 3 == 0 else ''} {english(seed + 50)}" for seed in range(20)]
    shards = write_documents(tmp_path / "in", texts, shards=4)
    for workers in (1, 2, 2):
        output = tmp_path / str(workers)
        decontaminate(shards, output, benchmarks, DecontaminationSettings(), executor=LocalExecutor(workers))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert not (tmp_path / "1" / "hits").exists()


def test_a_record_reads_its_own_files_though_another_has_their_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def texts(content: str) -> Iterator[BenchmarkText]:
        yield BenchmarkText(json.loads(content)["question"])

    monkeypatch.setattr(BENCHMARKS, "_records", dict(BENCHMARKS._records))
    add_benchmark(Benchmark("quiz", "A quiz", "quiz.jsonl", ".jsonl", texts))
    path = tmp_path / "quiz.jsonl"
    path.write_text(json.dumps({"question": _ROW}))
    text = f"{english(1)} {_ROW} {english(2)}"
    assert run([text], tmp_path, {"quiz": path})["hits"] == {"quiz": 1}
    with pytest.raises(BenchmarkError, match="cannot be read as rows with the fields of a benchmark"):
        run([text], tmp_path / "unnamed", {"other": path})


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_everything_in_a_folder_is_looked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each file in another spelling of a name or format: all are found in the corpus, under any benchmark's name."""
    folder = tmp_path / "all"
    (folder / "deep").mkdir(parents=True)
    passages = [english(seed, 40) for seed in range(100, 111)]
    row = [json.dumps({"text": passage}) for passage in passages]
    race = {"article": passages[4], "questions": [], "options": [], "answers": []}
    (folder / "wiki.test.raw").write_bytes(f" = A title = \r\n {passages[0]} \r\n".encode("utf-8-sig"))
    (folder / "wiki.valid.tokens.gz").write_bytes(gzip.compress(f" {passages[1]} \n".encode()))
    (folder / "deep" / "MORE.JSONL.GZ").write_bytes(gzip.compress(f"{row[2]}\r\n\r\n".encode("utf-8-sig")))
    (folder / "more.ndjson").write_text('{"text": "a \u2028 b \x85 c"}\n' + row[3], encoding="utf-8")
    (folder / "0.TXT").write_text(json.dumps(race))
    (folder / "list.json").write_text(f"[{row[5]}, {row[6]}]")
    _parquet(
        folder / "test-00000-of-00001.parquet", [{"text": f" {passages[7]} \n"}, {"text": " = Other = \n"}]
    )
    _parquet(folder / "race.parquet", [{"article": passages[8], "question": "Who?"}])
    (folder / "table.csv").write_text(f'id,text\n1,"{passages[9]}"\n')
    (folder / "more.jsonl.zst").write_bytes(pa.compress(row[10].encode(), codec="zstd", asbytes=True))
    for skipped in ("._0.txt", ".DS_Store", "__MACOSX/._0.txt", ".cache/x.bin", "RACE/train/high/1.txt"):
        (folder / skipped).parent.mkdir(exist_ok=True, parents=True)
        (folder / skipped).write_bytes(b"\0\5\x16\7")
    _parquet(folder / "train-00000-of-00001.parquet", [{"text": english(77)}])
    texts = [f"{english(1)} {passage} {english(2)}" for passage in [*passages, english(77)]]
    caplog.set_level("DEBUG", "data_pipeline")
    for name in ("all", "lambada", "race", "wikitext103"):
        assert run(texts, tmp_path / f"as {name}", {name: folder})["cut"] == len(passages), name
    assert "2 files of training sets are left out" in caplog.text
    article = json.dumps({"title": "Other", "url": "https://en.wikipedia.org/wiki/Other"})
    titled = run([english(1)], tmp_path / "titled", {"all": folder}, metadata=article)
    assert titled["dropped"] == {"benchmark_title": 1}
    files = [path for path in files_below(folder) if "train" not in path.as_posix()]
    assert len(files) == len(passages) - 1  # two in the list
    for number, file in enumerate(files):
        summary = run(texts, tmp_path / str(number), {"x": file})
        assert summary["cut"] == 1 + (file.name == "list.json"), file


@pytest.mark.parametrize("name", ["notes.md", "more.tar.gz", "old.jsonl.bak", "data.bin"])
def test_what_in_a_folder_is_not_read_is_named(
    tmp_path: Path, benchmarks: dict[str, Path], name: str
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "lambada.jsonl").write_bytes(benchmarks["lambada"].read_bytes())
    (folder / name).touch()
    with pytest.raises(BenchmarkError, match=rf"{folder / name}: of no known format .*move other files out"):
        run([english(1)], tmp_path, {"x": folder})


@pytest.mark.parametrize(
    "name, content, problem",
    [
        (
            "x.jsonl",
            b'{"text": "a"}\n{"text": "half \\ud83d"}',
            "benchmark .line 2: half a surrogate pair at character 5",
        ),
        ("x.jsonl", b'{"text": "a"}\n\n{"text": "\xff"}', "benchmark .line 3: invalid UTF-8"),
        ("x.jsonl", b"[" * 100_000, "benchmark .line 1: .*nested"),
        ("x.txt", b'{"article": "half \\ud83d"}', "RACE .half a surrogate pair at character 5"),
        ("x.txt.gz", gzip.compress(b"{}", mtime=0)[:-1], "RACE .*cut off or corrupt"),
        ("x.json", b'[{"text": "a"}, {"body": "b"}]', "record 2: has no field of a benchmark, only body"),
        ("x.json", b'[{"text": "a"}, {"text": 1}]', 'record 2: must be an object with a string "text"'),
        ("x.parquet", b"PAR1 and no more", "magic bytes not found"),
    ],
)
def test_bad_records_of_benchmarks_are_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=rf"{path}: cannot be read as .*{problem}"):
        run([english(1)], tmp_path, {"x": path})


@pytest.mark.parametrize(
    "name, content",
    [
        ("x.jsonl", '{"title": 1}'),
        ("x.jsonl", ""),
        ("x.jsonl", '{"text": "only four words here"}'),
        ("x.txt", "plain text"),
        ("x.csv", ""),
        ("x.tokens", None),
    ],
)
def test_unusable_benchmarks_are_named(tmp_path: Path, name: str, content: str | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(BenchmarkError, match=str(path)):
        run([english(1)], tmp_path, {"x": path})
