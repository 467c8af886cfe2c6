"""The comparison of a fast encoder with the reference: a sample of every shard is encoded by both.

The reference is `data_pipeline.tokenization.tokenizers`; the encoders are `data_pipeline.tokenization.byte_pairs` and `word_pieces`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError

_SAMPLE_CHARACTERS = 4_096
_FIRST_SAMPLES, _SAMPLE_EVERY = 8, 256

Ids = Sequence[int] | npt.NDArray[np.uint32]
EncodeBatch = Callable[[list[str]], Sequence[Ids]]


class UnsuitableTokenizerError(TokenizerError):
    """A fast encoder would not give the ids of a tokenizer; the message says why."""


def in_sample(number: int) -> bool:
    """Whether a shard's document with this number, from 0, is compared: the first ones, then one in 256."""
    return number < _FIRST_SAMPLES or number % _SAMPLE_EVERY == 0


def check(encode_batch: EncodeBatch, reference: Tokenizer, texts: list[str], ids: Sequence[Ids]) -> None:
    """Compare the ids of a document with the reference's; of a long one, those of its start.

    Args:
        encode_batch: what gave the ids.
        texts: what the document was encoded as: itself, or its sentences.
        ids: of each text.

    Raises:
        TokenizerError: they differ.
    """
    characters = 0
    for text, given in zip(texts, ids, strict=True):
        sample = text[:_SAMPLE_CHARACTERS]
        _compare(given if len(sample) == len(text) else encode_batch([sample])[0], reference.encode(sample))
        characters += len(sample)
        if characters >= _SAMPLE_CHARACTERS:
            break


def _compare(given: Ids, expected: Ids) -> None:
    given, expected = np.asarray(given, np.uint32), np.asarray(expected, np.uint32)
    if np.array_equal(given, expected):
        return
    shared = min(len(given), len(expected))
    first = int(np.argmax(np.append(given[:shared] != expected[:shared], True)))
    raise TokenizerError(
        f"the fast encoder and tokenizers differ at token {first}: {_name(given, first)} is not "
        f"{_name(expected, first)}; install the versions of constraints.txt"
    )


def _name(ids: npt.NDArray[np.uint32], index: int) -> str:
    return str(ids[index]) if index < len(ids) else "the end"
