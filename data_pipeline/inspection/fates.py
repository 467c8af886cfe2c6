"""What became of documents: the stages' own lists of what they dropped, cut and joined, sampled or asked by id.

`dropped/` (cleaning), `hits.jsonl` (decontamination), `clusters.jsonl` (deduplication), `quarantine/` (records that
could not be read) say which document went, and why; its text is in the shards that the stage read.
"""

import json
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import UserError
from data_pipeline.inspection.chain import Made
from data_pipeline.inspection.pages import words, written
from data_pipeline.inspection.sampling import in_seeded_order, parsed, sample_lines

DROPPED, HITS, CLUSTERS, QUARANTINE = "dropped", "hits.jsonl", "clusters.jsonl", "quarantine"
_MOST_LISTS = 16  # of shards, for a sample
_MOST_OPENED = 512  # to find so many that are not empty


class Gone(NamedTuple):
    """A document that a stage dropped.

    Attributes:
        facts: what the stage says of it, besides the reason.
        near: the shard that it read the document from, where that is known.
        record: how a record begins that became no document.
    """

    id: str
    reason: str
    facts: Mapping[str, Any]
    near: Path | None = None
    record: str = ""


def dropped_counts(made: Made) -> dict[str, int]:
    """How many documents a stage dropped, by reason, most frequent first: of its manifest."""
    counts = dict(made.summary.get("dropped", {}))
    if made.summary.get("quarantined"):
        counts["bad_record"] = made.summary["quarantined"]
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def sample_dropped(made: Made, seed: int) -> tuple[list[Gone], bool]:
    """Documents that a stage dropped, of a seeded choice of its lists, and whether these are all."""
    found: list[Gone] = []
    lists, whole = _some_lists(made.directory / DROPPED, seed)
    for path in lists:
        near = _read_from(made, path)
        entries, complete = sample_lines(path, seed)
        whole &= complete
        found += [_gone(entry, path, near) for entry in entries]
    hits, complete = sample_lines(made.directory / HITS, seed)
    whole &= complete
    found += [_cut_away(entry, made) for entry in hits if _value(entry, "dropped", made.directory / HITS)]
    clusters, complete = sample_lines(made.directory / CLUSTERS, seed)
    whole &= complete
    found += [gone for cluster in clusters for gone in _removed(cluster, made)]
    lists, complete = _some_lists(made.directory / QUARANTINE, seed)
    whole &= complete
    for path in lists:
        entries, complete = sample_lines(path, seed)
        whole &= complete
        found += [_bad(entry, path) for entry in entries]
    return found, whole


def _some_lists(folder: Path, seed: int) -> tuple[list[Path], bool]:
    """A seeded choice of a folder's lists that are not empty."""
    paths = sorted(folder.glob("*.jsonl"))
    filled = [path for path in in_seeded_order(paths, seed)[:_MOST_OPENED] if path.stat().st_size]
    return sorted(filled[:_MOST_LISTS]), len(paths) <= _MOST_OPENED and len(filled) <= _MOST_LISTS


def _read_from(made: Made, path: Path) -> Path | None:
    """The shard that the documents of a list were read from: that of its number."""
    number = path.stem.rpartition("-")[2]
    shards = made.shards_before
    return shards[int(number)] if number.isdecimal() and int(number) < len(shards) else None


def _value(entry: Mapping[str, Any], name: str, path: Path) -> Any:
    if name not in entry:
        raise UserError(f"{path}: damaged, or of another version: an entry has no {name!r}: make it anew")
    return entry[name]


def _gone(entry: dict[str, Any], path: Path, near: Path | None) -> Gone:
    facts = {name: value for name, value in entry.items() if name not in ("id", "reason")}
    return Gone(str(_value(entry, "id", path)), str(_value(entry, "reason", path)), facts, near)


def _cut_away(entry: dict[str, Any], made: Made) -> Gone:
    path = made.directory / HITS
    facts = {name: _value(entry, name, path) for name in ("benchmarks", "matches")}
    return Gone(_value(entry, "id", path), _value(entry, "dropped", path), facts)


def _removed(cluster: dict[str, Any], made: Made) -> Iterator[Gone]:
    path = made.directory / CLUSTERS
    similarity = cluster.get("similarity_to_kept", {})
    for name, reason in _value(cluster, "removed", path).items():
        facts = {"duplicate of": _value(cluster, "kept", path), "similarity": similarity.get(name)}
        yield Gone(name, reason, facts)


def kept_of(cluster: Mapping[str, Any], made: Made) -> str:
    """The document of a group of duplicates that stayed."""
    return str(_value(cluster, "kept", made.directory / CLUSTERS))


def _bad(entry: dict[str, Any], path: Path) -> Gone:
    place = f"{_value(entry, 'file', path)}, line {_value(entry, 'line', path)}"
    facts = {"what": _value(entry, "reason", path)}
    return Gone(place, "bad_record", facts, record=str(entry.get("record", "")))


def chosen(found: Sequence[Any], count: int, seed: int, what: str) -> list[Any]:
    """So many of a list, by a seed, in its order."""
    places = random.Random(f"{what} {seed}").sample(range(len(found)), min(count, len(found)))
    return [found[place] for place in sorted(places)]


def told(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts for people."""
    texts = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else written(value)
        for name, value in facts.items()
        if value is not None
    }
    return [(words(name), text) for name, text in texts.items()]


def records_of(made: Made, ids: Collection[str]) -> dict[str, list[str]]:
    """What a stage's lists say of some documents, for people, by id."""
    found: dict[str, list[str]] = {}
    needles = {json.dumps(name, ensure_ascii=False).encode(): name for name in ids}

    def note(name: str, text: str) -> None:
        found.setdefault(name, []).append(text)

    for path in sorted((made.directory / DROPPED).glob("*.jsonl")):
        for entry in _lines_with(path, needles):
            gone = _gone(entry, path, None)
            if gone.id in ids:
                note(gone.id, _sentence(f"dropped: {words(gone.reason)}", gone.facts))
    for entry in _lines_with(made.directory / HITS, needles):
        if entry.get("id") in ids:
            reason = entry.get("dropped")
            what = f"dropped: {words(reason)}" if reason else f"cut into {entry.get('pieces')} piece(s)"
            note(entry["id"], _sentence(what, {name: entry.get(name) for name in ("benchmarks", "matches")}))
    for entry in _lines_with(made.directory / CLUSTERS, needles):
        if entry.get("kept") in ids:
            note(entry["kept"], f"kept, of {1 + len(entry.get('removed', {})):,} duplicates")
        for gone in _removed(entry, made):
            if gone.id in ids:
                note(gone.id, _sentence(f"dropped: {words(gone.reason)}", gone.facts))
    return found


def _sentence(what: str, facts: Mapping[str, Any]) -> str:
    return ", ".join([what, *(f"{name} {text}" for name, text in told(facts))])


def _lines_with(path: Path, needles: Mapping[bytes, str]) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            if any(needle in line for needle in needles):
                yield parsed(line, path)
