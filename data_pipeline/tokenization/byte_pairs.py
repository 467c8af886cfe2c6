"""GPT-2's byte-level BPE by `gigatoken` or `tiktoken`: the ids of the `tokenizers` library, many times as fast.

Which tokenizers can be run this way, the encoder, and its comparison with the reference live here; the two libraries are
called in `data_pipeline.tokenization.byte_pair_libraries`, the reference is `data_pipeline.tokenization.tokenizers`. Only the
tokenization of corpora imports this module: training and evaluation run without.

Both libraries merge any two neighbours whose bytes together are a token, lowest number first, and know whole words by
their bytes. The reference merges listed pairs in the order of the list. All do the same if ids rise along the list and
if the reference gives every token of the list back as that token: then no unlisted pair is ever the lowest one.
"""

import itertools
import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.tokenization import cuts
from data_pipeline.tokenization.byte_pair_libraries import LIBRARIES, Batch, Library, Vocabulary
from data_pipeline.tokenization.encoders import Encoded, UnsuitableTokenizerError
from data_pipeline.tokenization.kinds import BYTE_LEVEL
from data_pipeline.tokenization.settled import SettledCharacters
from data_pipeline.tokenization.tokenizers import Tokenizer, refuse_surrogates

_SPLITTING = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
# Encoded at the start by a library and by the reference: words, marks, runs, scripts, and what special tokens look like.
_PROBE = (
    "They'll say it's 12,345.67!\n\n  'Tis\t\"naïve\" --  don't;I'm we've\r\n\u00a0Zoë's 東京都 한국어 \u3000العربية ١٢٣½Ⅷ "
    "👩\u200d👩 🇩🇪'S <|endoftext|>_x_ e\u0301 \x00\x7f\u202e\U0010ffff          end  \n \x85 aaaaaaaaaaaaaaaaaaaaaaaa'''   "
)
_logger = logging.getLogger("data_pipeline")


class BytePairEncoder:
    """Text to ids as a GPT-2 tokenizer does it, as arrays; every document ends in `<|endoftext|>`.

    Text never produces special tokens, as with the reference. Memory: see `byte_pair_libraries`; of a long text, in
    proportion to its length.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take over a tokenizer's vocabulary.

        Raises:
            UnsuitableTokenizerError: the ids would be others.
        """
        definition = json.loads(tokenizer.backend.to_str())
        obstacle = _find_obstacle(tokenizer, definition)
        if obstacle:
            raise UnsuitableTokenizerError(obstacle)
        self._reference = tokenizer
        self._places = cuts.places_to_cut(tokenizer.backend, tokenizer.kind)
        self._settled = SettledCharacters()
        vocabulary = _vocabulary(definition["model"], tokenizer.end_of_document)
        self._library = _first_that_agrees(tokenizer, vocabulary)

    def encode_documents(self, documents: list[str]) -> Encoded:
        """The ids of each text, `<|endoftext|>` after them; nothing of a text without ids."""
        for text in documents:
            refuse_surrogates(text)
        tokens, lengths = _joined(self._batches(documents))
        full = lengths > 0
        ends = np.cumsum(lengths[full] + 1) - 1
        with_ends = np.full(len(tokens) + len(ends), self._reference.end_of_document, np.uint32)
        inside = np.ones(len(with_ends), np.bool_)
        inside[ends] = False
        with_ends[inside] = tokens
        return Encoded(with_ends, lengths[full] + 1, full.astype(np.int64))

    def encode(self, text: str) -> npt.NDArray[np.uint32]:
        """The ids of a text alone, [tokens]."""
        refuse_surrogates(text)
        return _joined(self._batches([text])).tokens

    def _batches(self, texts: list[str]) -> Iterator[Batch]:
        """The ids of texts, in order, as many at a time as go to the same encoder."""
        for way, group in itertools.groupby(texts, self._way):
            yield way(list(group))

    def _way(self, text: str) -> Any:
        if not self._settled(text):
            return self._by_reference
        return self._in_pieces if len(text) > cuts.PIECE_CHARACTERS else self._library.encode_batch

    def _by_reference(self, texts: list[str]) -> Batch:
        return Batch.of([np.array(ids, np.uint32) for ids in self._reference.encode_batch(texts)])

    def _in_pieces(self, texts: list[str]) -> Batch:
        return Batch.of(
            [np.concatenate(list(cuts.encode_pieces(text, self._places, self._encode))) for text in texts]
        )

    def _encode(self, text: str) -> npt.NDArray[np.uint32]:
        return self._library.encode_batch([text]).tokens


def _joined(batches: Iterable[Batch]) -> Batch:
    parts = list(batches)
    if len(parts) == 1:
        return parts[0]
    return Batch(
        np.concatenate([np.empty(0, np.uint32), *(part.tokens for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)]),
    )


def _first_that_agrees(tokenizer: Tokenizer, vocabulary: Vocabulary) -> Library:
    """The fastest library that is installed and gives the reference's ids for a probe."""
    expected = tokenizer.encode(_PROBE)
    for make in LIBRARIES:
        try:
            library = make(vocabulary)
            agrees = library.encode_batch([_PROBE]).tokens.tolist() == expected
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # of any kind, a panic of Rust's too: it is refused
            _logger.info("%s cannot be used: %s", make.__name__, error)
            continue
        if agrees:
            return library
        _logger.warning("%s gives other ids than tokenizers: not used", make.__name__)
    raise UnsuitableTokenizerError("no fast library is installed that gives its ids")


def _find_obstacle(tokenizer: Tokenizer, definition: dict[str, Any]) -> str:
    """Why the libraries would not give the ids of a tokenizer; empty when they do."""
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


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """What the libraries are made of."""
    return _vocabulary(json.loads(tokenizer.backend.to_str())["model"], tokenizer.end_of_document)


def _vocabulary(model: dict[str, Any], end: int) -> Vocabulary:
    """Single bytes, then what is merged, in order; tokens that nothing merges into (special ones) are left out."""
    byte = _byte_characters()
    tokens = [*byte, *(left + right for left, right in model["merges"])]
    return Vocabulary(byte, {token: model["vocab"][token] for token in tokens}, model["merges"], end)


def _byte_characters() -> dict[str, int]:
    """The characters that stand for bytes in GPT-2's vocabulary: printable Latin-1 ones for themselves, those from
    U+0100 for the others in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = sorted(set(range(256)) - printable)
    return {chr(byte): byte for byte in sorted(printable)} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }
