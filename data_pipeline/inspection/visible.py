"""Text of documents as it can be shown to people: nothing in it can hide, act on a terminal, or break a layout.

Control characters and terminal escapes are written out, and so is what changes the direction of text or is not seen.
Widths are those of a terminal's cells. HTML's own escapes are the templates' part.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

_MARKS_IN_A_ROW = 4  # on one letter, before they are written out: no script has more
_JOINERS = "\u200c\u200d"  # Persian, the scripts of India, and emoji of several need them
_REPEATED = re.compile(r"(<U\+[0-9A-F]{4,6}>)\1{3,}")
_TAB = "    "
_LONGEST_WORD = 20


class Span(NamedTuple):
    """A piece of text and how it is marked: not at all, "hit" (a benchmark's words), "match" (of an expression), "gone"
    or "new" (words that only one of two texts has)."""

    text: str
    style: str = ""


Text = Sequence[Span]
Places = Sequence[tuple[int, int]]  # in a text: first and last characters (exclusive)


def visible(text: str) -> str:
    """The text with all that is not seen, or does something, written out; line ends and tabulators stay."""
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = 0
    for character in text:
        mark = unicodedata.category(character) in ("Mn", "Me")
        marks = marks + 1 if mark else 0
        shown.append(_written_out(character) if marks > _MARKS_IN_A_ROW else _shown(character))
    return _REPEATED.sub(lambda run: f"{run[1]}×{len(run[0]) // len(run[1]):,}", "".join(shown))


@functools.lru_cache(maxsize=1 << 14)
def _shown(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or character in _JOINERS:
        return character
    if code < 0x20:
        return chr(0x2400 + code)  # pictures of control characters
    if code == 0x7F:
        return "\u2421"
    if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"):
        return _written_out(character)
    return character


def _written_out(character: str) -> str:
    return f"<U+{ord(character):04X}>"


def on_one_line(text: str) -> str:
    """The same without line ends."""
    return " ".join(visible(text).split())


@functools.lru_cache(maxsize=1 << 14)
def _cell(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cells(text: str) -> int:
    """How many cells of a terminal a visible text takes."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def padded(text: str, width: int) -> str:
    """The text with blanks up to a width."""
    return text + " " * (width - cells(text))


def cut(text: str, width: int) -> str:
    """As much of a text as fits into so many cells, with "…" where that is not all."""
    if cells(text) <= width:
        return text
    reached, kept = 0, []
    for character in text:
        reached += _cell(character)
        if reached >= width:
            break
        kept.append(character)
    return "".join(kept) + "…"


def runs_right_to_left(text: str) -> bool:
    """Whether a terminal may show parts of a text from right to left."""
    return any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text)


def wrapped(text: Text, width: int) -> list[list[Span]]:
    """Lines of at most so many cells, broken at blanks, and within what is longer than a line; marks go on."""
    lines: list[list[Span]] = []
    line: list[Span] = []
    used = 0
    for word in _words(text):
        size = sum(cells(span.text) for span in word)
        if word[0].text == "\n" or (line and used + size > width and not word[0].text.isspace()):
            lines.append(line)
            line, used = [], 0
        if word[0].text == "\n" or (word[0].text.isspace() and used + size > width):
            continue
        for span in word:
            for piece in _pieces(span, width, used):
                if used + cells(piece.text) > width:
                    lines.append(line)
                    line, used = [], 0
                line.append(piece)
                used += cells(piece.text)
    return [*lines, line] if line or not lines else lines


def _words(text: Text) -> Iterator[list[Span]]:
    """Line ends, runs of blanks, and words, which may consist of several spans."""
    word: list[Span] = []
    for span in text:
        for kind, part in _parts(span.text.replace("\t", _TAB)):
            if kind == "word":
                word.append(Span(part, span.style))
                continue
            if word:
                yield word
                word = []
            yield [Span(part, span.style)]
    if word:
        yield word


def _parts(text: str) -> Iterator[tuple[str, str]]:
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or _kind(text[place]) != _kind(text[start]) or text[start] == "\n":
            yield _kind(text[start]), text[start:place]
            start = place


def _kind(character: str) -> str:
    return "end" if character == "\n" else "blank" if character.isspace() else "word"


def _pieces(span: Span, width: int, used: int) -> Iterable[Span]:
    """A span in pieces that fit into a line each, the first of them into what is left of one."""
    if cells(span.text) <= width - used:
        return [span]
    pieces, start, reached = [], 0, used
    for place, character in enumerate(span.text):
        if reached + _cell(character) > width:
            pieces.append(Span(span.text[start:place], span.style))
            start, reached = place, 0
        reached += _cell(character)
    return [piece for piece in (*pieces, Span(span.text[start:], span.style)) if piece.text]


def plain(text: str) -> Text:
    """A text without marks."""
    return [Span(text)]


def around(text: str, places: Places, style: str, most: int) -> list[Span]:
    """A text's start or, where there are places to mark, what stands around them, at most so many characters of it.

    Args:
        places: those that overlap, or touch, are one.
        most: 0 for all.
    """
    places = joined(places)
    most = most or len(text)
    if not places:
        return [Span(visible(text[: _end(text, most)]) + (" …" if len(text) > most else ""))]
    before = min(most // 4, places[0][0]) if len(text) > most else places[0][0]
    spans: list[Span] = [Span("… ")] if before < places[0][0] else []
    reached = _begin(text, places[0][0] - before, places[0][0])
    end = _end(text, reached + most)
    for start, stop in places:
        if start >= end:
            break
        start, stop = max(start, reached), min(stop, end)
        if start < stop:
            spans += [Span(visible(text[reached:start])), Span(visible(text[start:stop]), style)]
            reached = stop
    spans.append(Span(visible(text[reached:end]) + (" …" if end < len(text) else "")))
    return [span for span in spans if span.text]


def _end(text: str, place: int) -> int:
    """Where to cut a text: at the last blank before a place, if there is one near it."""
    if place >= len(text):
        return len(text)
    return next(
        (near for near in range(place, max(place - _LONGEST_WORD, 0), -1) if text[near].isspace()), place
    )


def _begin(text: str, place: int, last: int) -> int:
    """Where to begin in a text: after the first blank behind a place, if there is one near it."""
    most = min(last, place + _LONGEST_WORD) if place else 0
    return next((near + 1 for near in range(place, most) if text[near].isspace()), place)


def joined(places: Places) -> list[tuple[int, int]]:
    """Places in order, without overlaps."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found
