"""What makes ids of documents: the reference, and the comparison of a faster encoder with it.

The reference is `data_pipeline.tokenization.tokenizers`, after nltk's sentences where a sequence is a sentence; the fast
encoders are `data_pipeline.tokenization.byte_pairs` and `word_pieces`. A sample of every shard is encoded by both.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError

_SAMPLE_CHARACTERS = 2_048
_FIRST_SAMPLES, _SAMPLE_EVERY = 8, 256


class UnsuitableTokenizerError(TokenizerError):
    """A fast encoder would not give the ids of a tokenizer; the message says why."""


class Encoded(NamedTuple):
    """Documents as `IndexedWriter.add_documents` takes them; those without tokens have no sequence.

    Attributes:
        tokens: [tokens], the ids of all sequences.
        lengths: [sequences], the tokens of each sequence.
        sequences: [documents], the sequences of each document.
    """

    tokens: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.int64]
    sequences: npt.NDArray[np.int64]

    def document(self, index: int) -> "Encoded":
        """One document of them alone."""
        first = int(self.sequences[:index].sum())
        lengths = self.lengths[first : first + int(self.sequences[index])]
        start = int(self.lengths[:first].sum())
        return Encoded(
            self.tokens[start : start + int(lengths.sum())], lengths, self.sequences[index : index + 1]
        )


class Encoder(Protocol):
    """What makes ids of documents."""

    def encode_documents(self, documents: list[str]) -> Encoded:
        """The sequences of each document."""
        ...


def as_encoded(documents: Sequence[Sequence[Sequence[int]]], end: Sequence[int] = ()) -> Encoded:
    """Documents given as the ids of their texts, each of which becomes a sequence unless it is empty.

    Args:
        end: what every sequence ends in.
    """
    sequences = [[[*ids, *end] for ids in texts if len(ids)] for texts in documents]
    flat = [ids for texts in sequences for ids in texts]
    return Encoded(
        np.array([index for ids in flat for index in ids], np.uint32),
        np.array([len(ids) for ids in flat], np.int64),
        np.array([len(texts) for texts in sequences], np.int64),
    )


class ReferenceEncoder:
    """Documents by the `tokenizers` library.

    Args:
        split: a document into the texts that become sequences; None where it is one.
        end: what every sequence ends in.
    """

    def __init__(
        self, tokenizer: Tokenizer, split: Callable[[str], list[str]] | None, end: Sequence[int] = ()
    ) -> None:
        self._tokenizer, self._split, self._end = tokenizer, split, end

    def encode_documents(self, documents: list[str]) -> Encoded:
        """The sequences of each document."""
        texts = [self._split(text) if self._split else [text] for text in documents]
        ids = iter(self._tokenizer.encode_batch([text for parts in texts for text in parts]))
        return as_encoded([[next(ids) for _ in parts] for parts in texts], self._end)


def in_sample(number: int) -> bool:
    """Whether a shard's document with this number, from 0, is compared: the first ones, then one in 256."""
    return number < _FIRST_SAMPLES or number % _SAMPLE_EVERY == 0


def check(encoder: Encoder, reference: Encoder, document: str, given: Encoded) -> None:
    """Compare what an encoder gave for a document with the reference; of a long one, what it gives for its start.

    Raises:
        TokenizerError: they differ.
    """
    sample = document[:_SAMPLE_CHARACTERS]
    given = given if len(sample) == len(document) else encoder.encode_documents([sample])
    expected = reference.encode_documents([sample])
    if not np.array_equal(given.tokens, expected.tokens):
        raise _difference("token", given.tokens, expected.tokens)
    if not np.array_equal(given.lengths, expected.lengths):
        raise _difference("the length of sequence", given.lengths, expected.lengths)


def _difference(
    what: str, given: npt.NDArray[np.integer], expected: npt.NDArray[np.integer]
) -> TokenizerError:
    shared = min(len(given), len(expected))
    first = int(np.argmax(np.append(given[:shared] != expected[:shared], True)))
    return TokenizerError(
        f"the fast encoder and the reference differ at {what} {first}: {_name(given, first)} is not "
        f"{_name(expected, first)}; install the versions of constraints.txt"
    )


def _name(values: npt.NDArray[np.integer], index: int) -> str:
    return str(values[index]) if index < len(values) else "the end"
