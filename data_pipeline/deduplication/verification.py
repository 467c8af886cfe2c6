"""Comparison: which candidate pairs are alike, by the exact Jaccard similarity of their texts.

Block by block of input shards: the candidates of all bands are joined and sifted by short signatures; the normalised
texts of what is left are laid out to be mapped into memory; pairs are compared in the order of the second document's
block, so that the texts of two blocks are read at a time, each from front to back. Candidates come from
`data_pipeline.deduplication.candidates`; what becomes of similar documents is decided in `data_pipeline.deduplication.deduplication`.
"""

import bisect
import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from core.files import atomic_write
from data_pipeline.deduplication.candidates import band_tasks, candidates_file
from data_pipeline.deduplication.job import Job, Numbers, save_array
from data_pipeline.deduplication.long_texts import LONG_CHARACTERS, LongText, long_similarity
from data_pipeline.deduplication.minhash import (
    Codes,
    estimated_jaccard,
    jaccard,
    normalise,
    shingle_hashes,
)
from data_pipeline.engine.documents import read_texts
from data_pipeline.engine.resumable import Counts

_ESTIMATE_MARGIN = 0.15  # at 256 values an estimate is off by 0.03, so five times that
_ESTIMATED_AT_ONCE = 1 << 15
_CACHED_BYTES = 1 << 27

Links = tuple[Numbers, npt.NDArray[np.float64]]
LinkKind = Literal["links", "chains"]


def likely_file(job: Job, block: int) -> Path:
    """The sorted pairs whose first document is in a block and that are worth an exact comparison."""
    return job.work / "likely" / f"pairs-{block:05d}.npy"


def write_likely(job: Job, block: int) -> Counts:
    """Join the candidates of all bands and keep those that their short signatures do not rule out."""
    shards = job.blocks()[block]
    low, high = (job.starts[shard] * job.documents for shard in (shards.start, shards.stop))
    parts = [np.empty(0, np.int64)]
    for task in band_tasks(job):
        pairs = np.load(candidates_file(job, task), mmap_mode="r")
        start, end = np.searchsorted(pairs, [low, high])
        parts.append(pairs[start:end])
    candidates = np.unique(np.concatenate(parts))
    first, second = np.divmod(candidates, max(job.documents, 1))
    likely = np.zeros(len(candidates), np.bool_)
    by_second = np.argsort(second, kind="stable")
    for start in range(0, len(candidates), _ESTIMATED_AT_ONCE):
        part = by_second[start : start + _ESTIMATED_AT_ONCE]
        estimate = estimated_jaccard(_short(job, first[part]), _short(job, second[part]))
        likely[part] = estimate > job.settings.threshold - _ESTIMATE_MARGIN
    save_array(likely_file(job, block), candidates[likely])
    return {"candidates": len(candidates), "likely": int(likely.sum())}


def _short(job: Job, numbers: Numbers) -> npt.NDArray[np.uint8]:
    """Short signatures of some documents, [documents, values]."""
    result = np.empty((len(numbers), job.settings.permutations), np.uint8)
    shards = job.shards_of(numbers)
    for shard in np.unique(shards).tolist():
        chosen = np.flatnonzero(shards == shard)
        short = np.load(job.signature_file("short", shard), mmap_mode="r")
        result[chosen] = short[numbers[chosen] - job.starts[shard]]
    return result


def write_compared(job: Job) -> None:
    """Mark the documents that take part in a comparison: `compared.npy`, uint8 [documents]."""
    marks = np.zeros(job.documents, np.uint8)
    for block in range(len(job.blocks())):
        pairs = np.load(likely_file(job, block))
        for numbers in np.divmod(pairs, max(job.documents, 1)):
            marks[numbers] = 1
    save_array(job.work / "compared.npy", marks)


def _text_files(job: Job, block: int) -> tuple[Path, Path]:
    return tuple(job.work / "texts" / f"texts-{block:05d}.{kind}" for kind in ("bin", "npy"))  # type: ignore[return-value]


def write_texts(job: Job, block: int) -> Counts:
    """Lay out the normalised texts of a block that take part in a comparison.

    `texts-….bin` holds code points of one or four bytes, `texts-….npy` [documents, 3]: number, offset, bytes a code.
    """
    marks = np.load(job.work / "compared.npy", mmap_mode="r")
    content, places = _text_files(job, block)
    rows = []
    offset = 0
    with atomic_write(content) as temporary, temporary.open("wb") as stream:
        for shard in job.blocks()[block]:
            start, end = job.starts[shard : shard + 2]
            wanted = marks[start:end].tolist()
            texts = read_texts(job.inputs[shard]) if any(wanted) else iter(())
            for number, (is_wanted, text) in enumerate(zip(wanted, texts, strict=False), start):
                if is_wanted:
                    codes = normalise(text)
                    stream.write(codes.tobytes())
                    rows.append((number, offset, codes.itemsize))
                    offset += codes.nbytes
    save_array(places, np.array([*rows, (job.documents, offset, 1)], np.int64))
    return {"texts": len(rows), "bytes": offset}


class _Texts:
    """The laid out texts of all blocks, those of two mapped at a time."""

    def __init__(self, job: Job) -> None:
        self._edges = np.array([job.starts[shards.start] for shards in job.blocks()])
        self._starts = self._edges.tolist()
        self._open = functools.lru_cache(maxsize=2)(functools.partial(self._map, job))

    @staticmethod
    def _map(job: Job, block: int) -> tuple[dict[int, tuple[int, int, int]], npt.NDArray[np.uint8]]:
        """Start, end and bytes a code of each text, and the bytes of all."""
        content, places = _text_files(job, block)
        rows = np.load(places).tolist()
        spans = {row[0]: (row[1], after[1], row[2]) for row, after in itertools.pairwise(rows)}
        size = rows[-1][1]
        mapped = np.memmap(content, np.uint8, "r", shape=(size,)) if size else np.empty(0, np.uint8)
        return spans, mapped.view(np.ndarray)

    def blocks_of(self, numbers: Numbers) -> Numbers:
        """The block of each document."""
        return np.searchsorted(self._edges, numbers, side="right") - 1

    def _find(self, number: int) -> tuple[npt.NDArray[np.uint8], int]:
        spans, content = self._open(bisect.bisect_right(self._starts, number) - 1)
        start, end, width = spans[number]
        return content[start:end], width

    def length(self, number: int) -> int:
        """Characters of a normalised text."""
        raw, width = self._find(number)
        return len(raw) // width

    def read(self, number: int) -> Codes:
        """A normalised text."""
        raw, width = self._find(number)
        return raw if width == 1 else np.frombuffer(raw.tobytes(), np.uint32)


T = TypeVar("T")


class _Latest(Generic[T]):
    """What was read of documents, the latest used kept, so many bytes of it."""

    def __init__(self, read: Callable[[int], T], size: Callable[[T], int]) -> None:
        self._read = read
        self._size_of = size
        self._kept: OrderedDict[int, T] = OrderedDict()
        self._size = 0

    def __getitem__(self, number: int) -> T:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        value = self._kept[number] = self._read(number)
        self._size += self._size_of(value)
        while self._size > _CACHED_BYTES and len(self._kept) > 2:
            self._size -= self._size_of(self._kept.popitem(last=False)[1])
        return value


def compare(job: Job, block: int) -> Counts:
    """Write the pairs of a block's documents whose similarity is above the threshold, and their similarity."""
    pairs = np.load(likely_file(job, block))
    values = _values(job, pairs)
    alike = values > job.settings.threshold
    _save_links(job, "links", block, (pairs[alike], values[alike]))
    return {"compared": len(pairs), "similar": int(alike.sum())}


def write_chained(job: Job, pairs: Numbers) -> None:
    """Lay out sorted pairs whose similarity is wanted, whatever it is; their documents must have been compared before."""
    for block, shards in enumerate(job.blocks()):
        low, high = (job.starts[shard] * job.documents for shard in (shards.start, shards.stop))
        save_array(_chained_file(job, block), pairs[slice(*np.searchsorted(pairs, [low, high]))])


def measure_chained(job: Job, block: int) -> Counts:
    """Write the similarity of all pairs that `write_chained` laid out for a block."""
    pairs = np.load(_chained_file(job, block))
    _save_links(job, "chains", block, (pairs, _values(job, pairs)))
    return {"compared": len(pairs)}


def _chained_file(job: Job, block: int) -> Path:
    return job.work / "chained" / f"pairs-{block:05d}.npy"


def _values(job: Job, pairs: Numbers) -> npt.NDArray[np.float64]:
    """The similarity of each pair."""
    first, second = np.divmod(pairs, max(job.documents, 1))
    texts = _Texts(job)
    order = np.lexsort((second, first, texts.blocks_of(second)))
    ordered = zip(first[order].tolist(), second[order].tolist(), strict=True)
    values = np.empty(len(pairs))
    values[order] = np.fromiter(_similarities(job, texts, ordered), np.float64, len(pairs))
    return values


def _save_links(job: Job, kind: LinkKind, block: int, links: Links) -> None:
    for path, array in zip(_link_files(job, kind, block), links, strict=True):
        save_array(path, array)


def _link_files(job: Job, kind: LinkKind, block: int) -> tuple[Path, Path]:
    directory = job.work / kind
    return directory / f"pairs-{block:05d}.npy", directory / f"similarities-{block:05d}.npy"


def _similarities(job: Job, texts: _Texts, pairs: Iterable[tuple[int, int]]) -> Iterator[float]:
    """The similarity of each pair of documents."""
    shingles = job.settings.shingles
    sets = _Latest(lambda number: shingle_hashes(texts.read(number), shingles), lambda hashes: hashes.nbytes)
    long = _Latest(lambda number: LongText(texts.read(number), shingles), lambda text: text.nbytes)
    for one, other in pairs:
        if min(texts.length(one), texts.length(other)) > LONG_CHARACTERS:
            yield long_similarity(long[one], long[other])
        else:
            yield jaccard(sets[one], sets[other])


def load_links(job: Job, kind: LinkKind) -> Links:
    """All pairs above the threshold ("links"), or those that were asked for ("chains"), sorted, and their similarities."""
    links, similarities = [np.empty(0, np.int64)], [np.empty(0)]
    for block in range(len(job.blocks())):
        pairs, values = map(np.load, _link_files(job, kind, block))
        links.append(pairs)
        similarities.append(values)
    return np.concatenate(links), np.concatenate(similarities)
