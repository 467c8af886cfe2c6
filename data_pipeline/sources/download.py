"""Downloads over HTTP(S): resumed after a break, retried, and verified before the file gets its name.

A download grows in `.<name>.partial`; beside it `.<name>.partial.json` says of which version of the remote file it is,
so that two versions are never glued together. What is in the file, and unpacking it, live elsewhere.
"""

import contextlib
import logging
import os
import re
import time
import urllib.parse
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import TransientError, UserError
from core.files import read_json, sync_file, write_json
from core.progress import Bar
from data_pipeline.engine.artifacts import free_bytes
from data_pipeline.engine.hashes import hash_file

if TYPE_CHECKING:
    from requests import Response

_BLOCK_BYTES = 1 << 16  # what a break loses at most
_LONGEST_WAIT_SECONDS = 120.0
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_HEADERS = {"User-Agent": "megatron-reproduction", "Accept-Encoding": "identity"}
_logger = logging.getLogger("data_pipeline")


class DownloadError(UserError):
    """A file cannot be downloaded or is not what was expected; the message names the address and the remedy."""


class GivenUpError(DownloadError, TransientError):
    """The network failed, or a server, as often as was tried."""


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
    transfer = _Transfer(url, target, patience or Patience(), sha256, size)
    with Bar(desc=title or target.name, unit="B", unit_scale=True) as bar:
        return transfer.receive(bar)


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


class _Transfer:
    """One file on its way, over as many requests as it takes."""

    def __init__(self, url: str, target: Path, patience: Patience, sha256: str, size: int) -> None:
        self.url, self.target, self.patience, self.sha256, self.size = url, target, patience, sha256, size
        self.partial = target.with_name(f".{target.name}.partial")
        self.record = target.with_name(f".{target.name}.partial.json")

    def forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def received(self) -> int:
        with contextlib.suppress(OSError):
            return self.partial.stat().st_size
        return 0

    def known(self) -> tuple[str, int | None]:
        """The version that the partial file is of: its ETag or date ("" when nothing said), and its size, if known."""
        with contextlib.suppress(UserError, KeyError, TypeError):
            record = read_json(self.record)
            if record["url"] == self.url:
                return record["validator"], record["bytes"]
        return "", None

    def receive(self, bar: Bar, again: bool = True) -> Downloaded:
        """Get the file, verify it and give it its name; a resumed one that is wrong is got `again` from its start.

        Raises:
            DownloadError: see `download`; nothing wrong is left behind.
        """
        resumed = self._run(bar)
        try:
            found = _verify(self.url, self.partial, self.sha256, self.size)
        except DownloadError as error:
            self.forget()
            if not (resumed and again):
                raise
            _logger.warning("%s; the resumed file is wrong, so it is downloaded from its start", error)
            return self.receive(bar, again=False)
        sync_file(self.partial)
        os.replace(self.partial, self.target)
        self.forget()
        return found

    def _run(self, bar: Bar) -> bool:
        """Request until the file is whole; whether any part of it was resumed.

        Raises:
            DownloadError: refused, or too many attempts without progress.
        """
        failures, resumed = 0, False
        while True:
            validator, total = self.known()
            if self.received() and not (validator or self.sha256):
                self.forget()  # nothing could tell whether the rest belongs to it
            before = self.received()
            resumed = resumed or before > 0
            try:
                if not before or before != total:
                    self._attempt(before, validator, bar)
                return resumed
            except _BrokenOffError as error:
                failures = 1 if self.received() > before else failures + 1
                if failures >= self.patience.attempts:
                    raise GivenUpError(
                        f"{self.url}: {error}; given up after {failures} attempts without progress, with "
                        f"{self.received():,} bytes received. The same command goes on from there"
                    ) from error
                wait = error.wait or self.patience.first_wait_seconds * 2 ** (failures - 1)
                wait = min(wait, _LONGEST_WAIT_SECONDS)
                _logger.warning("%s: %s; trying again in %.1f s", self.url, error, wait)
                time.sleep(wait)

    def _attempt(self, before: int, validator: str, bar: Bar) -> None:
        """One request, for what is missing."""
        with self._request(before, validator) as reply:
            start, total = self._place(reply, before)
            if before and start == 0:
                _logger.warning("%s: the server sends the file from its start", self.url)
            self._check_room(total, start)
            found = _validator(reply) or (validator if start else "")
            if start and found != validator:
                raise self._changed()
            write_json(self.record, {"url": self.url, "validator": found, "bytes": total})
            bar.total = total
            bar.update(start - bar.n)
            self._append(reply, start, bar)
        if total is not None and self.received() < total:
            raise _BrokenOffError(f"broke off at {self.received():,} of {total:,} bytes")

    def _request(self, before: int, validator: str) -> "Response":
        """The reply of a server that sends the file or the rest of it.

        Raises:
            DownloadError: asking again would not help.
            _BrokenOffError: it may.
        """
        import requests

        headers = dict(_HEADERS)
        if before:
            headers["Range"] = f"bytes={before}-"
            if validator:
                headers["If-Range"] = validator
        try:
            reply = requests.get(
                self.url, headers=headers, stream=True, timeout=self.patience.timeout_seconds
            )
        except (requests.TooManyRedirects, ValueError) as error:  # what requests finds wrong with an address
            raise DownloadError(f"{self.url}: not a valid address ({error})") from error
        except requests.RequestException as error:
            raise _BrokenOffError(f"no connection ({_first_cause(error)})") from error
        if reply.status_code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return reply
        with reply:
            if reply.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise self._changed()
            answer = f"the server answered {reply.status_code} {reply.reason}"
            if reply.status_code in _BUSY:
                raise _BrokenOffError(answer, _retry_after(reply))
            raise DownloadError(f"{self.url}: {answer}; check the address, and whether it needs a login")

    def _append(self, reply: "Response", start: int, bar: Bar) -> None:
        """Write the body of a reply behind the first `start` bytes, each block as soon as it is there."""
        import urllib3

        with self.partial.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            stream.truncate()
            try:
                while block := reply.raw.read(_BLOCK_BYTES, decode_content=False):
                    stream.write(block)
                    bar.update(len(block))
            except urllib3.exceptions.HTTPError as error:
                raise _BrokenOffError(f"the connection broke ({_first_cause(error)})") from error

    def _place(self, reply: "Response", before: int) -> tuple[int, int | None]:
        """Where the body of a reply starts in the file, and the size of the whole file if that is said."""
        if reply.status_code != HTTPStatus.PARTIAL_CONTENT:
            length = reply.headers.get("Content-Length", "")
            return 0, int(length) if length.isdecimal() else None
        span = re.match(rf"bytes {before}-\d+/(\d+)?", reply.headers.get("Content-Range", ""))
        if span is None:
            raise self._changed()
        return before, int(span[1]) if span[1] else None

    def _changed(self) -> _BrokenOffError:
        """What is there is no part of what the server has now: to be raised, for a start from nothing."""
        self.forget()
        return _BrokenOffError("the remote file changed meanwhile")

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


def _validator(reply: "Response") -> str:
    """What `If-Range` accepts: a strong ETag, else the date of the last change."""
    tag = reply.headers.get("ETag", "")
    return tag if tag.startswith('"') else reply.headers.get("Last-Modified", "")


def _retry_after(reply: "Response") -> float | None:
    """The wait that a server asks for, in seconds or until a date."""
    import urllib3

    with contextlib.suppress(urllib3.exceptions.InvalidHeader):
        return urllib3.Retry().get_retry_after(reply.raw)
    return None


def _first_cause(error: BaseException) -> BaseException:
    """What the libraries wrapped: "connection refused", not where in the pool of connections that was."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
