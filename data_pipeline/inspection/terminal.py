"""A page as text: in a terminal as wide as it is, with colours; elsewhere 100 cells wide, without."""

import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from data_pipeline.inspection.pages import Entry, Page, Section, Table
from data_pipeline.inspection.visible import (
    Span,
    Text,
    cells,
    cut,
    on_one_line,
    padded,
    plain,
    runs_right_to_left,
    visible,
    wrapped,
)

_WIDTH, _NARROW = 100, 20
_SIDE_BY_SIDE = 80
_GAP = "  │ "
# What marks stand around, and the colours of terminals.
_MARKS = {"hit": ("[[", "]]"), "match": ("[[", "]]"), "gone": ("-", "-"), "new": ("+", "+")}
_COLOURS = {"hit": "1;33", "match": "1;33", "gone": "31", "new": "32", "title": "1", "soft": "2"}
_SOFT = "soft"


def print_page(page: Page, stream: TextIO | None = None) -> None:
    """Print a page; a reader that goes away early (`| head`) is no error."""
    stream = stream or sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")  # where text cannot be written as it is
    is_terminal = stream.isatty()
    width = max(_NARROW, shutil.get_terminal_size((_WIDTH, 24)).columns if is_terminal else _WIDTH)
    coloured = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    try:
        for line in page_lines(page, width, coloured):
            print(line, file=stream)
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def page_lines(page: Page, width: int, coloured: bool) -> Iterator[str]:
    """A page's lines, none wider than so many cells."""
    for line in _page(page, width):
        runs = itertools.groupby(line, key=lambda span: span.style)
        whole = [Span("".join(span.text for span in spans), style) for style, spans in runs]
        yield "".join(_painted(span, coloured) for span in whole).rstrip()


def _painted(span: Span, coloured: bool) -> str:
    if not coloured or span.style not in _COLOURS or not span.text.strip():
        return span.text
    return f"\x1b[{_COLOURS[span.style]}m{span.text}\x1b[0m"


def _page(page: Page, width: int) -> Iterator[list[Span]]:
    yield from wrapped([Span(visible(page.heading), "title")], width)
    yield from wrapped(plain(visible(page.description)), width)
    for section in page.sections:
        yield []
        yield from wrapped([Span(visible(section.title), "title")], width)
        yield from _section(section, width)


def _section(section: Section, width: int) -> Iterator[list[Span]]:
    for lead, text in section.paragraphs:
        yield from wrapped([Span(visible(lead + text), _SOFT)], width)
    for table in section.tables:
        yield []
        yield from _table(table, width)
    for entry in section.entries:
        yield []
        yield from _entry(entry, width)


def _table(table: Table, width: int) -> Iterator[list[Span]]:
    """Columns as wide as they need; the last one's cells are wrapped below each other where that is too wide."""
    rows = [[on_one_line(cell) for cell in row] for row in (table.head, *table.rows)]
    if table.note:
        yield from wrapped([Span(table.note, _SOFT)], width)
    most = [max(cells(row[place]) for row in rows) for place in range(len(table.head))]
    spare = width - 2 * (len(most) - 1) - sum(most)
    widest = max(range(len(most)), key=lambda place: most[place])
    most[widest] = max(8, most[widest] + min(spare, 0))
    for number, row in enumerate(rows):
        parts = [wrapped(plain(cell), most[place]) or [[]] for place, cell in enumerate(row)]
        for line in range(max(map(len, parts))):
            texts = ["".join(span.text for span in part[line]) if line < len(part) else "" for part in parts]
            shown = [_aligned(table, place, text, most[place]) for place, text in enumerate(texts)]
            yield [Span(cut("  ".join(shown).rstrip(), width), _SOFT if number == 0 else "")]


def _aligned(table: Table, place: int, text: str, width: int) -> str:
    if place == 0 or table.style(place) in ("left", "code"):
        return padded(text, width)
    return " " * (width - cells(text)) + text


def _entry(entry: Entry, width: int) -> Iterator[list[Span]]:
    yield from wrapped([Span(entry.title, "title")], width)
    facts = " · ".join(f"{name} {value}".strip() for name, value in entry.facts)
    if facts:
        yield from wrapped([Span(facts, _SOFT)], width)
    if len(entry.texts) == 2 and width >= _SIDE_BY_SIDE and not any(map(_is_right_to_left, entry.texts)):
        yield from _columns(entry.texts, width)
        return
    for label, text in entry.texts:
        if label:
            yield from wrapped([Span(label, _SOFT)], width)
        for line in wrapped(_marked(text), width - 2):
            yield [Span("  "), *line]


def _is_right_to_left(text: tuple[str, Text]) -> bool:
    return runs_right_to_left("".join(span.text for span in text[1]))


def _columns(texts: Sequence[tuple[str, Text]], width: int) -> Iterator[list[Span]]:
    each = (width - len(_GAP) - 2) // 2
    sides = [[*wrapped([Span(label, _SOFT)], each), *wrapped(_marked(text), each)] for label, text in texts]
    for number in range(max(map(len, sides))):
        left, right = (side[number] if number < len(side) else [] for side in sides)
        blank = " " * (each - sum(cells(span.text) for span in left))
        yield [Span("  "), *left, Span(blank + _GAP), *right]


def _marked(text: Text) -> Text:
    """A text with its marks as characters: they are seen without colours, too."""
    spans: list[Span] = []
    for span in text:
        before, after = _MARKS.get(span.style, ("", ""))
        spans.append(Span(before + span.text + after, span.style))
    return spans
