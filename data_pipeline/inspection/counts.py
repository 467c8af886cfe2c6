"""Counts of documents: what each stage let through, and what was looked at by source, domain, language and length."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data_pipeline.engine.documents import Document
from data_pipeline.engine.resumable import add_counts
from data_pipeline.inspection.pages import Section, Table, cells, listed, written
from data_pipeline.inspection.sampling import groups_of
from data_pipeline.inspection.visible import on_one_line

STAGE_TITLES = {
    "fetch": "fetched",
    "clean": "after cleaning",
    "decontaminate": "after decontamination",
    "deduplicate": "after deduplication",
}
_WORDS = ("origin", "pins")  # of a fetched corpus: tables that hold no counts
_ADDRESSES = ("url", "uri", "link", "source_url", "canonical_url", "warc-target-uri", "address")
_MOST_ROWS = 15
_MOST_FOOTERS = 1000  # that are read for counts
_LANGUAGES_OF = 2000  # documents: telling one takes a fraction of a millisecond
_LENGTHS = (0, 1, 100, 1_000, 10_000, 100_000, 1_000_000)  # characters at which a row of the table begins
UNKNOWN = "unknown"


def funnel(made: Iterable[tuple[str, str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """What each stage of documents let through, over all corpora, and why it dropped the rest.

    Args:
        made: stage, name and summary of each artifact, inputs first.
    """
    parts: dict[str, dict[str, Mapping[str, Any]]] = {}
    for stage, name, summary in made:
        if stage in STAGE_TITLES:
            parts.setdefault(stage, {})[name] = summary
    return [
        {"stage": stage, "documents": total["documents"], "counts": total, "parts": parts[stage]}
        for stage in STAGE_TITLES
        if stage in parts and "documents" in (total := add_counts(map(_counts, parts[stage].values())))
    ]


def _counts(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {k: value for k, value in summary.items() if isinstance(value, int | dict) and k not in _WORDS}


def dropped(counts: Mapping[str, Any]) -> dict[str, int]:
    """How many documents were dropped by reason, most frequent first."""
    quarantined = {"bad_record": counts["quarantined"]} if counts.get("quarantined") else {}
    found = {**counts.get("dropped", {}), **quarantined}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def more_by_cutting(counts: Mapping[str, Any]) -> int | None:
    """How many documents there are more because some were cut into several, where hits of a benchmark were cut out; None
    where nothing says how many came in."""
    before = counts.get("documents_in", counts.get("records"))
    return None if before is None else counts["documents"] - before + sum(dropped(counts).values())


def reasons(counts: Mapping[str, Any]) -> str:
    """Why documents were dropped, most frequent first, and how many were cut."""
    more = more_by_cutting(counts) if "documents" in counts else None
    made = f", which makes {more:,} more" if more else ""
    cut = f"{counts['cut']:,} cut{made}" if counts.get("cut") else ""
    return "; ".join(filter(None, [listed(dropped(counts)), cut]))


def funnel_rows(rows: Iterable[Mapping[str, Any]]) -> Table:
    """A funnel as a table, in which every row adds up: in, less dropped, and more by cutting, is what is left."""
    head = ("stage", "in", "dropped", "new by cuts", "documents", "why")
    told = []
    for row in rows:
        counts = row["counts"]
        before = counts.get("documents_in", counts.get("records"))
        gone = sum(dropped(counts).values()) or None
        numbers = cells(before, gone, more_by_cutting(counts) or None, row["documents"])
        told.append([STAGE_TITLES[row["stage"]], *numbers, reasons(counts) or "–"])
    return Table(head, told, styles={"why": "left", "documents": "best"})


def by_corpus(rows: Sequence[Mapping[str, Any]], shards: Sequence[Path]) -> list[Table]:
    """Documents of each corpus as the manifests count them, and of those that are left at the end as the shards' footers
    do; none of these where there are many shards, nothing where there is one corpus."""
    parts = {row["stage"]: row["parts"] for row in rows if len(row["parts"]) > 1}
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    if not names:
        return []
    columns = {
        STAGE_TITLES[stage]: {name: part[name]["documents"] for name in part} for stage, part in parts.items()
    }
    if (left := source_counts(shards)) is not None:
        columns["left"] = left
    table = [cells(name, *(column.get(name, 0) for column in columns.values())) for name in names]
    return [Table(("corpus", *columns), table)]


def source_counts(shards: Sequence[Path]) -> dict[str, int] | None:
    """Documents of each corpus by the shards' footers; None where these do not say it, or are many."""
    if len(shards) > _MOST_FOOTERS:
        return None
    found: Counter[str] = Counter()
    for group in (group for shard in shards for group in groups_of(shard)):
        if group.sources is None or group.sources[0] != group.sources[1]:
            return None
        found[group.sources[0]] += group.rows
    return dict(found)


def domain(metadata: str) -> str:
    """The host of the address that a document's metadata hold, without "www."; empty where they hold none."""
    try:
        facts = json.loads(metadata)
    except ValueError:
        return ""
    for name, value in facts.items() if isinstance(facts, dict) else ():
        if name.lower() in _ADDRESSES and isinstance(value, str):
            try:
                host = urlsplit(value if "//" in value else f"//{value}").hostname or ""
            except ValueError:  # no address
                continue
            if "." in host:
                return host.removeprefix("www.")
    return ""


def language(text: str) -> tuple[str, float]:
    """The language that most of a text's letters are in, by its code, and their share; "unknown" where none is told."""
    try:
        import pycld2
    except ImportError:
        return UNKNOWN, 0.0
    from data_pipeline.languages import language_shares
    from data_pipeline.repair import clean_characters

    try:
        shares = language_shares(clean_characters(text, repair=False))
    except pycld2.error:  # of what no cleaning has seen
        return UNKNOWN, 0.0
    return next(((code, round(share, 3)) for code, share in shares.items()), (UNKNOWN, 0.0))


@dataclass
class Tally:
    """Counts of the documents that were looked at."""

    sources: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)

    def add(self, document: Document) -> None:
        self.sources[document.source] += 1
        self.domains[domain(document.metadata)] += 1
        if self.languages.total() < _LANGUAGES_OF:
            self.languages[language(document.text)[0]] += 1
        self.lengths.append(len(document.text))

    def section(self, looked: str) -> Section:
        """The counts as tables."""
        domains = Counter({name or "(no address)": count for name, count in self.domains.items()})
        tables = [_table("source", self.sources)]
        if set(self.domains) - {""}:
            tables.append(_table("domain", domains))
        of = self.languages.total()
        note = f"Of {of:,} of these documents." if of < len(self.lengths) else ""
        tables += [_table("language", self.languages, note), self._lengths()]
        return Section("What is in them", tables, paragraphs=[("", f"Counted in {looked}.")])

    def _lengths(self) -> Table:
        counts = [
            sum(start <= size < end for size in self.lengths)
            for start, end in zip(_LENGTHS, (*_LENGTHS[1:], 1 << 62), strict=True)
        ]
        names = ["none"]
        names += [f"{start:,} to {end - 1:,}" for start, end in itertools.pairwise(_LENGTHS[1:])]
        names.append(f"{_LENGTHS[-1]:,} and more")
        filled = {name: count for name, count in zip(names, counts, strict=True) if count}
        return _rows("characters", filled, len(self.lengths), _quartiles(self.lengths))


def _quartiles(sizes: Sequence[int]) -> str:
    if not sizes:
        return ""
    ordered = sorted(sizes)
    places = [round(part * (len(ordered) - 1)) for part in (0, 0.25, 0.5, 0.75, 1)]
    return f"Characters, quartiles: {' · '.join(f'{ordered[place]:,}' for place in places)}."


def _table(what: str, counts: Counter[str], note: str = "") -> Table:
    shown = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_ROWS])
    rest = counts.total() - sum(shown.values())
    more = {f"{len(counts) - len(shown):,} others": rest} if rest else {}
    return _rows(what, {**shown, **more}, counts.total(), note)


def _rows(what: str, counts: Mapping[str, int], total: int, note: str) -> Table:
    rows = [
        [on_one_line(name), written(count), written(count / max(total, 1), "percent")]
        for name, count in counts.items()
    ]
    return Table((what, "documents", "share"), rows, note)
