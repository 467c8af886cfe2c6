"""Tokenization: document shards to one indexed dataset, `corpus.bin` and `corpus.idx`.

GPT-2: one sequence a document, ending in `<|endoftext|>`. BERT: one sequence a sentence. Each worker writes the
dataset of its own shard; they are joined at the end, and `corpus.json` is written last.
"""

import functools
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from data_pipeline.artifacts import read_json, write_json
from data_pipeline.documents import batches, read_shard
from data_pipeline.executors import Executor
from data_pipeline.indexed import IndexedDataset, IndexedWriter, bin_path, index_path, merge, token_dtype
from data_pipeline.resumable import Counts, add_counts, run_shards
from data_pipeline.sentences import SentenceSplitter, load_sentence_splitter
from data_pipeline.tokenizers import Tokenizer, load_tokenizer

CORPUS = "corpus"
CORPUS_FILE = "corpus.json"


def tokenize_corpus(
    inputs: list[Path],
    tokenizer_path: Path,
    output: Path,
    *,
    sentence_splitter: Path | None,
    executor: Executor,
    title: str = "",
) -> dict[str, Any]:
    """Encode document shards into `output/corpus.bin`, `.idx` and `.json`.

    Args:
        inputs: document shards, in the order their documents are to have.
        tokenizer_path: see `load_tokenizer`.
        output: directory to write to.
        sentence_splitter: needed for a BERT tokenizer, not used by GPT-2's.

    Returns:
        The content of `corpus.json`: kind, vocabulary_size, tokenizer_fingerprint, documents, sequences, tokens,
        dtype, and empty_documents: those without any token, which are left out.

    Raises:
        ValueError: a BERT tokenizer without a sentence splitter, or no documents with tokens.
    """
    output = Path(output)
    shards = [output / f"shard-{index:05d}" for index in range(len(inputs))]
    if not (output / CORPUS_FILE).exists():
        tokenizer = load_tokenizer(tokenizer_path)
        if tokenizer.kind == "bert" and sentence_splitter is None:
            raise ValueError(
                f"{tokenizer_path}: a BERT corpus has a sequence a sentence: give a sentence splitter"
            )
        tasks = {prefix.name: (Path(path), prefix) for path, prefix in zip(inputs, shards, strict=True)}
        work = functools.partial(_tokenize_shard, Path(tokenizer_path), sentence_splitter)
        counts = add_counts(run_shards("tokenize", work, tasks, output, executor, title))
        if not counts.get("tokens"):
            raise ValueError(
                f"{output}: there are no tokens, because there is no text in the {len(inputs)} shards"
            )
        merge(shards, output / CORPUS)
        write_json(output / CORPUS_FILE, {**_describe(tokenizer, output / CORPUS), **counts})
    for prefix in shards:
        bin_path(prefix).unlink(missing_ok=True)
        index_path(prefix).unlink(missing_ok=True)
    return read_json(output / CORPUS_FILE)


def _describe(tokenizer: Tokenizer, prefix: Path) -> dict[str, Any]:
    dataset = IndexedDataset(prefix)
    return {
        "kind": tokenizer.kind,
        "vocabulary_size": tokenizer.vocabulary_size,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "documents": dataset.documents,
        "sequences": len(dataset),
        "tokens": dataset.tokens,
        "dtype": dataset.dtype.name,
    }


def _tokenize_shard(tokenizer_path: Path, sentence_splitter: Path | None, task: tuple[Path, Path]) -> Counts:
    path, prefix = task
    tokenizer, split = _load(tokenizer_path, sentence_splitter)
    counts = {"documents": 0, "sequences": 0, "tokens": 0, "empty_documents": 0}
    with IndexedWriter(prefix, token_dtype(tokenizer.vocabulary_size)) as writer:
        for batch in batches(read_shard(path)):
            texts = [document.text for document in batch]
            for sequences in (
                _gpt2_documents(tokenizer, texts)
                if split is None
                else _bert_documents(tokenizer, split, texts)
            ):
                counts["documents"] += bool(sequences)
                counts["empty_documents"] += not sequences
                counts["sequences"] += len(sequences)
                counts["tokens"] += sum(map(len, sequences))
                if sequences:
                    writer.add_document(sequences)
        writer.finish()
    return counts


@functools.lru_cache(maxsize=1)
def _load(tokenizer_path: Path, sentence_splitter: Path | None) -> tuple[Tokenizer, SentenceSplitter | None]:
    """Tokenizer and, for BERT, sentence splitter, loaded once a process."""
    tokenizer = load_tokenizer(tokenizer_path)
    if tokenizer.kind == "gpt2" or sentence_splitter is None:
        return tokenizer, None
    return tokenizer, load_sentence_splitter(sentence_splitter)


def _gpt2_documents(tokenizer: Tokenizer, texts: list[str]) -> Iterator[list[list[int]]]:
    """Each text as one sequence that ends in the end-of-document token."""
    for ids in tokenizer.encode_batch(texts):
        yield [[*ids, tokenizer.end_of_document]] if ids else []


def _bert_documents(
    tokenizer: Tokenizer, split: SentenceSplitter, texts: list[str]
) -> Iterator[list[list[int]]]:
    """Each text as the sequences of its sentences."""
    documents = [split(text) for text in texts]
    sequences = iter(tokenizer.encode_batch([sentence for sentences in documents for sentence in sentences]))
    for sentences in documents:
        yield [ids for ids in islice(sequences, len(sentences)) if ids]
