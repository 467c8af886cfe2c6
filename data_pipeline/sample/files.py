"""The built-in sample corpus and its benchmarks: one generated world, no network, the same bytes for the same seed.

This module lays out the files and plants the defects that the pipeline must remove; `world` holds the
facts, `text` the texts, `data_pipeline.benchmarks` those of benchmarks, `defects` the damage.
"""

import gzip
import hashlib
import json
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import UserError
from core.files import atomic_write, write_json
from core.progress import Bar
from data_pipeline.benchmarks.benchmark import Sample, samples
from data_pipeline.sample import defects
from data_pipeline.sample.planted import CONTAINS
from data_pipeline.sample.text import Article, Guard, article, chapter, story
from data_pipeline.sample.world import World

# Of each corpus file: its share of the documents, what writes one, and its least and most words.
_FILES: dict[str, tuple[float, Callable[..., str | Article], int, int]] = {
    "stories": (0.45, story, 180, 330),
    "articles": (0.35, article, 180, 330),
    "books": (0.20, chapter, 260, 420),
}
# Planted documents, each a share of a file's documents (at least one); those with benchmark text come after them.
_DEFECT_SHARES = {
    "exact_duplicate": 0.02,
    "near_duplicate": 0.03,
    "too_short": 0.03,
    "mojibake": 0.02,
    "other_language": 0.03,
}


class _Held(NamedTuple):
    """A benchmark's texts, which some documents hold."""

    sample: Sample
    texts: list[str]


@dataclass
class _Row:
    """A corpus document before it has a line: its text, and what is planted in it, if anything."""

    text: str
    kind: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    original: "_Row | None" = None


def write_sample(
    output: Path, *, seed: int, documents: int, asked: Collection[str] = (), title: str = ""
) -> dict[str, Any]:
    """Write corpus, benchmarks and the record of planted defects under `output`.

    Args:
        output: receives `corpus/{stories,articles,books}.jsonl.gz`, `benchmarks/wikitext103/wiki.{valid,test}.tokens`,
            `benchmarks/lambada_test.jsonl`, `benchmarks/RACE/…`, those asked for, and `planted.json` (file, 1-based
            line, kind).
        seed: determines every byte, together with `documents`.
        documents: number of corpus documents, defects included; at least 100.
        asked: further benchmarks, of those that are written on demand.
        title: description of the progress bar.

    Returns:
        Counts of documents by file and of planted defects by kind.
    """
    if documents < 100:
        raise UserError(f"sample: documents = {documents}, but at least 100 are needed to plant every defect")
    world, guard = World(seed), Guard()
    written = {CONTAINS + name: sample for name, sample in samples(asked).items()}
    benchmarks = {
        kind: _Held(sample, sample.write(output / "benchmarks" / sample.path, world, guard, seed))
        for kind, sample in written.items()
    }
    shares = _DEFECT_SHARES | {kind: sample.share for kind, sample in written.items()}
    planted: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    with Bar(total=documents, desc=title or "sample", unit=" documents") as bar:
        for name, (share, write, least, most) in _FILES.items():
            draw = random.Random(f"{name} {seed}")
            maker = partial(_clean_text, write, draw, world, guard, least_words=least, most_words=most)
            rows = _rows(draw, maker, round(documents * share), shares, benchmarks, lambda: bar.update(1))
            _write_corpus_file(output / "corpus" / f"{name}.jsonl.gz", name, rows)
            planted += _record(f"{name}.jsonl.gz", rows)
            counts[name] = len(rows)
    write_json(output / "planted.json", planted)
    kinds = {kind: sum(entry["kind"] == kind for entry in planted) for kind in shares}
    texts = {kind: len(held.texts) for kind, held in benchmarks.items()}
    return {"documents": counts, "planted": kinds, "benchmarks": texts}


def _clean_text(write: Callable[..., str | Article], *arguments: Any, **words: int) -> str:
    """A clean document."""
    text = write(*arguments, **words)
    return text.plain() if isinstance(text, Article) else text


def _rows(
    draw: random.Random,
    maker: Callable[[], str],
    count: int,
    shares: Mapping[str, float],
    benchmarks: Mapping[str, _Held],
    advance: Callable[[], object],
) -> list[_Row]:
    """A file's documents in order; copies come after their originals."""
    rows = []
    copies = []
    for kind, share in shares.items():
        for _ in range(max(1, round(count * share))):
            if kind.endswith("duplicate"):
                copies.append(kind)
            else:
                rows.append(_planted_row(kind, draw, maker, benchmarks))
            advance()
    while len(rows) + len(copies) < count:
        rows.append(_Row(maker()))
        advance()
    draw.shuffle(rows)
    for kind in copies:
        _insert_copy(kind, draw, rows)
    return rows


def _planted_row(
    kind: str, draw: random.Random, maker: Callable[[], str], benchmarks: Mapping[str, _Held]
) -> _Row:
    text = maker()
    if kind == "too_short":
        return _Row(defects.shortened(draw, text), kind)
    if kind == "mojibake":
        original = defects.accented(draw, text)
        digest = hashlib.sha256(original.encode("utf-8")).hexdigest()
        return _Row(defects.garbled(original), kind, {"original_sha256": digest})
    if kind == "other_language":
        foreign, language = defects.foreign(draw)
        return _Row(foreign, kind, {"language": language})
    sample, texts = benchmarks[kind]
    index = draw.randrange(len(texts))
    passage = texts[index]
    document = passage if sample.whole else defects.embedded(draw, text, passage)
    return _Row(document, kind, {"benchmark_row": index})


def _insert_copy(kind: str, draw: random.Random, rows: list[_Row]) -> None:
    """Insert a copy of a clean document somewhere after it."""
    place = draw.randrange(len(rows))
    while rows[place].kind:
        place = draw.randrange(len(rows))
    original = rows[place]
    text = original.text if kind == "exact_duplicate" else defects.edited(draw, original.text)
    rows.insert(draw.randint(place + 1, len(rows)), _Row(text, kind, original=original))


def _record(file: str, rows: list[_Row]) -> list[dict[str, Any]]:
    """The planted documents of a file, with 1-based lines."""
    lines = {id(row): line for line, row in enumerate(rows, start=1)}
    entries = []
    for line, row in enumerate(rows, start=1):
        if row.kind:
            entry = {"file": file, "line": line, "kind": row.kind, **row.details}
            if row.original is not None:
                entry["original_line"] = lines[id(row.original)]
            entries.append(entry)
    return entries


def _write_corpus_file(path: Path, name: str, rows: list[_Row]) -> None:
    """One JSON object a line; the gzip member carries neither time nor name."""
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
    ):
        for line, row in enumerate(rows, start=1):
            record = {"text": row.text, "title": f"{name} {line}"}
            packed.write((json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8"))
