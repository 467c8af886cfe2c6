"""What became of the defects planted in the sample: did each stage find what it must find?"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files import read_json

CONTAINS = "contains_"  # before a benchmark's name: the kind of documents that hold its text
# What must become of each kind: removed by that stage, or mended in place.
_EXPECTED = {
    "too_short": ("clean",),
    "other_language": ("clean",),
    "mojibake": ("repaired",),
    "exact_duplicate": ("deduplicate",),
    "near_duplicate": ("deduplicate",),
}
_STAGES = ("clean", "decontaminate", "deduplicate")


def planted_outcomes(
    sample: Path, corpora: Mapping[str, str], outputs: Mapping[str, Sequence[Path]]
) -> list[dict[str, Any]]:
    """One row a kind of defect: how many were planted, found as they must be, and what became of all of them.

    Args:
        sample: the sample's artifact, with `planted.json`.
        corpora: name of the corpus read from each of the sample's files, by file stem.
        outputs: document shards after "clean", "decontaminate" and "deduplicate".
    """
    planted = [
        entry for entry in read_json(sample / "planted.json") if entry["file"].split(".")[0] in corpora
    ]
    ids = [f"{corpora[entry['file'].split('.')[0]]}/00000/{entry['line']:09d}" for entry in planted]
    digests = {stage: _digests(outputs[stage], set(ids)) for stage in _STAGES}
    outcomes: dict[str, Counter[str]] = {}
    for document, entry in zip(ids, planted, strict=True):
        outcomes.setdefault(entry["kind"], Counter())[_outcome(document, entry, digests)] += 1
    return [
        {
            "kind": kind,
            "planted": counts.total(),
            "found": sum(counts[outcome] for outcome in _expected(kind)),
            "outcomes": dict(sorted(counts.items())),
        }
        for kind, counts in sorted(outcomes.items())
    ]


def _expected(kind: str) -> tuple[str, ...]:
    return ("decontaminate", "cut") if kind.startswith(CONTAINS) else _EXPECTED.get(kind, ())


def _digests(shards: Sequence[Path], wanted: set[str]) -> dict[str, str]:
    """sha256 of the texts of some documents, by id; those that are there. Of a document cut into pieces
    (`<id>#00`, …) any piece."""
    from data_pipeline.engine.documents import read_shard

    return {
        document.id.split("#")[0]: hashlib.sha256(document.text.encode("utf-8")).hexdigest()
        for shard in shards
        for document in read_shard(shard)
        if document.id.split("#")[0] in wanted
    }


def _outcome(document: str, entry: Mapping[str, Any], digests: Mapping[str, Mapping[str, str]]) -> str:
    """The stage that removed a document, how it was mended, or "left" (as it was)."""
    for stage in _STAGES:
        if document not in digests[stage]:
            return stage
    if digests["clean"][document] != digests["decontaminate"][document]:
        return "cut"
    return "repaired" if digests["deduplicate"][document] == entry.get("original_sha256") else "left"
