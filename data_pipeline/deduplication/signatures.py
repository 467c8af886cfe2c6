"""Signatures: each document's hash for exact copies, its band hashes and its short signature, in files by group.

A group's hashes are written in chunks of up to 65,536 documents, and of each chunk every row is sorted (the hashes of
one band, or those for copies), beside the documents in that order. So a range of one row's hashes, of all documents, is
read from as many files as there are groups, and nothing else is. What the numbers are, `minhash` says.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from core.files import atomic_write
from data_pipeline.deduplication import minhash
from data_pipeline.deduplication.job import Job, Numbers, mapped
from data_pipeline.engine.documents import read_texts
from data_pipeline.engine.resumable import Counts

COPIES = 0  # the row of hashes for exact copies; band b is row b + 1
_BLOCK_CHARACTERS = 1 << 21
_CHUNK_DOCUMENTS = 1 << 16  # so that a place in a chunk takes two bytes


def write_signatures(job: Job, group: int) -> Counts:
    """Write the hashes and short signatures of a group's documents; counts them, shard by shard, too."""
    sizes: list[int] = []
    exact: list[bytes] = []
    bands: list[minhash.Hashes] = []
    settings = job.settings
    with (
        atomic_write(job.file("hashes", group)) as hashes_file,
        atomic_write(job.file("short", group)) as short_file,
        hashes_file.open("wb") as hashes,
        short_file.open("wb") as short,
    ):
        for texts in _text_blocks(job, group, sizes):
            exact += map(minhash.text_hash, texts)
            signature = minhash.signatures(texts, settings.shingles, settings.permutations)
            bands.append(minhash.band_hashes(signature, settings.bands))
            short.write(minhash.short_signature(signature).tobytes())
            if len(exact) == _CHUNK_DOCUMENTS:
                hashes.write(_chunk(exact, bands))
                exact, bands = [], []
        if exact:
            hashes.write(_chunk(exact, bands))
    return {"documents": sum(sizes), "shards": sizes}


def _text_blocks(job: Job, group: int, sizes: list[int]) -> Iterator[list[minhash.Codes]]:
    """The normalised texts of a group, some megabytes at a time, cut where chunks are; appends each shard's documents."""
    block: list[str] = []
    size = documents = 0
    for shard in job.groups[group]:
        before = documents
        for text in read_texts(Path(job.inputs[shard])):
            block.append(text)
            size += len(text)
            documents += 1
            if size >= _BLOCK_CHARACTERS or documents % _CHUNK_DOCUMENTS == 0:
                yield minhash.normalise_all(block)
                block, size = [], 0
        sizes.append(documents - before)
    if block:
        yield minhash.normalise_all(block)


def _chunk(exact: list[bytes], bands: list[minhash.Hashes]) -> bytes:
    """Rows of sorted hashes, the second half of the hashes for copies in their order, and each row's order."""
    copies = np.frombuffer(b"".join(exact), np.uint64).reshape(-1, 2)
    rows = np.concatenate([copies[:, :1].T, np.concatenate(bands, axis=1)])
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    return ordered.tobytes() + copies[order[COPIES], 1].tobytes() + order.astype(np.uint16).tobytes()


class HashRange(NamedTuple):
    """Hashes of one row in one of `parts` equal ranges, and whose they are: in the order of the documents where equal.

    Attributes:
        second: second halves of hashes for copies; of bands nothing.
    """

    hashes: minhash.Hashes
    numbers: Numbers
    second: minhash.Hashes


def read_hashes(job: Job, row: int, part: int, parts: int) -> HashRange:
    """Read one range of a row; `parts` is a power of two."""
    found = [HashRange(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.uint64))]
    edges = [edge * (1 << 64) // parts for edge in (part, part + 1)]
    for group in range(len(job.groups)):
        for start, hashes, order in _chunks(job, group):
            low, high = 0, order.shape[1]
            if parts > 1:
                low = int(np.searchsorted(hashes[row], np.uint64(edges[0])))
                if part + 1 < parts:
                    high = int(np.searchsorted(hashes[row], np.uint64(edges[1])))
            numbers = order[row, low:high].astype(np.int64) + start
            second = hashes[-1, low:high] if row == COPIES else hashes[-1, :0]
            found.append(HashRange(hashes[row, low:high].copy(), numbers, second.copy()))
    return HashRange(*map(np.concatenate, zip(*found, strict=True)))


def _chunks(job: Job, group: int) -> Iterator[tuple[int, minhash.Hashes, npt.NDArray[np.uint16]]]:
    """Of each chunk of a group the number of its first document, [rows + 1, documents] and [rows, documents]."""
    content = mapped(job.file("hashes", group))
    rows = job.settings.bands + 1
    first, last = job.group_starts[group : group + 2].tolist()
    place = 0
    for start in range(first, last, _CHUNK_DOCUMENTS):
        documents = min(_CHUNK_DOCUMENTS, last - start)
        middle = place + 8 * (rows + 1) * documents
        end = middle + 2 * rows * documents
        hashes = content[place:middle].view(np.uint64).reshape(rows + 1, documents)
        yield start, hashes, content[middle:end].view(np.uint16).reshape(rows, documents)
        place = end
