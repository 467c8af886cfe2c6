"""The Ray executor on a real cluster of two nodes, started in folders of their own: the same bytes as the process pool,
the same errors."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corpus_files import contents, english, write_jsonl

from core.errors import UserError
from data_pipeline.__main__ import main
from data_pipeline.engine import ray_executor
from data_pipeline.engine.executors import LocalExecutor, RayExecutor, make_executor

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a cluster of two nodes of one core, each started elsewhere, without a search path."""
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("PYTHONPATH", raising=False)
            for _ in range(2):
                patch.chdir(tmp_path_factory.mktemp("node"))
                nodes.add_node(
                    num_cpus=1, memory=2 << 30, object_store_memory=80 << 20, include_dashboard=False
                )
        yield nodes.address
    finally:
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def cluster(address: str) -> RayExecutor:
    executor = RayExecutor(address)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the cluster cannot import test modules
    return executor


def _square(item: int) -> int:
    return item * item


def _fail(item: int) -> int:
    if item == 3:
        raise FileNotFoundError(2, "no such shard", "shard-3")
    return item


def _process(item: int) -> int:
    return os.getpid()


def test_results_come_in_order_from_other_processes(cluster: RayExecutor) -> None:
    assert list(cluster.map(_square, range(50))) == [item * item for item in range(50)]
    assert list(cluster.map(_square, [])) == [] and cluster.workers == 2
    assert os.getpid() not in set(cluster.map(_process, range(4)))


def test_errors_are_those_of_the_function(cluster: RayExecutor) -> None:
    results = cluster.map(_fail, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FileNotFoundError, match="shard-3") as error:
        next(results)
    assert type(error.value) is FileNotFoundError


PLUGIN = """
from data_pipeline.filters import FILTERS

FILTERS.add("no_ferries", lambda document: "Ferry" not in document.text)
"""


def test_relative_paths_are_those_of_the_command_on_every_node(
    cluster: RayExecutor, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole chain, with a plug-in by a relative path, that the nodes could not find from where they were started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for number in range(4):
        texts = [english(10 * number + document) for document in range(6)] + [english(5), "Ferry " * 150]
        write_jsonl(Path("in") / f"{number}.jsonl", texts)
    Path("no_ferries_here.py").write_text(PLUGIN)
    line = ["build", "--input", "in/*.jsonl", "--train-tokenizer", "gpt2:300", "--threshold", "0.99"]
    line += ["--plugin", "no_ferries_here.py", "--filters", "no_ferries", "--language-share", "0"]
    assert main([*line, "--output", "ray", "--ray", address]) == 0
    assert main([*line, "--output", "pool", "--workers", "1"]) == 0
    made = contents(tmp_path / "ray")
    assert made == contents(tmp_path / "pool") and "corpus.bin" in made
    assert not list(tmp_path.rglob(".probe-*"))


def _waits_for_the_last(task: tuple[Path, int]) -> bool:
    """The first waits until the last has begun."""
    folder, item = task
    (folder / str(item)).touch()
    deadline = time.monotonic() + 30
    while item == 0 and not (folder / "11").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return (folder / "11").exists()


def test_the_first_task_does_not_hold_up_the_others(cluster: RayExecutor, tmp_path: Path) -> None:
    """Of two workers no more than four tasks are under way; results come in order all the same."""
    assert next(iter(cluster.map(_waits_for_the_last, [(tmp_path, item) for item in range(12)]))) is True


def _resources(item: int) -> dict[str, float]:
    return dict(ray.get_runtime_context().get_assigned_resources())


def test_a_task_asks_for_memory_that_a_node_has(
    cluster: RayExecutor, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (asked,) = cluster.map(_resources, [0])
    assert asked == {"CPU": 1.0, "memory": float(1 << 30)}
    monkeypatch.setattr(ray_executor, "_TASK_MEMORY_BYTES", 8 << 30)
    large = RayExecutor(address)
    assert large.workers == 2
    (asked,) = large.map(_resources, [0])
    assert asked["memory"] == float(2 << 30)


def _dies_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os._exit(9)
    return "done"


def test_a_task_whose_worker_was_killed_is_done_again(cluster: RayExecutor, tmp_path: Path) -> None:
    assert list(cluster.map(_dies_once, [tmp_path / "marker"])) == ["done"]


def test_a_node_that_does_not_see_a_file_is_named(
    cluster: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, missing = tmp_path / "seen", tmp_path / "missing"
    seen.write_text("text")
    cluster.check(tmp_path, [seen, tmp_path])
    with pytest.raises(UserError) as error:
        cluster.check(tmp_path, [seen, missing])
    lines = str(error.value).splitlines()
    assert len(lines) == 3 and len({line[: line.index(")")] for line in lines[:2]}) == 2
    assert all(line.startswith(f"node {os.uname().nodename} (") for line in lines[:2])
    assert all(line.endswith(f": does not see {missing}") for line in lines[:2])
    with monkeypatch.context() as patch:
        patch.setattr(ray_executor, "_size", lambda path: 5)
        with pytest.raises(UserError, match=f"sees another file as {seen}: 4 bytes, not 5"):
            cluster.check(tmp_path, [seen])
    monkeypatch.setattr(ray_executor, "_LOOKS", 1)
    monkeypatch.setattr(Path, "write_text", lambda path, *_, **__: path.write_bytes(b"of another"))
    with pytest.raises(UserError, match=f"does not see what is written to {tmp_path}"):
        cluster.check(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seen"]


@pytest.mark.parametrize(
    "error",
    [ray.exceptions.AuthenticationError("no token"), ConnectionError("Failed to connect at 127.0.0.1:9")],
)
def test_a_missing_token_is_an_error_that_says_where_it_belongs(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise error

    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError, match=r"Ray at 'auto' .*RAY_AUTH_MODE=token .*~/\.ray/auth_token"):
        RayExecutor("auto")


def test_the_command_line_chooses(cluster: RayExecutor) -> None:
    assert isinstance(make_executor(2), LocalExecutor)
    assert isinstance(make_executor(2, "local"), RayExecutor)
