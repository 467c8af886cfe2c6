"""Files and archives on the web: fetched as one corpus, pinned at the first fetch, and gone from disk afterwards."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from corpus_files import contents, read_documents
from unreliable_server import Remote, serve

from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.sources.archives import ArchiveError
from data_pipeline.sources.download import DownloadError, Patience
from data_pipeline.sources.records import SourceError
from data_pipeline.sources.remote_files import RemoteFile, fetch_remote
from data_pipeline.sources.source import WebSource

LINES = b"".join(json.dumps({"text": f"line {n}"}).encode() + b"\n" for n in range(50))


def tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def servers() -> Iterator[list[Remote]]:
    """A file that breaks off once, and an archive."""
    with ExitStack() as stack:
        plain = stack.enter_context(serve(Remote(LINES, troubles=["break"]), "a%20b.jsonl?download=true"))
        packed = tar({"deep/z.txt": b"last", "a.jsonl": b'{"text": "first"}\n', "LICENSE": b"free"})
        archive = stack.enter_context(serve(Remote(packed, troubles=["500"]), "data.tar.gz"))
        yield [plain, archive]


def fetch(
    files: list[RemoteFile], output: Path, lock: LockFile | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    source = WebSource("web", urls=[file.url for file in files], sha256=[file.sha256 for file in files])
    return fetch_remote(source, output, lock=lock, patience=Patience(3, 0.01, 5), executor=LocalExecutor(1))


def test_files_and_archives_become_documents(tmp_path: Path, servers: list[Remote]) -> None:
    plain, archive = servers
    lock = LockFile(tmp_path / "recipe.lock.json")
    files = [RemoteFile(plain.url), RemoteFile(archive.url, hashlib.sha256(archive.content).hexdigest())]
    counts, pins = fetch(files, tmp_path / "out", lock)
    texts = [document.text for document in read_documents(tmp_path / "out")]
    assert texts == [*(f"line {n}" for n in range(50)), "first", "last"]
    assert (counts["files"], counts["documents"], counts["other_files"]) == (3, 52, 1)
    assert not (tmp_path / "out" / ".downloads").exists()
    assert pins == {
        plain.url: {"sha256": hashlib.sha256(LINES).hexdigest()},
        archive.url: {"sha256": hashlib.sha256(archive.content).hexdigest()},
    }
    assert lock.entries() == {
        plain.url: {**pins[plain.url], "bytes": len(LINES)}
    }  # what the recipe does not say
    fetch(files, tmp_path / "again", lock)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_what_a_mac_puts_into_archives_is_counted_and_not_read(tmp_path: Path) -> None:
    fork = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"
    members = {
        "books/0.txt": b"a book",
        "books/._0.txt": fork,
        "__MACOSX/books/._0.txt": fork,
        "books/.DS_Store": fork,
        "._more.jsonl.gz": fork,
        "MORE.NDJSON": b'{"text": "more"}',
    }
    with serve(Remote(tar(members)), "mac.tgz") as remote:
        counts, _ = fetch([RemoteFile(remote.url)], tmp_path / "out")
    assert [document.text for document in read_documents(tmp_path / "out")] == ["more", "a book"]
    assert (counts["files"], counts["quarantined"], counts["other_files"]) == (2, 0, 4)


def test_what_changed_since_the_first_fetch_is_refused(tmp_path: Path, servers: list[Remote]) -> None:
    plain = servers[0]
    lock = LockFile(tmp_path / "recipe.lock.json")
    fetch([RemoteFile(plain.url)], tmp_path / "out", lock)
    plain.content = LINES.replace(b"line 7", b"line 8")
    with pytest.raises(DownloadError, match=rf"expected {hashlib.sha256(LINES).hexdigest()}"):
        fetch([RemoteFile(plain.url)], tmp_path / "later", lock)


def test_an_archive_that_reaches_out_stops_the_fetch(tmp_path: Path) -> None:
    with (
        serve(Remote(tar({"../../evil.jsonl": LINES})), "evil.tgz") as remote,
        pytest.raises(ArchiveError, match=r"evil\.tgz: member \.\./\.\./evil\.jsonl would be outside"),
    ):
        fetch([RemoteFile(remote.url)], tmp_path / "out")
    assert not list(tmp_path.rglob("evil.jsonl"))


def test_names_that_say_no_format_are_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    files = [RemoteFile("http://127.0.0.1:9/data"), RemoteFile("http://127.0.0.1:9/a.docx")]
    with pytest.raises(SourceError, match=r"unknown kind of file: http://127\.0\.0\.1:9/data, .*a\.docx"):
        fetch(files, tmp_path / "out")
    with (
        serve(Remote(tar({"LICENSE": b"free"})), "x.tar.gz") as remote,
        pytest.raises(SourceError, match="no file"),
    ):
        fetch([RemoteFile(remote.url)], tmp_path / "out")
