"""Readers on damaged files: whatever is in a file, its name is in the error, and reading ends.

Damage is drawn from a fixed seed. What a format has no checksum for may be read wrong; nothing may crash or hang.
"""

import bz2
import contextlib
import gzip
import json
import lzma
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import ANY

import fuzz_readers
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import fetch_files

from core.errors import UserError
from data_pipeline.sources.formats import raw_records
from data_pipeline.sources.records import SourceError
from data_pipeline.text_files import read_text

SECONDS = 30
ROWS = [{"text": f"text {n} ü " * 5, "title": f"T{n}", "list": [n] * 3} for n in range(60)]


def jsonl() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def csv() -> bytes:
    return b"text,title\n" + b"".join(b'"text %d, ""quoted""\nmore",T\n' % n for n in range(60))


def parquet(**settings: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=20, **settings)
    return sink.getvalue().to_pybytes()


GOOD: dict[str, Callable[[], bytes]] = {
    "jsonl": jsonl,
    "csv": csv,
    "parquet": lambda: parquet(compression="zstd"),
    "checked.parquet": lambda: parquet(compression="snappy", write_page_checksum=True),
    "jsonl.gz": lambda: gzip.compress(jsonl()),
    "jsonl.bz2": lambda: bz2.compress(jsonl()),
    "csv.xz": lambda: lzma.compress(csv()),
    "jsonl.zst": lambda: pa.compress(jsonl(), codec="zstd", asbytes=True),
    "parquet.gz": lambda: gzip.compress(parquet()),
    "txt.zst": lambda: pa.compress(b"one document " * 500, codec="zstd", asbytes=True),
}


class Executor:
    """Works in the calling process, without progress bars' threads."""

    workers = 1

    def map(self, function, items):
        return map(function, items)


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A reader that hangs fails instead."""

    def late(*_: object) -> None:
        raise AssertionError(f"reading took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def damaged(good: bytes, draw: random.Random) -> bytes:
    """Cut off, with flipped bits, with a block of noise, with a block gone, or noise altogether."""
    content = bytearray(good)
    place = draw.randrange(len(content))
    kind = draw.randrange(6)
    if kind == 0:
        return bytes(content[:place])
    if kind == 1:
        return draw.randbytes(draw.randrange(1, 5000))
    if kind == 2:
        content[place : place + 50] = draw.randbytes(50)
    elif kind == 3:
        del content[place : place + draw.randrange(1, 200)]
    else:
        for _ in range(draw.choice([1, 1, 3])):
            # The footer of Parquet, where most is decided, is at the end.
            back = draw.randrange(1, min(1200, len(content))) if draw.random() < 0.5 else len(content) - place
            content[-back] ^= 1 << draw.randrange(8)
    return bytes(content)


@pytest.mark.parametrize("name", GOOD)
def test_damaged_files_raise_with_their_name_or_are_read(tmp_path: Path, name: str) -> None:
    draw = random.Random(name)
    good = GOOD[name]()
    path = tmp_path / f"damaged.{name}"
    outcomes = set()
    for _ in range(300):
        path.write_bytes(damaged(good, draw))
        try:
            for _ in raw_records(path):
                pass
            outcomes.add("read")
        except ValueError as error:  # which the stages turn into their own, with the file's name
            assert type(error).__name__ in ("DamagedFileError", "ColumnError", "UnreadableFileError")
            outcomes.add("noticed")
    assert "noticed" in outcomes or name == "jsonl"  # where each record is judged alone


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("on_bad_file", ["stop", "keep"])
def test_the_stage_names_the_file_of_whatever_is_wrong(tmp_path: Path, name: str, on_bad_file: str) -> None:
    draw = random.Random(f"{name} {on_bad_file}")
    good = GOOD[name]()
    for case in range(8):
        path = tmp_path / f"damaged{case}.{name}"
        path.write_bytes(damaged(good, draw))
        try:
            summary = fetch_files([path], tmp_path / str(case), on_bad_file=on_bad_file, executor=Executor())
        except SourceError as error:
            assert str(path) in str(error)
        else:
            assert summary["documents"] + summary["quarantined"] == summary["records"]


def test_every_truncation_of_a_checked_file_is_noticed(tmp_path: Path) -> None:
    rows = b"".join(b'{"text": "%d"}\n' % n for n in range(20))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["a", "b"]}), sink)
    files = {
        "a.jsonl.gz": gzip.compress(rows),
        "a.jsonl.bz2": bz2.compress(rows),
        "a.jsonl.xz": lzma.compress(rows),
        "a.jsonl.zst": pa.compress(rows, codec="zstd", asbytes=True),
        "a.parquet": sink.getvalue().to_pybytes(),
    }
    for name, content in files.items():
        path = tmp_path / name
        for size in range(1, len(content)):
            path.write_bytes(content[:size])
            with pytest.raises(ValueError, match=r"."):
                list(raw_records(path))


def test_every_flipped_bit_of_a_gzip_file_is_noticed_or_harmless(tmp_path: Path) -> None:
    rows = b"".join(b'{"text": "%d"}\n' % n for n in range(10))
    content = gzip.compress(rows)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content)
    intact = list(raw_records(path))
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert list(raw_records(path)) == intact, bit
        except ValueError as error:
            assert type(error).__name__ == "DamagedFileError"


def test_all_readers_find_what_the_standard_library_does(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """`fuzz_readers.py` says what is compared; there are rounds enough for each format to be read and refused."""
    wrong = fuzz_readers.main(tmp_path, seed=1, rounds=600)
    *problems, counts = capsys.readouterr().out.splitlines()
    assert (wrong, problems) == (0, [])
    assert all(found["read"] and found["refused"] for found in json.loads(counts)["formats"].values())


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (
            4619,
            "parquet",
        ),  # a footer that says other numbers than the columns hold: rows were lost in silence
        (21520, "benchmark parquet"),
        (52505, "parquet"),
        (30604, "json"),  # blanks that are none of JSON's, before a list
        (55710, "json"),
        (25938, "json"),  # two byte order marks
    ],
)
def test_what_the_fuzz_once_found(tmp_path: Path, number: int, name: str) -> None:
    assert fuzz_readers.one_round(tmp_path, 11, number) == (name, ANY, "")


@pytest.mark.parametrize(
    "piece",
    [
        b"\n",
        b"\r\n",
        b" ",
        b"[",
        b"{",
        b'"',
        b"\\",
        b'{"text": "a"},',
        b'[{"text": "',
        b"\xff",
        b'{\n"a": 1}\n',
        b"\xe2\x80\xa8",
    ],
)
@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "txt", "tokens"])
def test_the_time_of_reading_grows_with_the_size_of_a_file(tmp_path: Path, name: str, piece: bytes) -> None:
    """A quadratic reader takes sixteen times as long for four times as much; noise is a few hundredths of a second."""
    path = tmp_path / f"a.{name}"
    seconds = []
    for size in (1 << 18, 1 << 20):
        path.write_bytes(b"[" * (name == "json") + piece * (size // len(piece)))
        started = time.process_time()
        with contextlib.suppress(UserError):
            read_text(path) if name == "tokens" else deque(raw_records(path), maxlen=0)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 10 * seconds[0] + 0.3
