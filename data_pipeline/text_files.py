"""Files of text: what their names say, what is in them decompressed, their lines, and JSON in those.

One way for sources, benchmarks and evaluations, so that all read the same of one file: a byte order mark at its start
is no text, a line ends at "\\n" alone, names count without case. What records hold lives in `sources.records`, tables in
`sources.formats`. pyarrow is imported only where a `.zst` file is read: benchmarks are read where only torch is, too.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple, cast

from core.errors import UserError
from core.files import decode_text

# How a name may end, and what that is called here.
_SPELLINGS = {".gz": ".gz", ".zst": ".zst", ".zstd": ".zst", ".xz": ".xz", ".bz2": ".bz2"}
COMPRESSIONS = tuple(_SPELLINGS)
# What the decoders of the standard library, and Arrow's streams, raise at a damaged file.
DAMAGE = (EOFError, OSError, MemoryError, UnicodeError, zlib.error, lzma.LZMAError)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Levels of a value's lists and objects: our own limit, since that of the interpreter's JSON differs by release.
MAXIMUM_DEPTH = 500
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
TOO_DEEP = f"its fields are nested more than {MAXIMUM_DEPTH} levels deep"
_BUFFER_BYTES = 1 << 16
_SKIPPED_AT_ONCE = 1 << 20
_WINDOW_TOO_LARGE = "requires too much memory"  # zstd's words where a window exceeds the decoder's limit
# Starts that no UTF-8 text has, or only by design.
_OTHER_CONTENT = {
    b"\x1f\x8b": "is compressed: let its name end in .gz",
    b"\x28\xb5\x2f\xfd": "is compressed: let its name end in .zst",
    b"\xfd7zXZ\x00": "is compressed: let its name end in .xz",
    b"PK\x03\x04": "is a zip archive: unpack it",
    b"PAR1\x15": "is a Parquet file: let its name end in .parquet",
    b"\xff\xfe": "is UTF-16 text: make it UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "is UTF-16 text: make it UTF-8 (iconv -f UTF-16 -t UTF-8)",
}
_MAC_FOLDER = "__MACOSX"
_BZIP2 = (b"BZh", b"1AY&SY")  # with a digit between them


class UnreadableFileError(UserError):
    """A file that may be whole, but is not what its name says, or needs a tool that is not here; with the remedy."""


class Name(NamedTuple):
    """What a file's name says, in lower case: its suffix without a compression's, and the compression's; or ""."""

    suffix: str
    compression: str


def name_of(path: PurePath) -> Name:
    """`.jsonl` and `.zst` of `A.JSONL.zstd`."""
    name, suffix = os.path.splitext(path.name.lower())
    if compression := _SPELLINGS.get(suffix, ""):
        suffix = os.path.splitext(name)[1]
    return Name(suffix, compression)


def printable(name: str) -> str:
    """A file's name as text; bytes in it that are no UTF-8 are spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_system_file(path: PurePath) -> bool:
    """Whether it is what systems leave beside files: a Mac's forks (`._x`, `__MACOSX/`) and settings of folders."""
    return path.name.startswith("._") or path.name == ".DS_Store" or _MAC_FOLDER in path.parts


def is_hidden(path: PurePath) -> bool:
    """Whether a path below a folder is hidden in it, or a system file."""
    return is_system_file(path) or any(part.startswith(".") for part in path.parts)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder in the order of their paths, but hidden ones and those of systems.

    Links are followed; a folder that is there twice is read once.
    """

    def unreadable(error: OSError) -> None:
        raise error

    found: list[Path] = []
    passed = set()
    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        if os.path.realpath(place) in passed:
            folders.clear()
            continue
        passed.add(os.path.realpath(place))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != _MAC_FOLDER)
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def open_decompressed(path: Path, compression: str | None = None) -> BinaryIO:
    """A file's content as a stream that raises when the file is cut off.

    Args:
        path: the file.
        compression: one of `COMPRESSIONS`, or "" for none; by default what the name ends in.

    Raises:
        UnreadableFileError: here or while reading: needs what is not installed.
        EOFError: here or while reading: cut off; also at its first byte, which not every library notices.
    """
    compression = name_of(path).compression if compression is None else _SPELLINGS.get(compression, "")
    if compression and path.is_file() and not path.stat().st_size:
        raise EOFError("Compressed file ended before it began")
    if compression == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if compression == ".bz2":
        return cast(BinaryIO, bz2.open(path, "rb"))
    if compression == ".xz":
        return cast(BinaryIO, lzma.open(path, "rb"))
    if compression == ".zst":
        return cast(BinaryIO, io.BufferedReader(_Zstandard(path), _BUFFER_BYTES))
    return path.open("rb")


class _Zstandard(io.RawIOBase):
    """The content of a .zst file: by Arrow, and from a frame on whose window exceeds its limit of 128 MiB (`zstd
    --long`), by the program zstd."""

    # One that could not be opened is closed all the same, when it is thrown away.
    _stream: Any = None
    _program: subprocess.Popen[bytes] | None = None

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise UnreadableFileError(
                f"{path}: reading it needs pyarrow; install that, or unpack the file with zstd -d"
            ) from error
        self._path = path
        self._size = 0
        # Unlike other readers, Arrow's does not take the end of a file for the end of a frame.
        self._stream = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._read(len(buffer))
        buffer[: len(block)] = block
        self._size += len(block)
        return len(block)

    def _read(self, size: int) -> bytes:
        if self._program is None:
            try:
                return cast(bytes, self._stream.read(size))
            except OSError as error:
                if _WINDOW_TOO_LARGE not in str(error):
                    raise
                self._start_program()
        assert self._program is not None and self._program.stdout is not None
        block = self._program.stdout.read(size)
        if not block and self._program.wait():
            assert self._program.stderr is not None
            raise OSError(self._program.stderr.read().decode("utf-8", "replace").strip() or "zstd failed")
        return block

    def _start_program(self) -> None:
        program = shutil.which("zstd")
        if program is None:
            raise UnreadableFileError(
                f"{self._path}: was compressed with a window of more than 128 MiB (zstd --long): install the program "
                "zstd, which reads it, or unpack it with zstd -d --long=31"
            )
        self._program = subprocess.Popen(
            [program, "-dcq", "--long=31", "--", self._path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        skipped = 0
        while skipped < self._size and (block := self._read(min(self._size - skipped, _SKIPPED_AT_ONCE))):
            skipped += len(block)

    def close(self) -> None:
        if self._program is not None and not self.closed:
            self._program.kill()
            self._program.communicate()
        if self._stream is not None and not self.closed:
            self._stream.close()
        super().close()


def check_content(path: Path) -> None:
    """Refuse a file that has no compression in its name and is compressed, or no UTF-8 text by its first bytes.

    Raises:
        UnreadableFileError: it says what the file is.
    """
    if name_of(path).compression:
        return
    with path.open("rb") as stream:
        start = stream.read(16)
    found = next((what for magic, what in _OTHER_CONTENT.items() if start.startswith(magic)), "")
    if start.startswith(_BZIP2[0]) and start[4:].startswith(_BZIP2[1]):
        found = "is compressed: let its name end in .bz2"
    if found:
        raise UnreadableFileError(f"{path}: {found}")


def numbered_lines(
    stream: BinaryIO, maximum: int, within: range | None = None, first: int = 1
) -> Iterator[tuple[int, bytes]]:
    """The lines of a stream with their ends, from 1; of one of more than `maximum` bytes only the start, and one more.

    A byte order mark is not part of the first line.

    Args:
        within: only the lines that begin in these bytes, of a stream that can be sought in; a line that goes on beyond
            them belongs to them.
        first: the number of the first of those lines.
    """
    number, place, end = first - 1, 0, None
    if within is not None:
        place, end = _next_line(stream, within), within.stop
        if place >= end:
            return
    line = stream.readline(maximum + 1 + (len(BYTE_ORDER_MARK) if place == 0 else 0))
    size = len(line)
    if place == 0:
        line = line.removeprefix(BYTE_ORDER_MARK)
    while line:
        number += 1
        if len(line) > maximum:
            size += skip_line(stream, line)
        yield number, line[: maximum + 1]
        place += size
        if end is not None and place >= end:
            return
        line = stream.readline(maximum + 1)
        size = len(line)


def _next_line(stream: BinaryIO, within: range) -> int:
    """Go to the first line that begins in a range of bytes; returns its place, or where the range ends."""
    if within.start == 0:
        return 0
    place = within.start - 1
    stream.seek(place)
    while place < within.stop:
        part = stream.readline(_SKIPPED_AT_ONCE)
        place += len(part)
        if not part or part.endswith(b"\n"):
            return place if part else within.stop
    return within.stop


def lines_within(path: Path, within: range) -> int:
    """How many lines of a plain file begin in a range of its bytes."""
    size = os.path.getsize(path)
    start = within.start - 1 if within.start else 0
    left = min(within.stop, size) - 1 - start  # a line begins after the end of another
    count = int(within.start == 0 and size > 0)
    with path.open("rb", buffering=0) as stream:
        stream.seek(start)
        while left > 0 and (block := stream.read(min(left, _SKIPPED_AT_ONCE))):
            count += block.count(b"\n")
            left -= len(block)
    return count


def skip_line(stream: BinaryIO, part: bytes) -> int:
    """Read on to the end of a line of which a part was read; returns how many bytes."""
    skipped = 0
    while part and not part.endswith(b"\n"):
        part = stream.readline(_SKIPPED_AT_ONCE)
        skipped += len(part)
    return skipped


def read_text(path: Path) -> str:
    """The UTF-8 text of a file, decompressed; line ends untouched.

    Raises:
        UserError: the file cannot be read, is damaged or no UTF-8; the message names it.
    """
    path = Path(path)
    try:
        check_content(path)
        with open_decompressed(path) as stream:
            content = stream.read()
    except DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        raise UserError(
            f"{path}: cut off or corrupt ({error or type(error).__name__}); fetch it again"
        ) from error
    return decode_text(content, path)


def json_lines(content: str, where: str = "") -> Iterator[tuple[int, Any]]:
    """The values of JSON lines with the numbers of their lines; blank lines have none.

    Args:
        where: what stands in errors before "line N": the file, and a comma.

    Raises:
        UserError: a line is no JSON.
    """
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            with at_line(number, where):
                value = parse_json(line)
            yield number, value


@contextlib.contextmanager
def at_line(number: int, where: str = "", unit: str = "line") -> Iterator[None]:
    """Put a line's number, or a row's, before the message of a `UserError`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}{unit} {number}: {error}") from error


def parse_json(content: str) -> Any:
    """A JSON value.

    Raises:
        UserError: what is wrong with it.
    """
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise UserError(TOO_DEEP) from error
    except ValueError as error:
        raise UserError(TOO_DEEP if is_nested_too_deep(content) else f"not JSON: {error}") from error
    check_depth(value)
    return value


def is_nested_too_deep(content: str) -> bool:
    """Of what is no JSON: whether brackets are open more than `MAXIMUM_DEPTH` deep. Some interpreters' readers give up
    there, others at what is wrong behind it."""
    depth = 0
    for mark in _BRACKETS.finditer(content):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark[0], 0)
        if depth > MAXIMUM_DEPTH:
            return True
    return False


def check_depth(record: Any) -> None:
    """Refuse what later readers might not get through, level by level so as not to recurse."""
    level = [record]
    for _ in range(MAXIMUM_DEPTH + 1):
        nested = [value for value in level if isinstance(value, dict | list | tuple)]
        if not nested:
            return
        level = [
            inner for value in nested for inner in (value.values() if isinstance(value, dict) else value)
        ]
    raise UserError(TOO_DEEP)


def half_pair(text: str) -> int | None:
    """Where half a surrogate pair is in a text, as JSON may spell it: no character, and no file can hold it."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return error.start
    return None


def check_characters(text: str) -> None:
    """Refuse half a surrogate pair.

    Raises:
        UserError: where it is.
    """
    if (place := half_pair(text)) is not None:
        raise UserError(f"half a surrogate pair at character {place}")
