"""Large files in pieces, and how many files a stage keeps: decided by sizes, the same documents from any cut."""

import itertools
import json
import pickle
import random
from pathlib import Path

import pytest
from corpus_files import contents, fetch_files, read_documents, write_jsonl

from data_pipeline.engine.documents import MOST_SHARDS, Document, ShardSize, list_shards, write_shard
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.resumable import read_quarantine
from data_pipeline.sources import local, pieces
from data_pipeline.sources.formats import Part, TextDocuments, raw_records
from data_pipeline.sources.hub import task_rows
from data_pipeline.sources.pieces import Dealing
from data_pipeline.sources.records import cut
from data_pipeline.sources.source import LocalSource
from data_pipeline.text_files import Name, lines_within, numbered_lines

LINES = [
    b"",
    b"\n",
    b"a",
    b"\xef\xbb\xbfa\nb",
    b"a\n\n\nb\r\n",
    b"0123456789" * 5 + b"\nx\n" + b"y" * 33,
    b"\n\n" + b"long" * 20 + b"\n\xef\xbb\xbfnot first\n",
]


@pytest.mark.parametrize("content", LINES)
@pytest.mark.parametrize("maximum", [4, 100])
def test_every_cut_gives_each_line_once_with_its_number(tmp_path: Path, content: bytes, maximum: int) -> None:
    """Against splitting at line feeds, for all sizes of pieces: borders within lines, at their ends, within marks."""
    path = tmp_path / "a"
    path.write_bytes(content)
    expected = [
        line[: maximum + 1] for line in content.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    ]
    for size in range(1, len(content) + 2):
        ranges = [range(s, min(s + size, len(content))) for s in range(0, len(content), size)]
        counts = [lines_within(path, piece) for piece in ranges]
        found = []
        for piece, first in zip(ranges, itertools.accumulate(counts, initial=1), strict=False):
            with path.open("rb") as stream:
                read = list(numbered_lines(stream, maximum, piece, first))
            assert len(read) == lines_within(path, piece)
            found += read
        assert [line for _, line in found] == expected, size
        assert [number for number, _ in found] == list(range(1, len(expected) + 1)), size


def mixed(path: Path) -> Path:
    draw = random.Random(3)
    lines = [f'{{"text": "{"word " * draw.randint(0, 60)}{number}"}}' for number in range(300)]
    lines[17], lines[40], lines[41], lines[200] = "no json", "", "   ", '{"text": "' + "long " * 600 + '"}'
    path.write_text("\n".join(lines))
    return path


def test_a_large_file_of_lines_is_work_for_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mixed(tmp_path / "a.jsonl")
    small = write_jsonl(tmp_path / "b.jsonl", ["small"])
    whole = fetch_files([path, small], tmp_path / "whole", maximum_record_bytes=2000)
    monkeypatch.setattr(pieces, "_LINES_PIECE_BYTES", 3000)
    for workers in (1, 2):
        out = tmp_path / str(workers)
        assert (
            fetch_files([path, small], out, maximum_record_bytes=2000, executor=LocalExecutor(workers))
            == whole
        )
        assert read_documents(out) == read_documents(tmp_path / "whole")
        assert list(read_quarantine(out)) == list(read_quarantine(tmp_path / "whole"))
        assert len(list_shards(out)) == -(-path.stat().st_size // 3000) + 1 > 10
        assert not (out / ".lines").exists()
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert [bad.line for bad in read_quarantine(tmp_path / "1")] == [18, 201]


def test_a_killed_fetch_of_a_large_file_goes_on_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mixed(tmp_path / "a.jsonl")
    monkeypatch.setattr(pieces, "_LINES_PIECE_BYTES", 3000)
    fetch_files([path], tmp_path / "right")
    read: list[Part] = []

    def killed_at(number: int) -> None:
        def watched(path: Path, *, part: Part, **given: object) -> object:
            if len(read) == number:
                raise KeyboardInterrupt
            read.append(part)
            return raw_records(path, part=part, **given)  # type: ignore[arg-type]

        monkeypatch.setattr(local, "raw_records", watched)

    killed_at(4)
    with pytest.raises(KeyboardInterrupt):
        fetch_files([path], tmp_path / "out")
    assert (tmp_path / "out" / ".lines").exists(), "what was counted is counted once"
    monkeypatch.setattr(local, "lines_within", None)
    killed_at(1000)
    fetch_files([path], tmp_path / "out")
    assert len(read) == len({part.lines for part in read}) > 10, "none is read twice"
    assert contents(tmp_path / "out") == contents(tmp_path / "right")


@pytest.mark.parametrize(
    ("name", "txt", "parts"),
    [
        ("a.jsonl", "file", 4),
        ("A.NDJSON", "file", 4),
        ("a.json", "file", 4),
        ("a.txt", "line", 4),
        ("a.txt", "paragraph", 0),
        ("a.txt", "file", 0),
        ("a.csv", "line", 0),
        ("a.tsv", "line", 0),
        ("a.jsonl.gz", "file", 0),
        ("list.json", "file", 0),
        ("indented.json", "file", 0),
    ],
)
def test_what_can_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, txt: TextDocuments, parts: int
) -> None:
    monkeypatch.setattr(pieces, "_LINES_PIECE_BYTES", 50)
    record = json.dumps({"text": "a" * 50})
    content = {"list.json": f"[{record}, {record}]", "indented.json": f"{{\n{record[1:]}\n" * 2}
    (tmp_path / name).write_text(content.get(name, f"{record}\n" * 3)[:200])
    found = Dealing({name: tmp_path / name}, txt).lines_pieces()
    assert [len(ranges) for ranges in found.values()] == [parts] * bool(parts)


def test_workers_get_no_list_of_all_files_with_every_task() -> None:
    source = LocalSource("s", paths=[f"{number:06d}.txt" for number in range(20_000)])
    assert len(pickle.dumps(source)) < 2000


class Sized:
    """A file of any size."""

    def __init__(self, size: int, name: str = "a.jsonl") -> None:
        self.st_size, self.name = size, name

    def stat(self) -> "Sized":
        return self


@pytest.mark.parametrize(
    ("files", "size"),
    [(1, 5 * 10**12), (1000, 5 * 10**9), (7, 10**11), (100_000, 50_000_000), (300_000, 100)],
)
def test_the_files_of_a_stage_stay_countable(files: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 TB in one file or in many: tasks, and the shards in them; 20,000 files of a stage that has four a shard."""
    monkeypatch.setattr(pieces, "is_lines", lambda path, txt: True)
    monkeypatch.setattr(pieces, "name_of", lambda path: Name("", ""))
    monkeypatch.setattr(pieces, "kind_of", lambda path: "jsonl")
    shared = Sized(size)
    dealing = Dealing(dict.fromkeys(map(str, range(files)), shared), "file")  # type: ignore[arg-type]
    tasks = sum(
        1 for _ in dealing.tasks({name: [1] * len(cut) for name, cut in dealing.lines_pieces().items()})
    )
    assert tasks <= MOST_SHARDS + MOST_SHARDS // 10
    assert files * size < 10**10 or tasks > MOST_SHARDS // 4, "and enough for many processes"
    text = files * size // tasks  # of a task, less what JSON adds
    limits = dealing.shard_size
    assert 4 * tasks * -(-text * 95 // 100 // limits.characters) <= 20_000
    assert limits.is_full(10**7, limits.characters) and not limits.is_full(2000, limits.least - 1)


def test_small_corpora_have_the_shards_they_always_had() -> None:
    for size in (0, 10**6, 10**9, 60 * 10**9):
        assert ShardSize.of_corpus(size).characters == 16 << 20
        assert ShardSize.of_corpus(size).rows == 2000
    assert ShardSize.of_corpus(10**9).least == 250_000  # 125 characters a document
    assert ShardSize.of_corpus(5 * 10**12).characters == 5 * 10**12 // 4000


def test_shards_are_cut_where_they_are_full_as_streams() -> None:
    documents = (Document(str(number), "x" * (number % 7), "s", "{}") for number in range(10_000))
    limits = ShardSize(characters=1000, rows=50, least=140)
    sizes: list[tuple[int, int]] = []
    found: list[str] = []
    for part, shard in cut(documents, lambda part: limits):
        assert part == len(sizes)
        texts = []
        for document in shard:
            texts.append(document.text)
            found.append(document.id)
        sizes.append((len(texts), sum(map(len, texts))))
    assert found == [str(number) for number in range(10_000)]
    for rows, size in sizes[:-1]:
        assert rows >= 50 and size >= 140 and (rows == 50 or size - 6 < 140)


def test_rows_of_a_dataset_are_dealt_without_knowing_how_many_there_are() -> None:
    assert [task_rows(task) for task in (0, 1, 1999)] == [
        range(2000),
        range(2000, 4000),
        range(3_998_000, 4_000_000),
    ]
    for task in range(9_000):
        assert task_rows(task).stop == task_rows(task + 1).start
    tasks = next(task for task in itertools.count(1) if task_rows(task).start > 10**9)
    assert tasks < 4 * MOST_SHARDS, "a thousand million rows"


def test_shards_sort_by_their_numbers(tmp_path: Path) -> None:
    for number in (99_999, 100_000, 7):
        write_shard(tmp_path / f"documents-{number:05d}-0000.parquet", [])
    assert [path.name[10:-13] for path in list_shards(tmp_path)] == ["00007", "99999", "100000"]
