"""Document shards: round trip, same bytes, and damage that is noticed."""

from pathlib import Path

import pytest
from corpus_files import english, write_documents

from data_pipeline.engine.documents import DocumentsError, list_shards, read_shard


def test_round_trip(tmp_path: Path) -> None:
    texts = ["", "plain", "Zoë 😀 \x00 ﬁ", english(1)]
    (shard,) = write_documents(tmp_path, texts, metadata='{"title": "x"}')
    documents = list(read_shard(shard))
    assert [document.text for document in documents] == texts
    assert documents[1].id == "t/000001"
    assert documents[1].metadata == '{"title": "x"}'


def test_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    texts = [english(seed) for seed in range(50)]
    (first,), (second,) = write_documents(tmp_path / "a", texts), write_documents(tmp_path / "b", texts)
    assert first.read_bytes() == second.read_bytes()


def test_every_flipped_bit_of_the_pages_is_noticed(tmp_path: Path) -> None:
    (shard,) = write_documents(tmp_path, [english(seed) for seed in range(20)])
    expected = list(read_shard(shard))
    content = shard.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 60)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        shard.write_bytes(damaged)
        try:
            assert list(read_shard(shard)) == expected, place  # bits of statistics and headers may not matter
        except DocumentsError as error:
            assert str(shard) in str(error)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentsError, match="holds no document shards"):
        list_shards(tmp_path)
    with pytest.raises(DocumentsError, match=r"absent\.parquet: no such"):
        list(read_shard(tmp_path / "absent.parquet"))
    (tmp_path / "documents-00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(DocumentsError, match="documents-00000"):
        list(read_shard(tmp_path / "documents-00000.parquet"))
