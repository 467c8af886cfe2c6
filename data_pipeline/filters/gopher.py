"""Gopher's rules for web pages: quality and repetition (Rae et al. 2021, appendix A.1.1).

A word is what stands between blanks; a line is one with text in it, and a paragraph is what stands between blank lines.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from core.tables import out_of_range
from data_pipeline.filters.filter import FILTERS, Filter

_BULLETS = ("•", "‣", "⁃", "◦", "▪", "▫", "■", "□", "●", "○", "∙", "·", "- ", "* ", "– ")
_ELLIPSES = ("...", "…")
_TOP = 2  # the shortest run of words whose commonest is looked at
_DUPLICATE = 5  # the shortest run whose repetitions are all looked at
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GopherQuality(Filter):
    """Gopher's quality rules: a document is dropped by the first that it breaks.

    Attributes:
        minimum_words, maximum_words: documents with fewer words, or more, are dropped (`words`).
        minimum_word_length, maximum_word_length: documents whose mean word is shorter, or longer, are dropped
            (`word_length`).
        symbol_ratio: documents with more hash signs a word, or ellipses, are dropped (`hashes`, `ellipses`).
        bullet_share: documents with a greater share of lines that begin with a bullet are dropped (`bullets`).
        ellipsis_share: documents with a greater share of lines that end with an ellipsis are dropped (`ellipsis_lines`).
        alphabetic_share: documents with a smaller share of words that have a letter are dropped (`alphabetic`).
        stop_words: common words of the language.
        minimum_stop_words: documents with fewer different ones of them are dropped (`stop_words`).
    """

    minimum_words: int = 50
    maximum_words: int = 100_000
    minimum_word_length: float = 3.0
    maximum_word_length: float = 10.0
    symbol_ratio: float = 0.1
    bullet_share: float = 0.9
    ellipsis_share: float = 0.3
    alphabetic_share: float = 0.8
    stop_words: list[str] = field(
        default_factory=lambda: ["the", "be", "to", "of", "and", "that", "have", "with"]
    )
    minimum_stop_words: int = 2

    def errors(self, where: str) -> list[str]:
        any_number = ("minimum_words", "minimum_word_length", "symbol_ratio", "minimum_stop_words")
        shares = dict.fromkeys(("bullet_share", "ellipsis_share", "alphabetic_share"), (0, 1))
        problems = out_of_range(self, where, **dict.fromkeys(any_number, (0, math.inf)), **shares)
        for least, most in (
            ("minimum_words", "maximum_words"),
            ("minimum_word_length", "maximum_word_length"),
        ):
            if not getattr(self, most) >= getattr(self, least):
                problems.append(
                    f"{where}.{most}: must be {least} ({getattr(self, least)}) or more, is {getattr(self, most)}"
                )
        if self.minimum_stop_words > len(set(self.stop_words)):
            problems.append(
                f"{where}.minimum_stop_words: must be at most the number of stop_words "
                f"({len(set(self.stop_words))}), is {self.minimum_stop_words}"
            )
        return problems

    def keep(self, document: Any) -> str | bool:
        text: str = document.text
        words = text.split()
        if not max(self.minimum_words, 1) <= len(words) <= self.maximum_words:
            return "words"
        mean = sum(map(len, words)) / len(words)
        if not self.minimum_word_length <= mean <= self.maximum_word_length:
            return "word_length"
        if text.count("#") / len(words) > self.symbol_ratio:
            return "hashes"
        if sum(map(text.count, _ELLIPSES)) / len(words) > self.symbol_ratio:
            return "ellipses"
        lines = _lines(text)
        if sum(line.startswith(_BULLETS) for line in lines) / len(lines) > self.bullet_share:
            return "bullets"
        if sum(line.endswith(_ELLIPSES) for line in lines) / len(lines) > self.ellipsis_share:
            return "ellipsis_lines"
        if sum(map(_has_letter, words)) / len(words) < self.alphabetic_share:
            return "alphabetic"
        return self._stop_words(words) >= self.minimum_stop_words or "stop_words"

    def _stop_words(self, words: list[str]) -> int:
        """How many different stop words are among them, whatever their case and the punctuation beside them."""
        wanted = {word.casefold() for word in self.stop_words}
        found = wanted.intersection(words)
        if len(found) < self.minimum_stop_words:
            found = wanted.intersection(word.strip("\"'“”‘’.,;:!?()[]*_-").casefold() for word in words)
        return len(found)


def _has_letter(word: str) -> bool:
    return word.isalpha() or any(map(str.isalpha, word))


def _lines(text: str) -> list[str]:
    return [line for line in map(str.strip, text.split("\n")) if line]


@dataclass(frozen=True)
class GopherRepetition(Filter):
    """Gopher's repetition rules: a document is dropped by the first share that it exceeds, under that name.

    Attributes:
        lines, paragraphs: the largest share of those that repeat an earlier one.
        line_characters, paragraph_characters: the largest share of characters that stand in such.
        top_ngrams: the largest share of the words' characters that the commonest run of 2, 3, 4 words makes, if it is there
            more than once (`top_2_gram` …).
        duplicate_ngrams: the largest share of the words' characters in runs of 5, 6, … 10 words that are there more than
            once, each character counted once (`duplicate_5_grams` …).
    """

    lines: float = 0.3
    paragraphs: float = 0.3
    line_characters: float = 0.2
    paragraph_characters: float = 0.2
    top_ngrams: list[float] = field(default_factory=lambda: [0.2, 0.18, 0.16])
    duplicate_ngrams: list[float] = field(default_factory=lambda: [0.15, 0.14, 0.13, 0.12, 0.11, 0.1])

    def errors(self, where: str) -> list[str]:
        shares = ("lines", "paragraphs", "line_characters", "paragraph_characters")
        problems = out_of_range(self, where, **dict.fromkeys(shares, (0, 1)))
        for name, most in (("top_ngrams", 3), ("duplicate_ngrams", 6)):
            values = getattr(self, name)
            if len(values) > most or not all(0 <= value < math.inf for value in values):
                problems.append(
                    f"{where}.{name}: must be at most {most} numbers of 0 or more, one a length of runs, is {values}"
                )
        return problems

    def keep(self, document: Any) -> str | bool:
        text: str = document.text
        for what, parts in (("line", _lines(text)), ("paragraph", _paragraphs(text))):
            different = set(parts)
            if len(different) == len(parts):
                continue
            if (len(parts) - len(different)) / len(parts) > getattr(self, f"{what}s"):
                return f"{what}s"
            characters = sum(map(len, parts))
            if (characters - sum(map(len, different))) / characters > getattr(self, f"{what}_characters"):
                return f"{what}_characters"
        return self._ngrams(text.split()) or True

    def _ngrams(self, words: list[str]) -> str:
        """The first rule about runs of words that is broken; empty where none is."""
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        ends = np.zeros(len(words) + 1, np.int64)
        np.cumsum(lengths, out=ends[1:])
        longest = _TOP + len(self.top_ngrams) - 1
        if self.duplicate_ngrams:
            longest = _DUPLICATE + len(self.duplicate_ngrams) - 1
        for size, places, counts in _repeated_runs(words, longest):
            if _TOP <= size < _TOP + len(self.top_ngrams):
                firsts = places[np.cumsum(counts) - counts][counts == counts.max()]
                top = (ends[firsts + size] - ends[firsts]).max() * counts.max()
                if top / ends[-1] > self.top_ngrams[size - _TOP]:
                    return f"top_{size}_gram"
            elif size >= _DUPLICATE:
                edges = np.zeros(len(words) + 1, np.int64)
                edges[places] += 1
                edges[places + size] -= 1
                covered = lengths[np.cumsum(edges)[:-1] > 0].sum()
                if covered / ends[-1] > self.duplicate_ngrams[size - _DUPLICATE]:
                    return f"duplicate_{size}_grams"
        return ""


def _paragraphs(text: str) -> list[str]:
    if "\n" not in text:
        return [text]
    groups = itertools.groupby((line.strip() for line in text.split("\n")), bool)
    return ["\n".join(lines) for has_text, lines in groups if has_text]


def _repeated_runs(words: list[str], longest: int) -> Iterator[tuple[int, Numbers, Numbers]]:
    """Runs of 2, 3, … words that are there more than once: (words in a run, where they begin, equal ones side by side, how
    many are equal). It ends with the first length that has none: a longer run that is repeated holds shorter ones."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    codes = np.fromiter(map(numbers.__getitem__, words), np.int64, len(words))
    groups = np.where(np.bincount(codes)[codes] > 1, codes, -1)  # of the run that begins at each word
    for size in range(2, longest + 1):
        # A run is repeated only where what it is without its last word is, and what it is without its first.
        begins = np.flatnonzero((groups[:-1] >= 0) & (groups[1:] >= 0))
        runs = groups[begins] * len(numbers) + codes[begins + size - 1]
        order = runs.argsort(kind="stable")
        runs = runs[order]
        edges = np.flatnonzero(np.concatenate(([True], runs[1:] != runs[:-1], [True]))) if len(runs) else runs
        counts = edges[1:] - edges[:-1]
        is_repeated = counts > 1
        places = begins[order[np.repeat(is_repeated, counts)]]
        if not len(places):
            return
        counts = counts[is_repeated]
        yield size, places, counts
        groups = np.full(len(groups) - 1, -1)
        groups[places] = np.repeat(np.arange(len(counts)), counts)


FILTERS.add("gopher_quality", GopherQuality)
FILTERS.add("gopher_repetition", GopherRepetition)
