"""`show`: what a stage's documents are, what was dropped and why, duplicates and benchmark hits, as one page of records.

`terminal` prints the page, `pages` writes it as HTML; reports of the workflow write the same page beside theirs.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.engine.documents import Document
from data_pipeline.inspection import asked, counts, fates
from data_pipeline.inspection.chain import Chain, Made
from data_pipeline.inspection.differences import side_by_side
from data_pipeline.inspection.fates import Gone
from data_pipeline.inspection.marks import Marker
from data_pipeline.inspection.pages import Entry, Page, Section, Table, cells, words, written
from data_pipeline.inspection.sampling import Index, Looked, sample
from data_pipeline.inspection.tokens import token_sections
from data_pipeline.inspection.view import ShowSettings, View, shown
from data_pipeline.inspection.visible import on_one_line

_MOST_FILES = 50
_NO_TEXT = "(its text is not there any more)"


def data_page(chain: Chain, settings: ShowSettings, benchmarks: Mapping[str, Path] | None = None) -> Page:
    """The page of an artifact.

    Args:
        benchmarks: files of benchmarks by name, to mark all of their words.

    Raises:
        UserError: an id, a reason or a source that is not there, an expression that is none, a damaged file.
    """
    view = View(chain, settings, benchmarks or {})
    if settings.id:
        sections = asked.by_id(view)
    elif settings.match:
        sections = asked.matching(view)
    else:
        sections = list(_parts(view))
    if missing := list(chain.missing()):
        sections.append(Section("What is not there", paragraphs=[("", line) for line in missing]))
    if not sections:
        sections.append(Section("Nothing to show", paragraphs=[("", "There is nothing of this kind here.")]))
    last, name = chain.last, on_one_line(chain.name)
    key = f", key {last.manifest['key'][:12]}" if "key" in last.manifest else ""
    return Page(
        title=f"{name} – data",
        kicker="The data pipeline's documents",
        heading=f"What is in {name}, and what is not",
        description=f"{last.stage} {last.name}{key}. Chosen by seed {settings.seed}.",
        sections=[section for section in sections if section.tables or section.paragraphs or section.entries],
    )


def _parts(view: View) -> Iterator[Section]:
    if view.wants("funnel"):
        yield from _funnel(view)
    if view.wants("counts") or view.wants("kept"):
        yield from _counts_and_kept(view)
    for made in view.chain.all():
        if view.wants("dropped"):
            yield from _dropped(view, made)
        if view.wants("duplicates") and made.stage == "deduplicate":
            yield from _duplicates(view, made)
        if view.wants("hits") and made.stage == "decontaminate":
            yield from _hits(view, made)
    if view.documents is None:
        yield from _files(view.chain.last)
    if view.wants("tokens"):
        settings = view.settings
        yield from token_sections(view.chain.last, settings.documents, settings.seed, settings.characters)


def _files(made: Made) -> Iterator[Section]:
    """What an artifact holds that has no documents and nothing of its own to show."""
    files = sorted(made.manifest.get("outputs", {}).items())
    rows = [cells(on_one_line(name), facts["bytes"]) for name, facts in files[:_MOST_FILES]]
    more = f" {len(files) - len(rows):,} more are not shown." if len(files) > len(rows) else ""
    facts = "; ".join(f"{name} {value}" for name, value in fates.told(made.summary))
    yield Section("Files", [Table(("file", "bytes"), rows, f"{facts}.{more}")] if rows else [])


def _funnel(view: View) -> Iterator[Section]:
    rows = counts.funnel((made.stage, made.name, made.summary) for made in view.chain.all())
    if rows:
        by_corpus = counts.by_corpus(rows, view.documents.shards if view.documents else [])
        yield Section("What each stage let through", [counts.funnel_rows(rows), *by_corpus])


def _counts_and_kept(view: View) -> Iterator[Section]:
    """A seeded sample of the documents, counted, and some of them, each as likely as any other."""
    if view.documents is None:
        return
    tally, looked, most = counts.Tally(), Looked(), view.settings.documents
    kept: list[tuple[int, Document]] = []
    draw = random.Random(f"kept {view.settings.seed}")
    for number, document in enumerate(
        sample(view.documents.shards, view.settings.seed, view.sources, looked)
    ):
        if view.wants("counts"):
            tally.add(document)
        if number < most:
            kept.append((number, document))
        elif (place := draw.randrange(number + 1)) < most:
            kept[place] = (number, document)
    if not looked.documents:
        yield Section("Kept", paragraphs=[("", f"There are no documents in {view.documents.directory}.")])
        return
    if view.wants("counts"):
        yield tally.section(str(looked))
    if view.wants("kept"):
        entries = [view.entry(document) for _, document in sorted(kept)]
        yield Section("Kept", entries=entries, paragraphs=[("", f"{len(entries)} of {looked}.")])


def _dropped(view: View, made: Made) -> Iterator[Section]:
    known = fates.dropped_counts(made)
    if not known or (view.settings.reason and view.settings.reason not in known):
        return
    found, whole = fates.sample_dropped(made, view.settings.seed)
    found = [gone for gone in found if _is_wanted(view, gone)]
    picked = fates.chosen(found, view.settings.documents, view.settings.seed, made.stage)
    of = made.summary.get("documents_in", made.summary.get("records", sum(known.values())))
    rows = [
        cells(words(name), count, written(count / max(of, 1), "percent")) for name, count in known.items()
    ]
    note = f"{len(picked)} of {len(found):,}" + ("" if whole else " that were looked at")
    yield Section(
        f"Dropped by {made.stage} {made.name}",
        [Table(("reason", "documents", f"share of {of:,}"), rows)],
        paragraphs=[("", f"{note}, as they were before.")] if picked else [],
        entries=list(_gone_entries(view, made, picked)),
    )


def _is_wanted(view: View, gone: Gone) -> bool:
    return (view.is_of_source(gone.id) or bool(gone.record)) and view.settings.reason in ("", gone.reason)


def _gone_entries(view: View, made: Made, picked: Sequence[Gone]) -> Iterator[Entry]:
    index = Index(made.shards_before)
    for gone in picked:
        facts = [("reason", words(gone.reason)), *fates.told(gone.facts)]
        before = [] if gone.record else index.find([gone.id], gone.near).get(gone.id, [])
        if before:
            yield view.entry(before[0], facts)
        else:
            yield view.bare_entry(gone.id, facts, gone.record or _NO_TEXT)


def _duplicates(view: View, made: Made) -> Iterator[Section]:
    clusters, whole = fates.sample_clusters(made, view.settings.seed)
    clusters = [cluster for cluster in clusters if view.is_of_source(cluster["kept"])]
    picked = fates.chosen(clusters, view.settings.documents, view.settings.seed, "duplicates")
    if not picked:
        return
    pairs = [(cluster, *_pair(cluster, view.settings.seed)) for cluster in picked]
    texts = Index(made.shards_before).find({name for _, kept, gone in pairs for name in (kept, gone)})
    of = made.summary.get("clusters", len(clusters))
    note = f"{len(pairs)} of {of:,} groups" + ("" if whole else f" ({len(clusters):,} were looked at)")
    note += ". Words that only one of the two has are marked."
    entries = [_pair_entry(view, cluster, kept, gone, texts) for cluster, kept, gone in pairs]
    yield Section("Duplicates side by side", entries=entries, paragraphs=[("", note)])


def _pair(cluster: Mapping[str, Any], seed: int) -> tuple[str, str]:
    """The document of a group that stayed, and one of those that went."""
    kept = str(cluster["kept"])
    return kept, random.Random(f"{kept} {seed}").choice(sorted(cluster["removed"]))


def _pair_entry(
    view: View, cluster: Mapping[str, Any], kept: str, gone: str, texts: Mapping[str, list[Document]]
) -> Entry:
    similarity = cluster["similarity_to_kept"].get(gone)
    facts = [("reason", words(cluster["removed"][gone])), ("similarity", written(similarity))]
    if len(cluster["removed"]) > 1:
        facts.append(("group of", f"{len(cluster['removed']) + 1:,} documents"))
    if kept not in texts or gone not in texts:
        return view.bare_entry(gone, [*facts, ("duplicate of", kept)], _NO_TEXT)
    left, right, note = side_by_side(texts[kept][0].text, texts[gone][0].text, view.settings.characters)
    facts += [("", note)] if note else []
    sides = [(f"kept {on_one_line(kept)}", left), (f"dropped {on_one_line(gone)}", right)]
    return Entry(on_one_line(gone), shown(facts), sides)


def _hits(view: View, made: Made) -> Iterator[Section]:
    found, whole = fates.sample_hits(made, view.settings.seed)
    found = [hit for hit in found if view.is_of_source(hit["id"])]
    picked = fates.chosen(found, view.settings.documents, view.settings.seed, "hits")
    if not picked:
        return
    marker = Marker(made, view.chain.benchmarks, view.benchmarks)
    texts = Index(made.shards_before).find({hit["id"] for hit in picked})
    by = sorted(made.summary.get("hits", {}).items())
    note = f"{len(picked)} of {len(found):,}" + ("" if whole else " that were looked at")
    note += f", as they were before; the benchmark's words are marked. {marker.note}"
    yield Section(
        "Benchmark hits",
        [Table(("benchmark", "documents hit"), [cells(name, count) for name, count in by])] if by else [],
        paragraphs=[("", note.strip())],
        entries=[_hit_entry(view, hit, texts.get(hit["id"], []), marker) for hit in picked],
    )


def _hit_entry(view: View, hit: Mapping[str, Any], before: Sequence[Document], marker: Marker) -> Entry:
    reason = hit["dropped"]
    became = f"dropped: {words(reason)}" if reason else f"cut into {hit['pieces']} piece(s)"
    facts = [("became", became), *fates.told({name: hit[name] for name in ("benchmarks", "matches")})]
    if not before:
        return view.bare_entry(hit["id"], facts, hit["first_match"] or _NO_TEXT)
    return view.entry(before[0], facts, marker.places(before[0].text, hit["first_match"]), "hit")
