"""`inspect`: what it counts and shows, and that each kind of damage is found and named."""

import json
from pathlib import Path

import numpy as np
import pytest
from corpus_files import english, write_documents

from data_pipeline.__main__ import main
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.hashes import hash_file
from data_pipeline.indexed.dataset import IndexedDataset, IndexedWriter
from data_pipeline.inspection import indexed as inspection
from data_pipeline.inspection.indexed import inspect, validate
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer and a corpus of six documents."""
    directory = tmp_path_factory.mktemp("built")
    shards = write_documents(directory / "documents", [english(seed, 50 + 10 * seed) for seed in range(6)])
    train_tokenizer("gpt2", shards, directory, 400)
    tokenize_corpus(
        shards, directory / "tokenizer.json", directory, sentence_splitter=None, executor=LocalExecutor(1)
    )
    return directory


@pytest.fixture
def tokenizer(built: Path) -> Tokenizer:
    return load_tokenizer(built / "tokenizer.json")


def rewrite(built: Path, prefix: Path, change=lambda documents: documents, dtype: str = "uint16") -> Path:
    """A copy of the corpus with changed documents."""
    with IndexedWriter(prefix, dtype) as writer:
        for document in change([sequence.tolist() for sequence in IndexedDataset(built / "corpus")]):
            writer.add_document([document])
        writer.finish()
    return prefix


def test_a_sound_corpus_is_counted_and_shown(built: Path, tokenizer: Tokenizer) -> None:
    found = inspect(built / "corpus", tokenizer)
    dataset = IndexedDataset(built / "corpus")
    lengths = sorted(dataset.lengths.tolist())
    assert found.problems == []
    text = "\n".join(found.lines)
    assert f"6 documents, 6 sequences, {sum(lengths):,} tokens\nstored as uint16" in text
    quartiles = " · ".join(str(lengths[place]) for place in (0, 1, 2, 3, 5))
    assert f"tokens a sequence: mean {sum(lengths) / 6:.1f}, quartiles {quartiles}" in text
    for document in range(3):
        assert f"document {document}, {len(dataset[document])} tokens:\n{english(document, 50)[:40]}" in text
    assert "document 3" not in text


def test_end_of_document_is_shown_and_long_documents_are_cut(tokenizer: Tokenizer, tmp_path: Path) -> None:
    short = [*tokenizer.encode("the house"), tokenizer.end_of_document]
    with IndexedWriter(tmp_path / "corpus", np.uint16) as writer:
        for document in (short, [], short * 40):
            writer.add_document([document] if document else [])
        writer.finish()
    lines = inspect(tmp_path / "corpus", tokenizer).lines
    assert "the house<|endoftext|>" in lines
    assert [line for line in lines if line.endswith(" …")] == [lines[-1]]
    assert lines[lines.index("\ndocument 1, 0 tokens:") + 1] == ""


def test_ids_out_of_range_are_found_in_any_block(
    built: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(documents: list[list[int]]) -> list[list[int]]:
        documents[4][7] = 401
        return documents

    monkeypatch.setattr("data_pipeline.indexed.dataset._COPY_BYTES", 64)
    dataset = IndexedDataset(rewrite(built, tmp_path / "corpus", damage))
    assert validate(dataset) == []  # without a tokenizer any id is one
    (problem,) = validate(dataset, tokenizer)
    assert "corpus.bin: sequence 4 holds id 401, but the tokenizer has only 400" in problem


def test_negative_ids_need_no_tokenizer(built: Path, tmp_path: Path) -> None:
    prefix = rewrite(built, tmp_path / "corpus", lambda documents: [*documents, [5, -2]], "int32")
    (problem,) = inspect(prefix).problems
    assert "corpus.bin: corrupt, sequence 6 holds the negative id -2" in problem


def test_another_tokenizers_ids_are_not_decoded(built: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    found = inspect(rewrite(built, tmp_path / "corpus", lambda _: [[60_000, 0]]), tokenizer)
    assert len(found.problems) == 1 and "(ids of another tokenizer)" in found.lines


@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_documents_without_their_end_are_counted(
    built: Path, tokenizer: Tokenizer, tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(documents: list[list[int]]) -> list[list[int]]:
        documents[2] = documents[2][:-1]
        documents[5] = []
        return documents

    monkeypatch.setattr(inspection, "_BLOCK_DOCUMENTS", block)
    (problem,) = inspect(rewrite(built, tmp_path / "corpus", damage), tokenizer).problems
    assert "corpus.bin: 2 documents, the first of them document 2, do not end in" in problem


def test_hashes_of_a_manifest_are_checked_as_far_as_it_goes(built: Path, tmp_path: Path) -> None:
    prefix = rewrite(built, tmp_path / "corpus")
    outputs = {"corpus.bin": {"sha256": hash_file(Path(f"{prefix}.bin"))}, "other": {"sha256": "0"}}
    (tmp_path / "manifest.json").write_text(json.dumps({"outputs": outputs}))
    assert inspect(prefix).problems == []
    content = bytearray(Path(f"{prefix}.bin").read_bytes())
    content[100] ^= 1
    Path(f"{prefix}.bin").write_bytes(content)
    (problem,) = inspect(prefix).problems
    assert problem.startswith(f"{prefix}.bin: its sha256 differs")
    (tmp_path / "manifest.json").write_text("{}")
    (problem,) = inspect(prefix).problems
    assert problem.startswith(f"{tmp_path / 'manifest.json'}: cannot be read")


def test_counts_of_another_run_are_noticed(built: Path, tmp_path: Path) -> None:
    prefix = rewrite(built, tmp_path / "corpus")
    Path(f"{prefix}.json").write_text(json.dumps({"documents": 7, "dtype": "uint16"}))
    (problem,) = inspect(prefix).problems
    assert f"{prefix}.json: documents is 7, but the files hold 6" in problem
    Path(f"{prefix}.json").write_text("[")
    (problem,) = inspect(prefix).problems
    assert "corpus.json: cannot be read" in problem


def test_the_command_says_so_and_fails(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(built), "--tokenizer", str(built)]) == 0
    assert "no errors found" in capsys.readouterr().out
    prefix = rewrite(built, tmp_path / "corpus", lambda documents: [documents[0][:-1]])
    assert main(["inspect", str(prefix), "--tokenizer", str(built)]) == 1
    output = capsys.readouterr()
    assert "1 documents, 1 sequences" in output.out and "no errors" not in output.out
    assert f"error: {prefix}.bin: 1 documents" in output.err


def test_floating_point_is_no_corpus(built: Path, tmp_path: Path) -> None:
    prefix = rewrite(built, tmp_path / "corpus", dtype="int32")
    content = bytearray(Path(f"{prefix}.idx").read_bytes())
    content[17] = 7
    Path(f"{prefix}.idx").write_bytes(content)
    (problem,) = inspect(prefix).problems
    assert "corpus.idx: holds float32 values" in problem
