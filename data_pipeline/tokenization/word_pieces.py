"""BERT's WordPiece with the pieces of each word found once: the ids of the `tokenizers` library, several times as fast.

BERT's tokenizer lower-cases a text, splits it at blanks and around punctuation, and looks at each word alone. In a
text of plain characters that is done here, and the library is asked for each different word once; all other texts are
encoded by the library whole. The reference is `data_pipeline.tokenization.tokenizers`.
"""

import json
import re
from typing import Any

from data_pipeline.tokenization.kinds import WORD_PIECE
from data_pipeline.tokenization.sample_check import UnsuitableTokenizerError
from data_pipeline.tokenization.tokenizers import Tokenizer

# ASCII without the control characters that BERT removes, and the punctuation of typeset English.
_PLAIN = re.compile("[\t\n\r -~‘’“”–—…]*")
_WORDS = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")  # of a plain text in lower case
_MOST_WORDS = 1 << 18
_LONGEST_WORD = 100
_NORMALIZER = {"clean_text": True, "strip_accents": None, "lowercase": True}


class WordPieceEncoder:
    """Text to ids as a BERT tokenizer does it.

    Text never produces special tokens, as with the reference. Memory: some hundred bytes a different word, of at most
    262,144 words.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take over a tokenizer.

        Raises:
            UnsuitableTokenizerError: the ids would be others.
        """
        obstacle = _find_obstacle(tokenizer, json.loads(tokenizer.backend.to_str()))
        if obstacle:
            raise UnsuitableTokenizerError(obstacle)
        self._reference = tokenizer
        self._words = _Words(tokenizer)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""
        plain = [_PLAIN.fullmatch(text) is not None for text in texts]
        others = [text for text, is_plain in zip(texts, plain, strict=True) if not is_plain]
        encoded = iter(self._reference.encode_batch(others))
        return [
            self._encode(text) if is_plain else next(encoded)
            for text, is_plain in zip(texts, plain, strict=True)
        ]

    def _encode(self, text: str) -> list[int]:
        """The ids of a plain text."""
        words = self._words
        return [index for word in _WORDS.findall(text.lower()) for index in words[word]]


class _Words(dict[str, list[int]]):
    """The ids of words, asked for once; of words too many or too long at every use."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, word: str) -> list[int]:
        ids = self._tokenizer.encode(word)
        if len(self) < _MOST_WORDS and len(word) <= _LONGEST_WORD:
            self[word] = ids
        return ids


def _find_obstacle(tokenizer: Tokenizer, definition: dict[str, Any]) -> str:
    """Why words alone would not give the ids of a tokenizer; empty when they do."""
    normalizer, splitting = definition["normalizer"] or {}, definition["pre_tokenizer"] or {}
    if tokenizer.kind != WORD_PIECE.name:
        return "it is not a WordPiece tokenizer"
    if normalizer.get("type") != "BertNormalizer" or splitting.get("type") != "BertPreTokenizer":
        return "it changes or splits text in another way than BERT's"
    if any(normalizer.get(key) != value for key, value in _NORMALIZER.items()):
        return "it changes text in another way than the uncased BERT's"
    if not all(token["special"] for token in definition["added_tokens"]):
        return "it has added tokens that are found in text"
    return ""
