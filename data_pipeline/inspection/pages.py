"""Pages for people, as records: what the reports of the workflow and `show` are made of, and one HTML page of them.

The page is one file: no script, nothing from elsewhere, light and dark, for screens of any width and for paper. What it
shows is escaped; text of documents is made visible before (`visible`). The same records as text are in `terminal`. A
template that extends `page.html.jinja` adds to it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from core.files import atomic_write
from data_pipeline.inspection.visible import Text

TEMPLATES = Path(__file__).parent / "templates"
Paragraph = tuple[str, str]  # bold words, if any, and others


class Picture(Protocol):
    """A picture as `data:` addresses, for light and dark pages, and in words."""

    @property
    def light(self) -> str: ...

    @property
    def dark(self) -> str: ...

    @property
    def alternative(self) -> str: ...


@dataclass(frozen=True)
class Table:
    """Rows of text under their heads, each row's name first, and a note above. Styles say which columns hold no plain
    numbers, by head: "best" (bold), "left" (words), "code", "artifact" (a code that others refer to), "from" (codes of
    such, apart by ", ") or "page" (the address of a page, or a dash)."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    styles: Mapping[str, str] = field(default_factory=dict)

    def style(self, column: int) -> str:
        return self.styles.get(self.head[column], "")

    @property
    def width(self) -> str:
        """How soon it is too wide for a screen, as classes of the style sheet."""
        sizes = ((10, "widest endless"), (6, "widest"), (2, "wide"), (0, "narrow"))
        return next(name for most, name in sizes if len(self.head) > most)


@dataclass(frozen=True)
class Entry:
    """A document, or two side by side: its id, facts by name, and labelled texts; all made visible."""

    title: str
    facts: Sequence[tuple[str, str]]
    texts: Sequence[tuple[str, Text]]


@dataclass(frozen=True)
class Block:
    """Lines as they are, folded away under their title."""

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    title: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    paragraphs: Sequence[Paragraph] = ()
    entries: Sequence[Entry] = ()
    blocks: Sequence[Block] = ()

    @property
    def anchor(self) -> str:
        """Its address in the page."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """All that a page shows.

    Attributes:
        kicker: a line above the heading.
        cards: a label, a headline number, and what to hold it against.
        software: what made it, at its foot.
        links: address and text of pages beside it.
    """

    title: str
    kicker: str
    heading: str
    description: str
    sections: Sequence[Section]
    warning: Paragraph | None = None
    cards: Sequence[tuple[str, str, str]] = ()
    software: str = ""
    links: Sequence[tuple[str, str]] = ()

    tags: ClassVar[Mapping[str, str]] = {"hit": "mark", "match": "mark", "gone": "del", "new": "ins"}


def rendered(template: str, page: Page, *templates: Path) -> str:
    """A template with a page's records, looked for in these folders and in ours; what ends in `.html.jinja` is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*templates, TEMPLATES]),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(page=page)


def write_page(path: Path, page: Page) -> None:
    """Write a page as one HTML file."""
    with atomic_write(path) as temporary:
        temporary.write_text(rendered("page.html.jinja", page), encoding="utf-8")


def written(value: Any, form: str = "number") -> str:
    """45.2 %, or 12,345 or 12.34 or 1.2e+06, or words as they are; a dash for none."""
    if value is None:
        return "–"
    if form == "percent":
        return f"{100 * value:.1f} %"
    if form == "text" or isinstance(value, str | bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.2g}"


def cells(*values: Any) -> list[str]:
    return [written(value) for value in values]


def words(name: str) -> str:
    """A key as words: not_english is "not english"."""
    return name.replace("_", " ")


def listed(facts: Mapping[str, Any]) -> str:
    """ "not english 210, too short 6"."""
    return ", ".join(f"{words(name)} {written(value)}" for name, value in facts.items())
