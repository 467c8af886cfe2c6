"""A process that has imported what programs on ranks import, and forks them when it is asked to: for many in a row.

torch and what is beside it take seconds to import, before every program of a workflow. Whoever starts this server asks it
over a pair of sockets that nobody else has; it and all that it forked end when he does. A fork is no way to start CUDA:
where there are devices programs are started anew (`core.program.start`).

For each program the server is given one end of another pair, and the descriptor that the program prints to. There the
`Request` comes first. Each byte that follows is the number of a signal for the program; when the other end is closed it is
killed. The answer is its exit code, once it has one: four bytes.
"""

import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.processes import die_with_parent
from core.program.start import HEAVY, main, run_alone

# What ranks import late, and in every program.
_NEEDED = (
    *HEAVY,
    "torch._dynamo",
    "torch.distributed.checkpoint._fsspec_filesystem",
    "torch.distributed.tensor",
)
_LENGTH_BYTES = 8
_CODE_BYTES = 4


@dataclass(frozen=True)
class Request:
    """A program to run.

    Attributes:
        words: what torchrun takes; of one rank alone, the module and its arguments.
        alone: there is one rank, which needs no agent.
        environment: the whole of it.
        folder: where it works.
    """

    words: Sequence[str]
    alone: bool
    environment: Mapping[str, str]
    folder: str

    def run(self) -> None:
        """Be the program, in a process that was forked for it."""
        import torch

        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        torch.set_num_threads(int(self.environment.get("OMP_NUM_THREADS", torch.get_num_threads())))
        if self.alone:
            run_alone(self.words[0], self.words[1:])
        else:
            main(self.words)


def ask(server: socket.socket, request: Request, output: int) -> socket.socket:
    """Have a program started, which prints to `output`; returns our end of its pair.

    Raises:
        OSError: the server is not there.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            socket.send_fds(server, [b"."], [theirs.fileno(), output])
        text = json.dumps(vars(request)).encode()
        ours.sendall(len(text).to_bytes(_LENGTH_BYTES, "big") + text)
    except BaseException:
        ours.close()
        raise
    return ours


def exit_code(answer: bytes) -> int:
    """As `subprocess` has it: negative for a signal; that of a kill where the server is gone, too."""
    return int.from_bytes(answer, "big", signed=True) if len(answer) == _CODE_BYTES else -signal.SIGKILL


def serve(client: socket.socket, programs: Sequence[str]) -> Request:
    """Import, then fork what is asked for; returns in a forked process only, which then is to run the request."""
    for name in _NEEDED:
        with contextlib.suppress(ImportError):  # another release of torch has other modules
            importlib.import_module(name)
    for program in programs:
        importlib.import_module(f"{program}.__main__")
        del sys.modules[
            f"{program}.__main__"
        ]  # what it imported stays; running one that is there already is warned of
    children: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is client:
                    request = _take(client, selector, children)
                    if request is not None:
                        return request
                elif isinstance(key.fileobj, socket.socket):
                    _obey(key.fileobj, key.data, selector)
                else:
                    _bury(key.fd, key.data, children.pop(key.data), selector)


def _take(
    client: socket.socket, selector: selectors.BaseSelector, children: dict[int, socket.socket]
) -> Request | None:
    """Read a request and fork; the request in the forked process, None in the server."""
    asked, descriptors, _, _ = socket.recv_fds(client, 1, 2)
    if not asked:  # nobody can ask any more
        sys.exit(0)
    pair, output = socket.socket(fileno=descriptors[0]), descriptors[1]
    text = read(pair, int.from_bytes(read(pair, _LENGTH_BYTES), "big"))
    child = os.fork() if text else 0
    if text and child == 0:
        os.setsid()
        die_with_parent()
        for stream in (1, 2):
            os.dup2(output, stream)
        os.close(output)
        selector.close()
        for other in (client, pair, *children.values()):
            other.close()
        return Request(**json.loads(text))
    os.close(output)
    if not text:  # he who asked is gone
        pair.close()
        return None
    children[child] = pair
    selector.register(pair, selectors.EVENT_READ, child)
    selector.register(os.pidfd_open(child), selectors.EVENT_READ, child)
    return None


def read(pair: socket.socket, length: int) -> bytes:
    """So many bytes, or none where they do not come."""
    text = b""
    while len(text) < length:
        block = pair.recv(length - len(text))
        if not block:
            return b""
        text += block
    return text


def _obey(connection: socket.socket, child: int, selector: selectors.BaseSelector) -> None:
    """Pass signals on; without anybody at the other end, the last one."""
    try:
        asked = connection.recv(100)
    except OSError:
        asked = b""
    if not asked:
        selector.unregister(connection)
    for number in asked or (signal.SIGKILL,):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


def _bury(descriptor: int, child: int, connection: socket.socket, selector: selectors.BaseSelector) -> None:
    """Tell how a program ended."""
    selector.unregister(descriptor)
    os.close(descriptor)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError, KeyError, ValueError):
        selector.unregister(connection)
    with contextlib.suppress(OSError):
        connection.sendall(code.to_bytes(_CODE_BYTES, "big", signed=True))
    connection.close()


def start(client: socket.socket, programs: Sequence[str]) -> None:
    """What the server's process does."""
    die_with_parent()
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ends}  # he who started it decides
    request = serve(client, programs)
    for number, handler in before.items():
        signal.signal(number, handler)
    request.run()


if __name__ == "__main__":
    start(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
