"""Local files: what is read, what goes to quarantine, what stops the stage."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from corpus_files import contents, english, fetch_files, read_documents, write_jsonl

from core.errors import UserError
from data_pipeline.build import Command
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.resumable import read_quarantine
from data_pipeline.engine.steps import Store
from data_pipeline.sources.records import SourceError
from data_pipeline.sources.source import LocalSource


def fetch(paths: list[Path] | Path, output: Path, **settings: Any) -> dict[str, Any]:
    files = paths if isinstance(paths, list) else [paths]
    return fetch_files(files, output, source="books", **settings)


def test_ids_metadata_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "title": "T", "year": 1}\n\n{"text": "zwei ü"}\n', encoding="utf-8-sig")
    summary = fetch(path, tmp_path / "out")
    first, second = read_documents(tmp_path / "out")
    assert (first.id, first.text, first.source) == ("books/a.jsonl/000000001", "one", "books")
    assert json.loads(first.metadata) == {"title": "T", "year": 1}
    assert (second.id, second.text) == ("books/a.jsonl/000000003", "zwei ü")
    assert summary == {
        "files": 1,
        "records": 2,
        "documents": 2,
        "bytes": 10,
        "quarantined": 0,
        "blank_lines": 1,
        "bad_files": 0,
    }


def test_globs_text_files_and_order(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "deep" / "b.jsonl.gz", ["from b"])
    (tmp_path / "deep" / "a.txt").write_text("all of\na file")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"packed"))
    fetch([tmp_path / "c.txt.gz", tmp_path / "**" / "*.*"], tmp_path / "out")
    assert [document.text for document in read_documents(tmp_path / "out")] == [
        "packed",
        "all of\na file",
        "from b",
    ]


def test_a_folder_is_all_its_files_of_known_kinds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "my [corpus]"
    for name, text in (
        ("b.NDJSON", "b"),
        ("sub/a.jsonl.zstd", "a"),
        (".hidden.jsonl", "hidden"),
        ("c.json", "c"),
    ):
        write_jsonl(folder / name, [text])
    (folder / "sub" / "a.jsonl.zstd").write_bytes(
        pa.compress((folder / "sub" / "a.jsonl.zstd").read_bytes(), codec="zstd", asbytes=True)
    )
    (folder / "D.TXT").write_text("d")
    (folder / "._D.TXT").write_bytes(b"\0\5\x16\7")
    (folder / "README.md").write_text("about it")
    summary = fetch(folder, tmp_path / "out")
    assert [document.text for document in read_documents(tmp_path / "out")] == ["d", "b", "c", "a"]
    assert (summary["files"], summary["quarantined"]) == (4, 0)
    assert "1 other files are not read (README.md)" in caplog.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        SourceError, match=r"empty: no file of a known kind in this folder .*\.jsonl, \.ndjson"
    ):
        fetch(tmp_path / "empty", tmp_path / "none")
    with pytest.raises(
        SourceError, match=r"documents-00000-0000\.parquet: a document shard, .* give its folder alone"
    ):
        fetch([folder, tmp_path / "out"], tmp_path / "both")


def test_document_shards_beside_other_files_are_no_commands_output(tmp_path: Path) -> None:
    """Of the output of a command only the shards are read; of another folder nothing is left out in silence."""
    folder = tmp_path / "mixed"
    fetch(write_jsonl(tmp_path / "a.jsonl", ["a"]), folder)
    command = Command(
        tmp_path / "out", LocalSource("s", paths=[str(folder)]), LocalExecutor(1), Store(tmp_path)
    )
    assert len(command.documents().given) == 1
    write_jsonl(folder / "more.jsonl", ["b"])
    with pytest.raises(
        UserError, match=rf"{folder}: holds document shards .* and other files \(more\.jsonl\)"
    ):
        command.documents()
    (folder / "funnel.json").touch()  # as every command writes it
    assert len(command.documents().given) == 1


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "one"},\n {"text": "two\u2028", "n": [1, {"a": "]"}]} ]\n',
        '[{"text":"one"},{"text":"two\u2028","n":[1,{"a":"]"}]}]',
        '{"text": "one"}\n{"text": "two\u2028", "n": [1, {"a": "]"}]}',
        '{"text": "one"}\r\n\r\n{"text": "two\u2028", "n": [1, {"a": "]"}]}\r\n',
        '{\n  "text": "one"\n}\n{\n  "text": "two\u2028",\n "n": [1, {"a": "]"}]\n}\n',
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_in_each_of_its_layouts(tmp_path: Path, content: str, name: str, mark: str) -> None:
    encoded = (mark + content).encode()
    (tmp_path / name).write_bytes(gzip.compress(encoded) if name.endswith(".gz") else encoded)
    assert fetch(tmp_path / name, tmp_path / "out")["quarantined"] == 0
    first, second = read_documents(tmp_path / "out")
    assert (first.text, second.text, first.id) == ("one", "two\u2028", f"books/{name}/000000001")
    assert json.loads(second.metadata) == {"n": [1, {"a": "]"}]}


def test_bad_records_of_a_json_list_are_bad_alone_and_what_is_no_list_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    long = json.dumps({"text": "long " * 30_000})
    parts = [
        '{"text": "good"}',
        "7",
        '{"text": "\\ud800"}',
        '{"x": 1}',
        long,
        '{"text": "\udcff"}',
        '{"text": "ü"}',
    ]
    path.write_bytes(f"[{', '.join(parts)}]".encode("utf-8", "surrogateescape"))
    summary = fetch(path, tmp_path / "out", maximum_record_bytes=100_000)
    assert [document.text for document in read_documents(tmp_path / "out")] == ["good", "ü"]
    assert summary["records"] == 7
    assert {record.line: record.reason for record in read_quarantine(tmp_path / "out")} == {
        2: "not a JSON object but a int",
        3: "half a surrogate pair at character 0",
        4: "no field 'text', only ['x']",
        5: "longer than the 100,000 bytes of maximum_record_bytes",
        6: "invalid UTF-8",
    }
    for number, (wrong, problem) in enumerate(
        {
            '[{"text": "a"}': "the list ends after 1 records without its bracket",
            '[{"text": "a"}, ': "the list ends after 1 records without its bracket",
            '[{"text": "a"} {"text": "b"}]': "after it comes '{', no comma",
            '[{"text": "a"}, {"text": ]': "record 2: not JSON: Expecting value",
            '[{"text": "a"}, ]': "record 2: not JSON: Expecting value",
            '[{"text": "a"}] []': "after the list comes '\\['",
            f'[{{"text": "a"}}, {"[" * 100_000}]': "record 2: its fields are nested more than 500",
            '{\n"text": "a"\n}\n{\n"text": ': "record 2: not JSON",
        }.items()
    ):
        path.write_text(wrong)
        with pytest.raises(SourceError, match=rf"{path}: cut off or corrupt after \d records \(.*{problem}"):
            fetch(path, tmp_path / f"stop{number}")
        assert fetch(path, tmp_path / f"keep{number}", on_bad_file="keep")["documents"] == 1


def test_a_file_whose_name_says_another_format_stops_the_stage(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(b'{"text": "a"}'))
    for on_bad_file in ("stop", "keep"):
        with pytest.raises(UserError, match=rf"{path}: is compressed: let its name end in \.gz"):
            fetch(path, tmp_path / on_bad_file, on_bad_file=on_bad_file)


def test_what_other_readers_take_for_line_ends_is_text(tmp_path: Path) -> None:
    text = "a \u2028 b \u2029 c \x85 d \x0b e \x0c f"
    lines = [json.dumps({"text": text}, ensure_ascii=False), "", json.dumps({"text": "last"})]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["", *lines]).encode())
    summary = fetch(path, tmp_path / "out")
    assert [(document.id[-1], document.text) for document in read_documents(tmp_path / "out")] == [
        ("2", text),
        ("4", "last"),
    ]
    assert (summary["records"], summary["quarantined"], summary["blank_lines"]) == (2, 0, 2)


def test_bad_records_go_to_quarantine_with_line_and_reason(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": "good"}).encode(),
        b"no json {",
        b'{"text": "bad \xff utf-8"}',
        b'{"body": "elsewhere"}',
        b'{"text": 7}',
        b'["text"]',
        b'{"text": "half \\ud800 pair"}',
        b"[" * 100_000,
        b'{"text": "also good"}',
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(b"\n".join(lines))
    empty = tmp_path / "nothing.jsonl"
    empty.touch()
    summary = fetch([path, empty], tmp_path / "out")
    assert [document.text for document in read_documents(tmp_path / "out")] == ["good", "also good"]
    assert (summary["records"], summary["documents"], summary["quarantined"]) == (10, 2, 8)
    found = {(record.file, record.line): record.reason for record in read_quarantine(tmp_path / "out")}
    expected = {
        2: "not JSON",
        3: "invalid UTF-8 at byte 14",
        4: "no field 'text', only ['body']",
        5: "field 'text' is not a string but of type int",
        6: "not a JSON object but a list",
        7: "half a surrogate pair at character 5",
        8: "its fields are nested more than 500 levels",
    }
    for line, reason in expected.items():
        assert found["mixed.jsonl", line].startswith(reason)
    assert found["nothing.jsonl", 0] == "empty file"


@pytest.mark.parametrize("bad, raises", [(100, False), (101, True)])
def test_more_than_a_hundred_bad_records_stop_a_small_corpus(tmp_path: Path, bad: int, raises: bool) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("oops\n" * bad + '{"text": "good"}\n' * 200)
    if raises:
        with pytest.raises(SourceError, match=rf"101 of 301 records are bad.*{path} line 1: not JSON"):
            fetch(path, tmp_path / "out")
    else:
        assert fetch(path, tmp_path / "out")["quarantined"] == bad


def test_one_percent_is_allowed_in_a_large_corpus(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("oops\n" * 150 + '{"text": "good"}\n' * 14_900)
    assert fetch(path, tmp_path / "out")["quarantined"] == 150


@pytest.mark.parametrize("damage", ["cut off", "flipped", "no gzip"])
def test_a_damaged_file_stops_the_stage_or_is_kept_as_far_as_it_goes(tmp_path: Path, damage: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl.gz", [english(seed) for seed in range(200)])
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(
        {"cut off": path.read_bytes()[: len(packed) // 2], "flipped": packed, "no gzip": b"plain"}[damage]
    )
    good = write_jsonl(tmp_path / "b.jsonl", ["good"])
    with pytest.raises(
        SourceError, match=rf'{path}: cut off or corrupt after \d+ records .*on_bad_file = "keep"'
    ):
        fetch([path, good], tmp_path / "stop")
    summary = fetch([path, good], tmp_path / "keep", on_bad_file="keep")
    assert summary["bad_files"] == 1
    assert summary["documents"] == summary["records"] - summary["quarantined"]
    texts = [document.text for document in read_documents(tmp_path / "keep")]
    assert texts[-1] == "good"
    if damage == "cut off":
        assert len(texts) > 50
        assert texts[:-1] == [english(seed) for seed in range(len(texts) - 1)]


def test_no_documents_no_files_unknown_kinds(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(SourceError, match=r"no documents.*empty\.jsonl line 0: empty file"):
        fetch(empty, tmp_path / "out")
    (tmp_path / "a.docx").touch()
    with pytest.raises(SourceError, match=r"absent\*: no such file; .*a\.docx: unknown kind"):
        fetch([tmp_path / "absent*", tmp_path / "a.docx"], tmp_path / "out2")


def test_many_shards_are_the_same_with_any_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write_jsonl(tmp_path / f"{name}.jsonl", [english(seed) for seed in range(30)]) for name in "abc"]
    monkeypatch.setattr("data_pipeline.sources.pieces._GROUP_BYTES", 1)
    paths = [str(path) for path in files]
    for workers in (1, 2):
        fetch_files(paths, tmp_path / str(workers), executor=LocalExecutor(workers))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(list((tmp_path / "1").glob("*.parquet"))) == 3


def test_a_document_of_fifty_megabytes_passes_all_the_way(tmp_path: Path) -> None:
    text = (english(1, 1000) + "\n") * (50_000_000 // 6000)
    path = write_jsonl(tmp_path / "huge.jsonl", [text, english(2)])
    assert fetch(path, tmp_path / "out")["documents"] == 2
    assert [len(document.text) for document in read_documents(tmp_path / "out")] == [
        len(text),
        len(english(2)),
    ]
