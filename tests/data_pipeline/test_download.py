"""Downloads from a server that breaks off, changes its mind, is busy, or sends wrong bytes."""

import hashlib
import random
import time
from pathlib import Path

import pytest
from unreliable_server import Remote, serve

from data_pipeline.sources.download import Downloaded, DownloadError, Patience, download

CONTENT = random.Random(1).randbytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(attempts=4, first_wait_seconds=0.01, timeout_seconds=5)


def get(remote: Remote, target: Path, patience: Patience = QUICK, **expected: object) -> Downloaded:
    return download(remote.url, target, patience=patience, **expected)


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file_is_verified_and_nothing_else_is_left(tmp_path: Path) -> None:
    with serve(Remote(CONTENT)) as remote:
        found = get(remote, tmp_path / "file", sha256=DIGEST.upper(), size=len(CONTENT))
        assert found == Downloaded(len(CONTENT), DIGEST)
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert left_over(tmp_path) == ["file"]
        assert get(remote, tmp_path / "file", sha256=DIGEST) == found
        assert remote.requests == [""]  # what is there is not fetched again
        (tmp_path / "file").write_bytes(CONTENT[:-1])
        assert get(remote, tmp_path / "file", sha256=DIGEST) == found
        assert remote.requests == ["", ""]


def test_a_break_is_resumed_with_a_range(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, troubles=["break", "break"])) as remote:
        get(remote, tmp_path / "file", sha256=DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert remote.requests == ["", "bytes=1500000-", "bytes=2250000-"]


def test_two_errors_of_the_server_are_waited_out(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, troubles=["500", "503"])) as remote:
        get(remote, tmp_path / "file")
    assert len(remote.requests) == 3
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_what_the_server_asks_for_is_waited(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, troubles=["429"], retry_after="1")) as remote:
        started = time.monotonic()
        get(remote, tmp_path / "file")
    assert 1 <= time.monotonic() - started < 3


def test_waits_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("data_pipeline.sources.download.time.sleep", waits.append)
    with (
        serve(Remote(CONTENT, troubles=["500"] * 9)) as remote,
        pytest.raises(
            DownloadError, match=f"{remote.url}: the server answered 500 .* given up after 8 attempts"
        ),
    ):
        get(remote, tmp_path / "file", Patience(attempts=8, first_wait_seconds=2))
    assert waits == [2, 4, 8, 16, 32, 64, 120]


def test_progress_renews_the_patience(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, troubles=["break"] * 12)) as remote:
        get(remote, tmp_path / "file", sha256=DIGEST)
    assert len(remote.requests) == 13


def test_silence_ends_an_attempt(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, troubles=["silent"])) as remote:
        get(remote, tmp_path / "file", Patience(4, 0.01, timeout_seconds=0.3), sha256=DIGEST)
    assert len(remote.requests) == 2


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, troubles=["break", "500", "500", "500", "500"])) as remote:
        with pytest.raises(DownloadError, match=r"with 1,500,000 bytes received\. The same command goes on"):
            get(remote, tmp_path / "file")
        assert not (tmp_path / "file").exists()
        remote.troubles.clear()
        remote.requests.clear()
        get(remote, tmp_path / "file")
    assert remote.requests == ["bytes=1500000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("conditions", [True, False])
def test_a_file_that_changed_meanwhile_is_not_glued_together(tmp_path: Path, conditions: bool) -> None:
    other = random.Random(2).randbytes(2_900_000)
    with serve(
        Remote(CONTENT, conditions=conditions, troubles=["break", "500", "500", "500", "500"])
    ) as remote:
        with pytest.raises(DownloadError):
            get(remote, tmp_path / "file")
        remote.content, remote.etag = other, '"two"'
        remote.troubles.clear()
        remote.requests.clear()
        get(remote, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == other
    # A server that knows If-Range sends the new file at once; of another the new ETag is noticed.
    assert remote.requests == (["bytes=1500000-"] if conditions else ["bytes=1500000-", ""])


def test_a_server_without_ranges_sends_all_again(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, ranges=False, troubles=["break"])) as remote:
        get(remote, tmp_path / "file", sha256=DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(remote.requests) == 2


def test_without_a_version_or_a_hash_nothing_is_resumed(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, etag="", troubles=["break"])) as remote:
        get(remote, tmp_path / "file")
    assert remote.requests == ["", ""]
    with serve(Remote(CONTENT, etag="", troubles=["break"])) as remote:
        get(remote, tmp_path / "again", sha256=DIGEST)
    assert remote.requests == ["", "bytes=1500000-"]


def test_a_wrong_range_is_not_taken(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, wrong_range=True, troubles=["break"])) as remote:
        get(remote, tmp_path / "file", sha256=DIGEST)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert remote.requests == ["", "bytes=1500000-", ""]


def test_wrong_bytes_fail_with_both_hashes_and_leave_nothing(tmp_path: Path) -> None:
    wrong = bytearray(CONTENT)
    wrong[1000] ^= 1
    with serve(Remote(bytes(wrong))) as remote:
        with pytest.raises(
            DownloadError,
            match=rf"{remote.url}: got sha256 [0-9a-f]{{64}}, expected {DIGEST} \(the remote file",
        ):
            get(remote, tmp_path / "file", sha256=DIGEST)
        assert left_over(tmp_path) == []
        with pytest.raises(DownloadError, match="the server offers 3,000,000 bytes, expected 2,999,999"):
            get(remote, tmp_path / "file", size=2_999_999)
        remote.length = False
        with pytest.raises(DownloadError, match="got 3,000,000 bytes, expected 2,999,999"):
            get(remote, tmp_path / "file", size=2_999_999)
    assert left_over(tmp_path) == []


def test_a_bad_part_from_an_earlier_call_is_dropped_once(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, troubles=["break", "500", "500", "500", "500"])) as remote:
        with pytest.raises(DownloadError):
            get(remote, tmp_path / "file", sha256=DIGEST)
        partial = tmp_path / ".file.partial"
        partial.write_bytes(b"\0" * partial.stat().st_size)
        remote.troubles.clear()
        remote.requests.clear()
        get(remote, tmp_path / "file", sha256=DIGEST)
    assert remote.requests == ["bytes=1500000-", ""]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_and_is_always_wrong_is_given_up(tmp_path: Path) -> None:
    with serve(Remote(CONTENT[::-1], troubles=["break", "", "break", "", "break", ""])) as remote:
        with pytest.raises(DownloadError, match="got sha256"):
            get(remote, tmp_path / "file", sha256=DIGEST)
        assert len(remote.requests) == 4
    assert left_over(tmp_path) == []


def test_what_cannot_be_had_fails_at_once(tmp_path: Path) -> None:
    with serve(Remote(CONTENT, troubles=["404"])) as remote:
        with pytest.raises(DownloadError, match=f"{remote.url}: the server answered 404 Not Found; check"):
            get(remote, tmp_path / "file")
        assert len(remote.requests) == 1
    with pytest.raises(DownloadError, match=r"no connection .* given up after 4 attempts"):
        get(remote, tmp_path / "file")
    with pytest.raises(DownloadError, match="http:///file: not a valid address"):
        download("http:///file", tmp_path / "file")
    with pytest.raises(DownloadError, match="only http and https"):
        download("file:///etc/passwd", tmp_path / "file")
