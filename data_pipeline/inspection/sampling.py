"""Looking at documents without reading all of them: a seeded choice of row groups, ids found by the shards' statistics,
expressions searched as far as one likes, lines of long lists.

One row group of one shard is in memory at a time. What was looked at is counted, so that it can be said.
"""

import contextlib
import functools
import itertools
import json
import random
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import ConfigurationError, UserError
from data_pipeline.engine.documents import Document, DocumentsError

_COLUMNS = list(Document._fields)
_MOST_SHARDS = 64  # of which footers are read for a sample
_MOST_GROUPS = 16
_MOST_BYTES = 128 << 20  # of a sample's row groups, besides the first
_BLOCK_BYTES, _MOST_BLOCKS = 1 << 20, 32  # of a long list
_LONGEST_LINE = 8 << 20
_PIECE = re.compile(r"#[0-9]+$")
_PIECES_END = "#\U0010ffff"  # after the ids of all pieces of a document, `<id>#00`, …
_MOST_MARKS = 64
_MOST_NEAR = 4  # shards, and row groups, whose ids are compared with a mistyped one


class Group(NamedTuple):
    """A row group: where it is, its size, and what the footer says of its ids and sources (None where it says nothing)."""

    shard: Path
    number: int
    rows: int
    bytes: int
    first: str | None
    last: str | None
    sources: tuple[str, str] | None


@dataclass
class Looked:
    """What was looked at, of how much."""

    shards: int = 0
    of_shards: int = 0
    documents: int = 0
    bytes: int = 0
    whole: bool = True

    def __str__(self) -> str:
        what = f"{self.documents:,} documents, {self.bytes / 1e6:,.1f} MB"
        return f"all {what}" if self.whole else f"{what}, of {self.shards:,} of {self.of_shards:,} shards"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as stream:
            yield stream
    except FileNotFoundError as error:
        raise DocumentsError(f"{path}: no such document shard") from error
    except (pa.ArrowException, OSError, KeyError, UnicodeError, MemoryError) as error:
        raise DocumentsError(f"{path}: damaged, or not a document shard ({error}): make it anew") from error


def groups_of(shard: Path) -> list[Group]:
    """The row groups of a shard, by its footer alone.

    Raises:
        DocumentsError: the file is missing, damaged, or no document shard.
    """
    with _opened(shard) as stream:
        facts, names = stream.metadata, stream.schema_arrow.names
        if names != _COLUMNS:
            raise DocumentsError(f"{shard}: not a document shard (columns {', '.join(names[:8])})")
        found = []
        for number in range(facts.num_row_groups):
            group = facts.row_group(number)
            ids, sources = (_extremes(group.column(place)) for place in (0, 2))
            first, last = ids or (None, None)
            found.append(Group(shard, number, group.num_rows, group.total_byte_size, first, last, sources))
        return found


def _extremes(column: Any) -> tuple[str, str] | None:
    statistics = column.statistics
    return (statistics.min, statistics.max) if statistics is not None and statistics.has_min_max else None


def _read(group: Group, columns: list[str]) -> pa.Table:
    with _opened(group.shard) as stream:
        return stream.read_row_group(group.number, columns=columns)


def _documents(table: pa.Table) -> Iterator[Document]:
    columns = [table.column(name).to_pylist() for name in _COLUMNS]
    return map(Document._make, zip(*columns, strict=True))


def in_seeded_order(shards: Sequence[Path], seed: int) -> list[Path]:
    return random.Random(f"shards {seed}").sample(shards, len(shards))


def sample(shards: Sequence[Path], seed: int, sources: Collection[str], looked: Looked) -> Iterator[Document]:
    """The documents of a seeded choice of row groups, in the order of the shards; of all, where there are few.

    Args:
        sources: documents of others are left out; none where there are none.
        looked: is told what was looked at.
    """
    found: list[Group] = []
    opened = 0
    for shard in in_seeded_order(shards, seed):
        found += [group for group in groups_of(shard) if _may_hold(group, sources)]
        opened += 1
        if opened >= _MOST_SHARDS and found:
            break
    chosen = random.Random(f"groups {seed}").sample(found, min(len(found), _MOST_GROUPS))
    sizes = itertools.accumulate(group.bytes for group in chosen)
    chosen = [
        group for group, size in zip(chosen, sizes, strict=True) if group is chosen[0] or size <= _MOST_BYTES
    ]
    looked.shards, looked.of_shards = len({group.shard for group in chosen}), len(shards)
    looked.whole = opened == len(shards) and len(chosen) == len(found)
    for group in sorted(chosen, key=lambda group: (group.shard, group.number)):
        for document in _documents(_read(group, _COLUMNS)):
            if not sources or document.source in sources:
                looked.documents += 1
                looked.bytes += len(document.text.encode())
                yield document


def _may_hold(group: Group, sources: Collection[str]) -> bool:
    if not sources or group.sources is None:
        return True
    first, last = group.sources
    return any(first <= source <= last for source in sources)


class _Range(NamedTuple):
    """A shard, and the first and last of its ids; None where the footer does not say."""

    shard: Path
    first: str | None
    last: str | None


class Index:
    """Document shards, to find ids in: their footers are read once, when the first id is asked for."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = shards

    @functools.cached_property
    def _ranges(self) -> list[_Range]:
        return [_range_of(shard, groups) for shard in self.shards if (groups := groups_of(shard))]

    def find(self, ids: Collection[str], near: Path | None = None) -> dict[str, list[Document]]:
        """The documents of some ids, each with its pieces (`<id>#00`, …), by id; those that are there.

        Args:
            near: the shard to look into first.
        """
        found: dict[str, list[Document]] = {}
        wanted = set(ids)
        for shards in ([near] if near else [], None):
            if rest := wanted - found.keys():
                for group, places in self._places(rest, shards):
                    for document in _documents(_read(group, _COLUMNS).take(places)):
                        for name in {document.id, base_of(document.id)} & rest:
                            found.setdefault(name, []).append(document)
        return found

    def has(self, ids: Collection[str]) -> set[str]:
        """Those of some ids that are there, whole or in pieces; only ids are read."""
        found: set[str] = set()
        for group, places in self._places(set(ids), None):
            names = _read(group, ["id"]).column("id").take(places).to_pylist()
            found |= {one for name in names for one in (name, base_of(name))} & set(ids)
        return found

    def _places(self, ids: set[str], shards: Sequence[Path] | None) -> Iterator[tuple[Group, list[int]]]:
        """The row groups that hold some of the ids, and at which rows."""
        low, high = min(ids), max(ids)
        if shards is None:
            shards = [one.shard for one in self._ranges if _meets(one.first, one.last, low, high)]
        for group in (group for shard in shards for group in groups_of(shard)):
            if not any(_meets(group.first, group.last, name, name) for name in ids):
                continue
            names = _read(group, ["id"]).column("id").to_pylist()
            places = [place for place, name in enumerate(names) if name in ids or base_of(name) in ids]
            if places:
                yield group, places

    def near(self, name: str) -> list[str]:
        """Ids that may be meant by one that is not there."""
        starts = {one.first.split("/")[0] for one in self._ranges if one.first}
        start, slash, rest = name.partition("/")
        if slash and starts and start not in starts:
            name = "/".join([*nearest(start, starts)[:1], rest])
        shards = sorted(self._ranges, key=lambda one: -_closeness(one, name))[:_MOST_NEAR]
        groups = [group for one in shards for group in groups_of(one.shard)]
        groups = sorted(groups, key=lambda group: -_closeness(group, name))[:_MOST_NEAR]
        return nearest(
            name, [one for group in groups for one in _read(group, ["id"]).column("id").to_pylist()]
        )


def _range_of(shard: Path, groups: Sequence[Group]) -> _Range:
    firsts, lasts = [group.first for group in groups], [group.last for group in groups]
    if None in firsts or None in lasts:
        return _Range(shard, None, None)
    return _Range(shard, min(filter(None, firsts)), max(filter(None, lasts)))


def nearest(name: str, known: Collection[str]) -> list[str]:
    """Those that may be meant by a name, the likeliest first; of equals those that begin and end as it does."""
    import difflib

    near = difflib.get_close_matches(name, set(known), 64, 0.5)
    return sorted(near, key=lambda one: (-_common(one, name) - _common(one[::-1], name[::-1]), one))[:3]


def base_of(name: str) -> str:
    """The id of the document that decontamination cut a piece out of; of others their own."""
    return _PIECE.sub("", name)


def _meets(first: str | None, last: str | None, low: str, high: str) -> bool:
    """Whether ids between two, or pieces of them, may be between a first and a last one."""
    return first is None or last is None or (last >= low and first <= high + _PIECES_END)


def _closeness(place: Group | _Range, name: str) -> int:
    """How many characters an id has in common with the first and last of a place; more than all, where it is between."""
    if place.first is None or place.last is None:
        return 0
    if place.first <= name <= place.last:
        return len(name) + 1
    return max(_common(place.first, name), _common(place.last, name))


def _common(one: str, other: str) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


class Expression:
    """A regular expression of RE2, which takes time in proportion to a text's length, whatever the expression: it has no
    backreferences and does not look around.

    Raises:
        ConfigurationError: it is none; the message says what is wrong with it.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            pc.match_substring_regex(pa.array([""], pa.large_string()), pattern)
        except pa.ArrowException as error:
            what = str(error).removeprefix("Invalid regular expression: ")
            raise ConfigurationError(
                [f"--match {pattern!r}: {what} (RE2's expressions: no backreferences, no looking around)"]
            ) from error

    def matches(self, table: pa.Table) -> pa.Table:
        """The rows whose text it fits."""
        return table.filter(pc.match_substring_regex(table.column("text"), self.pattern))

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where it fits: first and last characters (exclusive), of the first matches."""
        begin, end = (chr(code) for code in _unused(text))
        column = pa.array([text], pa.large_string())
        marked = pc.replace_substring_regex(
            column, self.pattern, f"{begin}\\0{end}", max_replacements=_MOST_MARKS
        )[0].as_py()
        first, *others = marked.split(begin)
        places, reached = [], len(first)
        for part in others:
            inside, _, after = part.partition(end)
            if inside:
                places.append((reached, reached + len(inside)))
            reached += len(inside) + len(after)
        return places


def _unused(text: str) -> list[int]:
    """Two code points that do not occur in a text."""
    return list(itertools.islice((code for code in range(0xE000, 0xF8FF) if chr(code) not in text), 2))


def search(
    shards: Sequence[Path],
    expression: Expression,
    seed: int,
    sources: Collection[str],
    megabytes: int,
    looked: Looked,
) -> Iterator[list[Document]]:
    """Documents whose text an expression fits, row group by row group, shard by shard in a seeded order.

    Args:
        megabytes: of text, after which no other row group is read; 0 for all.
        looked: is told what was looked at.
    """
    looked.of_shards, looked.whole = len(shards), False
    for shard in in_seeded_order(shards, seed):
        looked.shards += 1
        for group in groups_of(shard):
            if not _may_hold(group, sources):
                continue
            if megabytes and looked.bytes >= megabytes * 1_000_000:
                return
            table = _read(group, _COLUMNS)
            looked.documents += len(table)
            looked.bytes += int(pc.sum(pc.binary_length(table.column("text"))).as_py() or 0)
            found = _documents(expression.matches(table))
            if matching := [one for one in found if not sources or one.source in sources]:
                yield matching
    looked.whole = True


def sample_lines(path: Path, seed: int) -> tuple[list[dict[str, Any]], bool]:
    """The JSON lines that begin in a seeded choice of blocks of a file, in order, and whether these are all.

    Raises:
        UserError: a line is damaged.
    """
    size = path.stat().st_size if path.exists() else 0
    blocks = -(-size // _BLOCK_BYTES)
    chosen = random.Random(f"lines {seed}").sample(range(blocks), min(blocks, _MOST_BLOCKS))
    found, whole = [], len(chosen) == blocks
    for block in sorted(chosen):
        with path.open("rb") as stream:
            stream.seek(max(block * _BLOCK_BYTES - 1, 0))
            if block:
                stream.readline()
            while stream.tell() < min((block + 1) * _BLOCK_BYTES, size):
                line = stream.readline(_LONGEST_LINE)
                if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                    whole = False
                    stream.readline()
                    continue
                found.append(parsed(line, path))
    return found, whole


def parsed(line: bytes, path: Path) -> dict[str, Any]:
    """A line of a list of ours."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise UserError(f"{path}: damaged, a line of it begins {line[:60]!r}: make it anew")
    return entry
