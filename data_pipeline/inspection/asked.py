"""Documents that `show` is asked for: by id, with what became of them at every stage, and by a regular expression."""

from collections.abc import Iterator, Mapping, Sequence

from core.errors import UserError
from data_pipeline.engine.documents import Document
from data_pipeline.inspection import fates
from data_pipeline.inspection.chain import Made
from data_pipeline.inspection.pages import Entry, Section, words
from data_pipeline.inspection.sampling import Expression, Index, Looked, base_of, nearest, search
from data_pipeline.inspection.view import Facts, View
from data_pipeline.inspection.visible import on_one_line

Found = Mapping[str, list[Document]]


def by_id(view: View) -> list[Section]:
    """Each document's way through the stages, and its text as it was last; of one that was cut, all pieces.

    Raises:
        UserError: there is no such document; the message names the nearest.
    """
    made = [one for one in view.chain.all() if one.shards]
    wanted = {name for given in view.settings.id for name in (given, base_of(given))}
    found = [Index(one.shards).find(wanted) for one in made]
    said = [fates.records_of(one, wanted) for one in made]
    sections = []
    for name in dict.fromkeys(view.settings.id):
        there = [_of(documents, name) for documents in found]
        if not any(there):
            raise UserError(f"--id {name}: there is no such document{_near(view, name)}")
        told = [records.get(name) or records.get(base_of(name), []) for records in said]
        way: Facts = [
            (f"{one.stage} {one.name}", what)
            for one, documents, records in zip(made, there, told, strict=True)
            if (what := _fate(documents, records))
        ]
        last = [documents for documents in there if documents][-1]
        entries = [view.entry(document, way if document is last[0] else ()) for document in last]
        sections.append(Section(f"Document {on_one_line(name)}", entries=entries))
    return sections


def _of(found: Found, name: str) -> list[Document]:
    return found.get(name) or found.get(base_of(name), [])


def _fate(documents: Sequence[Document], records: Sequence[str]) -> str:
    if records:
        return "; ".join(records)
    return f"there, {sum(len(document.text) for document in documents):,} characters" if documents else ""


def _near(view: View, name: str) -> str:
    near = [one for made in view.chain.firsts for one in Index(made.shards).near(name)]
    near = nearest(name, near)
    return f"; did you mean {' or '.join(map(on_one_line, near))}?" if near else ""


def matching(view: View) -> list[Section]:
    """Kept documents that the expression fits, as they are now, and dropped ones, as they came."""
    expression = Expression(view.settings.match)
    sections = []
    if view.documents is not None and view.wants("kept") and not view.settings.reason:
        sections.append(_kept_matching(view, view.documents, expression))
    if view.documents is not None and view.wants("dropped") and view.documents.before:
        sections.append(_dropped_matching(view, view.documents, expression))
    return sections


def _kept_matching(view: View, made: Made, expression: Expression) -> Section:
    settings, looked = view.settings, Looked()
    entries: list[Entry] = []
    for found in search(made.shards, expression, settings.seed, view.sources, settings.megabytes, looked):
        for document in found[: settings.documents - len(entries)]:
            entries.append(view.entry(document, (), expression.places(document.text)))
        if len(entries) == settings.documents:
            break
    return _found("Kept", entries, looked, "as they are now")


def _dropped_matching(view: View, made: Made, expression: Expression) -> Section:
    settings, looked = view.settings, Looked()
    entries: list[Entry] = []
    kept = Index(made.shards)
    shards = [shard for first in view.chain.firsts for shard in first.shards]
    for found in search(shards, expression, settings.seed, view.sources, settings.megabytes, looked):
        there = kept.has([document.id for document in found])
        gone = [document for document in found if document.id not in there]
        if not settings.reason:
            gone = gone[: settings.documents - len(entries)]
        for document, facts in _with_records(view, gone) if gone else ():
            if len(entries) < settings.documents:
                entries.append(view.entry(document, facts, expression.places(document.text)))
        if len(entries) == settings.documents:
            break
    return _found("Dropped", entries, looked, "as they came")


def _with_records(view: View, gone: Sequence[Document]) -> Iterator[tuple[Document, Facts]]:
    """Documents, and what the stages say of each; those that are gone for the wanted reason."""
    stages = [made for made in view.chain.all() if made.shards]
    records = [(made, fates.records_of(made, {document.id for document in gone})) for made in stages]
    for document in gone:
        said = [(f"{made.stage} {made.name}", "; ".join(by.get(document.id, []))) for made, by in records]
        facts = [(stage, what) for stage, what in said if what]
        wanted = f"dropped: {words(view.settings.reason)}"
        if not view.settings.reason or any(what.startswith(wanted) for _, what in facts):
            yield document, facts


def _found(title: str, entries: list[Entry], looked: Looked, how: str) -> Section:
    what = f"{len(entries)} found, {how}; looked at {looked}." if entries else f"None found in {looked}."
    return Section(title, entries=entries, paragraphs=[("", what)])
