"""Anybody's files: what they are called, where in a record the text is, what is kept of it, and how many are read."""

import csv
import gzip
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import fetch_files, read_documents, write_jsonl

from core.errors import UserError
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.resumable import read_quarantine
from data_pipeline.engine.steps import Store, Workplace, make
from data_pipeline.sources.fields import Fields, path_problem, text_and_metadata
from data_pipeline.sources.found_files import find_files
from data_pipeline.sources.local import fetch_records
from data_pipeline.sources.records import SourceError
from data_pipeline.sources.source import LocalSource, Source
from data_pipeline.steps import fetch as fetch_step


def names(*paths: object) -> list[str]:
    return list(find_files([str(path) for path in paths]))


def ids(folder: Path) -> list[str]:
    return [document.id for document in read_documents(folder)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a/x.jsonl", "a/deep/x.jsonl", "b/x.jsonl", "b/B.JSONL", "top.jsonl"):
        write_jsonl(tmp_path / name, [name])
    return tmp_path


def test_a_file_is_called_by_its_path_below_what_inputs_have_in_common(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert names(tree / "a") == ["deep/x.jsonl", "x.jsonl"]
    assert names(tree / "a/*.jsonl") == ["x.jsonl"]
    assert names(tree / "**" / "x.jsonl") == ["a/deep/x.jsonl", "a/x.jsonl", "b/x.jsonl"]
    assert names(tree / "b/x.jsonl", tree / "a/x.jsonl") == ["b/x.jsonl", "a/x.jsonl"]
    assert names(tree / "a", tree / "b/*") == ["a/deep/x.jsonl", "a/x.jsonl", "b/B.JSONL", "b/x.jsonl"]
    assert names(tree / "top.jsonl", tree / "a/../top.jsonl", tree / "top.*") == ["top.jsonl"], "each once"
    monkeypatch.chdir(tree / "a")
    assert names("../b/x.jsonl", "x.jsonl") == ["b/x.jsonl", "a/x.jsonl"]
    (tree / "far").mkdir()
    (tree / "b/link").symlink_to(tree / "far")
    assert names("../b/link/../top.jsonl") == ["top.jsonl"], "as the system follows links"


def test_ids_stay_when_a_folder_or_a_pattern_grows_or_moves(tree: Path) -> None:
    before: dict[str, list[str]] = {}
    for pattern in ("a", "**/*.jsonl"):
        fetch_files([tree / pattern], tree / "out" / pattern[0])
        before[pattern] = ids(tree / "out" / pattern[0])
    assert before["a"] == ["s/deep/x.jsonl/000000001", "s/x.jsonl/000000001"]
    write_jsonl(tree / "a/0.jsonl", ["new", "newer"])
    for pattern in ("a", "**/*.jsonl"):
        fetch_files([tree / pattern], tree / "again" / pattern[0])
        now = ids(tree / "again" / pattern[0])
        assert set(before[pattern]) < set(now) and len(now) == len(set(now)) == len(before[pattern]) + 2
    os.rename(tree / "a", tree / "elsewhere")
    fetch_files([tree / "elsewhere"], tree / "moved")
    assert ids(tree / "moved") == ids(tree / "again/a")


def test_keys_hold_the_names_that_ids_begin_with(tree: Path) -> None:
    """Else one artifact would stand for two, whose ids differ."""
    write_jsonl(tree / "c/x.jsonl", ["a/x.jsonl"])
    keys = [
        Store(tree / "runs").artifact(fetch_step(LocalSource("s", paths=[str(tree / path)]), None, None)).key
        for path in ("a/x.jsonl", "c/x.jsonl", "c", "**/c/x.jsonl")
    ]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_a_name_that_is_no_utf8_is_spelled_out(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl"))
    try:
        path.write_text('{"text": "a"}\nbad\n')
    except OSError:
        pytest.skip("this file system has no such names")
    fetch_files([tmp_path / "*.jsonl"], tmp_path / "out")
    assert ids(tmp_path / "out") == ["s/caf\\xe9.jsonl/000000001"]
    source = LocalSource("s", paths=[str(tmp_path / "*.jsonl")])
    assert len(Store(tmp_path / "runs").artifact(fetch_step(source, None, None)).key) == 64


def test_strays_of_a_pattern_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("in/README", "in/sub/README.txt", "in/LICENSE.TXT", "in/__MACOSX/b.jsonl", "in/notes.docx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("about this corpus")
    write_jsonl(tmp_path / "in/sub/a.jsonl", ["a"])
    assert names(tmp_path / "in/**") == ["sub/a.jsonl"]
    assert "4 other files are not read (LICENSE.TXT, README, notes.docx, README.txt)" in caplog.text
    assert names(tmp_path / "in/sub/README.txt") == ["README.txt"], "who asks for it by name gets it"
    assert names(tmp_path / "in/**/README.txt") == ["sub/README.txt"]
    (tmp_path / "in/README.md").write_text("about")
    assert names(tmp_path / "in/README", tmp_path / "in/sub/a.jsonl", tmp_path / "in/README.md") == [
        "a.jsonl"
    ]
    assert f"{tmp_path}/in/README.md: is not read" in caplog.text, "as a shell spells in/*"
    with pytest.raises(SourceError, match=r"README\.md: nothing to read"):
        names(tmp_path / "in/README", tmp_path / "in/README.md")
    with pytest.raises(SourceError, match=r"README: unknown kind of file"):
        names(tmp_path / "in/README")
    with pytest.raises(SourceError, match=r"in/\*\.docx: no file of a known kind among notes\.docx"):
        names(tmp_path / "in/*.docx")
    with pytest.raises(SourceError, match=r"notes\.docx: unknown kind of file"):
        names(tmp_path / "in/sub", tmp_path / "in/notes.docx")


NESTED = {
    "article": {"text": "inside", "lang": "en"},
    "paragraphs": [{"text": "one", "n": 1}, {"text": None}, {"n": 3}, {"text": "two"}],
    "lines": ["first", None, "second"],
    "deep": [{"in": [{"t": "a"}, {"t": "b"}]}, {"in": []}, {"in": [{"t": "c"}]}],
    "a.b": "dotted",
    "text": "plain",
}


@pytest.mark.parametrize(
    ("path", "text", "changed"),
    [
        ("text", "plain", {"text": None}),
        ("article.text", "inside", {"article": {"lang": "en"}}),
        ("paragraphs[].text", "one\n\ntwo", {"paragraphs": [{"n": 1}, {"n": 3}]}),
        ("lines[]", "first\n\nsecond", {"lines": None}),
        ("deep[].in[].t", "a\n\nb\n\nc", {"deep": [{"in": []}]}),
        ("a.b", "dotted", {"a.b": None}),
    ],
)
def test_where_the_text_is(path: str, text: str, changed: dict[str, Any]) -> None:
    assert path_problem(path) == ""
    expected = {name: value for name, value in {**NESTED, **changed}.items() if value is not None}
    found, metadata = text_and_metadata(NESTED, Fields(path))
    assert found == text
    if path != "deep[].in[].t":  # where empty lists stay is nobody's business
        assert json.loads(metadata) == expected
    assert json.loads(text_and_metadata(NESTED, Fields(path, ("lines", "art*")))[1]) == {
        name: value for name, value in expected.items() if name in ("lines", "article")
    }


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("article.body", "no field 'article.body', only ['a.b', 'article.lang', 'article.text', "),
        ("lines", "field 'lines' is not a string but of type list; its elements are lines[]"),
        ("article", "field 'article' is not a string but of type dict"),
        ("text[]", "field 'text[]' is not a list there but of type str"),
        ("none[].text", "no field 'none[].text'"),
        ("paragraphs[].n", "field 'paragraphs[].n' is not a string but of type int"),
    ],
)
def test_where_the_text_is_not(path: str, problem: str) -> None:
    with pytest.raises(UserError) as refused:
        text_and_metadata(NESTED, Fields(path))
    assert str(refused.value).startswith(problem)


@pytest.mark.parametrize("path", ["", ".", "a..b", "[]", "[].a", "a[].", "a[0].b", "a[]b"])
def test_what_is_no_place_of_a_text(path: str) -> None:
    errors = LocalSource("s", paths=["x"], text_field=path).errors("corpora[0]")
    assert len(errors) == 1 and errors[0].startswith("corpora[0].text_field: must be a field or a path")


def test_nested_columns_and_binary_ones(tmp_path: Path) -> None:
    rows = [
        {
            "doc": {"parts": [{"t": "one", "image": b"\xff"}, {"t": "two", "image": None}], "url": "u"},
            "picture": b"\x89PNG",
            "raw": b"plain bytes",
            "score": 0.5,
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    fetch_files([tmp_path / "a.parquet"], tmp_path / "out", text_field="doc.parts[].t")
    (document,) = read_documents(tmp_path / "out")
    assert document.text == "one\n\ntwo"
    assert json.loads(document.metadata) == {
        "doc": {"parts": [{}, {"image": None}], "url": "u"},
        "score": 0.5,
    }
    fetch_files([tmp_path / "a.parquet"], tmp_path / "raw", text_field="raw", metadata=["sc*"])
    (document,) = read_documents(tmp_path / "raw")
    assert (document.text, document.metadata) == ("plain bytes", '{"score": 0.5}')
    with pytest.raises(SourceError, match=r"no column 'body\.text', only"):
        fetch_files([tmp_path / "a.parquet"], tmp_path / "no", text_field="body.text")


def test_columns_that_are_not_kept_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"text": ["t"], "url": ["u"], "blob": [b"b"], "n": [1]}), tmp_path / "a.parquet")
    asked: list[Any] = []
    read = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, **given: asked.append(given["columns"]) or read(self, **given),
    )
    fetch_files([tmp_path / "a.parquet"], tmp_path / "out", metadata=["url"])
    fetch_files([tmp_path / "a.parquet"], tmp_path / "all")
    fetch_files([tmp_path / "a.parquet"], tmp_path / "none", metadata=[""])
    assert asked == [["text", "url"], ["text", "url", "n"], ["text"]]
    assert [d.metadata for d in read_documents(tmp_path / "none")] == ["{}"]


def test_fields_by_pattern(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "plain.jsonl", ["plain"])
    (tmp_path / "news").mkdir()
    (tmp_path / "news/a.json").write_text('{"article": {"body": "news"}}')
    (tmp_path / "b.csv").write_text("content,n\nrow,1\n")
    patterns = ["*.csv=content", "news/*=article.body"]
    fetch_files([tmp_path / "*.*", tmp_path / "news"], tmp_path / "out", text_fields=patterns)
    assert [document.text for document in read_documents(tmp_path / "out")] == ["row", "plain", "news"]
    with pytest.raises(SourceError, match=r"no file fits 'more/\*'; they are called b\.csv, plain\.jsonl"):
        fetch_files([tmp_path / "*.*"], tmp_path / "none", text_fields=["more/*=text"])
    with pytest.raises(
        SourceError, match=r"b\.csv: no column 'text'.* or as text_fields for files like this"
    ):
        fetch_files([tmp_path / "b.csv"], tmp_path / "no")


@pytest.mark.parametrize("compression", ["", ".gz"])
@pytest.mark.parametrize(
    ("txt", "expected"),
    [
        ("file", [("one\r\nmore\n\n \n\nthree\n  four", 1)]),
        ("line", [("one\r\n", 1), ("more\n", 2), ("three\n", 6), ("  four", 7)]),
        ("paragraph", [("one\r\nmore", 1), ("three\n  four", 6)]),
    ],
)
def test_what_of_a_text_file_is_a_document(
    tmp_path: Path, txt: str, compression: str, expected: list[tuple[str, int]]
) -> None:
    content = "\ufeffone\r\nmore\n\n \n\nthree\n  four".encode()
    (tmp_path / f"a.TXT{compression}").write_bytes(gzip.compress(content) if compression else content)
    fetch_files([tmp_path / f"a.TXT{compression}"], tmp_path / "out", txt=txt)
    found = [(document.text, int(document.id[-9:])) for document in read_documents(tmp_path / "out")]
    strip = str if txt == "file" else str.strip
    assert [(strip(text), line) for text, line in found] == [(strip(text), line) for text, line in expected]


def test_a_paragraph_that_is_too_long_is_bad_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short\n\n" + "long\n" * 100 + "\nlast")
    fetch_files([tmp_path / "a.txt"], tmp_path / "out", txt="paragraph", maximum_record_bytes=100)
    assert [document.text for document in read_documents(tmp_path / "out")] == ["short", "last"]
    assert [(bad.line, bad.record[:9]) for bad in read_quarantine(tmp_path / "out")] == [(3, "long\nlong")]


def as_spreadsheets_write(rows: list[list[str]]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter="\t").writerows(rows)
    return stream.getvalue()


TSV_TEXTS = ['"Yes," he said', "a, b", '"quoted whole"', "plain", 'in "the" middle', '"open']


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("name", ["a.tsv", "A.TSV.gz"])
def test_tsv_with_quotes_as_spreadsheets_write_them_and_as_text(
    tmp_path: Path, quoted: bool, name: str
) -> None:
    texts = [*TSV_TEXTS, "two\nlines"] if quoted else TSV_TEXTS
    rows = [["id", "text"], *([str(number), text] for number, text in enumerate(texts))]
    content = as_spreadsheets_write(rows) if quoted else "".join("\t".join(row) + "\n" for row in rows)
    encoded = b"\xef\xbb\xbf" + content.encode()
    (tmp_path / name).write_bytes(gzip.compress(encoded) if name.endswith("gz") else encoded)
    assert fetch_files([tmp_path / name], tmp_path / "out")["quarantined"] == 0
    found = read_documents(tmp_path / "out")
    assert [document.text for document in found] == texts
    assert json.loads(found[1].metadata) == {"id": "1"}


def test_a_limit_reads_the_first_documents_and_takes_only_their_files_into_the_key(tmp_path: Path) -> None:
    for name in "abc":
        write_jsonl(tmp_path / f"{name}.jsonl", [f"{name}{number}" for number in range(3)])
    (tmp_path / "a.jsonl").write_text("bad\n" + (tmp_path / "a.jsonl").read_text())
    source = LocalSource("s", paths=[str(tmp_path / "*.jsonl")], limit=4)
    assert list(source.found()) == ["a.jsonl", "b.jsonl"]
    summary = fetch_files([tmp_path / "*.jsonl"], tmp_path / "out", limit=4, executor=LocalExecutor(2))
    assert [document.text for document in read_documents(tmp_path / "out")] == ["a0", "a1", "a2", "b0"]
    assert (summary["documents"], summary["quarantined"], summary["files"]) == (4, 1, 2)

    def key(limit: int) -> str:
        limited = LocalSource("s", paths=source.paths, limit=limit)
        return Store(tmp_path / "runs").artifact(fetch_step(limited, None, None)).key

    before = {limit: key(limit) for limit in (0, 4, 5)}
    assert len(set(before.values())) == 3
    write_jsonl(tmp_path / "c.jsonl", ["another"])
    assert {limit: key(limit) == before[limit] for limit in before} == {0: False, 4: True, 5: True}
    assert fetch_files([tmp_path / "*.jsonl"], tmp_path / "all", limit=100)["documents"] == 7
    assert LocalSource("s", paths=["x"], limit=-1).errors("") == [".limit: must be 0 or more, is -1"]


def test_a_limited_fetch_stands_on_what_it_reads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 1 TB (sparse) is neither hashed nor read; what comes first is, and a change while it is read stops."""
    path = tmp_path / "huge.jsonl"

    def write(first: str, after: str) -> None:
        write_jsonl(path, ["one", first, after])
        with path.open("r+b") as stream:
            stream.truncate(1 << 40)

    def artifact(limit: int) -> tuple[Store, Any]:
        store = Store(tmp_path / "runs")
        return store, fetch_step(LocalSource("s", paths=[str(path)], limit=limit), None, None)

    write("two", "three")
    started = time.process_time()
    store, step = artifact(2)
    first = store.artifact(step).key
    make(step, Workplace(store, LocalExecutor(1)))
    assert time.process_time() - started < 5
    assert [document.text for document in read_documents(store.directory(step))] == ["one", "two"]

    write("two", "another")  # after the limit
    store, step = artifact(2)
    assert store.artifact(step).key == first and store.is_complete(step)
    write("zwei", "three")
    store, step = artifact(2)
    assert store.artifact(step).key != first and not store.is_complete(step)
    write("drei", "three")  # after the key was taken
    with pytest.raises(UserError, match=r"fetched .*but its key was taken for .*the same command again"):
        make(step, Workplace(store, LocalExecutor(1)))
    assert not store.artifact(step).partial.exists()
    store, step = artifact(2)
    make(step, Workplace(store, LocalExecutor(1)))
    assert [document.text for document in read_documents(store.directory(step))] == ["one", "drei"]

    write_jsonl(path, ["one", "two", "three"])
    keys = set()
    for bad in ("", "bad\n", "worse\n"):  # what goes to quarantine is part of what is read, too
        path.write_text(bad + "\n".join(json.dumps({"text": text}) for text in ("one", "two", "three")))
        store, step = artifact(2)
        keys.add(store.artifact(step).key)
    assert len(keys) == 3


def test_a_plugins_records_are_limited_and_at_paths_too(tmp_path: Path) -> None:
    class Counting(Source):
        kind = "counting"

        def records(self) -> Any:
            yield from ({"a": {"t": str(number)}, "n": number} for number in range(10**9))

    source = Counting("c", text_field="a.t", limit=3)
    assert fetch_records(source, tmp_path, executor=LocalExecutor(1))["documents"] == 3
    assert [(d.text, d.metadata) for d in read_documents(tmp_path)] == [
        (str(n), f'{{"n": {n}}}') for n in range(3)
    ]
    assert Counting("c", txt="line").errors("x") == ["x.txt: only of a source that reads files"]


def test_settings_left_alone_are_no_part_of_the_key() -> None:
    assert set(LocalSource("s", paths=["x"]).key()) == {"source", "part", "text_field", "on_bad_file"}
    told = LocalSource("s", txt="line", limit=1, metadata=["url"], text_fields=["*.csv=t"]).key()
    assert {"txt", "limit", "metadata", "text_fields"} < set(told)
