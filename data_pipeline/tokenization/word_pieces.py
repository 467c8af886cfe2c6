"""BERT's sentences and WordPiece with what each word says found once: the ids of the libraries, many times as fast.

Both libraries look at a text word by word, a word being what stands between blanks (`data_pipeline.tokenization.cuts` says why
for WordPiece, `data_pipeline.tokenization.sentences` for Punkt), and texts repeat their words. So each different word is
shown to both once; of a text in known words, sentences are found and joined by arithmetic on arrays. The references are
`data_pipeline.tokenization.tokenizers` and `SentenceSplitter`.
"""

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.tokenization.cuts import places_to_cut
from data_pipeline.tokenization.encoders import Encoded, UnsuitableTokenizerError, as_encoded
from data_pipeline.tokenization.kinds import WORD_PIECE
from data_pipeline.tokenization.sentences import ALWAYS, ASK, SentenceSplitter, WordEnd
from data_pipeline.tokenization.tokenizers import Tokenizer, refuse_surrogates

# Blanks that the libraries take for different things; a paragraph with one of them is left to them.
_ODD_BLANKS = re.compile("[\v\f\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_LONGEST_PARAGRAPH = 4 << 20
_SEGMENT_CHARACTERS = 1 << 20
_MOST_WORDS = 1 << 18
_MOST_CHARACTERS = 1 << 24
_PARTS = 3


class WordPieceEncoder:
    """Text to ids as a BERT tokenizer does it, a sequence a sentence.

    Text never produces special tokens, as with the reference. Memory: some 300 bytes a different word, of at most
    262,144 words, or 16 million characters, and those of a million characters more; and 60 bytes a word of a million
    characters, or of one paragraph.
    """

    def __init__(self, tokenizer: Tokenizer, splitter: SentenceSplitter) -> None:
        """Take over a tokenizer and a splitter.

        Raises:
            UnsuitableTokenizerError: the ids would be others.
        """
        if tokenizer.kind != WORD_PIECE.name:
            raise UnsuitableTokenizerError("it is not a WordPiece tokenizer")
        if places_to_cut(tokenizer.backend, tokenizer.kind) is None:
            raise UnsuitableTokenizerError(
                "it changes or splits text in another way than BERT's, or has added tokens that are found in text"
            )
        self._tokenizer, self._splitter = tokenizer, splitter
        self._words = _Words(tokenizer, splitter)

    def encode_documents(self, documents: list[str]) -> Encoded:
        """The ids of each sentence of each text."""
        for text in documents:
            refuse_surrogates(text)
        tokens: list[npt.NDArray[np.uint32]] = []
        lengths: list[npt.NDArray[np.int64]] = []
        counts = np.zeros(len(documents), np.int64)
        for segment in self._segments(documents):
            encoded = self._encode(segment)
            tokens.append(encoded.tokens)
            lengths.append(encoded.lengths)
            np.add.at(counts, segment.documents, encoded.sequences)
        return Encoded(
            np.concatenate([np.empty(0, np.uint32), *tokens]),
            np.concatenate([np.empty(0, np.int64), *lengths]),
            counts,
        )

    def _segments(self, documents: list[str]) -> Iterator["_Segment"]:
        """Paragraphs, about a million characters at a time; those that the libraries must read stand alone."""
        paragraphs: list[list[str]] = []
        places: list[int] = []
        characters = 0
        for place, document in enumerate(documents):
            plain = _ODD_BLANKS.search(document) is None
            for paragraph in self._splitter.paragraphs(document):
                if len(paragraph) > _LONGEST_PARAGRAPH or not (
                    plain or _ODD_BLANKS.search(paragraph) is None
                ):
                    yield _Segment(paragraphs, places)
                    yield _Segment([[paragraph]], [place], by_libraries=True)
                    paragraphs, places, characters = [], [], 0
                elif words := paragraph.split():
                    paragraphs.append(words)
                    places.append(place)
                    characters += len(paragraph)
                if characters > _SEGMENT_CHARACTERS:
                    yield _Segment(paragraphs, places)
                    paragraphs, places, characters = [], [], 0
        yield _Segment(paragraphs, places)

    def _encode(self, segment: "_Segment") -> Encoded:
        """The sentences of paragraphs."""
        if segment.by_libraries:
            sentences = self._splitter.of_paragraph(segment.paragraphs[0][0])
            return as_encoded([self._tokenizer.encode_batch(sentences)])
        if not segment.paragraphs:
            return as_encoded([])
        sizes = np.array([len(words) for words in segment.paragraphs])
        known, words = self._words.look_up(
            itertools.chain.from_iterable(segment.paragraphs), int(sizes.sum())
        )
        last = np.zeros(len(words), np.bool_)
        last[np.cumsum(sizes) - 1] = True
        return _joined(known, words, last, self._ends_between(known, words, last))

    def _ends_between(
        self, known: "_Known", words: npt.NDArray[np.int32], last: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """[words], whether a sentence ends after a word that is not its paragraph's last."""
        after = known.after[words]
        ends = (after == ALWAYS) & ~last
        asked = np.flatnonzero((after == ASK) & ~last)
        pairs = zip(words[asked].tolist(), words[asked + 1].tolist(), strict=True)
        ends[asked] = [self._words.ends_between(pair) for pair in pairs]
        return ends


class _Segment(NamedTuple):
    """Paragraphs in words, and the numbers of their documents; or one paragraph that the libraries must read."""

    paragraphs: list[list[str]]
    documents: list[int]
    by_libraries: bool = False


class _Known(NamedTuple):
    """What is known of words, by their numbers; `within`, `closing` and `first` (see `WordEnd`) count tokens.

    Attributes:
        tokens: of all words.
        starts: int64 [words + 1], of each word in `tokens`.
    """

    tokens: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64]
    marked: npt.NDArray[np.bool_]
    after: npt.NDArray[np.int32]
    within: npt.NDArray[np.int32]
    closing: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]


def _joined(
    known: _Known, words: npt.NDArray[np.int32], last: npt.NDArray[np.bool_], ends: npt.NDArray[np.bool_]
) -> Encoded:
    """The sentences of paragraphs.

    Args:
        words: [words], their numbers.
        last: [words], whether it is the last of its paragraph.
        ends: [words], whether a sentence ends after it.
    """
    sizes = known.starts[words + 1] - known.starts[words]
    stops = np.cumsum(sizes)
    starts = stops - sizes
    places = np.repeat(known.starts[words] - starts, sizes) + np.arange(stops[-1])
    within = np.flatnonzero((known.within[words] > 0) & ~(known.marked[words] & ~last))
    first = np.flatnonzero(known.first[words])
    after = np.flatnonzero(ends) + 1
    paragraphs = stops[last]
    boundaries = np.unique(
        np.concatenate(
            [
                [0],
                starts[within] + known.within[words[within]],
                starts[first] + known.first[words[first]],
                starts[after] + known.closing[words[after]],
                paragraphs,
            ]
        )
    )
    sequences = np.bincount(np.searchsorted(paragraphs, boundaries[1:]), minlength=len(paragraphs))
    return Encoded(known.tokens[places], np.diff(boundaries), sequences)


class _Words:
    """Numbers of words, and what is known of them; forgotten when they are too many."""

    def __init__(self, tokenizer: Tokenizer, splitter: SentenceSplitter) -> None:
        self._tokenizer, self._splitter = tokenizer, splitter
        self._forget()

    def look_up(self, words: Iterator[str], count: int) -> tuple[_Known, npt.NDArray[np.int32]]:
        """The numbers of so many words, and what is known of them until the next call."""
        if len(self._numbers) > _MOST_WORDS or self._characters > _MOST_CHARACTERS:
            self._forget()
        try:
            numbers = np.fromiter(map(self._numbers.__getitem__, words), np.int32, count)
            self._learn(self._numbers.words[len(self._known.after) :])
        except BaseException:
            self._forget()  # there are numbers of which nothing is known
            raise
        return self._known, numbers

    def ends_between(self, pair: tuple[int, int]) -> bool:
        """Whether a sentence ends between these words."""
        if pair not in self._pairs:
            first, second = pair
            words = self._numbers.words
            self._pairs[pair] = self._splitter.ends_between(words[first], words[second])
        return self._pairs[pair]

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._pairs: dict[tuple[int, int], bool] = {}
        self._characters = 0
        nothing = np.empty(0, np.int32)
        self._known = _Known(nothing.astype(np.uint32), np.zeros(1, np.int64), nothing > 0, *[nothing] * 4)

    def _learn(self, words: list[str]) -> None:
        """Ask the libraries about new words."""
        if not words:
            return
        ends = [self._splitter.word_end(word) for word in words]
        parts = [part for word, end in zip(words, ends, strict=True) for part in _parts(word, end)]
        full = [place for place, part in enumerate(parts) if part]
        ids = self._tokenizer.encode_batch([parts[place] for place in full])
        sizes = np.zeros((len(words), _PARTS), np.int32)
        sizes.flat[full] = [len(part) for part in ids]
        marked, after, within, closing, first = np.array(ends, np.int32).T
        known = self._known
        self._characters += sum(map(len, words))
        self._known = _Known(
            np.concatenate([known.tokens, np.array([index for part in ids for index in part], np.uint32)]),
            np.concatenate([known.starts, known.starts[-1] + np.cumsum(sizes.sum(1))]),
            np.concatenate([known.marked, marked > 0]),
            np.concatenate([known.after, after]),
            np.concatenate([known.within, np.where(within > 0, sizes[:, 0] + sizes[:, 1], 0)]),
            np.concatenate([known.closing, np.where(closing > 0, sizes[:, 0], 0)]),
            np.concatenate([known.first, np.where(first > 0, sizes[:, 0], 0)]),
        )


class _Numbers(dict[str, int]):
    """Numbers words as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self.words)
        self.words.append(word)
        return number


def _parts(word: str, end: WordEnd) -> tuple[str, str, str]:
    """A word cut where sentences may end in it: at its start, and within."""
    start = end.closing or end.first
    within = max(start, end.within)
    return word[:start], word[start:within], word[within:]
