"""The indexed format byte for byte, and errors that name the damaged file."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from full_disk import full_disk

from data_pipeline.indexed.dataset import (
    IndexedDataset,
    IndexedDatasetError,
    IndexedWriteError,
    IndexedWriter,
    merge,
    token_dtype,
)


def write(prefix: Path, documents: list[list[list[int]]], dtype: str = "uint16") -> Path:
    with IndexedWriter(prefix, dtype) as writer:
        for document in documents:
            writer.add_document(document)
        writer.finish()
    return prefix


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return write(tmp_path / "corpus.v1", [[[1, 2, 3], [4]], [], [[65535]]])


def test_bytes_are_those_of_the_format(prefix: Path) -> None:
    expected = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 3, 4)
    expected += struct.pack("<3i", 3, 1, 1) + struct.pack("<3q", 0, 6, 8) + struct.pack("<4q", 0, 2, 2, 3)
    assert Path(f"{prefix}.idx").read_bytes() == expected
    assert Path(f"{prefix}.bin").read_bytes() == struct.pack("<5H", 1, 2, 3, 4, 65535)


def test_many_documents_at_a_time_are_the_same_bytes(tmp_path: Path, prefix: Path) -> None:
    with IndexedWriter(tmp_path / "many", "uint16") as writer:
        writer.add_documents(np.array([1, 2, 3, 4], np.uint32), np.array([3, 1]), np.array([2, 0]))
        writer.add_documents(*np.empty((3, 0), np.int64))
        writer.add_documents(np.array([65535]), np.array([1]), np.array([1]))
        writer.finish()
    for suffix in (".bin", ".idx"):
        assert Path(f"{tmp_path}/many{suffix}").read_bytes() == Path(f"{prefix}{suffix}").read_bytes()


@pytest.mark.parametrize("lengths,sequences", [([3], [1]), ([2, 2], [1]), ([2, 1], [2])])
def test_documents_that_contradict_themselves_are_refused(
    tmp_path: Path, lengths: list[int], sequences: list[int]
) -> None:
    with (
        IndexedWriter(tmp_path / "many", "uint16") as writer,
        pytest.raises(ValueError, match="many: 4 tokens"),
    ):
        writer.add_documents(np.arange(4), np.array(lengths), np.array(sequences))


@pytest.mark.parametrize("tokens,lengths", [(4, [5, -1]), (1 << 31, [1 << 31])])
def test_lengths_that_the_format_does_not_hold_are_refused(
    tmp_path: Path, tokens: int, lengths: list[int]
) -> None:
    ids = np.broadcast_to(np.uint16(1), tokens)  # takes no memory
    with (
        IndexedWriter(tmp_path / "long", "uint16") as writer,
        pytest.raises(ValueError, match=r"long: a sequence of (-1|2147483648) tokens"),
    ):
        writer.add_documents(ids, np.array(lengths), np.array([len(lengths)]))


def test_reads_sequences_parts_and_documents(prefix: Path) -> None:
    dataset = IndexedDataset(prefix)
    assert [sequence.tolist() for sequence in dataset] == [[1, 2, 3], [4], [65535]]
    assert dataset[-1].tolist() == [65535]
    assert dataset.get(0, 1, 2).tolist() == [2, 3]
    assert dataset.get(0, 3).tolist() == []
    assert (len(dataset), dataset.documents, dataset.tokens) == (3, 3, 5)
    assert dataset.document_index.tolist() == [0, 2, 2, 3]
    with pytest.raises(IndexError):
        dataset.get(0, 2, 2)  # would read the next sequence
    with pytest.raises(IndexError):
        dataset[3]


def test_another_process_can_receive_a_dataset(prefix: Path) -> None:
    assert pickle.loads(pickle.dumps(IndexedDataset(prefix)))[0].tolist() == [1, 2, 3]


def test_dtype_follows_the_vocabulary() -> None:
    assert token_dtype(65499) == np.uint16
    assert token_dtype(65500) == np.int32


def test_token_that_does_not_fit_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="65536 do not fit uint16"):
        write(tmp_path / "corpus", [[[1, 65536]]])
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_dataset_do_not_write_into_each_others_files(tmp_path: Path, prefix: Path) -> None:
    """A cluster may do a task again that it has lost, while the first attempt still runs."""
    first = IndexedWriter(tmp_path / "twice", np.uint16)
    second = IndexedWriter(tmp_path / "twice", np.uint16)
    for writer in (first, second):
        writer.add_document([[1, 2, 3]])
    for writer in (second, first):
        with writer:
            writer.finish()
        assert IndexedDataset(tmp_path / "twice")[0].tolist() == [1, 2, 3]
    assert not list(tmp_path.glob(".*.tmp"))


def test_merge_equals_writing_at_once(tmp_path: Path, prefix: Path) -> None:
    other = write(tmp_path / "other", [[[7, 8]]])
    merge([prefix, other, prefix], tmp_path / "merged")
    first = [[[1, 2, 3], [4]], [], [[65535]]]
    write(tmp_path / "at_once", [*first, [[7, 8]], *first])
    for suffix in (".bin", ".idx"):
        assert (
            Path(f"{tmp_path}/merged{suffix}").read_bytes()
            == Path(f"{tmp_path}/at_once{suffix}").read_bytes()
        )


def test_merge_refuses_different_types(tmp_path: Path, prefix: Path) -> None:
    other = write(tmp_path / "other", [[[7]]], "int32")
    with pytest.raises(ValueError, match="other: tokens are int32"):
        merge([prefix, other], tmp_path / "merged")
    assert not (tmp_path / "merged.idx").exists()


def test_empty_dataset(tmp_path: Path) -> None:
    assert len(IndexedDataset(write(tmp_path / "empty", []))) == 0


@pytest.mark.parametrize("suffix", [".idx", ".bin"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut off", "too long"])
def test_damaged_files_are_named(prefix: Path, suffix: str, damage: str) -> None:
    path = Path(f"{prefix}{suffix}")
    content = path.read_bytes()
    path.write_bytes(
        {"missing": b"", "empty": b"", "cut off": content[:-1], "too long": content + b"x"}[damage]
    )
    if damage == "missing":
        path.unlink()
    with pytest.raises(IndexedDatasetError, match=f"corpus.v1{suffix}"):
        IndexedDataset(prefix)


def test_a_flipped_bit_anywhere_in_an_index_is_noticed(prefix: Path) -> None:
    path = Path(f"{prefix}.idx")
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x80
        path.write_bytes(damaged)
        with pytest.raises(IndexedDatasetError, match=r"corpus.v1"):
            IndexedDataset(prefix)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


# 3000 documents of 100 tokens of 2 bytes: 600 kB of tokens; with 20000 of none, an index of 460 kB.
@pytest.mark.parametrize("limit", [0, 5_000, 300_000, 599_000])
def test_a_full_disk_while_writing_tokens_is_named_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    documents = [[[number] * 100] for number in range(3000)]
    place = str(tmp_path / "corpus.bin")
    with full_disk(limit), pytest.raises(IndexedWriteError, match=f"{place}: cannot be written .*Make room"):
        write(tmp_path / "corpus", documents)
    assert files(tmp_path) == {}
    assert IndexedDataset(write(tmp_path / "corpus", documents)).tokens == 300_000


def test_a_full_disk_while_writing_the_index_leaves_the_pair_that_was_there(tmp_path: Path) -> None:
    write(tmp_path / "corpus", [[[1, 2, 3]]])
    before = files(tmp_path)
    documents: list[list[list[int]]] = [[[]]] * 20_000
    with full_disk(400_000), pytest.raises(IndexedWriteError, match=r"corpus\.idx: cannot be written"):
        write(tmp_path / "corpus", documents)
    assert files(tmp_path) == before
    assert IndexedDataset(write(tmp_path / "corpus", documents)).documents == 20_000


@pytest.mark.parametrize("limit", [10_000, 700_000, 1_199_999])
def test_a_full_disk_while_merging_is_named_and_the_same_merge_works_with_space(
    tmp_path: Path, limit: int
) -> None:
    part = write(tmp_path / "part", [[[number] * 100] for number in range(3000)])
    before = files(tmp_path)
    with full_disk(limit), pytest.raises(IndexedWriteError, match=r"both\.bin: cannot be written"):
        merge([part, part], tmp_path / "both")
    assert files(tmp_path) == before
    merge([part, part], tmp_path / "both")
    assert IndexedDataset(tmp_path / "both").documents == 6000


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IndexedWriteError, match=r"file/corpus\.bin: cannot be written"):
        IndexedWriter(tmp_path / "file" / "corpus", np.uint16)


def test_whole_datasets_block_by_block(prefix: Path) -> None:
    dataset = IndexedDataset(prefix)
    assert np.concatenate(list(dataset.blocks())).tolist() == [1, 2, 3, 4, 65535]
    assert dataset.tokens_at(np.array([4, 0])).tolist() == [65535, 1]
    assert dataset.starts().tolist() == [0, 3, 4] and dataset.starts(1, 2).tolist() == [3]


def test_blocks_of_an_index_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million sequences are written and checked block by block; here a block is three sequences."""
    documents = [[[number] * (number % 4)] * (number % 3) for number in range(20)]
    at_once = files(write(tmp_path / "once" / "corpus", documents).parent)
    monkeypatch.setattr("data_pipeline.indexed.dataset._BLOCK_SEQUENCES", 3)
    assert files(write(tmp_path / "blocks" / "corpus", documents).parent) == at_once
    merge([tmp_path / "once" / "corpus"], tmp_path / "merged" / "corpus")
    assert files(tmp_path / "merged") == at_once
    content = bytearray(at_once["corpus.idx"])
    content[34 + 4 * 10] ^= 1
    (tmp_path / "blocks" / "corpus.idx").write_bytes(content)
    with pytest.raises(IndexedDatasetError, match="do not follow from their lengths"):
        IndexedDataset(tmp_path / "blocks" / "corpus")
