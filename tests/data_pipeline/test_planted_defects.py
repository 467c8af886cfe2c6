"""Every planted defect of the sample is found and none of its clean documents lost: per kind of defect."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from corpus_files import fetch_files, read_documents

from data_pipeline.cleaning import clean
from data_pipeline.decontamination.decontamination import HITS_FILE, decontaminate
from data_pipeline.deduplication.deduplication import CLUSTERS_FILE, deduplicate
from data_pipeline.engine.documents import list_shards
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.sample.files import write_sample
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings

_SOURCES = ("stories", "articles", "books")
_BENCHMARKS = {
    "wikitext103": "wikitext103/wiki.test.tokens",
    "lambada": "lambada_test.jsonl",
    "race": "RACE",
}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _dropped(directory: Path) -> dict[str, str]:
    return {
        entry["id"]: entry["reason"]
        for path in sorted((directory / "dropped").glob("*.jsonl"))
        for entry in _lines(path)
    }


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Ids by what the pipeline did to them, the keys being the kinds of defects; and all that was planted."""
    root = tmp_path_factory.mktemp("planted")
    executor = LocalExecutor(1)
    write_sample(root / "sample", seed=5, documents=3000)
    shards = []
    found: dict[str, set[str]] = {}
    raw = {}
    for source in _SOURCES:
        paths = [str(root / "sample" / "corpus" / f"{source}.jsonl.gz")]
        fetch_files(paths, root / "fetch" / source, source=source, executor=executor)
        fetched = list_shards(root / "fetch" / source)
        raw |= {document.id: document.text for document in read_documents(root / "fetch" / source)}
        clean(fetched, root / "clean" / source, CleaningSettings(), length_tokenizer=None, executor=executor)
        for name, reason in _dropped(root / "clean" / source).items():
            found.setdefault({"not_english": "other_language"}.get(reason, reason), set()).add(name)
        for document in read_documents(root / "clean" / source):
            if document.text != raw[document.id]:
                found.setdefault("mojibake", set()).add(document.id)
        shards += list_shards(root / "clean" / source)
    benchmarks = {name: root / "sample" / "benchmarks" / path for name, path in _BENCHMARKS.items()}
    decontaminate(shards, root / "decontaminate", benchmarks, DecontaminationSettings(), executor=executor)
    for hit in _lines(root / "decontaminate" / HITS_FILE):
        for name in hit["benchmarks"]:
            found.setdefault(f"contains_{name}", set()).add(hit["id"])
    deduplicate(list_shards(root / "decontaminate"), root / "out", DeduplicationSettings(), executor=executor)
    for cluster in _lines(root / "out" / CLUSTERS_FILE):
        for name, reason in cluster["removed"].items():
            found.setdefault(reason, set()).add(name)
    final = {document.id: document.text for document in read_documents(root / "out")}
    planted = json.loads((root / "sample" / "planted.json").read_text(encoding="utf-8"))
    for entry in planted:
        source = entry["file"].split(".")[0]
        found.setdefault("planted " + entry["kind"], set()).add(
            f"{source}/{source}.jsonl.gz/{entry['line']:09d}"
        )
    found["untouched"] = {name for name, text in raw.items() if final.get(name) == text}
    found["all"] = set(raw)
    return found


_KINDS = (
    "too_short",
    "other_language",
    "mojibake",
    "contains_wikitext103",
    "contains_lambada",
    "contains_race",
    "exact_duplicate",
    "near_duplicate",
)


@pytest.mark.parametrize("kind", _KINDS)
def test_recall_and_precision_are_one(outcome: dict[str, set[str]], kind: str) -> None:
    planted, found = outcome[f"planted {kind}"], outcome[kind]
    assert len(planted) >= 10
    if kind.startswith("contains_"):  # benchmarks share sentences: another one's text is found rightly too
        others = {
            name for other in _KINDS if other.startswith("contains_") for name in outcome[f"planted {other}"]
        }
        found = found - (others - planted)
    assert planted - found == set(), f"recall {len(planted & found) / len(planted):.3f}"
    assert found - planted == set(), f"precision {len(planted & found) / len(found):.3f}"


def test_no_clean_document_is_lost_or_changed(outcome: dict[str, set[str]]) -> None:
    planted = Counter(name for kind in _KINDS for name in outcome[f"planted {kind}"])
    assert max(planted.values()) == 1
    assert outcome["all"] - set(planted) == outcome["untouched"] - set(planted)
    assert not outcome["untouched"] & set(planted)
