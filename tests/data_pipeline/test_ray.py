"""The Ray executor on a real local cluster: the same bytes as the process pool, the same errors."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus_files import contents, english, write_documents

from data_pipeline.cleaning import clean
from data_pipeline.deduplication.deduplication import deduplicate
from data_pipeline.engine.documents import list_shards
from data_pipeline.engine.executors import Executor, LocalExecutor, RayExecutor, make_executor
from data_pipeline.settings import CleaningSettings, DeduplicationSettings

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayExecutor]:
    executor = RayExecutor("local")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the cluster cannot import test modules
    yield executor
    ray.shutdown()


def _run(shards: list[Path], output: Path, executor: Executor) -> dict[str, bytes]:
    clean(shards, output / "clean", CleaningSettings(), length_tokenizer=None, executor=executor)
    deduplicate(list_shards(output / "clean"), output / "out", DeduplicationSettings(), executor=executor)
    return contents(output)


def test_a_cluster_and_a_pool_give_the_same_bytes(tmp_path: Path, cluster: RayExecutor) -> None:
    shards = write_documents(tmp_path / "in", [english(seed % 30) for seed in range(60)], shards=5)
    assert cluster.workers >= 1
    assert _run(shards, tmp_path / "ray", cluster) == _run(shards, tmp_path / "pool", LocalExecutor(2))


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
    assert list(cluster.map(_square, [])) == []
    assert os.getpid() not in set(cluster.map(_process, range(4)))


def test_errors_are_those_of_the_function(cluster: RayExecutor) -> None:
    results = cluster.map(_fail, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FileNotFoundError, match="shard-3") as error:
        next(results)
    assert type(error.value) is FileNotFoundError


def test_the_command_line_chooses(cluster: RayExecutor) -> None:
    assert isinstance(make_executor(2), LocalExecutor)
    assert isinstance(make_executor(2, "local"), RayExecutor)
