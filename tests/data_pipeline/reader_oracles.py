"""What readers should find in a file's bytes, by the standard library and Arrow alone: whole files, no streams.

Each oracle gives what is in the content, or raises ValueError where there is something that must be refused.
"""

import bz2
import csv
import ctypes
import ctypes.util
import gzip
import io
import json
import lzma
import math
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.text_files import MAXIMUM_DEPTH

MARK = b"\xef\xbb\xbf"
Found = tuple[list[tuple[int, str, str]], list[int]]  # number, text, other fields; the numbers of bad records
_OTHER_STARTS = (
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ\0",
    b"PK\3\4",
    b"PAR1\x15",
    b"\xff\xfe",
    b"\xfe\xff",
)
_library = ctypes.util.find_library("zstd")
_zstd = ctypes.CDLL(_library) if _library else None
_WINDOW_LOG_MAX = 100  # the parameter's number
_LARGEST = 1 << 22


def decompress(content: bytes, compression: str) -> bytes:
    """The content of a compressed file; of a plain one itself, unless it says of itself that it is something else."""
    try:
        if compression in (".gz", ".bz2", ".xz", ".zst", ".zstd") and not content:
            raise ValueError("not even the end mark is there")
        if compression == ".gz":
            return gzip.decompress(content)
        if compression == ".bz2":
            return bz2.decompress(content)
        if compression == ".xz":
            return lzma.decompress(content)
        if compression in (".zst", ".zstd"):
            return _zstandard(content)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(str(error)) from error
    if content.startswith(_OTHER_STARTS) or re.match(rb"BZh.1AY&SY", content, re.DOTALL):
        raise ValueError("another kind of file")
    return content


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("place", ctypes.c_size_t))


def _zstandard(content: bytes) -> bytes:
    """All frames, by the C library with its largest window, or by Arrow where there is no such library."""
    if _zstd is None:
        return bytes(pa.CompressedInputStream(pa.BufferReader(content), "zstd").read())
    _zstd.ZSTD_createDCtx.restype = ctypes.c_void_p
    _zstd.ZSTD_decompressStream.restype = ctypes.c_size_t
    context = ctypes.c_void_p(_zstd.ZSTD_createDCtx())
    _zstd.ZSTD_DCtx_setParameter(context, _WINDOW_LOG_MAX, 31)
    space = ctypes.create_string_buffer(_LARGEST)
    source = _Buffer(
        ctypes.cast(ctypes.create_string_buffer(content, len(content)), ctypes.c_void_p), len(content), 0
    )
    target = _Buffer(ctypes.cast(space, ctypes.c_void_p), _LARGEST, 0)
    missing = 0
    try:
        while source.place < source.size:
            missing = _zstd.ZSTD_decompressStream(context, ctypes.byref(target), ctypes.byref(source))
            if _zstd.ZSTD_isError(ctypes.c_size_t(missing)):
                raise ValueError("damaged")
    finally:
        _zstd.ZSTD_freeDCtx(context)
    if missing:
        raise ValueError("cut off")
    return space.raw[: target.place]


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def value_of(content: bytes | str) -> Any:
    """A JSON value of a depth that is allowed."""
    try:
        value = json.loads(content.decode() if isinstance(content, bytes) else content)
        if depth_of(value) > MAXIMUM_DEPTH:
            raise ValueError("deep")
    except RecursionError as error:
        raise ValueError("deep") from error
    return value


def whole(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def finite(value: Any) -> Any:
    """A value in which numbers that are none, or that no float holds, are null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def document(fields: Any) -> tuple[str, str]:
    """Text and other fields of a record that is a document."""
    if not isinstance(fields, dict) or not isinstance(fields.get("text"), str) or not whole(fields["text"]):
        raise ValueError("no document")
    others = {key: finite(value) for key, value in fields.items() if key != "text"}
    return fields["text"], json.dumps(others, sort_keys=True, default=str)


def sorted_out(records: list[tuple[int, Any]], read: Any) -> Found:
    documents, bad = [], []
    for number, record in records:
        try:
            documents.append((number, *document(read(record))))
        except ValueError:
            bad.append(number)
    return documents, bad


def json_lines(content: bytes) -> Found:
    lines = enumerate(content.removeprefix(MARK).split(b"\n"), start=1)
    return sorted_out([(number, line) for number, line in lines if line.strip(b" \t\r\n\x0b\x0c")], value_of)


def json_file(content: bytes) -> Found:
    """One list, a value a line, or values over lines: what of these it is, its first line says."""
    whole_content, content = content, content.removeprefix(MARK)
    first = next((line for line in content.split(b"\n") if line.strip(b" \t\r\n")), b"").strip(b" \t\r\n")
    if first.startswith(b"["):
        text = content.decode("utf-8", "surrogateescape")
        value_of(text)
        return _values(text[text.index("[") + 1 : text.rindex("]")], ",")
    try:
        json.loads(first.decode("utf-8", "replace"))
    except RecursionError:
        return json_lines(whole_content)
    except json.JSONDecodeError as error:
        if error.pos >= len(first.decode("utf-8", "replace")):
            return _values(content.decode("utf-8", "surrogateescape"), "")
    except ValueError:
        pass
    return json_lines(whole_content)


def _values(text: str, between: str) -> Found:
    """Values with a mark between them; one with bytes that are no UTF-8 is bad."""
    place, values = 0, []
    blanks = " \t\r\n" + between
    while text[place:].strip(blanks):
        start = len(text) - len(text[place:].lstrip(blanks))
        try:
            value, place = json.JSONDecoder().raw_decode(text, start)
        except RecursionError as error:
            raise ValueError("deep") from error
        values.append(value if whole(text[start:place]) else None)
    return sorted_out(list(enumerate(values, start=1)), lambda value: value)


def csv_file(content: bytes) -> Found:
    lines = content.removeprefix(MARK).decode("utf-8", "surrogateescape").split("\n")
    lines = [line + "\n" for line in lines[:-1]] + lines[-1:] * bool(lines[-1])
    rows = csv.reader(iter(lines), strict=True)
    documents, bad = [], []
    try:
        header = next(rows, [])
    except csv.Error as error:
        raise ValueError("no header") from error
    if "text" not in header:
        raise ValueError("no column")
    if any(name.strip() and header.count(name) > 1 for name in header):
        raise ValueError("a name twice")
    while True:
        first = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return documents, bad
        except csv.Error:
            bad.append(first)
            continue
        if len(row) == len(header) and all(map(whole, row)):
            documents.append((first, *document(dict(zip(header, row, strict=True)))))
        elif row:
            bad.append(first)


def text_file(content: bytes) -> Found:
    content = content.removeprefix(MARK)
    if not content.strip(b" \t\r\n\x0b\x0c"):
        return [], []
    try:
        return [(1, content.decode(), "")], []
    except UnicodeDecodeError:
        return [], [1]


def parquet_file(content: bytes) -> Found:
    try:
        rows = pq.read_table(pa.BufferReader(content), page_checksum_verification=True).to_pylist()
    except (pa.ArrowException, OSError, UnicodeError, MemoryError) as error:
        raise ValueError(str(error)) from error
    if rows and "text" not in rows[0]:
        raise ValueError("no column")
    return sorted_out(list(enumerate(rows, start=1)), lambda row: row)


def lambada(content: bytes) -> list[tuple[int, str, str]]:
    """Line, context and last word of each row."""
    found = []
    for number, line in enumerate(content.removeprefix(MARK).decode().split("\n"), start=1):
        if line.strip():
            text, _ = document(value_of(line))
            parts = re.fullmatch(r"\s*(\S.*?)\s+(\S+)\s*", text, re.DOTALL)
            if parts is None:
                raise ValueError("fewer than two words")
            found.append((number, *parts.groups()))
    if not found:
        raise ValueError("no rows")
    return found


def race(content: bytes) -> tuple[str, list[tuple[str, list[str], int]]]:
    """The article, and question, options and answer of each question."""
    record = value_of(content.removeprefix(MARK))
    if not isinstance(record, dict):
        raise ValueError("no object")
    article, *lists = (record.get(key) for key in ("article", "questions", "options", "answers"))
    if not isinstance(article, str) or not all(isinstance(values, list) for values in lists):
        raise ValueError("fields")
    found = [
        (question, list(options), "ABCD".index(answer))
        for question, options, answer in zip(*lists, strict=True)
        if isinstance(options, list) and isinstance(answer, str) and len(answer) == 1
    ]
    texts = [article, *(text for question, options, _ in found for text in (question, *options))]
    if not all(isinstance(text, str) and whole(text) for text in texts):
        raise ValueError("texts")
    if len(found) != len(lists[0]) or any(len(options) != 4 for _, options, _ in found):
        raise ValueError("shape")
    return article, found


def wikitext(content: bytes) -> str:
    text = content.removeprefix(MARK).decode()
    if "\r\n" in text:
        return re.sub(r"\r\n|\r\Z", lambda end: "\n" if len(end[0]) == 2 else "", text)
    return text if "\n" in text else "\n".join(text.split("\r"))


def prompts(content: bytes) -> list[str]:
    text = content.removeprefix(MARK).decode()
    if not text:
        raise ValueError("empty")
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def tar_file(content: bytes) -> dict[str, bytes]:
    """The files of an archive by name, links to files as copies."""
    files, links = {}, {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if member.isreg():
                    files[name] = archive.extractfile(member).read()  # type: ignore[union-attr]
                elif member.issym():
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                elif member.islnk():
                    links[name] = posixpath.normpath(member.linkname)
    except (tarfile.TarError, EOFError, OSError, UnicodeError) as error:
        raise ValueError(str(error)) from error
    return files | _copies(files, links)


def zip_file(content: bytes) -> dict[str, bytes]:
    files, links = {}, {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                name = posixpath.normpath(member.filename)
                if stat.S_ISLNK(member.external_attr >> 16):
                    target = archive.read(member).decode("utf-8", "surrogateescape")
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
                elif not member.is_dir():
                    files[name] = archive.read(member)
    except (zipfile.BadZipFile, EOFError, OSError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    return files | _copies(files, links)


def _copies(files: dict[str, bytes], links: dict[str, str]) -> dict[str, bytes]:
    """The content of each link that leads to a file, over other links."""
    found = {}
    if any(target.startswith(("..", "/")) for target in links.values()):
        raise ValueError("leads outside")
    for name, target in links.items():
        for _ in range(len(links) + 1):
            via = next((link for link in links if target == link or target.startswith(f"{link}/")), None)
            if via is None:
                break
            target = posixpath.normpath(links[via] + target[len(via) :])
        if target in files:
            found[name] = files[target]
    return found
