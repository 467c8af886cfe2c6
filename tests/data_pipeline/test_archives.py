"""Archives: what comes out, and what is refused because it would be written elsewhere, or never end."""

import gzip
import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from data_pipeline.sources.archives import ArchiveError, is_archive, unpack
from data_pipeline.text_files import files_below

Member = tuple[str, bytes | Callable[[tarfile.TarInfo], None]]
FILES: list[Member] = [("a/one.txt", b"first"), ("a/b/two.jsonl", b"second" * 1000), ("empty", b"")]


def tar_bytes(members: list[Member]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if callable(content):
                content(info)
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_bytes(members: list[tuple[str, bytes]], mode: int = 0) -> bytes:
    return zip_with_modes([(name, content, mode) for name, content in members])


def zip_with_modes(members: list[tuple[str, bytes, int]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def link(kind: bytes, target: str) -> Callable[[tarfile.TarInfo], None]:
    def set_link(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, target

    return set_link


def device(info: tarfile.TarInfo) -> None:
    info.type, info.devmajor = tarfile.CHRTYPE, 1


def refuse(folder: Path, name: str, content: bytes, reason: str, **limits: int) -> None:
    """Check that nothing of an archive is left, in its folder or beside it."""
    (folder / "inner").mkdir(exist_ok=True)
    archive = folder / name
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match=reason) as caught:
        unpack(archive, folder / "inner" / "out", **limits)
    assert str(archive) in str(caught.value)
    assert sorted(path.name for path in folder.rglob("*")) == sorted(["inner", name])
    archive.unlink()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".TGZ", ".tar.zst", ".TZST", ".zip", ".Zip"])
def test_files_come_out_with_their_content(tmp_path: Path, suffix: str) -> None:
    plain = tar_bytes(FILES)
    packed = {
        ".tar": plain,
        ".tar.gz": gzip.compress(plain),
        ".tgz": gzip.compress(plain),
        ".tar.zst": pa.compress(plain, codec="zstd", asbytes=True),
        ".tzst": pa.compress(plain, codec="zstd", asbytes=True),
        ".zip": zip_bytes([(name, content) for name, content in FILES if isinstance(content, bytes)]),
    }
    archive = tmp_path / f"data{suffix}"
    archive.write_bytes(packed[suffix.lower()])
    assert is_archive(archive)
    assert unpack(archive, tmp_path / "out") == 3
    assert {name: (tmp_path / "out" / name).read_bytes() for name, _ in FILES} == dict(FILES)
    archive.write_bytes(b"")  # what is unpacked is not unpacked again
    assert unpack(archive, tmp_path / "out") == 3


@pytest.mark.parametrize("name", ["/tmp/evil", "../evil", "a/../../evil", "..\\evil", "C:\\evil", "a/.."])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    reason = "would be outside the folder, which is refused"
    refuse(tmp_path, "data.tar", tar_bytes([*FILES, (name, b"evil")]), reason)
    refuse(tmp_path, "data.zip", zip_bytes([("good", b"1"), (name, b"evil")]), reason)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "../outside"])
def test_links_that_lead_outside_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    refuse(tmp_path, "data.tar", tar_bytes([("link", link(kind, target))]), "which is refused")


def test_writing_through_a_link_is_refused(tmp_path: Path) -> None:
    members: list[Member] = [
        ("there", link(tarfile.SYMTYPE, "..")),
        ("there/evil", b"evil"),
    ]
    refuse(tmp_path, "data.tar", tar_bytes(members), "which is refused")
    inside: list[Member] = [("a/file", b"1"), ("folder", link(tarfile.SYMTYPE, "a")), ("folder/x", b"2")]
    refuse(
        tmp_path,
        "data.tar",
        tar_bytes(inside),
        "member folder/x lies behind the link folder, which is refused",
    )
    zipped = [("folder", b"..", stat.S_IFLNK), ("folder/x", b"2", 0)]
    refuse(tmp_path, "data.zip", zip_with_modes(zipped), "member folder is a link outside the folder")


def test_links_to_folders_and_to_nothing_are_left_out_and_the_rest_comes_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Links may stand before what they lead to, and lead over each other, as in archives of whole source trees."""
    links = {
        "early": "a/one.txt",
        "folder": "a",
        "over": "folder/one.txt",  # which is a/one.txt
        "dangling": "a/absent",
        "circle": "other",
        "other": "circle",
        "in/up": "../a/b",
        "here": ".",
        "early2": "early",
    }
    copies = {"early", "over", "early2"}
    as_tar = tar_bytes([*((name, link(tarfile.SYMTYPE, target)) for name, target in links.items()), *FILES])
    as_zip = zip_with_modes(
        [
            *((name, target.encode(), stat.S_IFLNK) for name, target in links.items()),
            *((name, content, stat.S_IFREG) for name, content in FILES if isinstance(content, bytes)),
        ]
    )
    for name, content in (("data.tar", as_tar), ("data.zip", as_zip)):
        (tmp_path / name).write_bytes(content)
        folder = tmp_path / f"{name} out"
        assert unpack(tmp_path / name, folder) == len(FILES) + len(copies)
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files_below(folder)}
        assert found == {**dict(FILES), **dict.fromkeys(copies, b"first")}
        assert (
            f"{name}: 6 links to folders or to nothing are left out (folder, dangling, circle" in caplog.text
        )
    hard: list[Member] = [("hard", link(tarfile.LNKTYPE, "later")), ("later", b"1")]
    (tmp_path / "hard").mkdir()
    refuse(
        tmp_path / "hard", "data.tar", tar_bytes(hard), "member hard is a link to later, no file before it"
    )


def test_links_inside_become_copies(tmp_path: Path) -> None:
    archive = tmp_path / "data.tar"
    members: list[Member] = [
        *FILES,
        ("a/soft", link(tarfile.SYMTYPE, "b/two.jsonl")),
        ("up/soft", link(tarfile.SYMTYPE, "../a/one.txt")),
        ("hard", link(tarfile.LNKTYPE, "a/one.txt")),
    ]
    archive.write_bytes(tar_bytes(members))
    assert unpack(archive, tmp_path / "out") == 6
    assert (tmp_path / "out" / "a" / "soft").read_bytes() == b"second" * 1000
    assert (tmp_path / "out" / "up" / "soft").read_bytes() == b"first"
    assert (tmp_path / "out" / "hard").read_bytes() == b"first"
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, "data.tar", tar_bytes([("null", device)]), "'null' is a special file, which is refused")
    refuse(tmp_path, "data.zip", zip_bytes([("x", b"")], stat.S_IFCHR | 0o644), "member x is a device")
    refuse(
        tmp_path, "data.zip", zip_bytes([("x", b"/etc")], stat.S_IFLNK | 0o644), "a link outside the folder"
    )


def test_more_than_the_limits_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(tar_bytes([("zeros", bytes(20_000_000))]))
    refuse(tmp_path, "data.tar.gz", bomb, "unpacks to more than 10,000,000 bytes", maximum_bytes=10_000_000)
    zipped = zip_bytes([("zeros", bytes(20_000_000))])
    refuse(tmp_path, "data.zip", zipped, "unpacks to more than 10,000,000 bytes", maximum_bytes=10_000_000)
    refuse(tmp_path, "data.tar", tar_bytes(FILES), "more than 2 members", maximum_files=2)
    refuse(tmp_path, "data.tar", tar_bytes([FILES[0], FILES[0]]), "member a/one.txt is there twice")


@pytest.mark.parametrize("looks", [False, True])
def test_a_file_that_another_member_needs_as_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    """Python 3.12.3's filter looks at what is there, and stumbles over the file."""
    if looks:
        data_filter = tarfile.data_filter

        def strict(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
            if any(parent.is_file() for parent in Path(folder, member.name).parents):
                raise NotADirectoryError(20, "Not a directory", str(Path(folder, member.name).parent))
            return data_filter(member, folder)

        monkeypatch.setattr(tarfile, "data_filter", strict)
    members: list[tuple[str, bytes]] = [("a", b"file"), ("a/b/c", b"in it")]
    reason = "member a/b/c needs a folder where a file is, which is refused"
    refuse(tmp_path, "data.tar", tar_bytes([*members]), reason)
    refuse(tmp_path, "data.zip", zip_bytes(members), reason)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.zst", ".zip"])
def test_an_archive_that_is_cut_off_anywhere_is_noticed(tmp_path: Path, suffix: str) -> None:
    plain = tar_bytes([(f"f{n}", bytes(1500)) for n in range(4)])[
        : 4 * 2048 + 1024
    ]  # and two blocks at its end
    whole = {
        ".tar": plain,
        ".tar.gz": gzip.compress(plain),
        ".tar.zst": pa.compress(plain, codec="zstd", asbytes=True),
        ".zip": zip_bytes([(f"f{n}", bytes([n]) * 700) for n in range(4)]),
    }[suffix]
    archive = tmp_path / f"data{suffix}"
    archive.write_bytes(whole)
    unpack(archive, tmp_path / "whole")
    needed = len(whole) - 512 if suffix == ".tar" else len(whole)  # of the end's two blocks one is enough
    for size in {*range(0, needed, 101), *range(0, needed, 512), needed - 1}:
        archive.write_bytes(whole[:size])
        with pytest.raises(ArchiveError, match="cut off"):
            unpack(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    content = bytearray(tar_bytes([("one", b"1"), ("two", b"2")]))
    content[1024 + 5] ^= 1
    refuse(tmp_path, "data.tar", bytes(content), "the end mark is missing")


def test_noise_in_archives_never_escapes_as_another_error(tmp_path: Path) -> None:
    draw = random.Random(3)
    contents = {".tar": tar_bytes(FILES), ".zip": zip_bytes([("a", b"x" * 500), ("b/c", b"y" * 500)])}
    for suffix, good in contents.items():
        for case in range(120):
            content = bytearray(good if case % 10 else draw.randbytes(2000))
            for _ in range(draw.choice([1, 3])):
                content[draw.randrange(min(len(content), 4000))] ^= 1 << draw.randrange(8)
            archive = tmp_path / f"data{suffix}"
            archive.write_bytes(content)
            try:
                unpack(archive, tmp_path / f"out{suffix}{case}")
            except ArchiveError as error:
                assert str(archive) in str(error)
