"""C4's rules for web pages (Raffel et al. 2020, section 2.2): lines that are no sentences go, and pages of few sentences.

Not here: C4's language rule (`[clean] language`) and its removal of repeated spans of three sentences, which looks at
other pages (`[deduplicate]`).
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from core.files import read_text
from core.tables import out_of_range
from data_pipeline.engine.hashes import identity
from data_pipeline.filters.filter import FILTERS, Edited, Filter, entries_of
from data_pipeline.tokenization.abbreviations import BOUND, PLACES

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_ELLIPSES = ("...", "…")
_SENTENCE_END = re.compile(r"""(?<![.!?])[.!?]++["'”’)\]]*+(?=\s|\Z)""")
_LONGEST_ABBREVIATION = 8
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class C4(Filter):
    """C4's rules: marks of citations go, and lines that break a rule; then documents of which too little is left.

    Attributes:
        terminal_marks: a line that ends with none of them, or with an ellipsis, goes.
        minimum_line_words: a line of fewer words goes.
        maximum_word_length: a line with a longer word goes.
        minimum_sentences: a document with fewer sentences in the lines that stay is dropped (`few_sentences`).
        bad_words: a file of words and phrases, one a line: a document with one of them is dropped (`bad_word`); C4's was
            the "List of Dirty, Naughty, Obscene or Otherwise Bad Words".
    """

    terminal_marks: str = '.?!"”'
    minimum_line_words: int = 5
    maximum_word_length: int = 1000
    minimum_sentences: int = 3
    bad_words: str = ""
    own_paths: ClassVar[tuple[str, ...]] = ("bad_words",)

    def errors(self, where: str) -> list[str]:
        problems = [] if self.terminal_marks else [f"{where}.terminal_marks: no character is given"]
        if self.bad_words and not Path(self.bad_words).is_file():
            problems.append(f"{where}.bad_words: {self.bad_words}: no such file")
        any_number = dict.fromkeys(("minimum_line_words", "minimum_sentences"), (0, math.inf))
        return problems + out_of_range(self, where, **any_number, maximum_word_length=(1, math.inf))

    def keep(self, document: Any) -> str | Edited:
        text: str = document.text
        lower = text.lower()
        if "lorem ipsum" in lower:
            return "lorem_ipsum"
        if "{" in text:
            return "curly_bracket"
        if self.bad_words and _holds(lower, *_bad_words(self.bad_words, identity(Path(self.bad_words)))):
            return "bad_word"
        counts: Counter[str] = Counter()
        text = "\n".join(self._lines(text, counts))
        if len(list(_sentence_ends(text, self.minimum_sentences))) < self.minimum_sentences:
            return "few_sentences"
        return Edited(document._replace(text=text), counts)

    def _lines(self, text: str, counts: Counter[str]) -> Iterator[str]:
        """The lines that stay, without citations; of the blank lines between two of them, one."""
        is_first, is_parted = True, False
        for line in text.split("\n"):
            if not line or line.isspace():
                is_parted = True
                continue
            if "[" in line:
                line, citations = _CITATION.subn("", line)
                counts["citations"] += citations
            line = line.rstrip()
            if rule := self._broken_rule(line):
                counts[rule] += 1
                continue
            if is_parted and not is_first:
                yield ""
            is_first = is_parted = False
            yield line

    def _broken_rule(self, line: str) -> str:
        if not line.endswith(tuple(self.terminal_marks)) or line.endswith(_ELLIPSES):
            return "lines_without_end"
        words = line.split()
        if len(words) < self.minimum_line_words:
            return "lines_of_few_words"
        if len(line) > self.maximum_word_length and max(map(len, words)) > self.maximum_word_length:
            return "lines_with_long_word"
        line = line.lower()
        if "javascript" in line:
            return "lines_with_javascript"
        return "lines_of_policy" if any(policy in line for policy in _POLICIES) else ""


def _sentence_ends(text: str, most: int) -> Iterator[int]:
    """Where sentences end, so many at most: at marks before a blank, but for abbreviations and initials."""
    found = 0
    for match in _SENTENCE_END.finditer(text):
        if found == most:
            return
        if match[0] == "." and _is_abbreviation(text, match.start()):
            continue
        found += 1
        yield match.end()


def _is_abbreviation(text: str, end: int) -> bool:
    words = text[max(0, end - _LONGEST_ABBREVIATION) : end].split()
    word = words[-1].lstrip("(\"'“‘[") if words else ""
    if "." in word and not any(map(str.isdigit, word)):  # p.m., U.S.
        return True
    return word.lower() in BOUND | PLACES or (len(word) == 1 and word.isupper() and word != "I")


@functools.lru_cache(maxsize=4)
def _bad_words(path: str, version: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Single words, and phrases as their words with a blank between.

    Raises:
        UserError: a line holds no word.
    """

    def entry(line: str) -> str:
        if not (words := _WORD.findall(line.lower())):
            raise ValueError("no letter and no digit is in it")
        return " ".join(words)

    entries = entries_of(Path(path), read_text(Path(path)), entry)
    phrases = tuple(phrase for phrase in entries if " " in phrase)
    return frozenset(entries).difference(phrases), phrases


def _holds(lower: str, words: frozenset[str], phrases: tuple[str, ...]) -> bool:
    found = _WORD.findall(lower)
    different = set(found)
    if not words.isdisjoint(different):
        return True
    joined = ""
    for phrase in phrases:
        if different.issuperset(phrase.split(" ")):
            joined = joined or f" {' '.join(found)} "
            if f" {phrase} " in joined:
                return True
    return False


FILTERS.add("c4", C4)
