"""What `show` is asked for, and how a document becomes an entry of its page."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from core.errors import UserError
from core.tables import out_of_range
from data_pipeline.engine.documents import Document
from data_pipeline.inspection import counts, fates
from data_pipeline.inspection.chain import Chain
from data_pipeline.inspection.pages import Entry
from data_pipeline.inspection.visible import Places, around, on_one_line

_FACT_CHARACTERS = 160
Facts = list[tuple[str, str]]
Part = Literal["funnel", "counts", "kept", "dropped", "duplicates", "hits", "tokens"]


@dataclass(frozen=True)
class ShowSettings:
    """What is shown.

    Attributes:
        documents: how many of each kind.
        seed: which: another one chooses others.
        characters: of each text; 0 for all of it.
        only: parts of the page; all without it.
        source: documents of this corpus only.
        reason: of what was dropped, only what was for this reason.
        id: these documents, and what became of each at every stage.
        match: documents whose text this regular expression fits, kept and dropped; (?i) at its beginning: without case.
        megabytes: of text that are searched by it; 0 for all.
    """

    documents: int = 5
    seed: int = 1
    characters: int = 400
    only: list[Part] = field(default_factory=list)
    source: str = ""
    reason: str = ""
    id: list[str] = field(default_factory=list)
    match: str = ""
    megabytes: int = 1000

    def errors(self, where: str) -> list[str]:
        most = float("inf")
        problems = out_of_range(
            self, where, documents=(0, 1000), characters=(0, most), megabytes=(0, most), seed=(0, most)
        )
        if self.id and self.match:
            problems.append(f"{where}.match: not together with id")
        return problems


class View:
    """A chain of artifacts, looked at as the settings say.

    Attributes:
        benchmarks: files that a user named.
        sources: the corpora whose documents are shown; all when there are none.
    """

    def __init__(self, chain: Chain, settings: ShowSettings, benchmarks: Mapping[str, Path]) -> None:
        """Refuse a source or a reason that nothing has.

        Raises:
            UserError: see there.
        """
        self.chain, self.settings, self.benchmarks = chain, settings, benchmarks
        self.documents = chain.documents
        only = chain.last.parameters.get("sources", [])
        self.sources: tuple[str, ...] = (settings.source,) if settings.source else tuple(only)
        reasons = sorted({reason for made in chain.all() for reason in fates.dropped_counts(made)})
        if settings.reason and settings.reason not in reasons:
            raise UserError(
                f"--reason {settings.reason}: nothing was dropped for it{meant(settings.reason, reasons)}"
            )
        names = sorted({made.name for made in chain.all() if made.stage in ("fetch", "clean")})
        if settings.source and names and settings.source not in names:
            raise UserError(
                f"--source {settings.source}: there is no such corpus{meant(settings.source, names)}"
            )

    def wants(self, part: Part) -> bool:
        return not self.settings.only or part in self.settings.only

    def is_of_source(self, name: str) -> bool:
        """Whether a document's id is one of the wanted corpus'."""
        return not self.settings.source or name.startswith(f"{self.settings.source}/")

    def entry(
        self,
        document: Document,
        facts: Iterable[tuple[str, str]] = (),
        places: Places = (),
        style: str = "match",
    ) -> Entry:
        """A document with what can be told of it, after what is known already.

        Args:
            places: what to mark in its text.
        """
        known = dict(facts)
        code, share = counts.language(document.text)
        known.setdefault("source", document.source)
        known.setdefault("language", f"{code} {share:.2f}" if share else code)
        known.setdefault("length", f"{len(document.text):,} characters")
        if document.metadata not in ("", "{}"):
            known.setdefault("metadata", document.metadata)
        text = around(document.text, places, style, self.settings.characters)
        return Entry(on_one_line(document.id), shown(known.items()), [("", text)])

    def bare_entry(self, name: str, facts: Iterable[tuple[str, str]], text: str) -> Entry:
        """What there is of a document whose text is not there any more."""
        spans = around(text, (), "", self.settings.characters)
        return Entry(on_one_line(name), shown(facts), [("", spans)])


def shown(facts: Iterable[tuple[str, str]]) -> Facts:
    """Facts on one line each, cut where they are long."""
    return [(on_one_line(name), _short(value)) for name, value in facts]


def _short(text: str) -> str:
    more = "…" if len(text) > _FACT_CHARACTERS else ""
    return on_one_line(text[:_FACT_CHARACTERS]) + more


def meant(wanted: str, known: Sequence[str]) -> str:
    """The end of a message about a name that is not known: which may be meant."""
    near = difflib.get_close_matches(wanted, known, 3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f" (there are: {', '.join(known)})" if known else ""
