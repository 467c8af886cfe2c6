"""Which documents are a benchmark's articles, by their title.

Titles count for Wikipedia's articles alone: elsewhere "Nero" is a name like any other. A title in which `<unk>` stands
for a rare word fits many articles ("Robert <unk>"): unless most of it is known, a document must hold some of the
benchmark's text too.
"""

import json
import re
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import urlsplit

from data_pipeline.benchmarks.benchmark import UNKNOWN_WORD
from data_pipeline.decontamination.words import folded
from data_pipeline.engine.documents import Document

_WIKIPEDIA = re.compile(r"(?<![a-z])([a-z]{2}|simple)?wiki(pedia)?(?![a-z])")  # in a corpus's name
_LONGEST_TITLE = 300  # Wikipedia has 255 bytes; a title with k unknown words is tried in length to the k
_HOST = "wikipedia.org"
_UNKNOWN_WORDS = "(?: [^ ]+){1,3}"  # `<unk>` is one word between blanks, such as O'Brien
_SAYS_NOTHING = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "in", "list", "of", "on", "or", "s", "the", "to")
)


class _Pattern(NamedTuple):
    """A title with unknown words: what it fits, and whether it says enough by itself."""

    fits: re.Pattern[str]
    suffices: bool
    benchmark: str


class Titles:
    """The titles of benchmarks' articles."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._patterns: list[_Pattern] = []

    def __len__(self) -> int:
        return len(self._known) + len(self._patterns)

    def add(self, title: str, benchmark: str) -> None:
        """Take up a title; one without any known word says nothing."""
        parts = [folded(part) for part in title.split(UNKNOWN_WORD)]
        words = " ".join(parts).split()
        if words and len(parts) == 1:
            self._known.setdefault(" ".join(words), benchmark)
        elif words:
            known = len(set(words) - _SAYS_NOTHING)
            pattern = _UNKNOWN_WORDS.join("".join(f" {word}" for word in part.split()) for part in parts)
            self._patterns.append(_Pattern(re.compile(pattern), known > len(parts) - 1, benchmark))

    def benchmark(self, document: Document, found: Collection[str]) -> str:
        """The benchmark of which a document is an article, or an empty string.

        Args:
            found: the benchmarks that the document holds text of.
        """
        title = _wikipedia_title(document) if len(self) else ""
        if not title:
            return ""
        if title in self._known:
            return self._known[title]
        for pattern in self._patterns:
            if (pattern.suffices or pattern.benchmark in found) and pattern.fits.fullmatch(f" {title}"):
                return pattern.benchmark
        return ""


def _wikipedia_title(document: Document) -> str:
    """The folded title of an article of Wikipedia, told by its corpus's name or its address; else an empty string."""
    named = _WIKIPEDIA.search(document.source.lower()) is not None
    if '"title"' not in document.metadata or not (named or _HOST in document.metadata):
        return ""
    facts = json.loads(document.metadata)
    title = facts.get("title")
    if (
        not isinstance(title, str)
        or len(title) > _LONGEST_TITLE
        or not (named or _is_wikipedia(facts.get("url")))
    ):
        return ""
    return folded(title)


def _is_wikipedia(url: object) -> bool:
    try:
        host = urlsplit(url).hostname if isinstance(url, str) else None
    except ValueError:  # no address
        return False
    return host is not None and f".{host}".endswith(f".{_HOST}")
