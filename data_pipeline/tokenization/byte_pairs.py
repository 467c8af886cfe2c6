"""GPT-2's byte-level BPE by `tiktoken`: the ids of the `tokenizers` library, several times as fast.

Which tokenizers can be run this way, the encoder, and its comparison with the reference live here; the reference is
`data_pipeline.tokenization.tokenizers`. Only the tokenization of corpora imports this module, and this module imports tiktoken
where it is needed: training and evaluation run without.

`tiktoken` takes a token's id for its rank and merges any two neighbours whose bytes together are a token. The
reference merges listed pairs in the order of the list. Both do the same if ids rise along the list and if the
reference gives every token of the list back as that token: then no unlisted pair is ever the lowest one.
"""

import itertools
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.tokenization.cuts import encode_pieces, places_to_cut
from data_pipeline.tokenization.kinds import BYTE_LEVEL
from data_pipeline.tokenization.sample_check import UnsuitableTokenizerError
from data_pipeline.tokenization.tokenizers import END_OF_DOCUMENT, Tokenizer, refuse_surrogates

# GPT-2's pattern with its alternatives in another order: those that cannot take each other's text may change
# places, and what needs no look-ahead stands together, which the library runs as one automaton.
_PATTERN = (
    r"(?: ?\p{L}+|'(?:[sdmt]|ll|ve|re)| ?[^\s\p{L}\p{N}]+| ?\p{N}+|\s+$)"  # the last one ends the text
    r"|\s+(?!\S)|\s"
)
_SPLITTING = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


class BytePairEncoder:
    """Text to ids as a GPT-2 tokenizer does it, as arrays.

    Text never produces special tokens, as with the reference.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take over a tokenizer's vocabulary.

        Raises:
            UnsuitableTokenizerError: the ids would be others.
        """
        import tiktoken  # of all that encodes, only corpora need it

        definition = json.loads(tokenizer.backend.to_str())
        obstacle = _find_obstacle(tokenizer, definition)
        if obstacle:
            raise UnsuitableTokenizerError(obstacle)
        self._places = places_to_cut(tokenizer.backend, tokenizer.kind)
        # Without any special token the library searches for an empty one at every character, at half the speed.
        self._encoding = tiktoken.Encoding(
            BYTE_LEVEL.name,
            pat_str=_PATTERN,
            mergeable_ranks=_ranks(definition["model"]),
            special_tokens={END_OF_DOCUMENT: tokenizer.end_of_document},
        )

    def encode_batch(self, texts: list[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids of each text."""
        return [self.encode(text) for text in texts]

    def encode(self, text: str) -> npt.NDArray[np.uint32]:
        """The ids of a text, [tokens]; memory and time are proportional to its length."""
        refuse_surrogates(text)
        arrays = list(encode_pieces(text, self._places, self._encode))
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _encode(self, text: str) -> npt.NDArray[np.uint32]:
        return self._encoding.encode_to_numpy(text, disallowed_special=())


def _find_obstacle(tokenizer: Tokenizer, definition: dict[str, Any]) -> str:
    """Why tiktoken would not give the ids of a tokenizer; empty when it does."""
    model, splitting = definition["model"], definition["pre_tokenizer"]
    if tokenizer.kind != BYTE_LEVEL.name:
        return "it is not a byte-level BPE"
    if definition["normalizer"] or any(splitting.get(key) != value for key, value in _SPLITTING.items()):
        return "it changes or splits text in another way than GPT-2's"
    if not all(token["special"] for token in definition["added_tokens"]):
        return "it has added tokens that are found in text"
    settings = ("dropout", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
    if any(model.get(name) for name in settings):
        return f"it has one of the settings {', '.join(settings)}"
    if not set(_byte_characters()) <= model["vocab"].keys():
        return "its vocabulary lacks some of the 256 bytes"
    ids = [model["vocab"][left + right] for left, right in model["merges"]]
    if any(first >= second for first, second in itertools.pairwise(ids)):
        return "its merges are not in the order of their ids"
    merge = tokenizer.backend.model.tokenize
    if any(len(merge(left + right)) != 1 for left, right in model["merges"]):
        return "some of its tokens are never reached by its merges"
    return ""


def _ranks(model: dict[str, Any]) -> dict[bytes, int]:
    """Bytes of each token, to its id; tokens that nothing merges into (special ones) are left out."""
    byte = _byte_characters()
    tokens = [*byte, *(left + right for left, right in model["merges"])]
    return {bytes([byte[character] for character in token]): model["vocab"][token] for token in tokens}


def _byte_characters() -> dict[str, int]:
    """The characters that stand for bytes in GPT-2's vocabulary: printable Latin-1 ones for themselves, those from
    U+0100 for the others in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = sorted(set(range(256)) - printable)
    return {chr(byte): byte for byte in sorted(printable)} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }
