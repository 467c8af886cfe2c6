"""Downloads over HTTP(S): resumed after a break, retried, and verified before the file gets its name.

A download grows in `.<name>.partial`; beside it `.<name>.partial.json` says of which version of the remote file it is,
so that two versions are never glued together. What is in the file, and unpacking it, live elsewhere.
"""

import contextlib
import email.utils
import http.client
import logging
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from core.errors import UserError
from core.files import read_json, sync_file, write_json
from data_pipeline.engine.artifacts import free_bytes, hash_file

_BLOCK_BYTES = 1 << 16  # what a break loses at most
_LONGEST_WAIT_SECONDS = 120.0
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_RANGE_NOT_SATISFIABLE = 416
_HEADERS = {"User-Agent": "megatron-reproduction", "Accept-Encoding": "identity"}
_logger = logging.getLogger("data_pipeline")


class DownloadError(UserError):
    """A file cannot be downloaded or is not what was expected; the message names the address and the remedy."""


@dataclass(frozen=True)
class Patience:
    """How long a download is tried.

    Attributes:
        attempts: that many in a row may fail without a new byte.
        first_wait_seconds: before the second attempt; doubled before each further one, up to two minutes. A server's
            `Retry-After` is waited for instead, up to the same limit.
        timeout_seconds: of silence, after which an attempt has failed.
    """

    attempts: int = 6
    first_wait_seconds: float = 1.0
    timeout_seconds: float = 60.0


@dataclass(frozen=True)
class Downloaded:
    """A verified file: its size and sha256."""

    bytes: int
    sha256: str


class _BrokenOffError(Exception):
    """An attempt failed in a way that another may not; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _RestartError(Exception):
    """What is there is no part of what the server has now."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    size: int = 0,
    patience: Patience | None = None,
    title: str = "",
) -> Downloaded:
    """Download a file, going on with what an earlier call left.

    Args:
        url: an http or https address.
        target: the file; it appears whole and verified, or not at all. One that is there is kept if it is as expected.
        sha256: the expected hash, in hexadecimal; empty when it is not known.
        size: the expected size in bytes; 0 when it is not known.
        patience: how long to try.
        title: describes the progress bar.

    Raises:
        DownloadError: the server refuses, stays away, or sends something else than expected.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: only http and https addresses are downloaded")
    target = Path(target)
    if target.exists():
        try:
            return _verify(url, target, sha256, size)
        except DownloadError:
            _logger.warning("%s: %s is not the expected file; downloading it anew", url, target)
            target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    transfer = _Transfer(url, target, patience or Patience(), sha256, size, title or target.name)
    return transfer.receive()


def _verify(url: str, path: Path, sha256: str, size: int) -> Downloaded:
    """Compare a file with what is expected of it."""
    remedy = (
        "the remote file changed, or something on the way did: check the address, then the expected value"
    )
    found = path.stat().st_size
    if size and found != size:
        raise DownloadError(f"{url}: got {found:,} bytes, expected {size:,} ({remedy})")
    digest = hash_file(path)
    if sha256 and digest != sha256.lower():
        raise DownloadError(f"{url}: got sha256 {digest}, expected {sha256.lower()} ({remedy})")
    return Downloaded(found, digest)


@dataclass
class _Transfer:
    """One file on its way, over as many requests as it takes."""

    url: str
    target: Path
    patience: Patience
    sha256: str
    size: int
    title: str
    partial: Path = field(init=False)
    record: Path = field(init=False)

    def __post_init__(self) -> None:
        self.partial = self.target.with_name(f".{self.target.name}.partial")
        self.record = self.target.with_name(f".{self.target.name}.partial.json")

    def forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def received(self) -> int:
        with contextlib.suppress(OSError):
            return self.partial.stat().st_size
        return 0

    def known(self) -> dict[str, Any]:
        """The version that the partial file is of: its ETag or date ("" when nothing said) and its size, if known."""
        try:
            record = read_json(self.record)
            return record if record["url"] == self.url else {"validator": "", "bytes": None}
        except (UserError, KeyError, TypeError):
            return {"validator": "", "bytes": None}

    def receive(self, again: bool = True) -> Downloaded:
        """Get the file, verify it and give it its name; a resumed one that is wrong is got `again` from its start.

        Raises:
            DownloadError: see `download`; nothing wrong is left behind.
        """
        resumed = self.run()
        try:
            found = _verify(self.url, self.partial, self.sha256, self.size)
        except DownloadError as error:
            self.forget()
            if not (resumed and again):
                raise
            _logger.warning("%s; the resumed file is wrong, so it is downloaded from its start", error)
            return self.receive(again=False)
        sync_file(self.partial)
        os.replace(self.partial, self.target)
        self.forget()
        return found

    def run(self) -> bool:
        """Request until the file is whole; whether any part of it was resumed.

        Raises:
            DownloadError: refused, or too many attempts without progress.
        """
        failures, resumed = 0, False
        with tqdm(desc=self.title, unit="B", unit_scale=True, disable=None) as bar:
            while True:
                known = self.known()
                if self.received() and not (known["validator"] or self.sha256):
                    self.forget()  # nothing could tell whether the rest belongs to it
                before = self.received()
                if before and before == known["bytes"]:
                    return True
                resumed = resumed or before > 0
                try:
                    self._attempt(before, known["validator"], bar)
                    return resumed
                except _RestartError:
                    self.forget()
                    failures, reason, wait = failures + 1, "the remote file changed meanwhile", None
                except _BrokenOffError as error:
                    failures = 1 if self.received() > before else failures + 1
                    reason, wait = str(error), error.wait
                if failures >= self.patience.attempts:
                    raise DownloadError(
                        f"{self.url}: {reason}; given up after {failures} attempts without progress, with "
                        f"{self.received():,} bytes received. The same command goes on from there"
                    )
                if wait is None:
                    wait = self.patience.first_wait_seconds * 2 ** (failures - 1)
                wait = min(wait, _LONGEST_WAIT_SECONDS)
                _logger.warning("%s: %s; trying again in %.1f s", self.url, reason, wait)
                time.sleep(wait)

    def _attempt(self, before: int, validator: str, bar: "tqdm[Any]") -> None:
        """One request, for what is missing."""
        headers = dict(_HEADERS)
        if before:
            headers["Range"] = f"bytes={before}-"
            if validator:
                headers["If-Range"] = validator
        request = urllib.request.Request(self.url, headers=headers)
        with (
            _failures(self.url),
            urllib.request.urlopen(request, timeout=self.patience.timeout_seconds) as reply,
        ):
            start, total = _place(reply, before)
            if before and start == 0:
                _logger.warning("%s: the server sends the file from its start", self.url)
            self._check_room(total, start)
            found = _validator(reply.headers) or (validator if start else "")
            if start and found != validator:
                raise _RestartError
            write_json(self.record, {"url": self.url, "validator": found, "bytes": total})
            bar.total = total
            bar.update(start - bar.n)
            with self.partial.open("r+b" if start else "wb") as stream:
                stream.seek(start)
                stream.truncate()
                while block := reply.read(_BLOCK_BYTES):
                    stream.write(block)
                    bar.update(len(block))
        if total is not None and self.received() < total:
            raise _BrokenOffError(f"broke off at {self.received():,} of {total:,} bytes")

    def _check_room(self, total: int | None, start: int) -> None:
        if self.size and total is not None and total != self.size:
            raise DownloadError(
                f"{self.url}: the server offers {total:,} bytes, expected {self.size:,} (the remote file changed: "
                "check the address, then the expected value)"
            )
        if total is not None and total - start > free_bytes(self.target):
            raise DownloadError(
                f"{self.url}: {total - start:,} bytes do not fit on the disk of {self.target.parent}"
            )


def _place(reply: Any, before: int) -> tuple[int, int | None]:
    """Where the body of a reply starts in the file, and the size of the whole file if that is said."""
    length = reply.headers.get("Content-Length", "")
    if reply.status != http.client.PARTIAL_CONTENT:
        return 0, int(length) if length.isdecimal() else None
    unit, _, spans = reply.headers.get("Content-Range", "").partition(" ")
    span, _, total = spans.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes" or start != str(before):
        raise _RestartError
    return before, int(total) if total.isdecimal() else None


def _validator(headers: Any) -> str:
    """What `If-Range` accepts: a strong ETag, else the date of the last change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


@contextlib.contextmanager
def _failures(url: str) -> Iterator[None]:
    """Sort out what goes wrong with a request: what may pass, what means a restart, and what is final."""
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE:
            raise _RestartError from error
        if error.code in _BUSY:
            reason = f"the server answered {error.code} {error.reason}"
            raise _BrokenOffError(reason, _retry_after(error.headers)) from error
        raise DownloadError(
            f"{url}: the server answered {error.code} {error.reason}; check the address, and whether it needs a login"
        ) from error
    except urllib.error.URLError as error:
        raise _BrokenOffError(f"no connection ({error.reason})") from error
    except http.client.InvalidURL as error:
        raise DownloadError(f"{url}: not a valid address ({error})") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _BrokenOffError(f"the connection broke ({type(error).__name__}: {error})") from error


def _retry_after(headers: Any) -> float | None:
    """The wait that a server asks for, in seconds or until a date."""
    value = headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    with contextlib.suppress(ValueError, TypeError):
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    return None
