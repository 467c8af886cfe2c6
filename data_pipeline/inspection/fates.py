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
_OF_HIT = ("id", "benchmarks", "matches", "first_match", "dropped", "pieces")
_OF_CLUSTER = ("kept", "removed", "similarity_to_kept")
_MOST_NEEDLES = 16  # that are looked for in a line before it is parsed
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
    hits, complete = sample_hits(made, seed)
    whole &= complete
    found += [_cut_away(hit) for hit in hits if hit["dropped"]]
    clusters, complete = sample_clusters(made, seed)
    whole &= complete
    found += [gone for cluster in clusters for gone in _removed(cluster)]
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


def sample_hits(made: Made, seed: int) -> tuple[list[dict[str, Any]], bool]:
    """Documents with a benchmark's words, of a seeded choice of blocks of their list, and whether these are all."""
    return _checked(made.directory / HITS, seed, _OF_HIT)


def sample_clusters(made: Made, seed: int) -> tuple[list[dict[str, Any]], bool]:
    """Groups of duplicates, of a seeded choice of blocks of their list, and whether these are all."""
    return _checked(made.directory / CLUSTERS, seed, _OF_CLUSTER)


def _checked(path: Path, seed: int, names: Sequence[str]) -> tuple[list[dict[str, Any]], bool]:
    entries, whole = sample_lines(path, seed)
    return [_with_all(entry, names, path) for entry in entries], whole


def _with_all(entry: dict[str, Any], names: Sequence[str], path: Path) -> dict[str, Any]:
    for name in names:
        _value(entry, name, path)
    return entry


def _cut_away(hit: Mapping[str, Any]) -> Gone:
    return Gone(hit["id"], hit["dropped"], {name: hit[name] for name in ("benchmarks", "matches")})


def _removed(cluster: Mapping[str, Any]) -> Iterator[Gone]:
    for name, reason in cluster["removed"].items():
        similarity = cluster["similarity_to_kept"].get(name)
        yield Gone(name, reason, {"duplicate of": cluster["kept"], "similarity": similarity})


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
    needles = [json.dumps(name, ensure_ascii=False).encode() for name in ids]

    def note(name: str, text: str) -> None:
        found.setdefault(name, []).append(text)

    for path in sorted((made.directory / DROPPED).glob("*.jsonl")):
        for entry in _lines_with(path, needles, ("id", "reason")):
            gone = _gone(entry, path, None)
            if gone.id in ids:
                note(gone.id, _sentence(f"dropped: {words(gone.reason)}", gone.facts))
    for hit in _lines_with(made.directory / HITS, needles, _OF_HIT):
        if hit["id"] in ids:
            reason = hit["dropped"]
            what = f"dropped: {words(reason)}" if reason else f"cut into {hit['pieces']} piece(s)"
            note(hit["id"], _sentence(what, {name: hit[name] for name in ("benchmarks", "matches")}))
    for cluster in _lines_with(made.directory / CLUSTERS, needles, _OF_CLUSTER):
        if cluster["kept"] in ids:
            note(cluster["kept"], f"kept, of {1 + len(cluster['removed']):,} duplicates")
        for gone in _removed(cluster):
            if gone.id in ids:
                note(gone.id, _sentence(f"dropped: {words(gone.reason)}", gone.facts))
    return found


def _sentence(what: str, facts: Mapping[str, Any]) -> str:
    return ", ".join([what, *(f"{name} {text}" for name, text in told(facts))])


def _lines_with(path: Path, needles: Collection[bytes], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The entries of a list that may be of some ids."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            if len(needles) > _MOST_NEEDLES or any(needle in line for needle in needles):
                yield _with_all(parsed(line, path), names, path)
