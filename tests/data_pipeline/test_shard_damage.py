"""Our own document shards: every flipped bit is noticed, by the reader or by the manifest's hash.

Every third bit is tried here (of each byte some, of eight bytes all), for the sake of time; STEP = 1 tries all.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import UserError
from data_pipeline.engine.artifacts import Artifact
from data_pipeline.engine.documents import Document, DocumentsError, read_shard, shard_name, write_shard
from data_pipeline.engine.integrity import verify

STEP = 3
DOCUMENTS = [Document(f"t/{n:06d}", f"text {n} ü", "t", '{"n": 1}') for n in range(4)]


def flips(content: bytes, step: int = STEP) -> Iterator[tuple[int, bytes]]:
    """The content with one bit flipped, for every step-th bit."""
    for bit in range(0, len(content) * 8, step):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(flipped)


def test_no_flipped_bit_of_a_shard_reads_as_other_documents(tmp_path: Path) -> None:
    path = tmp_path / shard_name(0)
    write_shard(path, DOCUMENTS)
    noticed = 0
    for bit, content in flips(path.read_bytes()):
        path.write_bytes(content)
        try:
            found = list(read_shard(path))
        except DocumentsError as error:
            assert str(path) in str(error)
            noticed += 1
        else:
            assert found == DOCUMENTS, bit
    assert noticed > 1000 // STEP


def test_every_flipped_bit_of_an_artifact_is_noticed_by_verify(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path, "fetch", "t", 1, parameters={"a": 1})
    partial = artifact.start()
    write_shard(partial / shard_name(0), DOCUMENTS[:1])
    (partial / "stats").mkdir()
    (partial / "stats" / "files-00000.json").write_text('{"documents": 1}\n')
    artifact.finish({"documents": 1}, {"segments": []})
    assert verify(artifact.directory).problems == []
    for path in (artifact.directory / shard_name(0), artifact.directory / "stats" / "files-00000.json"):
        intact = path.read_bytes()
        for bit, content in flips(intact, 7 * STEP):
            path.write_bytes(content)
            errors = verify(artifact.directory).problems
            assert len(errors) == 1 and str(path) in errors[0], bit
        path.write_bytes(intact[:-1])
        assert not artifact.is_complete()
        path.write_bytes(intact)
    assert verify(artifact.directory).problems == []


def test_every_flipped_bit_of_a_manifest_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path, "fetch", "t", 1, parameters={"a": 1})
    (artifact.start() / "file").write_text("content")
    artifact.finish({"documents": 12, "origin": {"licence": "CC ü"}}, {"segments": []})
    path = artifact.directory / "manifest.json"
    intact, meaning = path.read_bytes(), artifact.manifest()
    for bit, content in flips(intact):
        path.write_bytes(content)
        try:
            assert verify(artifact.directory).problems or artifact.manifest() == meaning, bit
        except UserError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_shard_cut_off_is_noticed(tmp_path: Path, size: int) -> None:
    path = tmp_path / shard_name(0)
    write_shard(path, DOCUMENTS)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DocumentsError, match="damaged, or not a document shard"):
        list(read_shard(path))
