"""A web server on this machine that serves one file, and misbehaves as told."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Remote:
    """The file, and what goes wrong with the next requests.

    Attributes:
        content, etag: what is served; no ETag is sent when it is empty.
        troubles: one for each request until they are used up: "500", "429", "404", "break" (half of what was asked
            for, then the connection ends), "silent" (the same, but the connection stays open), "reset".
        ranges: whether the server knows them. False sends the whole file.
        wrong_range: answer a range with another one.
        conditions: whether the server heeds If-Range.
        length: whether it says how long the file is.
        requests: the Range header of each request, "" without one.
    """

    content: bytes
    etag: str = '"one"'
    troubles: list[str] = field(default_factory=list)
    ranges: bool = True
    wrong_range: bool = False
    conditions: bool = True
    length: bool = True
    retry_after: str = ""
    requests: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(remote: Remote, name: str = "file.jsonl") -> Iterator[Remote]:
    """Serve it until the end of the block; `remote.url` is its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, remote)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    remote.url = f"http://127.0.0.1:{server.server_port}/{name}"
    try:
        yield remote
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(request: http.server.BaseHTTPRequestHandler, remote: Remote) -> None:
    wanted = request.headers.get("Range", "")
    remote.requests.append(wanted)
    trouble = remote.troubles.pop(0) if remote.troubles else ""
    if trouble.isdecimal():
        request.send_response(int(trouble))
        if remote.retry_after:
            request.send_header("Retry-After", remote.retry_after)
        request.end_headers()
        return
    start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and remote.ranges else 0
    if remote.conditions and request.headers.get("If-Range", remote.etag) != remote.etag:
        start = 0
    if start >= len(remote.content) > 0:
        request.send_error(416)
        return
    body = remote.content[start:]
    request.send_response(206 if start else 200)
    if start:
        first = start + 1 if remote.wrong_range else start
        request.send_header("Content-Range", f"bytes {first}-{len(remote.content) - 1}/{len(remote.content)}")
    if remote.etag:
        request.send_header("ETag", remote.etag)
    if remote.length:
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if trouble == "":
        request.wfile.write(body)
        return
    request.wfile.write(body[: len(body) // 2])
    request.wfile.flush()
    if trouble == "silent":
        threading.Event().wait(3)
