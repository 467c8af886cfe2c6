"""Indexed datasets: token sequences in `PREFIX.bin`, where they start and end in `PREFIX.idx`.

The format is Megatron-core's, byte for byte (all numbers little-endian):

    PREFIX.idx  b"MMIDIDX\\0\\0" · u64 version = 1 · u8 code of the token type · u64 sequences ·
                u64 documents + 1 · int32 lengths[sequences] · int64 byte offsets[sequences] ·
                int64 document index[documents + 1] (first sequence of each document, then their number)
    PREFIX.bin  the tokens of all sequences, one after the other

A GPT-2 corpus has one sequence a document, a BERT corpus one sequence a sentence.
Reader, writer and merge live here; what the tokens mean does not. Only numpy is needed.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from core.errors import UserError
from core.files import atomic_write, sync_file
from data_pipeline.engine.artifacts import free_bytes

_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_HEADER = struct.Struct("<9sQBQQ")
_TYPE_CODES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    6: np.dtype("<f8"),
    7: np.dtype("<f4"),
    8: np.dtype("<u2"),
}
_LARGEST_SMALL_VOCABULARY = 65500
_LONGEST_SEQUENCE = (1 << 31) - 1
_COPY_BYTES = 1 << 24
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BLOCK_SEQUENCES = 1 << 20  # of an index that are checked or written at a time


class IndexedDatasetError(UserError):
    """A `.bin`/`.idx` pair is missing, cut off, corrupt or of another format; the message names the file."""


class IndexedWriteError(IndexedDatasetError):
    """A `.bin`/`.idx` pair cannot be written, most often because the disk is full; nothing half-written is left."""


def token_dtype(vocabulary_size: int) -> np.dtype[Any]:
    """The token type Megatron-core chooses: uint16 below 65500 words, else int32."""
    return _TYPE_CODES[8] if vocabulary_size < _LARGEST_SMALL_VOCABULARY else _TYPE_CODES[4]


def bin_path(prefix: Path) -> Path:
    """The file of tokens of a prefix (a prefix may itself contain dots)."""
    return Path(f"{prefix}.bin")


def index_path(prefix: Path) -> Path:
    """The index file of a prefix."""
    return Path(f"{prefix}.idx")


class IndexedDataset:
    """A memory-mapped `.bin`/`.idx` pair, read as a sequence of token arrays.

    Attributes:
        prefix: the path without `.bin` and `.idx`.
        dtype: the tokens' type on disk.
        lengths: int32 [sequences], tokens a sequence.
        document_index: int64 [documents + 1], the first sequence of each document, then the number of sequences.

    Raises:
        IndexedDatasetError: a file is missing, cut off, or its parts contradict each other.
    """

    lengths: npt.NDArray[np.int32]
    document_index: npt.NDArray[np.int64]

    def __init__(self, prefix: Path) -> None:
        self.prefix = Path(prefix)
        self.dtype, self.lengths, self._pointers, self.document_index = _read_index(index_path(self.prefix))
        self._tokens, self._bytes = _map_tokens(bin_path(self.prefix), self.dtype)
        self._check()

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.lengths)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """The tokens of one sequence, [length], a view of the mapped file."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.prefix}: sequence {index} of {len(self)}")
        start = int(self._pointers[index]) // self.dtype.itemsize
        return self._tokens[start : start + int(self.lengths[index])]

    def get(self, index: int, offset: int = 0, length: int | None = None) -> npt.NDArray[Any]:
        """Part of one sequence: `length` tokens from `offset`, or all from there."""
        sequence = self[index]
        end = len(sequence) if length is None else offset + length
        if not 0 <= offset <= end <= len(sequence):
            raise IndexError(
                f"{self.prefix}: tokens {offset} to {end} of sequence {index}, which has {len(sequence)}"
            )
        return sequence[offset:end]

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """All tokens in order, in pieces of some megabytes, for work on the whole that takes little memory."""
        step = _COPY_BYTES // self.dtype.itemsize
        return (self._tokens[first : first + step] for first in range(0, len(self._tokens), step))

    def tokens_at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The tokens at these places of the whole `.bin` file, counted in tokens."""
        return self._tokens[places]

    def starts(self, first: int = 0, end: int | None = None) -> npt.NDArray[np.int64]:
        """Where sequences `first` to `end` start in the `.bin` file, counted in tokens."""
        return self._pointers[first:end] // self.dtype.itemsize

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.document_index) - 1

    @property
    def tokens(self) -> int:
        """Number of tokens in all sequences."""
        return len(self._tokens)

    def __reduce__(self) -> tuple[type["IndexedDataset"], tuple[Path]]:
        return IndexedDataset, (self.prefix,)  # another process maps the files itself

    def _check(self) -> None:
        index = index_path(self.prefix)
        tokens = 0
        for first in range(0, len(self), _BLOCK_SEQUENCES):
            lengths = self.lengths[first : first + _BLOCK_SEQUENCES]
            if int(lengths.min()) < 0:
                raise IndexedDatasetError(f"{index}: corrupt, a sequence has a negative length")
            pointers = _pointers(lengths, self.dtype, tokens)
            if not np.array_equal(self._pointers[first : first + _BLOCK_SEQUENCES], pointers):
                raise IndexedDatasetError(
                    f"{index}: corrupt, the sequences' offsets do not follow from their lengths"
                )
            tokens += int(lengths.sum(dtype=np.int64))
        expected = tokens * self.dtype.itemsize
        if self._bytes != expected:
            raise IndexedDatasetError(
                f"{bin_path(self.prefix)}: {self._bytes} bytes, but {index} describes {expected}; "
                "one of the two is cut off or from another run: make both anew"
            )
        boundaries = self.document_index
        if (
            not len(boundaries)
            or boundaries[0] != 0
            or boundaries[-1] != len(self)
            or (boundaries[1:] < boundaries[:-1]).any()
        ):
            raise IndexedDatasetError(
                f"{index}: corrupt, the document index does not cover the {len(self)} sequences"
            )


def _pointers(lengths: npt.NDArray[np.int32], dtype: np.dtype[Any], tokens: int) -> npt.NDArray[np.int64]:
    """Byte offsets of contiguous sequences, the first of which comes after `tokens` tokens."""
    pointers = np.cumsum(lengths, dtype=np.int64)
    pointers -= lengths
    pointers += tokens
    pointers *= dtype.itemsize
    return pointers


def _file_size(path: Path) -> int:
    """Size of a regular file; anything else (a pipe would block its reader) is refused."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise IndexedDatasetError(f"{path}: cannot be opened ({error})") from error
    if not stat.S_ISREG(status.st_mode):
        raise IndexedDatasetError(f"{path}: not a file")
    return status.st_size


def _read_index(path: Path) -> tuple[np.dtype[Any], Any, Any, Any]:
    """Type, lengths, byte offsets and document index of an `.idx` file, the arrays memory-mapped."""
    size = _file_size(path)
    try:
        with path.open("rb") as stream:
            header = stream.read(_HEADER.size)
    except OSError as error:
        raise IndexedDatasetError(f"{path}: cannot be opened ({error.strerror})") from error
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise IndexedDatasetError(
            f"{path}: not an index file of this format (it does not start with MMIDIDX)"
        )
    _, version, code, sequences, boundaries = _HEADER.unpack(header)
    if version != _VERSION:
        raise IndexedDatasetError(
            f"{path}: version {version} of the format; only version {_VERSION} is known"
        )
    if code not in _TYPE_CODES:
        raise IndexedDatasetError(f"{path}: unknown token type {code}; known are {sorted(_TYPE_CODES)}")
    expected = _HEADER.size + 12 * sequences + 8 * boundaries
    if size != expected:
        raise IndexedDatasetError(
            f"{path}: {size} bytes, but its header ({sequences} sequences, {boundaries} document boundaries) "
            f"needs {expected}: cut off or corrupt"
        )
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r", shape=(expected,)).view(np.ndarray)
    except (OSError, ValueError) as error:
        raise IndexedDatasetError(f"{path}: cannot be opened ({error})") from error
    pointers_start = _HEADER.size + 4 * sequences
    documents_start = pointers_start + 8 * sequences
    return (
        _TYPE_CODES[code],
        content[_HEADER.size : pointers_start].view("<i4"),
        content[pointers_start:documents_start].view("<i8"),
        content[documents_start:].view("<i8"),
    )


def _map_tokens(path: Path, dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], int]:
    """The tokens of a `.bin` file, memory-mapped, and the bytes it has."""
    size = _file_size(path)
    if size < dtype.itemsize:
        return np.empty(0, dtype), size  # an empty file cannot be mapped
    try:
        mapped = np.memmap(path, dtype=dtype, mode="r", shape=(size // dtype.itemsize,))
    except (OSError, ValueError) as error:
        raise IndexedDatasetError(f"{path}: cannot be opened ({error})") from error
    return mapped.view(np.ndarray), size


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the system's errors in writing `path` into one that names it, the free space and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = "Make room" if error.errno in _NO_SPACE else "Mend that"
        raise IndexedWriteError(
            f"{path}: cannot be written ({error.strerror}); {free_bytes(path.parent):,} bytes are free there. "
            f"{remedy} and run the same command again"
        ) from error


class IndexedWriter:
    """Writes a `.bin`/`.idx` pair; nothing is visible under its names before `finish`.

    As a context manager it removes its temporary file when an error leaves the block.

    Args:
        prefix: the path without `.bin` and `.idx`.
        dtype: the tokens' type on disk, see `token_dtype`.

    Memory: 4 bytes a sequence and 8 a document. All methods raise IndexedWriteError when the disk is full; the
    files that had the prefix before are then as they were.
    """

    def __init__(self, prefix: Path, dtype: npt.DTypeLike) -> None:
        self.prefix = Path(prefix)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._code = next((code for code, known in _TYPE_CODES.items() if known == self.dtype), None)
        if self._code is None or self.dtype.kind == "f":
            raise UserError(
                f"{prefix}: tokens cannot be stored as {self.dtype}; use token_dtype(vocabulary_size)"
            )
        self._lengths = array("i")
        self._documents = array("q", [0])
        final = bin_path(self.prefix)
        # Of this writer alone: a cluster may begin a task again that it has lost, and that still runs.
        self._temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
        with _writing(final):
            self.prefix.parent.mkdir(parents=True, exist_ok=True)
            self._stream: BinaryIO = self._temporary.open("wb")

    def __enter__(self) -> "IndexedWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # what is left to flush may not fit on the disk either
            self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def add_document(self, sequences: Sequence[Sequence[int] | npt.NDArray[Any]]) -> None:
        """Append one document, given as its sequences of token ids; see `add_documents`."""
        arrays = [
            sequence if isinstance(sequence, np.ndarray) else np.array(sequence, np.int64)
            for sequence in sequences
        ]
        tokens = np.concatenate(arrays) if arrays else np.empty(0, np.int64)
        self.add_documents(
            tokens, np.array([len(array) for array in arrays], np.int64), np.array([len(arrays)])
        )

    def add_documents(
        self, tokens: npt.NDArray[Any], lengths: npt.NDArray[Any], sequences: npt.NDArray[Any]
    ) -> None:
        """Append documents, one after the other in flat arrays of integers.

        Args:
            tokens: [tokens], the ids of all sequences.
            lengths: [sequences], the tokens of each sequence.
            sequences: [documents], the sequences of each document.

        Raises:
            ValueError: an id does not fit the token type, a length the format (int32), or the three contradict each
                other.
        """
        if len(tokens) != lengths.sum() or len(lengths) != sequences.sum():
            raise UserError(
                f"{self.prefix}: {len(tokens)} tokens and {len(lengths)} sequences, but the lengths say "
                f"{lengths.sum()} tokens and the documents {sequences.sum()} sequences"
            )
        if len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= _LONGEST_SEQUENCE:
            raise UserError(
                f"{self.prefix}: a sequence of {lengths.min() if lengths.min() < 0 else lengths.max()} tokens; the format "
                f"holds 0 to {_LONGEST_SEQUENCE}"
            )
        bounds = np.iinfo(self.dtype)
        if len(tokens) and not bounds.min <= int(tokens.min()) <= int(tokens.max()) <= bounds.max:
            raise UserError(
                f"{self.prefix}: token ids {tokens.min()} to {tokens.max()} do not fit {self.dtype}"
            )
        with _writing(bin_path(self.prefix)):
            self._stream.write(tokens.astype(self.dtype).data)
        boundaries = len(self._lengths) + np.cumsum(sequences, dtype=np.int64)
        self._documents.frombytes(boundaries.tobytes())
        self._lengths.frombytes(lengths.astype(np.int32).tobytes())

    def add_dataset(self, prefix: Path) -> None:
        """Append all documents of another dataset with the same token type, by copying bytes."""
        dataset = IndexedDataset(prefix)
        if dataset.dtype != self.dtype:
            raise UserError(f"{prefix}: tokens are {dataset.dtype}, those of {self.prefix} are {self.dtype}")
        with _writing(bin_path(self.prefix)), bin_path(prefix).open("rb") as source:
            shutil.copyfileobj(source, self._stream, _COPY_BYTES)
        sequences = len(self._lengths)
        for first in range(0, len(dataset), _BLOCK_SEQUENCES):
            self._lengths.frombytes(dataset.lengths[first : first + _BLOCK_SEQUENCES].tobytes())
        for first in range(1, len(dataset.document_index), _BLOCK_SEQUENCES):
            boundaries = dataset.document_index[first : first + _BLOCK_SEQUENCES] + sequences
            self._documents.frombytes(boundaries.tobytes())

    def finish(self) -> None:
        """Write the index and give both files their names, the index last: where it is, the pair is whole."""
        final, index = bin_path(self.prefix), index_path(self.prefix)
        with _writing(final):
            self._stream.close()
            sync_file(self._temporary)
        with _writing(index), atomic_write(index) as temporary:
            with temporary.open("wb") as stream:
                self._write_index(stream)
            sync_file(temporary)  # all space is taken: from here on only names change
            index.unlink(missing_ok=True)
            os.replace(self._temporary, final)

    def _write_index(self, stream: BinaryIO) -> None:
        lengths = np.frombuffer(self._lengths, np.int32)
        documents = np.frombuffer(self._documents, np.int64)
        stream.write(_HEADER.pack(_MAGIC, _VERSION, self._code, len(lengths), len(documents)))
        _write_blocks(stream, lengths, "<i4")
        tokens = 0
        for first in range(0, len(lengths), _BLOCK_SEQUENCES):
            block = lengths[first : first + _BLOCK_SEQUENCES]
            stream.write(_pointers(block, self.dtype, tokens).astype("<i8").tobytes())
            tokens += int(block.sum(dtype=np.int64))
        _write_blocks(stream, documents, "<i8")


def _write_blocks(stream: BinaryIO, values: npt.NDArray[Any], dtype: str) -> None:
    for first in range(0, len(values), _BLOCK_SEQUENCES):
        stream.write(values[first : first + _BLOCK_SEQUENCES].astype(dtype).tobytes())


def merge(prefixes: Sequence[Path], output: Path) -> None:
    """Join datasets with the same token type into one, in the given order.

    Args:
        prefixes: the datasets to join; at least one.
        output: the prefix of the joined dataset.

    Raises:
        ValueError: no prefixes, or token types differ.
        IndexedDatasetError: one of them is damaged, or the disk is full; `output` is then as it was.
    """
    if not prefixes:
        raise UserError(f"{output}: nothing to merge")
    with IndexedWriter(output, IndexedDataset(prefixes[0]).dtype) as writer:
        for prefix in prefixes:
            writer.add_dataset(prefix)
        writer.finish()
