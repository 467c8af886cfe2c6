"""The executor of a Ray cluster: the same bytes as from one process, if all nodes see the same files.

A task works as it would in the calling process: in its working folder, with its search path and plug-ins. Before a stage
begins, each node looks at what it will read and write.
"""

import contextlib
import logging
import math
import os
import pickle
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from core.errors import TransientError, UserError
from core.processes import available_cores
from core.registry import attribute, load_plugins

Item = TypeVar("Item")
Result = TypeVar("Result")
_TASK_MEMORY_BYTES = 1 << 30  # what a task of the hungriest stage takes
_ASKED_SECONDS = 10.0  # how often a cluster is asked how large it is now
_LOOKS = 10  # for a file that has just been written, half a second apart
_SHOWN = 10
_TOKEN = (
    "a cluster that was started with RAY_AUTH_MODE=token wants that variable and the cluster's token here, too, in "
    "RAY_AUTH_TOKEN, in a file that RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token"
)


class RayExecutor:
    """Works on a Ray cluster: one task an item, a processor core and `_TASK_MEMORY_BYTES` a task.

    All nodes must see the working folder of the calling process and the input and output folders under the same paths,
    and have this package, installed or in that folder.

    Args:
        address: of the cluster ("auto" finds the one this machine is in); "local" starts one on this machine's cores,
            which ends with this process.
        plugins: users' modules that functions and items need; their files must be there on all nodes, too.

    Raises:
        UserError: Ray is not installed, there is no such cluster, or it wants a token.
    """

    def __init__(self, address: str, plugins: Sequence[str] = ()) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("Ray is not installed: pip install 'megatron-reproduction[ray]'") from error
        self._ray = ray
        self._setting = _Setting(
            os.getcwd(),
            tuple(os.path.abspath(path) for path in sys.path),
            tuple(os.path.abspath(plugin) if plugin.endswith(".py") else plugin for plugin in plugins),
        )
        if not ray.is_initialized():
            _connect(ray, address)
        memory = max((node.get("memory", 0.0) for node in self._nodes().values()), default=0.0)
        # A request that no node can meet would wait for ever.
        self._memory = int(min(_TASK_MEMORY_BYTES, memory))
        # Workers begin with this process's own package, where their node sees it.
        packages = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        paths = os.pathsep.join(os.path.abspath(path) for path in packages if path)
        self._environment = {"env_vars": {"PYTHONPATH": paths}}
        self._call: Any = ray.remote(num_cpus=1, memory=self._memory, runtime_env=self._environment)(
            _call_alone
        )

    def _nodes(self) -> dict[str, dict[str, float]]:
        """What each living node that works on tasks has, by its id."""
        found = {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}
        return {name: resources for name, resources in found.items() if resources.get("CPU", 0) >= 1}

    @property
    def workers(self) -> int:
        """Tasks for which there are cores and memory."""
        tasks = 0
        for resources in self._nodes().values():
            room = resources.get("memory", 0.0) // self._memory if self._memory else resources["CPU"]
            tasks += int(min(resources["CPU"], room))
        return max(1, tasks)

    def check(self, output: Path, reads: Sequence[Path] = ()) -> None:
        """Let each node look at a file that is written now to the output folder, and at what is to be read.

        Raises:
            UserError: nodes that do not see one of them, or not this package; with their names and the paths.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        content = secrets.token_hex(16)
        probe = Path(output).absolute() / f".probe-{content[:8]}.tmp"
        sizes = [(str(Path(path).absolute()), _size(Path(path))) for path in reads]
        probe.write_text(content, encoding="utf-8")
        try:
            look = _looking()
            (ours,) = look(str(Path(__file__).parents[1]), (), "", "", (), "")
            facts = (self._setting.folder, self._setting.plugins, str(probe), content, sizes, ours)
            task = self._ray.remote(num_cpus=0, runtime_env=self._environment)(look)
            asked = {
                node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, False)).remote(
                    *facts
                )
                for node in self._nodes()
            }
            found = [
                f"node {self._name(node)}: {line}"
                for node, answer in asked.items()
                for line in self._ray.get(answer)
            ]
        except self._ray.exceptions.RayError as error:
            raise UserError(f"the Ray cluster's nodes cannot be asked what they see: {error}") from error
        finally:
            probe.unlink(missing_ok=True)
        if found:
            more = f"\nand {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise UserError(
                "\n".join(found[:_SHOWN]) + more + "\nall nodes must see the same files under the same paths"
            )

    def _name(self, node: str) -> str:
        facts = next(facts for facts in self._ray.nodes() if facts["NodeID"] == node)
        return f"{facts['NodeManagerHostname']} ({facts['NodeManagerAddress']}, {node[:8]})"

    def kept(self) -> contextlib.AbstractContextManager[None]:
        """Ray keeps its processes."""
        return contextlib.nullcontext()

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield `function(item)` in the order of the items. Twice as many as are worked on are under way, however long the
        first of them takes; results that come before their turn wait here.

        Raises:
            UserError: a worker process was killed, again and again.
        """
        shared = self._ray.put((self._setting, pickle.dumps(function)))
        running: dict[Any, int] = {}
        results: dict[int, Result] = {}
        failures: dict[int, BaseException] = {}
        begun = most = 0
        asked = -math.inf
        try:
            for index in range(len(items)):
                while index not in results:
                    if index in failures:
                        raise failures[index]
                    if time.monotonic() > asked + _ASKED_SECONDS:
                        most, asked = 2 * self.workers, time.monotonic()
                    while begun < len(items) and len(running) < most and not failures:
                        running[self._call.remote(shared, items[begun])] = begun
                        begun += 1
                    for done in self._done(list(running)):
                        place = running.pop(done)
                        try:
                            results[place] = self._ray.get(done)
                        except self._ray.exceptions.RayError as error:
                            failures[place] = error
                yield results.pop(index)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            raise TransientError(
                f"a task was lost on the Ray cluster ({type(error).__name__}); finished shards are kept, so the "
                "same command goes on from here"
            ) from error
        finally:
            for reference in running:
                self._ray.cancel(reference)

    def _done(self, tasks: list[Any]) -> list[Any]:
        """Tasks that have ended, at least one."""
        ended = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]
        return list(ended or self._ray.wait(tasks, num_returns=1)[0])


class _Setting(NamedTuple):
    """Where a task works: as the calling process does.

    Attributes:
        folder: the working folder, absolute.
        paths: where modules are looked for, absolute.
        plugins: files absolute.
    """

    folder: str
    paths: tuple[str, ...]
    plugins: tuple[str, ...]


def _connect(ray: Any, address: str) -> None:
    """Join a cluster, or start one.

    Raises:
        UserError: why that is not possible.
    """
    started_here = {"num_cpus": available_cores(), "include_dashboard": False}
    try:
        if address != "local":
            _check_reachable(address)
        ray.init(
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(started_here if address == "local" else {"address": address}),
        )
    except UserError:
        raise
    except ray.exceptions.AuthenticationError as error:
        raise UserError(f"Ray at {address!r} refuses this process: {_TOKEN}") from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        if found := re.search(r"(?:^|\s)(\S+:\d+)$", str(error)):
            _check_token(found[1])
        hint = "" if _has_token() else f"; {_TOKEN}"
        raise UserError(f"Ray at {address!r} cannot be reached: {error}{hint}") from error


def _check_reachable(address: str) -> None:
    """Ray itself tries for five minutes, and for twenty seconds where its token is refused, of which it says nothing."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise UserError(f"Ray at {address!r} cannot be reached: {error}") from error
        if not address.startswith("ray://"):
            _check_token(address)


def _check_token(address: str) -> None:
    """Ask a cluster for anything; only where there is a token, for Ray aborts where it misses one.

    Raises:
        UserError: this process is refused.
    """
    import ray

    if not _has_token():
        return
    try:
        client: Any = attribute("ray._raylet:GcsClient")  # no public call says why one is refused
        client(address=address)
    except ray.exceptions.AuthenticationError as error:
        raise UserError(f"Ray at {address!r} refuses this process: {_TOKEN}") from error
    except Exception:  # a version without such a client, or a cluster that is gone: joining it tells
        return


def _has_token() -> bool:
    token, file = os.environ.get("RAY_AUTH_TOKEN"), os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(token) or Path(file or Path.home() / ".ray" / "auth_token").is_file()


def _size(path: Path) -> int:
    """Of a file; -1 of a folder or where nothing is."""
    return path.stat().st_size if path.is_file() else -1


def _looking() -> Callable[..., list[str]]:
    """The function that nodes look with; an inner one, so that it travels whole to nodes that may not have this package."""
    attempts = _LOOKS

    def look(
        folder: str,
        plugins: Sequence[str],
        probe: str,
        content: str,
        reads: Sequence[tuple[str, int]],
        ours: str,
    ) -> list[str]:
        import hashlib
        import importlib.util
        import os
        import time
        from pathlib import Path

        def source(package: Path) -> str:
            files = sorted(package.rglob("*.py"))
            return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()

        if not probe:  # in the calling process
            return [source(Path(folder))]
        problems = [] if os.path.isdir(folder) else [f"does not see the working folder {folder}"]
        found = importlib.util.find_spec("data_pipeline")
        if found is None:
            problems.append(f"has no package data_pipeline, neither installed nor in {folder}")
        elif source(Path(str(found.origin)).parent) != ours:
            problems.append(f"has another version of the package, {Path(str(found.origin)).parent}")
        files = [plugin for plugin in plugins if plugin.endswith(".py")]
        problems += [f"does not see the plug-in {file}" for file in files if not os.path.isfile(file)]
        for attempt in range(attempts):  # a network file system may show it late
            try:
                seen = Path(probe).read_text(encoding="utf-8") == content
            except OSError:
                seen = False
            if seen or attempt == attempts - 1:
                break
            time.sleep(0.5)
        if not seen:
            problems.append(f"does not see what is written to {os.path.dirname(probe)}")
        for path, size in reads:
            if not os.path.exists(path):
                problems.append(f"does not see {path}")
            elif size >= 0 and os.path.getsize(path) != size:
                problems.append(f"sees another file as {path}: {os.path.getsize(path)} bytes, not {size}")
        return problems

    return look


def _call_alone(shared: tuple[_Setting, bytes], item: Item) -> Any:
    """Call a pickled function where its modules, plug-ins and relative paths are found, as the calling process finds them,
    and with one thread for the libraries that would start more."""
    (folder, paths, plugins), function = shared
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"node {socket.gethostname()} does not see the working folder {folder}: start the command in one that all "
            "nodes see"
        ) from error
    sys.path += [path for path in paths if path not in sys.path]
    load_plugins(plugins)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return pickle.loads(function)(item)
