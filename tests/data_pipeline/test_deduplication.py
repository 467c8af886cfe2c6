"""Deduplication against brute force, what is kept, and settings that cannot be."""

import functools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_files import contents, english, read_documents, write_documents

import data_pipeline.deduplication.candidates
from data_pipeline.deduplication import minhash
from data_pipeline.deduplication.deduplication import deduplicate
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.settings import DeduplicationSettings

_CHARACTERS = minhash.Shingles("character", 5)


def run(
    texts: list[str], directory: Path, workers: int = 1, shards: int = 3, **settings: Any
) -> dict[str, Any]:
    return deduplicate(
        write_documents(directory / "in", texts, shards),
        directory / "out",
        DeduplicationSettings(**settings),
        executor=LocalExecutor(workers),
    )


def kept(directory: Path) -> list[int]:
    return [int(document.id.split("/")[1]) for document in read_documents(directory / "out")]


def edited(seed: int, text: str, share: float) -> str:
    draw = random.Random(seed)
    return " ".join("zorb" if draw.random() < share else word for word in text.split(" "))


@functools.cache
def shingle_set(text: str) -> set[str]:
    """Written without the pipeline's code: strings of five characters of the lower-cased text."""
    normal = " ".join(text.lower().split())
    return {normal[start : start + 5] for start in range(len(normal) - 4)}


def brute_force(first: str, second: str) -> float:
    one, other = shingle_set(first), shingle_set(second)
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("text", [english(1), "Grüße, 東京! " * 9 + english(2), "abcd", "aaaaaaaaaa"])
def test_jaccard_equals_that_of_string_sets(text: str) -> None:
    other = edited(1, text, 0.1) + "!"
    hashes = [minhash.shingle_hashes(minhash.normalise(each), _CHARACTERS) for each in (text, other)]
    if len(text) >= 5:
        assert len(minhash.distinct(hashes[0])) == len(shingle_set(text))
        assert minhash.jaccard(*hashes) == pytest.approx(brute_force(text, other), abs=1e-12)
    assert minhash.jaccard(hashes[0], hashes[0]) == 1


def test_signatures_estimate_jaccard_without_bias() -> None:
    errors = []
    for seed in range(60):
        text = english(seed)
        pair = [minhash.normalise(each) for each in (text, edited(seed, text, 0.06))]
        sets = [minhash.shingle_hashes(each, _CHARACTERS) for each in pair]
        short = minhash.short_signature(minhash.signatures(pair, _CHARACTERS, 256))
        errors.append(minhash.estimated_jaccard(short[:1], short[1:])[0] - minhash.jaccard(*sets))
    assert abs(np.mean(errors)) < 0.02
    assert np.max(np.abs(errors)) < 0.2  # the margin within which candidates are compared exactly


def test_word_shingles_follow_words() -> None:
    words = minhash.Shingles("word", 5)
    one, other = (
        minhash.shingle_hashes(minhash.normalise(text), words) for text in ("a b c d e f", "a, b; c d e (g)")
    )
    assert (len(one), len(other)) == (2, 2)
    assert minhash.jaccard(one, other) == pytest.approx(1 / 3)


def test_against_brute_force(tmp_path: Path) -> None:
    texts = [english(seed, 250) for seed in range(60)]
    for number in range(120):
        texts.append(edited(number, texts[number % 60], [0.0, 0.02, 0.03, 0.05, 0.08, 0.2][number // 20]))
    summary = run(texts, tmp_path)
    remaining = kept(tmp_path)
    similarities = {(a, b): brute_force(texts[a], texts[b]) for a in range(180) for b in range(a)}
    for (a, b), similarity in similarities.items():
        assert not (similarity > 0.85 and a in remaining and b in remaining), (a, b, similarity)
    clusters = [json.loads(line) for line in (tmp_path / "out" / "clusters.jsonl").open()]
    removed = {int(name.split("/")[1]) for cluster in clusters for name in cluster["removed"]}
    assert sorted(removed | set(remaining)) == list(range(180))
    for number in removed:  # nothing goes without a document above the threshold
        assert max(similarities[max(number, b), min(number, b)] for b in range(180) if b != number) > 0.7
    for cluster in clusters:
        first = int(cluster["kept"].split("/")[1])
        for name, value in cluster["similarity_to_kept"].items():
            assert value == pytest.approx(similarities[int(name.split("/")[1]), first], abs=1e-4)
    missed = [pair for pair, s in similarities.items() if s > 0.75 and set(pair) <= set(remaining)]
    assert len(missed) <= 2
    assert summary["documents"] == len(remaining)
    assert sum(summary["dropped"].values()) == len(removed)
    assert summary["clusters"] == len(clusters)


def test_the_first_document_in_input_order_stays(tmp_path: Path) -> None:
    text = english(1)
    texts = [
        english(9),
        edited(1, text, 0.02),
        text.upper() + "\n",
        english(8),
        "  " + text,
        edited(2, text, 0.02),
    ]
    summary = run(texts, tmp_path)
    assert kept(tmp_path) == [0, 1, 3]
    assert summary["dropped"] == {"exact_duplicate": 1, "near_duplicate": 2}
    (cluster,) = [json.loads(line) for line in (tmp_path / "out" / "clusters.jsonl").open()]
    assert cluster["kept"] == "t/000001"
    assert cluster["removed"] == {
        "t/000002": "near_duplicate",
        "t/000004": "exact_duplicate",
        "t/000005": "near_duplicate",
    }
    assert all(similarity > 0.7 for _, _, similarity in cluster["similar"])


def test_chains_are_followed_and_said(tmp_path: Path) -> None:
    texts = [english(1)]
    for step in range(5):  # each is like the one before, and less and less like the first
        texts.append(edited(step, texts[-1], 0.06))
    texts.insert(3, texts[5])  # the first copy of what the chain reaches last
    texts = [english(9), *texts, texts[3].upper(), english(8), english(8) + " "]
    summary = run(texts, tmp_path)
    truth = [brute_force(texts[1], text) for text in texts[2:8]] + [brute_force(texts[1], texts[8].lower())]
    assert min(truth) < 0.7 < max(truth)
    assert min(brute_force(*pair) for pair in ((texts[5], texts[6]), (texts[6], texts[4]))) > 0.7
    chain, copies = [json.loads(line) for line in (tmp_path / "out" / "clusters.jsonl").open()]
    assert chain["kept"] == "t/000001"
    found = chain["similarity_to_kept"]
    assert list(found) == list(chain["removed"]) == [f"t/{number:06d}" for number in range(2, 9)]
    assert list(found.values()) == pytest.approx(truth, abs=1e-4)
    assert copies["similarity_to_kept"] == {"t/000010": 1.0}
    assert summary["removed_by_chain"] == sum(value <= 0.7 for value in truth)


def test_the_threshold_is_exceeded_not_met(tmp_path: Path) -> None:
    text, other = english(1), edited(1, english(1), 0.05)
    similarity = brute_force(text, other)
    run([text, other], tmp_path / "met", threshold=similarity)
    assert kept(tmp_path / "met") == [0, 1]
    run([text, other], tmp_path / "exceeded", threshold=similarity - 1e-9)
    assert kept(tmp_path / "exceeded") == [0]


def test_any_number_of_workers_gives_the_same_bytes_and_no_work_files_stay(tmp_path: Path) -> None:
    texts = [edited(seed, english(seed % 20), 0.04) for seed in range(60)]
    for workers in (1, 2):
        run(texts, tmp_path / str(workers), workers)
    assert contents(tmp_path / "1" / "out") == contents(tmp_path / "2" / "out")
    assert not (tmp_path / "1" / "out" / ".work").exists()


def test_buckets_too_large_for_all_pairs_still_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_pipeline.deduplication.candidates, "_LARGEST_BUCKET", 3)
    texts = [english(1) + f" {number}" for number in range(40)]
    run(texts, tmp_path)
    assert kept(tmp_path) == [0]


@pytest.mark.parametrize("texts", [[], ["", "", "a"], [english(1)]])
def test_tiny_corpora(tmp_path: Path, texts: list[str]) -> None:
    run(texts, tmp_path, shards=1)
    assert len(kept(tmp_path)) == len(set(texts))


def test_impossible_settings_are_named_together() -> None:
    errors = DeduplicationSettings(shingle="line", bands=33, threshold=1.5).errors("deduplicate")  # type: ignore[arg-type]
    assert [error.split(":")[0] for error in errors] == [
        "deduplicate.shingle",
        "deduplicate.permutations",
        "deduplicate.threshold",
    ]
