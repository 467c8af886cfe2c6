"""From documents to indexed datasets: sequences, sentences, and the same bytes from any number of workers."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from corpus_files import contents, english, fetch_files, real_data, write_documents

from core.errors import UserError
from data_pipeline.engine.documents import list_shards
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.indexed.dataset import IndexedDataset
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.sentences import load_sentence_splitter, train_sentence_splitter
from data_pipeline.tokenization.tokenizers import load_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with documents in three shards, both tokenizers and a sentence splitter."""
    directory = tmp_path_factory.mktemp("tokenization")
    texts = [english(seed) + "\n\nA heading\n\nDr. Orr said no. He left." for seed in range(29)] + [""]
    shards = write_documents(directory / "documents", texts, shards=3)
    train_tokenizer("gpt2", shards, directory / "gpt2", 400)
    train_tokenizer("bert", shards, directory / "bert", 400)
    train_sentence_splitter(shards, directory / "sentences")
    return directory


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_corpus_holds_what_the_tokenizer_says(prepared: Path, tmp_path: Path, kind: str) -> None:
    shards = list_shards(prepared / "documents")
    splitter = prepared / "sentences" if kind == "bert" else None
    for workers in (1, 2):
        facts = tokenize_corpus(
            shards,
            prepared / kind,
            tmp_path / str(workers),
            sentence_splitter=splitter,
            executor=LocalExecutor(workers),
        )
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert not list((tmp_path / "1").glob("shard-*"))
    dataset, tokenizer = IndexedDataset(tmp_path / "1" / "corpus"), load_tokenizer(prepared / kind)
    assert (dataset.documents, facts["documents"], facts["empty_documents"]) == (29, 29, 1)
    assert (facts["tokens"], facts["sequences"], facts["dtype"]) == (dataset.tokens, len(dataset), "uint16")
    assert (facts["kind"], facts["tokenizer_fingerprint"]) == (kind, tokenizer.fingerprint)
    text = english(3) + "\n\nA heading\n\nDr. Orr said no. He left."
    sequences = [dataset[index].tolist() for index in range(*dataset.document_index[3:5])]
    if kind == "gpt2":
        assert sequences == [[*tokenizer.encode(text), tokenizer.end_of_document]]
    else:
        sentences = load_sentence_splitter(prepared / "sentences")(text)
        assert "A heading" in sentences
        assert sequences == [tokenizer.encode(sentence) for sentence in sentences]


def test_bert_needs_a_sentence_splitter(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a sentence splitter"):
        tokenize_corpus(
            list_shards(prepared / "documents"),
            prepared / "bert",
            tmp_path,
            sentence_splitter=None,
            executor=LocalExecutor(1),
        )


def test_no_text_at_all(prepared: Path, tmp_path: Path) -> None:
    shards = write_documents(tmp_path / "empty", ["", ""])
    with pytest.raises(ValueError, match="there are no tokens"):
        tokenize_corpus(
            shards, prepared / "gpt2", tmp_path / "out", sentence_splitter=None, executor=LocalExecutor(1)
        )


def test_sentence_splitter_learns_abbreviations_and_is_reproducible(tmp_path: Path) -> None:
    text = " ".join(
        f"It was seen by the approx. {number} people there. {english(number, 30)}" for number in range(60)
    )
    shards = write_documents(tmp_path / "in", [text, english(1)])
    for name in ("a", "b"):
        summary = train_sentence_splitter(shards, tmp_path / name)
    assert (tmp_path / "a" / "punkt.json").read_bytes() == (tmp_path / "b" / "punkt.json").read_bytes()
    assert summary["abbreviations"] >= 1
    split = load_sentence_splitter(tmp_path / "a")
    assert split("We met approx. ten people. They left.") == ["We met approx. ten people.", "They left."]
    assert split("  \n\n ") == []


def test_sentence_training_stops_at_its_limit(tmp_path: Path) -> None:
    shards = write_documents(tmp_path / "in", [english(seed) for seed in range(8)], shards=2)
    summary = train_sentence_splitter(shards, tmp_path, limit_bytes=3000)
    assert 2900 < summary["characters"] < 3100


@pytest.mark.parametrize("content", ["{}", "[]", "no json"])
def test_unusable_sentence_splitter_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "punkt.json").write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)):
        load_sentence_splitter(tmp_path)


_NOVELS = {
    "bin": "24e2ad25ce74b6bf3d312d364684d1d9f9e5d5f439f13ef8a79b18202a91c19e",
    "idx": "803b9a99a0a59382e1306ecb4373139d2cb33e8831c31d0f8cbea6c3c0fc61d4",
}


def test_real_novels_have_the_known_number_of_tokens(tmp_path: Path) -> None:

    executor = LocalExecutor(2)
    fetch_files([real_data("gutenberg_small.jsonl.gz")], tmp_path / "in", source="g", executor=executor)
    facts = tokenize_corpus(
        list_shards(tmp_path / "in"),
        real_data("gpt2-vocab.json"),
        tmp_path / "out",
        sentence_splitter=None,
        executor=executor,
    )
    assert facts["tokens"] == 2_217_269 + 1422  # and the end of each document
    assert {
        suffix: hashlib.sha256((tmp_path / "out" / f"corpus.{suffix}").read_bytes()).hexdigest()
        for suffix in ("bin", "idx")
    } == _NOVELS
    dataset = IndexedDataset(tmp_path / "out" / "corpus")
    assert {int(sequence[-1]) for sequence in dataset} == {50256}
    assert dataset.dtype == np.uint16
