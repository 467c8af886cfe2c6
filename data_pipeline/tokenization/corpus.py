"""Tokenization: document shards to one indexed dataset, `corpus.bin` and `corpus.idx`.

GPT-2: one sequence a document, ending in `<|endoftext|>`. BERT: one sequence a sentence. Each worker writes the
dataset of its own shard; they are joined at the end, and `corpus.json` is written last. Ids are made by
`data_pipeline.tokenization.byte_pairs` and `word_pieces` where they can, and a sample of every shard is compared with the
reference.
"""

import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import UserError
from core.files import read_json, write_json
from core.registry import attribute
from data_pipeline.engine.documents import read_ids, read_text_batches
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.resumable import Counts, add_counts, run_shards
from data_pipeline.indexed.dataset import (
    IndexedDataset,
    IndexedWriter,
    bin_path,
    index_path,
    merge,
    token_dtype,
)
from data_pipeline.tokenization.encoders import (
    Encoded,
    Encoder,
    ReferenceEncoder,
    UnsuitableTokenizerError,
    check,
    in_sample,
)
from data_pipeline.tokenization.kinds import KINDS
from data_pipeline.tokenization.sentences import load_sentence_splitter
from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError, load_tokenizer

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
        dtype, and empty_documents: those without any token, which are left out; for a tokenizer that only the
        reference can run, encoded_by_reference says why.

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
                "%s: encoded by tokenizers, several times slower: %s",
                tokenizer_path,
                encoder.obstacle,
            )
        tasks = {prefix.name: (Path(path), prefix) for path, prefix in zip(inputs, shards, strict=True)}
        work = functools.partial(_tokenize_shard, Path(tokenizer_path), sentence_splitter)
        counts = add_counts(run_shards("tokenize", work, tasks, output, executor, title))
        if not counts.get("tokens"):
            raise UserError(
                f"{output}: there are no tokens, because there is no text in the {len(inputs)} shards"
            )
        merge(shards, output / CORPUS)
        write_json(output / CORPUS_FILE, {**_describe(encoder, output / CORPUS), **counts})
    for prefix in shards:
        bin_path(prefix).unlink(missing_ok=True)
        index_path(prefix).unlink(missing_ok=True)
    return read_json(output / CORPUS_FILE)


def _describe(encoder: "_Loaded", prefix: Path) -> dict[str, Any]:
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
        for tokens, lengths, sequences in _encode_shard(encoder, path):
            kept = sequences[sequences > 0]
            counts["documents"] += len(kept)
            counts["empty_documents"] += len(sequences) - len(kept)
            counts["sequences"] += len(lengths)
            counts["tokens"] += len(tokens)
            writer.add_documents(tokens, lengths, kept)
        writer.finish()
    return counts


class _Loaded(NamedTuple):
    """What encodes a shard.

    Attributes:
        tokenizer: whose ids they are.
        encoder: the one that is used.
        reference: the one that it is compared with.
        obstacle: why a fast encoder cannot be used, so that the reference is; empty when it is.
    """

    tokenizer: Tokenizer
    encoder: Encoder
    reference: Encoder
    obstacle: str


@functools.lru_cache(maxsize=1)
def _load(tokenizer_path: Path, sentence_splitter: Path | None) -> _Loaded:
    """What encodes a shard, loaded once a process."""
    tokenizer = load_tokenizer(tokenizer_path)
    kind = KINDS[tokenizer.kind]
    if kind.sentences and sentence_splitter is None:
        raise UserError(
            f"{tokenizer_path}: a {kind.name} corpus has a sequence a sentence: give a sentence splitter"
        )
    split = load_sentence_splitter(sentence_splitter) if kind.sentences and sentence_splitter else None
    reference = ReferenceEncoder(tokenizer, split, [tokenizer.special(kind.end)] if kind.end else [])
    try:
        encoder: Encoder = attribute(kind.encoder)(tokenizer, *([split] if split else []))
    except UnsuitableTokenizerError as error:
        return _Loaded(tokenizer, reference, reference, str(error))
    return _Loaded(tokenizer, encoder, reference, "")


def _encode_shard(loaded: _Loaded, path: Path) -> Iterator[Encoded]:
    """The documents of a shard, many at a time, a sample of them checked; texts without tokens are left out."""
    first = 0
    for documents in read_text_batches(path):
        encoded = loaded.encoder.encode_documents(documents)
        for index, document in enumerate(documents):
            if not loaded.obstacle and in_sample(first + index):
                _check(loaded, path, first + index, document, encoded.document(index))
        first += len(documents)
        yield encoded


def _check(loaded: _Loaded, path: Path, number: int, document: str, encoded: Encoded) -> None:
    try:
        check(loaded.encoder, loaded.reference, document, encoded)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: document {read_ids(path)[number]}: {error}") from error
