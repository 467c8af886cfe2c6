"""Documents between the stages: Parquet shards of (id, text, source, metadata), and how they are cut.

Pages carry checksums, which are verified at every read: without them most flipped bits of a compressed file
read as wrong text in silence. Where documents come from and what stages do to them lives elsewhere.
"""

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import UserError
from core.files import atomic_write

DOCUMENT_SHARDS = "documents-*.parquet"
SHARD_ROWS = 2_000
SHARD_BYTES = 16 << 20
MOST_SHARDS = 4_000  # of which a stage keeps up to five files each
SHARDS_OF_A_SIZE = 2_000
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 1_000
_NUMBERS = re.compile(r"([0-9]+)")
_SCHEMA = pa.schema([(name, pa.large_string()) for name in ("id", "text", "source", "metadata")])


class DocumentsError(UserError):
    """A document shard is missing, damaged or of another schema; the message names the file."""


class Document(NamedTuple):
    """One document.

    Attributes:
        id: stable and unique: source, file, and line or row in that.
        text: the text, valid Unicode without lone surrogates.
        source: the name of the corpus.
        metadata: other facts of the record, as a JSON object.
    """

    id: str
    text: str
    source: str
    metadata: str


class ShardSize(NamedTuple):
    """When a shard is full. Large corpora have larger shards, so that a stage's files stay countable: what of an input
    says how large they are must not change with the number of workers.

    Attributes:
        characters: of its texts.
        rows: documents, if they have at least `least` characters.
    """

    characters: int = SHARD_BYTES
    rows: int = SHARD_ROWS
    least: int = 0

    @classmethod
    def of_corpus(cls, size: int) -> "ShardSize":
        """For a corpus of about so many bytes of text: as always up to 67 GB, then so that there are 4000 shards."""
        least = size // MOST_SHARDS
        return cls(max(SHARD_BYTES, least), SHARD_ROWS, least)

    @classmethod
    def of_part(cls, part: int) -> "ShardSize":
        """Where nobody knows how many there will be: twice as large after each 2000."""
        return cls(SHARD_BYTES << part // SHARDS_OF_A_SIZE, SHARD_ROWS << part // SHARDS_OF_A_SIZE)

    def is_full(self, rows: int, characters: int) -> bool:
        return characters >= self.characters or (rows >= self.rows and characters >= self.least)


def shard_name(index: int) -> str:
    """The file name of the shard with this number."""
    return f"documents-{index:05d}.parquet"


def list_shards(directory: Path) -> list[Path]:
    """The document shards of a stage's output, in order.

    Raises:
        DocumentsError: there are none.
    """
    shards = sorted(Path(directory).glob(DOCUMENT_SHARDS), key=_order)
    if not shards:
        raise DocumentsError(f"{directory}: holds no document shards ({DOCUMENT_SHARDS})")
    return shards


def _order(shard: Path) -> list[str | int]:
    """Shards sort by their numbers, however many digits those have."""
    return [int(part) if part.isdecimal() else part for part in _NUMBERS.split(shard.name)]


def write_shard(path: Path, documents: Iterable[Document]) -> int:
    """Write a shard atomically and return the number of documents; the bytes depend on the documents only."""
    count = 0
    with _shard_writer(path) as writer:
        for batch in batches(documents):
            columns = [pa.array(column, pa.large_string()) for column in zip(*batch, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
            count += len(batch)
    return count


@contextlib.contextmanager
def _shard_writer(path: Path) -> Iterator[pq.ParquetWriter]:
    with (
        atomic_write(path) as temporary,
        pq.ParquetWriter(
            temporary, _SCHEMA, compression="zstd", compression_level=1, write_page_checksum=True
        ) as writer,
    ):
        yield writer


class FilteredShard(NamedTuple):
    """Sizes of a shard before and after filtering; bytes are those of the texts in UTF-8."""

    documents_in: int
    bytes_in: int
    documents: int
    bytes: int


def filter_shard(source: Path, target: Path, keep: npt.NDArray[np.bool_]) -> FilteredShard:
    """Write the documents of a shard that are marked in `keep`, without making Python objects of their texts."""
    row = bytes_in = documents = size = 0
    with _shard_writer(target) as writer:
        for table in _read_tables(source, _SCHEMA.names):
            kept = _marked(table, keep[row : row + len(table)])
            row += len(table)
            bytes_in += _text_sizes(table)
            documents += len(kept)
            size += _text_sizes(kept)
            if len(kept):
                writer.write_table(kept)
    assert row == len(keep), f"{source}: {row} documents, {len(keep)} marks"
    return FilteredShard(row, bytes_in, documents, size)


def _marked(table: pa.Table, keep: npt.NDArray[np.bool_]) -> pa.Table:
    """The rows that are marked. `pa.array` of numpy's marks would import pandas, 0.2 s a process."""
    bits = pa.py_buffer(np.packbits(keep, bitorder="little"))
    return table.filter(pa.BooleanArray.from_buffers(pa.bool_(), len(keep), [None, bits]))


def _text_sizes(table: pa.Table) -> int:
    return int(pc.sum(pc.binary_length(table.column("text"))).as_py() or 0)


def read_shard(path: Path) -> Iterator[Document]:
    """The documents of a shard, one row group in memory at a time, checksums verified.

    Raises:
        DocumentsError: the file is missing, damaged, or no document shard.
    """
    for columns in _read_columns(path, _SCHEMA.names):
        yield from map(Document._make, zip(*columns, strict=True))


def read_texts(path: Path) -> Iterator[str]:
    """The texts alone of a shard, see `read_shard`."""
    return itertools.chain.from_iterable(read_text_batches(path))


def read_text_batches(path: Path) -> Iterator[list[str]]:
    """The texts alone of a shard, row group by row group (at most as many as `batches` groups), see `read_shard`."""
    return (columns[0] for columns in _read_columns(path, ["text"]))


def read_marked_texts(path: Path, keep: npt.NDArray[np.bool_]) -> Iterator[list[str]]:
    """The texts alone of the documents that are marked in `keep`, row group by row group, see `read_shard`."""
    row = 0
    for table in _read_tables(path, ["text"]):
        kept = _marked(table, keep[row : row + len(table)])
        row += len(table)
        yield kept.column("text").to_pylist()


def read_ids(path: Path) -> list[str]:
    """The ids alone of a shard, see `read_shard`."""
    return [name for columns in _read_columns(path, ["id"]) for name in columns[0]]


def source_of(path: Path) -> str | None:
    """The source of a shard's documents, which all have one; None when it holds none. See `read_shard`."""
    return next((sources[0] for (sources,) in _read_columns(path, ["source"]) if sources), None)


def text_bytes(text: str) -> int:
    """The size of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents for work in bulk: at most a thousand and about 8 million characters at a time."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read_columns(path: Path, names: list[str]) -> Iterator[list[list[str]]]:
    """Row group by row group, the named columns as lists."""
    for table in _read_tables(path, names):
        yield [table.column(name).to_pylist() for name in names]


def _read_tables(path: Path, names: list[str]) -> Iterator[pa.Table]:
    """The named columns, row group by row group."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as stream:
            schema = stream.schema_arrow
            for name in names:
                if not schema.field(name).type.equals(pa.large_string()):
                    raise DocumentsError(
                        f"{path}: damaged, or not a document shard (column {name}): make it anew"
                    )
            rows = 0
            for group in range(stream.num_row_groups):
                table = stream.read_row_group(group, columns=names)
                rows += table.num_rows
                yield table
            if rows != stream.metadata.num_rows:  # of the footer, which has no checksum
                raise DocumentsError(
                    f"{path}: damaged, {rows} documents of {stream.metadata.num_rows}: make it anew"
                )
    except FileNotFoundError as error:
        raise DocumentsError(f"{path}: no such document shard") from error
    except (pa.ArrowException, OSError, KeyError, UnicodeError, MemoryError) as error:
        raise DocumentsError(f"{path}: damaged, or not a document shard ({error}): make it anew") from error
