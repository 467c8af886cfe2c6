"""Sample streams on disk: built once by one process, kept beside the corpus, never used when damaged."""

import errno
import logging
import multiprocessing
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from full_disk import full_disk

from data_pipeline.engine.artifacts import Artifact
from data_pipeline.engine.integrity import verify
from data_pipeline.indexed import samples
from data_pipeline.indexed.array_cache import FACTS_FILE
from data_pipeline.indexed.dataset import IndexedDataset, IndexedWriter
from data_pipeline.indexed.samples import SampleStream


def write(prefix: Path, seed: int = 0, documents: int = 200) -> Path:
    random = np.random.RandomState(seed)
    with IndexedWriter(prefix, np.uint16) as writer:
        for _ in range(documents):
            writer.add_document([random.randint(0, 1000, random.randint(0, 30))])
        writer.finish()
    return prefix


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return write(tmp_path / "corpus")


def stream_of(
    prefix: Path, wanted: int = 500, length: int = 8, seed: int = 1, end: int = 190
) -> SampleStream:
    return SampleStream(IndexedDataset(prefix), (2, end), wanted, length, seed, cached=True)


def everything(stream: SampleStream) -> list[list[int]]:
    return [stream[index].tolist() for index in range(len(stream))]


def in_memory(prefix: Path) -> list[list[int]]:
    return everything(SampleStream(IndexedDataset(prefix), (2, 190), 500, 8, 1))


def cache_of(prefix: Path) -> Path:
    (folder,) = prefix.parent.glob(".samples-*/")
    return folder


def test_what_is_on_disk_is_what_would_be_built_and_is_not_built_again(prefix: Path) -> None:
    expected = in_memory(prefix)
    assert everything(stream_of(prefix)) == expected
    with mock.patch.object(samples, "_build", side_effect=AssertionError("built again")):
        again = stream_of(prefix)
    assert everything(again) == expected
    assert not again.sample_index.flags.writeable  # mapped, not read


def test_samples_are_stored_tokens_and_views_where_they_can_be(prefix: Path) -> None:
    stream = stream_of(prefix)
    copies = [stream[index].base is None for index in range(len(stream))]
    assert {stream[index].dtype for index in range(len(stream))} == {np.dtype("<u2")}
    assert True in copies and False in copies


def test_blocks_of_documents_join(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = in_memory(prefix)
    monkeypatch.setattr(samples, "_BLOCK_DOCUMENTS", 3)
    assert in_memory(prefix) == expected


def test_anything_else_is_another_cache(prefix: Path, tmp_path: Path) -> None:
    stream_of(prefix)
    for change in ({"wanted": 501}, {"length": 9}, {"seed": 2}, {"end": 189}):
        stream_of(prefix, **change)
    write(tmp_path / "other", seed=5)
    stream_of(tmp_path / "other")
    assert len(list(tmp_path.glob(".samples-*/"))) == 6


@pytest.mark.parametrize("name", ["documents.npy", "sample_index.npy", "order.npy", FACTS_FILE])
@pytest.mark.parametrize("damage", ["cut off", "flipped", "empty", "missing", "other"])
def test_damaged_files_are_noticed_and_built_again(
    prefix: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = everything(stream_of(prefix))
    path = cache_of(prefix) / name
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {
                "cut off": content[:-1] if name != FACTS_FILE else content[:middle],
                "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
                "empty": b"",
                "other": b"[1, 2]",
            }[damage]
        )
    with caplog.at_level(logging.WARNING):
        assert everything(stream_of(prefix)) == expected
    if (name, damage) not in {(FACTS_FILE, "missing"), (FACTS_FILE, "flipped")}:
        assert "damaged" in caplog.text and "built again" in caplog.text
        assert path.read_bytes() == content
    with mock.patch.object(samples, "_build", side_effect=AssertionError("built again")):
        assert everything(stream_of(prefix)) == expected


def test_a_cache_of_something_else_under_the_same_name_is_not_used(prefix: Path) -> None:
    stream_of(prefix)
    right = cache_of(prefix)
    stream_of(prefix, seed=2)
    (wrong,) = set(prefix.parent.glob(".samples-*/")) - {right}
    for path in wrong.iterdir():
        (right / path.name).write_bytes(path.read_bytes())
    assert everything(stream_of(prefix)) == in_memory(prefix)


def _open_in_another_process(prefix: Path, log: Path) -> list[int]:
    build = samples._build

    def slow_build(*arguments):
        with log.open("a") as stream:
            stream.write("built\n")
        time.sleep(1)
        return build(*arguments)

    with mock.patch.object(samples, "_build", slow_build):
        return stream_of(prefix)[7].tolist()


def test_one_process_builds_and_the_others_wait(prefix: Path, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(_open_in_another_process, [(prefix, tmp_path / "log")] * 3, chunksize=1)
    assert found == [in_memory(prefix)[7]] * 3
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_folder_that_cannot_be_written_only_costs_memory(
    prefix: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused = OSError(errno.EROFS, "Read-only file system")
    with mock.patch("data_pipeline.indexed.array_cache.exclusive", side_effect=refused):
        assert everything(stream_of(prefix)) == in_memory(prefix)
    assert "Read-only file system" in caplog.text and str(prefix.parent) in caplog.text
    assert not list(prefix.parent.glob(".samples-*"))


def test_a_full_disk_only_costs_memory_and_is_no_trap_for_the_next(
    prefix: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with full_disk(1000):
        assert everything(stream_of(prefix)) == in_memory(prefix)
    assert "stays in memory" in caplog.text
    assert not list(prefix.parent.glob(".samples-*/"))
    assert everything(stream_of(prefix)) == in_memory(prefix)
    assert (cache_of(prefix) / FACTS_FILE).exists()


def test_an_artifact_stays_complete_and_verified(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path, "tokenize", "corpus", version=1)
    write(artifact.start() / "corpus")
    artifact.finish({}, {"segments": []})
    stream_of(artifact.directory / "corpus")
    assert cache_of(artifact.directory / "corpus").exists()
    assert artifact.is_complete() and verify(artifact.directory).problems == []


def test_floating_point_values_are_no_tokens(tmp_path: Path) -> None:
    prefix = tmp_path / "floats"
    with IndexedWriter(prefix, np.int32) as writer:
        writer.add_document([[1, 2]])
        writer.finish()
    content = bytearray(Path(f"{prefix}.idx").read_bytes())
    content[17] = 7
    Path(f"{prefix}.idx").write_bytes(content)
    with pytest.raises(ValueError, match=r"floats.idx: holds float32 values"):
        SampleStream(IndexedDataset(prefix), (0, 1), 1, 1, 1)
