"""Decontamination: training documents lose what benchmarks hold (paper section 4.1, method of its tools).

A run of 13 words that is also in a benchmark is cut out, with 200 characters on either side; benchmark texts of 8
to 12 words count as a whole. Pieces under 200 characters are dropped, and so are documents that fall into more than 10
pieces and lose half of their text, articles of a benchmark by their title, and documents that consist mostly of benchmark
text. Words are compared without case, punctuation and what is not seen, which makes WikiText's spelling (`1 @,@ 000`) and
the plain one (`1,000`) equal; contractions are looked for whole (`didn't`) and split (`did n't`). What is cut is the
original text.

Every document hit is listed in `hits.jsonl`. What is looked for lives in `data_pipeline.decontamination.ngrams`.
"""

import functools
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.files import atomic_write
from data_pipeline.decontamination.ngrams import BenchmarkNgrams, Match, benchmark_ngrams
from data_pipeline.decontamination.words import words
from data_pipeline.engine.documents import Document, batches, read_shard, shard_name, text_bytes, write_shard
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.resumable import Counts, add_counts, run_shards
from data_pipeline.settings import DecontaminationSettings

HITS_FILE = "hits.jsonl"
_EXAMPLE_CHARACTERS = 200
_BLANK = re.compile(r"\s")


def decontaminate(
    inputs: list[Path],
    output: Path,
    benchmarks: Mapping[str, Path],
    settings: DecontaminationSettings,
    *,
    executor: Executor,
    title: str = "",
) -> Counts:
    """Cut benchmark text out of document shards, one output shard for each.

    A document that is cut gives one document for each piece, with ids `<id>#00`, `<id>#01`, …

    Args:
        inputs: document shards.
        output: directory to write to.
        benchmarks: file or directory of each benchmark, by name.

    Returns:
        Counts: documents and bytes in and out, cut documents, dropped by reason, hits by benchmark.

    Raises:
        BenchmarkError: a benchmark cannot be read or holds nothing to look for.
    """
    files = tuple(sorted(benchmarks.items()))
    benchmark_ngrams(files, settings.ngram, settings.minimum_words)  # errors show before any work is done
    tasks = {f"documents-{index:05d}": (index, path) for index, path in enumerate(inputs)}
    work = functools.partial(_decontaminate_shard, Path(output), files, settings)
    counts = run_shards("decontaminate", work, tasks, Path(output), executor, title)
    _join_hits(Path(output))
    return add_counts(counts)


class _Verdict(NamedTuple):
    """What becomes of a document that was hit: pieces to keep, or the reason why none are."""

    pieces: list[str]
    reason: str


def _decontaminate_shard(
    output: Path,
    files: tuple[tuple[str, Path], ...],
    settings: DecontaminationSettings,
    task: tuple[int, Path],
) -> Counts:
    index, path = task
    ngrams = benchmark_ngrams(files, settings.ngram, settings.minimum_words)
    counts: Counter[str] = Counter(documents_in=0, bytes_in=0, documents=0, bytes=0, cut=0)
    dropped: Counter[str] = Counter()
    hit_by: Counter[str] = Counter()
    hits: list[str] = []

    def kept() -> Iterator[Document]:
        for document, matches in _with_matches(path, ngrams):
            size = text_bytes(document.text)
            counts["documents_in"] += 1
            counts["bytes_in"] += size
            found = {match.benchmark for match in matches}
            titled = ngrams.titles.benchmark(document, found)
            if not titled and not matches:
                counts["documents"] += 1
                counts["bytes"] += size
                yield document
                continue
            verdict = _Verdict([], "benchmark_title") if titled else _cut(document.text, matches, settings)
            names = sorted(found | ({titled} if titled else set()))
            hit_by.update(names)
            hits.append(_hit(document, names, matches, verdict))
            if verdict.reason:
                dropped[verdict.reason] += 1
            else:
                counts["cut"] += 1
            for number, piece in enumerate(verdict.pieces):
                counts.update(documents=1, bytes=text_bytes(piece))
                yield document._replace(id=f"{document.id}#{number:02d}", text=piece)

    write_shard(output / shard_name(index), kept())
    with atomic_write(output / "hits" / f"documents-{index:05d}.jsonl") as temporary:
        temporary.write_text("".join(hits), encoding="utf-8")
    return {**counts, "dropped": dict(dropped), "hits": dict(hit_by)}


def _with_matches(path: Path, ngrams: BenchmarkNgrams) -> Iterator[tuple[Document, list[Match]]]:
    """The documents of a shard, and what each holds of the benchmarks."""
    for batch in batches(read_shard(path)):
        yield from zip(batch, ngrams.find([document.text for document in batch]), strict=True)


def _cut(text: str, matches: list[Match], settings: DecontaminationSettings) -> _Verdict:
    """Cut the matches and their margins out of a text; margins end at blanks, so that no word is cut."""
    if _share_of_words(text, matches) >= settings.article_share:
        return _Verdict([], "benchmark_text")
    gaps = _gaps(text, matches, settings.margin_characters)
    edges = [0, *(edge for gap in gaps for edge in gap), len(text)]
    pieces = [text[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    pieces = [piece for piece in pieces if piece]
    long = [piece for piece in pieces if len(piece) >= settings.minimum_characters]
    cut = 1 - sum(map(len, long)) / len(text)
    if len(pieces) > settings.maximum_pieces and cut >= settings.cut_share:
        return _Verdict([], "too_many_pieces")
    return _Verdict(long, "" if long else "nothing_left")


def _share_of_words(text: str, matches: list[Match]) -> float:
    """The share of a text's words that are in a match."""
    starts = words(text).starts
    covered = reached = 0
    for match in matches:
        first, last = np.searchsorted(starts, [max(match.start, reached), match.end])
        covered += max(int(last - first), 0)
        reached = max(reached, match.end)
    return covered / max(len(starts), 1)


def _gaps(text: str, matches: list[Match], margin: int) -> list[tuple[int, int]]:
    """What of a text is cut out; each character is looked at once, also where there are no blanks."""
    gaps: list[tuple[int, int]] = []
    for match in matches:
        reached = gaps[-1][1] if gaps else 0
        start = _blank_before(text, match.start - margin, reached)
        end = match.end + margin
        end = _blank_after(text, end) if end > reached else reached
        if gaps and start <= reached:
            gaps[-1] = gaps[-1][0], max(end, reached)
        else:
            gaps.append((start, end))
    return gaps


def _blank_before(text: str, position: int, least: int) -> int:
    while position > least and not text[position].isspace():
        position -= 1
    return max(position, least)


def _blank_after(text: str, position: int) -> int:
    blank = _BLANK.search(text, position)
    return blank.start() if blank else len(text)


def _hit(document: Document, names: list[str], matches: list[Match], verdict: _Verdict) -> str:
    """One line of the list of hits."""
    example = document.text[matches[0].start : matches[0].end] if matches else ""
    entry = {
        "id": document.id,
        "benchmarks": names,
        "matches": len(matches),
        "first_match": example[:_EXAMPLE_CHARACTERS],
        "dropped": verdict.reason,
        "pieces": len(verdict.pieces),
    }
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _join_hits(output: Path) -> None:
    """Join the shards' lists of hits into one; killed at any moment, the next call ends with the same file."""
    if not (output / HITS_FILE).exists():
        with atomic_write(output / HITS_FILE) as temporary, temporary.open("wb") as stream:
            for path in sorted((output / "hits").glob("*.jsonl")):
                stream.write(path.read_bytes())
    shutil.rmtree(output / "hits", ignore_errors=True)
