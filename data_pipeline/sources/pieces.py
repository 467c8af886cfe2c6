"""How the files of a source are dealt to tasks: small ones together, large ones of lines or Parquet in pieces.

It depends on the files' sizes alone, so any number of workers gives the same shards. What is read at once grows with
the corpus, so that a stage keeps some thousand files however large that is.
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from data_pipeline.engine.documents import MOST_SHARDS, SHARD_ROWS, ShardSize
from data_pipeline.sources.formats import WHOLE, Part, TextDocuments, is_lines, kind_of, parquet_row_groups
from data_pipeline.text_files import Name, name_of

_GROUP_BYTES = 1 << 20
_PARQUET_PIECE_BYTES = 256 << 20
_LINES_PIECE_BYTES = 64 << 20
_TEXT_IN_COMPRESSED = 4  # bytes of text that are expected in one of a compressed file


class Piece(NamedTuple):
    """A file, or a part of one.

    Attributes:
        name: what it is called in ids.
        path: where it is.
        part: what of it is read.
    """

    name: str
    path: Path
    part: Part = WHOLE


class Dealing:
    """Files dealt to tasks.

    Args:
        files: by their names, in order.
        txt: what of a text file is one document.
    """

    def __init__(self, files: Mapping[str, Path], txt: TextDocuments) -> None:
        self._files = files
        self._txt = txt
        self._sizes = {name: path.stat().st_size for name, path in files.items()}
        self._task_bytes = sum(self._sizes.values()) // MOST_SHARDS

    @property
    def shard_size(self) -> ShardSize:
        """Of the documents' shards, by the text that is expected in all files."""
        text = sum(
            size * (_TEXT_IN_COMPRESSED if _is_compressed(self._files[name]) else 1)
            for name, size in self._sizes.items()
        )
        return ShardSize.of_corpus(text)

    def lines_pieces(self) -> dict[str, list[range]]:
        """The bytes of each piece of the large files of lines, by the files' names."""
        size = max(_LINES_PIECE_BYTES, self._task_bytes)
        found = {}
        for name, path in self._files.items():
            end = self._sizes[name]
            if end > size and is_lines(path, self._txt):
                found[name] = [range(start, min(start + size, end)) for start in range(0, end, size)]
        return found

    def tasks(self, lines: Mapping[str, list[int]]) -> Iterator[list[Piece]]:
        """What each task reads, in order.

        Args:
            lines: how many lines begin in each of `lines_pieces`.
        """
        group: list[Piece] = []
        size = 0
        cut, most = self.lines_pieces(), max(_GROUP_BYTES, self._task_bytes)
        for name, path in self._files.items():
            more = self._sizes[name]
            is_full = len(group) >= SHARD_ROWS and size >= self._task_bytes
            if group and (size + more > most or is_full):
                yield group
                group, size = [], 0
            pieces = self._pieces(name, path, cut.get(name, []), lines.get(name, []))
            if len(pieces) > 1:
                if group:
                    yield group
                    group, size = [], 0
                yield from ([piece] for piece in pieces)
                continue
            group += pieces
            size += more
        if group:
            yield group

    def _pieces(self, name: str, path: Path, cut: list[range], lines: list[int]) -> list[Piece]:
        if cut:
            firsts = itertools.accumulate(lines[:-1], initial=1)
            return [
                Piece(name, path, Part(lines=piece, first_line=first))
                for piece, first in zip(cut, firsts, strict=True)
            ]
        if name_of(path) == Name(".parquet", ""):
            return [Piece(name, path, part) for part in self._parquet_parts(path)]
        return [Piece(name, path)]

    def _parquet_parts(self, path: Path) -> list[Part]:
        """Runs of row groups, so that one large file is work for many processes."""
        parts = []
        first = size = 0
        most = max(_PARQUET_PIECE_BYTES, self._task_bytes * _TEXT_IN_COMPRESSED)
        row_groups = parquet_row_groups(path)
        for index, more in enumerate(row_groups):
            if index > first and size + more > most:
                parts.append(Part(row_groups=range(first, index)))
                first, size = index, 0
            size += more
        return [*parts, Part(row_groups=range(first, len(row_groups)))] if parts else [WHOLE]


def _is_compressed(path: Path) -> bool:
    return bool(name_of(path).compression) or kind_of(path) == "parquet"
