"""Files of text: names, line ends, marks, compression, and names that say something else than the content."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from core.errors import UserError
from data_pipeline.text_files import (
    COMPRESSIONS,
    MAXIMUM_DEPTH,
    Name,
    UnreadableFileError,
    _Zstandard,
    files_below,
    is_system_file,
    json_lines,
    name_of,
    numbered_lines,
    open_decompressed,
    parse_json,
    read_text,
)

SEPARATORS = "\u2028 \u2029 \x85 \x0b \x0c \x1c"  # where str.splitlines ends a line


def zstd_frame(content: bytes, window_log: int) -> bytes:
    """A frame of one raw block (RFC 8878) that asks its reader for a window of 2 to this power."""
    block = (len(content) << 3 | 1).to_bytes(3, "little") + content
    return b"\x28\xb5\x2f\xfd" + bytes([0, (window_log - 10) << 3]) + block


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jsonl", Name(".jsonl", "")),
        ("A.JSONL.GZ", Name(".jsonl", ".gz")),
        ("a.b.json.zstd", Name(".json", ".zst")),
        ("a.zst", Name("", ".zst")),
        ("gz", Name("", "")),
        ("a.tar.XZ", Name(".tar", ".xz")),
    ],
)
def test_names_count_without_case_and_in_every_spelling(name: str, found: Name) -> None:
    assert name_of(Path(name)) == found


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\xef\xbb\xbf", []),
        (b"a", [b"a"]),
        (b"\xef\xbb\xbfa\r\n\nb", [b"a\r\n", b"\n", b"b"]),
        (b"a\n\xef\xbb\xbfb\n", [b"a\n", b"\xef\xbb\xbfb\n"]),
        (b"123456789\nb", [b"12345678", b"b"]),
        (b"\xef\xbb\xbf1234567\n8\n", [b"1234567\n", b"8\n"]),
        (b"1234567890123\n8\n", [b"12345678", b"8\n"]),
    ],
)
def test_lines_end_at_newlines_alone_and_have_no_mark(content: bytes, lines: list[bytes]) -> None:
    assert list(numbered_lines(io.BytesIO(content), 7)) == list(enumerate(lines, start=1))
    other = f"x{SEPARATORS}y\n".encode()
    assert list(numbered_lines(io.BytesIO(other + b"z"), 99)) == [(1, other), (2, b"z")]


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "txt": bytes,
    "txt.gz": gzip.compress,
    "TXT.GZ": gzip.compress,
    "txt.bz2": bz2.compress,
    "txt.xz": lzma.compress,
    "txt.zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
    "txt.zstd": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}


def test_a_reader_that_finds_no_file_is_thrown_away_without_a_word(tmp_path: Path) -> None:
    reader = _Zstandard.__new__(_Zstandard)
    with pytest.raises(FileNotFoundError):
        reader.__init__(tmp_path / "a.zst")  # type: ignore[misc]
    reader.close()  # as Python does at the end of its life, since 3.13 with a traceback if it fails
    assert reader.closed


@pytest.mark.parametrize("name", COMPRESS)
def test_a_text_is_the_same_in_every_compression(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a.{name}"
    path.write_bytes(COMPRESS[name](b"\xef\xbb\xbf\xef\xbb\xbfone\r\ntwo\n"))
    assert read_text(path) == "\ufeffone\r\ntwo\n"
    path.write_bytes(COMPRESS[name](b"one\ntwo \xff\n"))
    with pytest.raises(UserError, match=rf"{path}: is not UTF-8 text, in line 2"):
        read_text(path)
    if "." in name:
        path.write_bytes(COMPRESS[name](b"one" * 1000)[:-3])
        with pytest.raises(UserError, match=rf"{path}: cut off or corrupt"):
            read_text(path)
    path.unlink()
    with pytest.raises(UserError, match=rf"{path}: cannot be read .*No such file"):
        read_text(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(b"a", mtime=0), "end in .gz"),
        (bz2.compress(b"a"), "end in .bz2"),
        (lzma.compress(b"a"), "end in .xz"),
        (pa.compress(b"a", codec="zstd", asbytes=True), "end in .zst"),
        ("text".encode("utf-16"), "UTF-16 text: make it UTF-8"),
        (b"PK\x03\x04", "a zip archive: unpack it"),
        (b"PAR1\x15\x04", "end in .parquet"),
    ],
)
def test_what_a_name_does_not_say_is_said(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"{path}: is .*{what}"):
        read_text(path)
    path.write_bytes(b"BZh, PAR1 and PK are words")
    assert read_text(path).startswith("BZh")


@pytest.mark.parametrize("window_log", [27, 28, 31])
def test_zstd_with_a_long_window_is_read(
    tmp_path: Path, window_log: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = b"ordinary " * 30_000
    path = tmp_path / "a.txt.zst"
    path.write_bytes(
        pa.compress(ordinary, codec="zstd", asbytes=True) + zstd_frame(b"long" * 1000, window_log)
    )
    if window_log == 27 or shutil.which("zstd"):
        assert read_text(path) == ordinary.decode() + "long" * 1000
    if window_log > 27 and shutil.which("zstd"):
        path.write_bytes(path.read_bytes() + zstd_frame(b"cut off", window_log)[:-2])
        with pytest.raises(UserError, match=rf"{path}: cut off or corrupt"):
            read_text(path)
        with open_decompressed(path) as stream:  # and left in the middle
            assert stream.read(len(ordinary) + 2)[-2:] == b"lo"
    if window_log > 27:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            UnreadableFileError, match=rf"{path}: .*window of more than 128 MiB.*zstd -d --long=31"
        ):
            read_text(path)


def test_json_lines_have_numbers_and_errors_have_them_too() -> None:
    content = f'{{"a": "{SEPARATORS[:5]}"}}\r\n\n[1]'
    assert list(json_lines(content)) == [(1, {"a": SEPARATORS[:5]}), (3, [1])]
    for line, what in (
        ("{", "not JSON: Expecting"),
        ("[" * 5000, "nested more than 500"),
        ("[" * 600 + "x", "nested more than 500"),
        (r'["\"' + "[" * 600 + '" x]', "not JSON: "),
        ("1" * 5000, "not JSON"),
    ):
        with pytest.raises(UserError, match=f"line 2: .*{what}"):
            list(json_lines(f"1\n{line}\n"))


@pytest.mark.parametrize("depth", [MAXIMUM_DEPTH, MAXIMUM_DEPTH + 1])
def test_how_deep_json_may_be(depth: int) -> None:
    spelled = "[" * depth + "]" * depth
    if depth <= MAXIMUM_DEPTH:
        assert json.dumps(parse_json(spelled)) == spelled
    else:
        with pytest.raises(UserError, match="nested more than 500 levels"):
            parse_json(spelled)


def test_the_files_below_a_folder(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", ".hidden", ".git/x", "__MACOSX/y", "b/._1", "b/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    elsewhere = tmp_path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "z").touch()
    (tmp_path / "c").symlink_to(elsewhere)
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ["a", "b/1", "b/2", "c/z"]
    shutil.rmtree(elsewhere)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("a/._0.txt", True),
        ("__MACOSX/a.txt", True),
        ("a/.DS_Store", True),
        ("a/0._txt", False),
        ("a.txt", False),
    ],
)
def test_what_a_mac_leaves(name: str, theirs: bool) -> None:
    assert is_system_file(Path(name)) == theirs


@pytest.mark.parametrize("compression", sorted(COMPRESSIONS))
def test_a_compressed_file_without_a_byte_is_cut_off(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"a.txt{compression}"
    path.touch()
    with pytest.raises(UserError, match=f"{path}: cut off or corrupt"):
        read_text(path)
