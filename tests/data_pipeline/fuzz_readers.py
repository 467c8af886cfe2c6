"""Readers against the standard library: python tests/data_pipeline/fuzz_readers.py FOLDER SEED ROUNDS

Each round writes one file, valid or damaged, of one of the formats below, and compares what a reader finds in it with what
`reader_oracles` does: the same records, or an error that names the file where the oracle refuses it. Anything else ends the
run with exit code 1: another record, another exception than a user's error, more than some seconds; its file stays in FOLDER. The last line counts, by
format: files, those read, those refused.
"""

import argparse
import bz2
import csv
import gzip
import io
import json
import logging
import lzma
import os
import random
import shutil
import signal
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import reader_oracles as oracle

from core.errors import UserError
from data_pipeline.benchmarks.lambada import read_rows
from data_pipeline.benchmarks.race import Split, _add_passage, _read_passage
from data_pipeline.benchmarks.wikitext103 import normalise
from data_pipeline.decontamination.texts import benchmark_texts
from data_pipeline.sources.archives import unpack
from data_pipeline.sources.local import _read
from data_pipeline.sources.pieces import Piece
from data_pipeline.sources.records import Reading
from data_pipeline.sources.source import LocalSource
from data_pipeline.text_files import read_text
from evaluate.generate import read_prompts

SECONDS = 20
_WORDS = [
    "the",
    "river",
    "naïve",
    "😀",
    "a\u2028b",
    "\u2029",
    "\x85",
    "\ufeff",
    "x\x0by",
    "\x1c",
    "\u00a0",
    '"q"',
    "\\",
    "]",
    "{",
]
_WORDS += ["\r", "\n", "\t", "é", ",", "\x00", "~" * 50, "'"]
_NASTY = [
    b"\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\\ud800",
    b"\\udc00",
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
]
_NASTY += [
    b"\x00",
    b"\\",
    b"[" * 600,
    b"]" * 600,
    b"9" * 5000,
    b"\xed\xa0\x80",
    b"null",
    b"NaN",
    b"\xf0\x9f\x98\x80",
    b" \n",
    b"\r",
]
_FIELDS = {"title": "T", "n": 1, "list": [1, {"a": None}], "x": 1.5, "ü": "\u2028"}


def text(draw: random.Random) -> str:
    return " ".join(draw.choice(_WORDS) for _ in range(draw.randrange(1, 12)))


def row(draw: random.Random) -> dict[str, Any]:
    names = draw.sample(sorted(_FIELDS), draw.randrange(len(_FIELDS)))
    return {"text": text(draw), **{name: _FIELDS[name] for name in names}}


def rows(draw: random.Random) -> list[dict[str, Any]]:
    return [row(draw) for _ in range(draw.randrange(1, 6))]


def ended(draw: random.Random, lines: list[str]) -> bytes:
    end = draw.choice(["\n", "\n", "\r\n"])
    mark = draw.choice(["", "", "", "\ufeff"])
    blank = [""] * (draw.random() < 0.1)
    return (mark + end.join([*blank, *lines]) + draw.choice(["", end])).encode()


def spelled(draw: random.Random, value: Any) -> str:
    return json.dumps(value, ensure_ascii=draw.random() < 0.5)


def json_lines(draw: random.Random) -> bytes:
    return ended(draw, [spelled(draw, value) for value in rows(draw)])


def json_file(draw: random.Random) -> bytes:
    kind = draw.randrange(4)
    if kind == 0:
        return json_lines(draw)
    indent = draw.choice([None, 1])
    if kind == 1:
        values = [json.dumps(value, indent=1, ensure_ascii=False) for value in rows(draw)]
        return ended(draw, values)
    count = draw.choice([0, 1, 5, 5, 5, 900])
    made = json.dumps([row(draw) for _ in range(count)], indent=indent, ensure_ascii=draw.random() < 0.5)
    return ended(draw, [made])


def csv_file(draw: random.Random) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=draw.choice(["\n", "\r\n"]))
    writer.writerow(["id", "text"])
    writer.writerows([(number, value["text"]) for number, value in enumerate(rows(draw))])
    return (draw.choice(["", "\ufeff"]) + stream.getvalue()).encode()


def parquet(draw: random.Random) -> bytes:
    sink = pa.BufferOutputStream()
    texts = [value["text"] for value in rows(draw)]
    table = pa.table({"text": texts, "n": [[number] for number in range(len(texts))]})
    pq.write_table(
        table, sink, row_group_size=draw.choice([1, 2, 100]), compression="zstd", write_page_checksum=True
    )
    return sink.getvalue().to_pybytes()


def race(draw: random.Random) -> bytes:
    count = draw.randrange(4)
    made = {
        "article": text(draw),
        "questions": [text(draw) for _ in range(count)],
        "options": [[text(draw) for _ in range(4)] for _ in range(count)],
        "answers": [draw.choice("ABCD") for _ in range(count)],
    }
    return draw.choice([b"", oracle.MARK]) + spelled(draw, made).encode()


def lines(draw: random.Random) -> bytes:
    return ended(draw, [text(draw).replace("\n", " ") for _ in range(draw.randrange(1, 6))])


_NAMES = [
    "a/0.txt",
    "a/b/1.jsonl",
    "2",
    "ü.json",
    "a/._0.txt",
    "__MACOSX/x",
    "c/3.csv",
    "a/b/.DS_Store",
    "d",
    "e/f",
]
_TARGETS = ["0.txt", "a/0.txt", "../a/0.txt", "a", "d", "absent", ".", "b/1.jsonl", "../2", "e/f"]


def tar_file(draw: random.Random) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=draw.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    ) as archive:
        for name in draw.sample(_NAMES, draw.randrange(1, len(_NAMES))):
            info = tarfile.TarInfo(name)
            content = text(draw).encode()
            if name[0] in "de" and draw.random() < 0.7:
                info.type, info.linkname = tarfile.SYMTYPE, draw.choice(_TARGETS)
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_file(draw: random.Random) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in draw.sample(_NAMES, draw.randrange(1, len(_NAMES))):
            info = zipfile.ZipInfo(name)
            link = name[0] in "de" and draw.random() < 0.7
            info.external_attr = (0o120777 if link else 0o100644) << 16
            content = draw.choice(_TARGETS) if link else text(draw)
            archive.writestr(info, content, draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    return stream.getvalue()


def documents(path: Path) -> oracle.Found:
    reading = Reading()
    found = _read(LocalSource("s", maximum_record_bytes=1 << 20), [Piece("0", path)], reading)
    kept = [
        (int(item.id.rpartition("/")[2]), item.text, "" if ".txt" in path.name.lower() else item.metadata)
        for item in found
    ]
    return kept, [record.line for record in reading.bad if record.reason != "empty file"]


def passages(path: Path) -> list[tuple[int, str, str]]:
    return [(found.line, found.context, found.target) for found in read_rows(path)]


def passage(path: Path) -> Any:
    split, record = Split(), _read_passage(path)
    if isinstance(record, str):
        raise UserError(record)
    if errors := _add_passage(record, "high", split):
        raise UserError("\n".join(f"{path}: {error}" for error in errors))
    questions = [(found.question, list(found.options), found.answer) for found in split.questions]
    return split.passages[0], questions


def protected(path: Path) -> list[str]:
    return [found.text for found in benchmark_texts(path, "lambada")]


def all_texts(read: Callable[[bytes], oracle.Found]) -> Callable[[bytes], list[str]]:
    def texts(content: bytes) -> list[str]:
        found, bad = read(content)
        if bad:
            raise ValueError("bad records")
        return [item for _, item, _ in found]

    return texts


def prompts(path: Path) -> list[str]:
    found = read_prompts(argparse.Namespace(prompt=None, prompt_file=path))
    assert found is not None
    return list(found)


def unpacked(path: Path) -> dict[str, bytes]:
    folder = path.with_name("unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    unpack(path, folder)
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


class Format:
    """A kind of file: how one is made, what reads it, and what the oracle says; `names` are its suffixes."""

    def __init__(
        self, make: Any, read: Any, expected: Any, *names: str, weight: int = 4, packed: bool = True
    ) -> None:
        self.make, self.read, self.expected = make, read, expected
        self.names, self.weight, self.packed = names, weight, packed


FORMATS = {
    "jsonl": Format(json_lines, documents, oracle.json_lines, ".jsonl", ".ndjson", ".JSONL", weight=6),
    "json": Format(json_file, documents, oracle.json_file, ".json", ".Json", weight=6),
    "csv": Format(csv_file, documents, oracle.csv_file, ".csv", ".CSV"),
    "txt": Format(lines, documents, oracle.text_file, ".txt", ".TXT", weight=2),
    "parquet": Format(parquet, documents, oracle.parquet_file, ".parquet", ".PARQUET", weight=2),
    "lambada": Format(json_lines, passages, oracle.lambada, ".jsonl", weight=6),
    "race": Format(race, passage, oracle.race, ".txt", ".TXT"),
    "wikitext": Format(lines, lambda path: normalise(read_text(path))[0], oracle.wikitext, ".tokens", ".raw"),
    "prompts": Format(lines, prompts, oracle.prompts, ".txt", ".prompts", weight=2),
    "benchmark jsonl": Format(json_lines, protected, all_texts(oracle.json_lines), ".jsonl", ".NDJSON"),
    "benchmark json": Format(json_file, protected, all_texts(oracle.json_file), ".json", weight=2),
    "benchmark parquet": Format(parquet, protected, all_texts(oracle.parquet_file), ".parquet", weight=1),
    "tar": Format(tar_file, unpacked, oracle.tar_file, ".tar", ".TAR"),
    "zip": Format(zip_file, unpacked, oracle.zip_file, ".zip", ".Zip", weight=2, packed=False),
}
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda content: gzip.compress(content, mtime=0),
    ".GZ": lambda content: gzip.compress(content, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: bytes(pa.compress(content, codec="zstd", asbytes=True)),
    ".zstd": lambda content: bytes(pa.compress(content, codec="zstd", asbytes=True)),
}


def damaged(draw: random.Random, content: bytes) -> bytes:
    """One to three changes: bytes flipped, cut, doubled, put in, or noise altogether."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 3])):
        place = draw.randrange(len(changed) + 1)
        kind = draw.randrange(8)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            del changed[place : place + draw.choice([1, 2, 50])]
        elif kind == 2:
            changed[place:place] = changed[place : place + draw.choice([1, 20, 2000])]
        elif kind == 3 and draw.random() < 0.1:
            changed = bytearray(draw.randbytes(draw.randrange(2000)))
        elif kind < 6:
            changed[place:place] = draw.choice(_NASTY)
        elif place < len(changed):
            changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def one(draw: random.Random, path: Path, name: str) -> tuple[bool, str]:
    """Make, damage, read and compare a file; whether it was read, and what is wrong."""
    form = FORMATS[name]
    content = form.make(draw)
    stricter = False  # whether more may be refused than the oracle does
    if draw.random() < 0.5:  # damage inside, which a compressed file does not notice
        content, stricter = damaged(draw, content), name in _STRICTER
    compression = draw.choice([*_COMPRESS, "", ""]) if form.packed else ""
    packed = _COMPRESS[compression](content)
    if draw.random() < 0.2:
        packed, stricter = damaged(draw, packed), stricter or name in _STRICTER or ".zst" in compression
    path = path.with_name(f"{path.name}{draw.choice(form.names)}{compression}")
    path.write_bytes(packed)
    try:
        known = name in _PLAIN and not compression
        expected: Any = form.expected(packed if known else oracle.decompress(packed, compression.lower()))
    except ValueError as error:
        expected = error
    if not packed and form.read is documents:
        expected = [], []  # a bad record of its own
    read, problem = True, ""
    try:
        found: Any = form.read(path)
        if isinstance(expected, ValueError):
            problem = f"read, though {expected!r}: {found!r}"
        elif found != expected:
            problem = f"found {found!r}, expected {expected!r}"
    except UserError as error:
        read = False
        if str(path) not in str(error):
            problem = f"an error without the file: {error}"
        elif not isinstance(expected, ValueError) and not stricter:
            problem = f"refused, though it can be read: {error}"
    if not problem:
        path.unlink()
    return read, problem


# Whose name alone says what is in them.
_PLAIN = ("parquet", "benchmark parquet", "tar", "zip")
# Refused for more reasons than the oracle knows, such as a name twice; only of damaged files. (Arrow's zstd is stricter than
# older ones: it takes bits that are left over for damage.)
_STRICTER = ("tar", "zip", "parquet", "benchmark parquet")


def one_round(folder: Path, seed: int, number: int) -> tuple[str, bool, str]:
    """The format of a round, whether its file was read, and what is wrong."""
    draw = random.Random(f"{seed} {number}")
    (name,) = draw.choices(list(FORMATS), [form.weight for form in FORMATS.values()])
    return name, *one(draw, folder / f"{seed}-{number}", name)


def main(folder: Path, seed: int, rounds: int) -> int:
    def late(*_: object) -> None:
        raise AssertionError(f"reading took more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    counts: dict[str, Counter[str]] = {name: Counter() for name in FORMATS}
    wrong = 0
    for number in range(rounds):
        signal.alarm(SECONDS)
        name, read, problem = one_round(folder, seed, number)
        signal.alarm(0)
        counts[name].update(files=1, read=read, refused=not read)
        if problem:
            wrong += 1
            print(f"seed {seed}, round {number}, {name}: {problem[:1500]}")
    print(json.dumps({"rounds": rounds, "wrong": wrong, "formats": counts}))
    return int(wrong > 0)


if __name__ == "__main__":
    logging.disable()
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
