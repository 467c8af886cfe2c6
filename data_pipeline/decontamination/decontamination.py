"""Decontamination: training documents lose what benchmarks hold (paper section 4.1, method of its tools).

A run of 13 words that is also in a benchmark is cut out, with 200 characters on either side; benchmark texts of 8
to 12 words count as a whole. Pieces under 200 characters are dropped, and so are documents cut into more than 10
pieces, articles of a benchmark by their title, and documents that consist mostly of benchmark text. Words are
compared without case and punctuation, which makes WikiText's spelling (`1 @,@ 000`) and the plain one (`1,000`) equal;
contractions are looked for whole (`didn't`) and split (`did n't`).

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

from core.files import atomic_write
from data_pipeline.decontamination.ngrams import WORD, Match, benchmark_ngrams, title_words
from data_pipeline.engine.documents import Document, read_shard, shard_name, text_bytes, write_shard
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
        for document in read_shard(path):
            counts.update(documents_in=1, bytes_in=text_bytes(document.text))
            titled = ngrams.titles.get(_title(document))
            matches = ngrams.find(document.text)
            if titled is None and not matches:
                counts.update(documents=1, bytes=text_bytes(document.text))
                yield document
                continue
            verdict = _Verdict([], "benchmark_title") if titled else _cut(document.text, matches, settings)
            names = sorted({match.benchmark for match in matches} | ({titled} if titled else set()))
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


def _title(document: Document) -> str:
    """A document's title as words, or an empty string."""
    if '"title"' not in document.metadata:
        return ""
    title = json.loads(document.metadata).get("title")
    return title_words(title) if isinstance(title, str) else ""


def _cut(text: str, matches: list[Match], settings: DecontaminationSettings) -> _Verdict:
    """Cut the matches and their margins out of a text; margins end at blanks, so that no word is cut."""
    spans = [match.span() for match in WORD.finditer(text)]
    covered = {word for match in matches for word in range(match.start, match.start + match.words)}
    if len(covered) >= settings.article_share * len(spans):
        return _Verdict([], "benchmark_text")
    gaps: list[tuple[int, int]] = []
    for match in matches:
        start = _blank_before(text, spans[match.start][0] - settings.margin_characters)
        end = _blank_after(text, spans[match.start + match.words - 1][1] + settings.margin_characters)
        if gaps and start <= gaps[-1][1]:
            start, end = gaps[-1][0], max(end, gaps[-1][1])
            gaps.pop()
        gaps.append((start, end))
    edges = [0, *(edge for gap in gaps for edge in gap), len(text)]
    pieces = [text[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    pieces = [piece for piece in pieces if piece]
    if len(pieces) > settings.maximum_pieces:
        return _Verdict([], "too_many_pieces")
    pieces = [piece for piece in pieces if len(piece) >= settings.minimum_characters]
    return _Verdict(pieces, "" if pieces else "nothing_left")


def _blank_before(text: str, position: int) -> int:
    while position > 0 and not text[position].isspace():
        position -= 1
    return max(position, 0)


def _blank_after(text: str, position: int) -> int:
    blank = _BLANK.search(text, position)
    return blank.start() if blank else len(text)


def _hit(document: Document, names: list[str], matches: list[Match], verdict: _Verdict) -> str:
    """One line of the list of hits."""
    example = ""
    if matches:
        words = list(WORD.finditer(document.text))
        first = matches[0]
        example = document.text[words[first.start].start() : words[first.start + first.words - 1].end()]
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
