"""Two texts side by side, with the words that only one of them has."""

import difflib
import itertools
import re

from data_pipeline.inspection.visible import Span, visible

# Words with the blanks after them; of scripts without blanks single characters, of what has none parts of a length.
_WORD = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]\\s*"
    "|[^\\s\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]{1,40}\\s*"
)
_BEFORE = 12  # words before the first difference
_MOST_WORDS = 200  # that are compared: their comparison takes up to the square of their number
_MOST_CHARACTERS = 1 << 16


def side_by_side(left: str, right: str, most: int) -> tuple[list[Span], list[Span], str]:
    """Both texts from a little before their first difference on, and what is to be said of it.

    Args:
        most: characters of each text; 0 for as many as are compared.
    """
    if left == right:
        shown = left[: most or _MOST_CHARACTERS]
        rest = " …" if len(shown) < len(left) else ""
        return [Span(visible(shown) + rest)], [Span(visible(shown) + rest)], "the same text"
    one, other = _words(left), _words(right)
    pairs = zip(one, other, strict=False)
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    start = max(0, same - _BEFORE)
    ends = [len(words) > start + _MOST_WORDS for words in (one, other)]
    parts = [words[start : start + _MOST_WORDS] for words in (one, other)]
    sides = _marked(parts[0], parts[1], any(ends))
    note = f"shown from word {start + 1:,} on, the first difference" if start else ""
    if [word.strip() for word in one] == [word.strip() for word in other]:
        note = "the same words, other blanks"
    first, second = (_shortened(side, most, end) for side, end in zip(sides, ends, strict=True))
    begin = [Span("… ")] if start else []
    return [*begin, *first], [*begin, *second], note


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _shortened(spans: list[Span], most: int, goes_on: bool) -> list[Span]:
    """The first characters of marked text, and "…" where more follows."""
    shown: list[Span] = []
    left = most or _MOST_CHARACTERS
    for text, style in spans:
        if left <= 0:
            goes_on = True
            break
        shown.append(Span(visible(text[:left]), style))
        goes_on |= len(text) > left
        left -= len(text)
    return [*shown, Span(" …")] if goes_on else shown


def _marked(one: list[str], other: list[str], cut: bool) -> tuple[list[Span], list[Span]]:
    """Both with the words marked that the other does not have; a difference at the end of what was cut is none."""
    matcher = difflib.SequenceMatcher(
        None, [word.strip() for word in one], [word.strip() for word in other], autojunk=False
    )
    codes = matcher.get_opcodes()
    if cut and len(codes) > 1 and codes[-1][0] != "equal":
        codes = codes[:-1]
    first, second = [], []
    for what, begin, end, other_begin, other_end in codes:
        style = ("", "") if what == "equal" else ("gone", "new")
        first += _spans(one[begin:end], style[0])
        second += _spans(other[other_begin:other_end], style[1])
    return first, second


def _spans(words: list[str], style: str) -> list[Span]:
    text = "".join(words)
    bare = text.rstrip()
    blanks = text[len(bare) :]
    return [Span(part, mark) for part, mark in ((bare, style), (blanks, "")) if part]
