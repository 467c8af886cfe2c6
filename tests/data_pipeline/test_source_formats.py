"""File formats: the same documents from each of them and each compression, and what is bad in csv and Parquet."""

import bz2
import csv
import datetime
import gzip
import io
import json
import lzma
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import contents, english, fetch_files, read_documents

from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.resumable import read_quarantine
from data_pipeline.sources.fields import Fields
from data_pipeline.sources.raw_records import RawRecord
from data_pipeline.sources.records import Reading, SourceError, documents_of
from data_pipeline.text_files import MAXIMUM_DEPTH

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}
ROWS = [{"text": f'{english(n, 30)}\n"quoted", ü', "title": f"T{n}"} for n in range(200)]


def fetch(path: Path, output: Path, **settings: Any) -> dict[str, Any]:
    return fetch_files([path], output, **settings)


def reasons(output: Path) -> dict[int, str]:
    return {record.line: record.reason for record in read_quarantine(output)}


def encoded(kind: str, rows: list[dict[str, str]]) -> bytes:
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "csv":
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue().encode("utf-8-sig")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=30)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_format_and_compression_gives_the_same_documents(
    tmp_path: Path, kind: str, compression: str
) -> None:
    path = tmp_path / f"a.{kind}{compression}"
    path.write_bytes(COMPRESS[compression](encoded(kind, ROWS)))
    summary = fetch(path, tmp_path / "out")
    found = read_documents(tmp_path / "out")
    assert [document.text for document in found] == [row["text"] for row in ROWS]
    assert [json.loads(document.metadata) for document in found] == [{"title": row["title"]} for row in ROWS]
    assert (summary["documents"], summary["quarantined"]) == (200, 0)
    if kind != "csv":  # whose records have lines between them
        assert [document.id for document in found] == [f"s/{path.name}/{n:09d}" for n in range(1, 201)]


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_text_file_is_one_document(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"a.txt{compression}"
    path.write_bytes(COMPRESS[compression](b"all of\n\na file"))
    fetch(path, tmp_path / "out")
    assert [document.text for document in read_documents(tmp_path / "out")] == ["all of\n\na file"]


@pytest.mark.parametrize("compression", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_that_is_cut_off_is_noticed_and_kept_so_far(
    tmp_path: Path, compression: str
) -> None:
    rows = [{"text": english(n)} for n in range(2000)]
    path = tmp_path / f"a.jsonl{compression}"
    packed = COMPRESS[compression](encoded("jsonl", rows))
    path.write_bytes(packed[: len(packed) * 3 // 4])
    with pytest.raises(SourceError, match=rf"{path}: cut off or corrupt after \d+ records"):
        fetch(path, tmp_path / "stop")
    path.write_bytes(packed[:-1])
    with pytest.raises(SourceError, match="cut off or corrupt"):
        fetch(path, tmp_path / "stop")
    path.write_bytes(packed[: len(packed) * 3 // 4])
    assert fetch(path, tmp_path / "keep", on_bad_file="keep")["bad_files"] == 1
    texts = [document.text for document in read_documents(tmp_path / "keep")]
    assert len(texts) > 500
    assert texts == [row["text"] for row in rows[: len(texts)]]


def test_csv_records_that_are_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [
        b"id,text",
        b"1,good",
        b"2,one,too many",
        b'3,"quote"d',
        b"4,bad \xff utf-8",
        b"",
        b'5,"over\ntwo lines\x00 with NUL"',
        b'6,"never closed',
        b"7,swallowed",
    ]
    path.write_bytes(b"\n".join(lines))
    summary = fetch(path, tmp_path / "out")
    found = read_documents(tmp_path / "out")
    assert [document.text for document in found] == ["good", "over\ntwo lines\x00 with NUL"]
    assert [document.id for document in found] == ["s/a.csv/000000002", "s/a.csv/000000007"]
    assert summary["blank_lines"] == 1
    expected = {
        3: "3 fields, but the first row names 2 columns",
        4: "not CSV in lines 4 to 4",
        5: "invalid UTF-8",
        9: "not CSV in lines 9 to 10: unexpected end of data",
    }
    assert reasons(tmp_path / "out").keys() == expected.keys()
    for line, reason in expected.items():
        assert reasons(tmp_path / "out")[line].startswith(reason)


def test_a_csv_quote_that_stays_open_costs_a_record_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text\n"never closed\n' + "x" * 50 + "\n" + "good\n" * 30)
    summary = fetch(path, tmp_path / "out", maximum_record_bytes=60)
    assert summary["quarantined"] == 1
    assert summary["documents"] == 30
    assert reasons(tmp_path / "out")[2].startswith("not CSV in lines 2 to 3: longer than the 60 bytes")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_without_the_column_says_which_it_has(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(encoded(kind, ROWS))
    with pytest.raises(
        SourceError, match=rf"{path}: no column 'body', only \['text', 'title'\]; name .* text_field"
    ):
        fetch(path, tmp_path / "out", text_field="body", on_bad_file="keep")
    assert fetch(path, tmp_path / "title", text_field="title")["documents"] == 200


def test_parquet_values_of_other_types(tmp_path: Path) -> None:
    texts = pa.array([b"good", None, b"bad \xff", b"more"], pa.binary()).view(pa.string())
    days = pa.array([datetime.date(2019, 9, 17)] * 4)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts, "day": days, "list": [[1, 2]] * 4}), path)
    fetch(path, tmp_path / "out")
    found = read_documents(tmp_path / "out")
    assert [document.text for document in found] == ["good", "more"]
    assert json.loads(found[0].metadata) == {"day": "2019-09-17", "list": [1, 2]}
    assert reasons(tmp_path / "out")[2].startswith("field 'text' is not a string but of type NoneType")
    assert reasons(tmp_path / "out")[3].startswith("unreadable values")


def test_a_parquet_file_with_unreadable_names_of_columns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(encoded("parquet", ROWS).replace(b"title", b"\xff\xfe\xfd\xfc\xfb"))
    with pytest.raises(SourceError, match=rf"{path}: cut off or corrupt after 0 records"):
        fetch(path, tmp_path / "out")


def test_a_large_parquet_file_is_work_for_many_and_the_same_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(encoded("parquet", ROWS))
    (tmp_path / "b.jsonl").write_bytes(encoded("jsonl", ROWS[:3]))
    (tmp_path / "c.parquet").write_bytes(encoded("parquet", ROWS[:5]))
    fetch(tmp_path / "*", tmp_path / "whole")
    monkeypatch.setattr("data_pipeline.sources.pieces._PARQUET_PIECE_BYTES", 10_000)
    for workers in (1, 2):
        fetch_files([tmp_path / "*.*"], tmp_path / str(workers), executor=LocalExecutor(workers))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(list((tmp_path / "1" / "stats").iterdir())) > 3
    assert read_documents(tmp_path / "1") == read_documents(tmp_path / "whole")


def test_a_line_of_a_hundred_megabytes_is_a_document_or_quarantined_as_the_limit_says(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"text": "' + b"abcdefghi " * 10_000_000 + b'"}\n{"text": "after"}\n')
    started = time.monotonic()
    assert fetch(path, tmp_path / "out")["documents"] == 2
    assert [len(document.text) for document in read_documents(tmp_path / "out")] == [100_000_000, 5]
    summary = fetch(path, tmp_path / "limited", maximum_record_bytes=50_000_000)
    assert (summary["documents"], summary["quarantined"]) == (1, 1)
    assert reasons(tmp_path / "limited") == {1: "longer than the 50,000,000 bytes of maximum_record_bytes"}
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_records_over_the_limit_go_to_quarantine_in_every_format(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    rows = [{"text": "ü" * 60}, {"text": "short"}]
    path.write_bytes(b"x" * 101 if kind == "txt" else encoded(kind, rows))
    (tmp_path / "b.txt").write_text("good")
    summary = fetch(tmp_path / "*.*", tmp_path / "out", maximum_record_bytes=100)
    assert summary["quarantined"] == 1
    assert any("maximum_record_bytes" in reason for reason in reasons(tmp_path / "out").values())


def test_nothing_in_json_escapes_as_an_error_without_the_file(tmp_path: Path) -> None:
    deep = [b'{"text": "t", "deep": ' + b"[" * depth + b"]" * depth + b"}" for depth in range(900, 1100, 5)]
    lines = [
        *deep,
        b'{"text": "t", "n": ' + b"9" * 5000 + b"}",
        b'{"text": "nul \\u0000 and \x00"}',
        b'{"text": "t", "half": "\\ud800"}',
        b'{"text": "t", "text": "twice"}',
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    summary = fetch(path, tmp_path / "out")
    assert summary["records"] == len(lines) == summary["documents"] + summary["quarantined"]
    assert summary["documents"] >= 2
    assert all(json.loads(document.metadata) is not None for document in read_documents(tmp_path / "out"))


def test_rows_whose_other_fields_are_no_json_are_bad_alone(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    rows = [{"text": "t", "deep": deep}, {"text": "t", "map": {1: 1, "a": 2}}, {"text": "good"}]
    reading = Reading()
    records = [RawRecord(number, row) for number, row in enumerate(rows, start=1)]
    found = documents_of(
        records, path=tmp_path / "rows", source="s", name="0", fields=Fields(), reading=reading
    )
    assert [document.text for document in found] == ["good"]
    assert [(record.line, record.reason.partition(":")[0]) for record in reading.bad] == [
        (1, f"its fields are nested more than {MAXIMUM_DEPTH} levels deep"),
        (2, "its other fields cannot be kept as JSON"),
    ]


@pytest.mark.parametrize("too_deep", [False, True])
def test_how_deep_a_record_may_be_is_the_same_on_every_python(tmp_path: Path, too_deep: bool) -> None:
    depth = MAXIMUM_DEPTH - 1 + too_deep  # the record itself is a level
    path = tmp_path / "a.jsonl"
    deep: list[Any] = []
    for _ in range(depth - 1):
        deep = [deep]
    path.write_text('{"text": "line", "deep": ' + "[" * depth + "]" * depth + '}\n{"text": "good"}')
    fetch(path, tmp_path / "out")
    row = RawRecord(1, {"text": "row", "deep": deep})
    reading = Reading()
    rows = list(documents_of([row], path=path, source="s", name="0", fields=Fields(), reading=reading))
    found = [document.text for document in read_documents(tmp_path / "out")] + [row.text for row in rows]
    assert found == (["good"] if too_deep else ["line", "good", "row"])
    refused = [*reasons(tmp_path / "out").values(), *(record.reason for record in reading.bad)]
    reason = f"its fields are nested more than {MAXIMUM_DEPTH} levels deep"
    assert refused == ([reason, reason] if too_deep else [])


def test_metadata_is_json_whatever_numbers_a_record_holds(tmp_path: Path) -> None:
    """Python reads and writes NaN, and data frames are full of it; JSON has no such number."""
    (tmp_path / "a.jsonl").write_text(
        '{"text": "NaN", "a": NaN, "b": [Infinity, -Infinity, 1e999], "c": {"NaN": "Infinity", "d": 1.5}}\n'
    )
    pq.write_table(pa.table({"text": ["x", "y"], "score": [float("nan"), 2.0]}), tmp_path / "b.parquet")
    fetch_files([tmp_path / "a.jsonl", tmp_path / "b.parquet"], tmp_path / "out")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    documents = read_documents(tmp_path / "out")
    assert [document.text for document in documents] == ["NaN", "x", "y"]
    assert [json.loads(document.metadata, parse_constant=refuse) for document in documents] == [
        {"a": None, "b": [None, None, None], "c": {"NaN": "Infinity", "d": 1.5}},
        {"score": None},
        {"score": 2.0},
    ]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_limit_on_records_is_not_left_to_other_readers_of_csv(tmp_path: Path, suffix: str) -> None:
    """The standard library's limit is one for the process, and packaging reads its files with it, too."""
    path = tmp_path / f"in.{suffix}"
    path.write_text("text\nshort\n" + "long " * 40 + "\n", encoding="utf-8")
    before = csv.field_size_limit()
    fetch(path, tmp_path / "out", maximum_record_bytes=100)
    assert list(reasons(tmp_path / "out")) == [3]
    assert csv.field_size_limit() == before
