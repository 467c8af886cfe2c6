"""Tokenization: document shards to one indexed dataset, `corpus.bin` and `corpus.idx`.

GPT-2: one sequence a document, ending in `<|endoftext|>`. BERT: one sequence a sentence. Each worker writes the
dataset of its own shard; they are joined at the end, and `corpus.json` is written last. GPT-2's ids are made by
`data_pipeline.byte_pairs` where it can, and a sample of every shard is compared with the reference tokenizer.
"""

import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.artifacts import read_json, write_json
from data_pipeline.byte_pairs import BytePairEncoder, UnsuitableTokenizerError, in_sample
from data_pipeline.documents import read_ids, read_text_batches
from data_pipeline.executors import Executor
from data_pipeline.indexed import IndexedDataset, IndexedWriter, bin_path, index_path, merge, token_dtype
from data_pipeline.resumable import Counts, add_counts, run_shards
from data_pipeline.sentences import load_sentence_splitter
from data_pipeline.tokenizers import Tokenizer, TokenizerError, load_tokenizer

CORPUS = "corpus"
CORPUS_FILE = "corpus.json"
_logger = logging.getLogger("data_pipeline")


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
        dtype, and empty_documents: those without any token, which are left out; for a GPT-2 tokenizer that only
        the reference can run, encoded_by_reference says why.

    Raises:
        ValueError: a BERT tokenizer without a sentence splitter, or no documents with tokens.
        TokenizerError: the ids of a document are not those of the reference.
    """
    output = Path(output)
    shards = [output / f"shard-{index:05d}" for index in range(len(inputs))]
    if not (output / CORPUS_FILE).exists():
        encoder = _load(Path(tokenizer_path), sentence_splitter)
        if encoder.obstacle:
            _logger.warning(
                "%s: encoded by tokenizers, several times slower than by tiktoken: %s",
                tokenizer_path,
                encoder.obstacle,
            )
        tasks = {prefix.name: (Path(path), prefix) for path, prefix in zip(inputs, shards, strict=True)}
        work = functools.partial(_tokenize_shard, Path(tokenizer_path), sentence_splitter)
        counts = add_counts(run_shards("tokenize", work, tasks, output, executor, title))
        if not counts.get("tokens"):
            raise ValueError(
                f"{output}: there are no tokens, because there is no text in the {len(inputs)} shards"
            )
        merge(shards, output / CORPUS)
        write_json(output / CORPUS_FILE, {**_describe(encoder, output / CORPUS), **counts})
    for prefix in shards:
        bin_path(prefix).unlink(missing_ok=True)
        index_path(prefix).unlink(missing_ok=True)
    return read_json(output / CORPUS_FILE)


def _describe(encoder: "_Encoder", prefix: Path) -> dict[str, Any]:
    dataset = IndexedDataset(prefix)
    facts = {
        "kind": encoder.tokenizer.kind,
        "vocabulary_size": encoder.tokenizer.vocabulary_size,
        "tokenizer_fingerprint": encoder.tokenizer.fingerprint,
        "documents": dataset.documents,
        "sequences": len(dataset),
        "tokens": dataset.tokens,
        "dtype": dataset.dtype.name,
    }
    return {**facts, "encoded_by_reference": encoder.obstacle} if encoder.obstacle else facts


def _tokenize_shard(tokenizer_path: Path, sentence_splitter: Path | None, task: tuple[Path, Path]) -> Counts:
    path, prefix = task
    encoder = _load(tokenizer_path, sentence_splitter)
    counts = {"documents": 0, "sequences": 0, "tokens": 0, "empty_documents": 0}
    with IndexedWriter(prefix, token_dtype(encoder.tokenizer.vocabulary_size)) as writer:
        for tokens, lengths, sequences in encoder.encode(path):
            kept = sequences[sequences > 0]
            counts["documents"] += len(kept)
            counts["empty_documents"] += len(sequences) - len(kept)
            counts["sequences"] += len(lengths)
            counts["tokens"] += len(tokens)
            writer.add_documents(tokens, lengths, kept)
        writer.finish()
    return counts


class _Encoded(NamedTuple):
    """Documents as `IndexedWriter.add_documents` takes them; those without text have no sequence."""

    tokens: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.int64]
    sequences: npt.NDArray[np.int64]


class _Encoder(NamedTuple):
    """What encodes a shard.

    Attributes:
        tokenizer: the reference.
        encode: the documents of a shard, many at a time.
        obstacle: why GPT-2's fast encoder cannot be used; empty when it is, and for BERT.
    """

    tokenizer: Tokenizer
    encode: Callable[[Path], Iterator[_Encoded]]
    obstacle: str = ""


@functools.lru_cache(maxsize=1)
def _load(tokenizer_path: Path, sentence_splitter: Path | None) -> _Encoder:
    """What encodes a shard, loaded once a process."""
    tokenizer = load_tokenizer(tokenizer_path)
    if tokenizer.kind == "bert":
        if sentence_splitter is None:
            raise ValueError(
                f"{tokenizer_path}: a BERT corpus has a sequence a sentence: give a sentence splitter"
            )
        return _Encoder(tokenizer, functools.partial(_encode_sentences, tokenizer, sentence_splitter))
    try:
        byte_pairs = BytePairEncoder(tokenizer)
    except UnsuitableTokenizerError as error:
        return _Encoder(tokenizer, functools.partial(_encode_by_reference, tokenizer), str(error))
    return _Encoder(tokenizer, functools.partial(_encode_byte_pairs, byte_pairs, tokenizer.end_of_document))


_load_splitter = functools.lru_cache(maxsize=1)(load_sentence_splitter)


def _encode_byte_pairs(encoder: BytePairEncoder, end_of_document: int, path: Path) -> Iterator[_Encoded]:
    """Each document as one sequence that ends in the end-of-document token, a sample of them checked."""
    numbers = itertools.count()
    for texts in read_text_batches(path):
        documents = [encoder.encode(text) for text in texts]
        for text, ids, number in zip(texts, documents, numbers, strict=False):
            if in_sample(number):
                _check(encoder, path, number, text, ids)
        yield _whole(documents, end_of_document)


def _whole(documents: list[npt.NDArray[np.uint32]], end_of_document: int) -> _Encoded:
    """Documents as one sequence each, which ends in the end-of-document token."""
    end = np.array([end_of_document], np.uint32)
    sizes = np.array([len(ids) for ids in documents], np.int64)
    return _Encoded(
        _join([part for ids in documents if len(ids) for part in (ids, end)]),
        sizes[sizes > 0] + 1,
        (sizes > 0).astype(np.int64),
    )


def _join(arrays: list[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    return np.concatenate(arrays) if arrays else np.empty(0, np.uint32)


def _check(encoder: BytePairEncoder, path: Path, number: int, text: str, ids: npt.NDArray[np.uint32]) -> None:
    try:
        encoder.check(text, ids)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: document {read_ids(path)[number]}: {error}") from error


def _encode_by_reference(tokenizer: Tokenizer, path: Path) -> Iterator[_Encoded]:
    """Each document as one sequence that ends in the end-of-document token."""
    for texts in read_text_batches(path):
        documents = [np.array(ids, np.uint32) for ids in tokenizer.encode_batch(texts)]
        yield _whole(documents, tokenizer.end_of_document)


def _encode_sentences(tokenizer: Tokenizer, sentence_splitter: Path, path: Path) -> Iterator[_Encoded]:
    """Each document as the sequences of its sentences; those without tokens are left out."""
    split = _load_splitter(sentence_splitter)
    for texts in read_text_batches(path):
        documents = [split(text) for text in texts]
        ids = tokenizer.encode_batch([sentence for document in documents for sentence in document])
        sizes = np.array([len(sentence) for sentence in ids], np.int64)
        document = np.repeat(np.arange(len(documents)), [len(sentences) for sentences in documents])
        yield _Encoded(
            _join([np.array(sentence, np.uint32) for sentence in ids]),
            sizes[sizes > 0],
            np.bincount(document[sizes > 0], minlength=len(documents)),
        )
