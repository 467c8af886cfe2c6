"""Near duplicates of real text against brute force, long texts in pieces, and the memory that N documents take."""

import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from corpus_files import english

import data_pipeline.deduplication.candidates
import data_pipeline.deduplication.job
from benchmarks import near_duplicates
from data_pipeline.deduplication import deduplication, minhash
from data_pipeline.deduplication.job import Job, save_array
from data_pipeline.deduplication.long_texts import LONG_CHARACTERS, LongText, long_similarity
from data_pipeline.settings import DeduplicationSettings

_CHARACTERS = minhash.Shingles("character", 5)


@pytest.mark.skipif("REAL_DATA" not in os.environ, reason="REAL_DATA names no folder of real files")
def test_edited_documents_against_brute_force(tmp_path: Path) -> None:
    texts = near_duplicates.edited_corpus(2500)
    kept, clusters = near_duplicates.deduplicated(texts, tmp_path)
    truth = near_duplicates.brute_force(texts, 0.65)
    assert max(value for pair, value in truth.items() if set(pair) <= kept) <= 0.85

    scores = {(int(a), int(b)): value for cluster in clusters for a, b, value in cluster["similar"]}
    assert all(truth[pair] == pytest.approx(value, abs=1e-4) for pair, value in scores.items())
    alike = near_duplicates.pairs_of_distinct(texts, truth, 0.8, 1.0)
    assert len(alike) > 500
    assert sum(pair in scores for pair in alike) / len(alike) >= 0.99
    between = near_duplicates.pairs_of_distinct(texts, truth, 0.7, 0.8)
    assert len(between) > 250
    assert sum(pair in scores for pair in between) / len(between) >= 0.85
    for cluster in clusters:  # every removed document hangs on the kept one by pairs above 0.7
        members = {int(cluster["kept"]), *map(int, cluster["removed"])}
        reached, new = set(), {int(cluster["kept"])}
        while new:
            reached |= new
            new = {
                other
                for other in members - reached
                for one in reached
                if truth.get((min(one, other), max(one, other)), 0) > 0.7
            }
        assert reached == members


@pytest.mark.parametrize(
    "text",
    ["", " \n", "a", "  A\t\n b ", "Ünïcödé  ẞ İ K", "x\x1c\x85\u2028\u3000y", "𐐀 \U0010ffff 😀", "ab" * 9],
)
def test_normalised_texts_are_lower_case_with_single_blanks(text: str) -> None:
    expected = " ".join("".join(c.lower() if len(c.lower()) == 1 else c for c in text).split())
    codes = minhash.normalise(text)
    assert codes.dtype == (np.uint8 if expected.isascii() else np.uint32)
    assert "".join(map(chr, codes.tolist())) == expected


def test_signatures_do_not_depend_on_neighbours_or_on_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        minhash.normalise(text) for text in (english(1), "", "abc", english(2), "é" * 3, english(3, 900))
    ]
    together = minhash.signatures(texts, _CHARACTERS, 256)
    alone = np.concatenate([minhash.signatures([text], _CHARACTERS, 256) for text in texts])
    np.testing.assert_array_equal(together, alone)
    monkeypatch.setattr(minhash, "_GROUP_CHARACTERS", 100)
    np.testing.assert_array_equal(minhash.signatures(texts, _CHARACTERS, 256), together)
    monkeypatch.setattr(minhash, "_SET_CHARACTERS", 97)
    sets = [minhash.shingle_hashes(text, _CHARACTERS) for text in texts]
    monkeypatch.undo()
    for text, hashes in zip(texts, sets, strict=True):
        assert len(set(hashes.tolist())) == len(hashes)
        assert set(hashes.tolist()) == set(minhash.shingle_hashes(text, _CHARACTERS).tolist())


@pytest.mark.parametrize("bits", [64, 20, 12])
@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (7, 0), (3000, 4000), (15000, 9000), (30000, 100)])
def test_sets_of_hashes_agree_with_python_sets(bits: int, sizes: tuple[int, int]) -> None:
    """Few bits make many hashes share the places of a table, and occur more than once."""
    draw = np.random.default_rng(bits)
    shift = np.uint64(64 - bits)
    values = [draw.integers(1, 1 << 64, size, dtype=np.uint64) >> shift for size in sizes]
    values = [(each << np.uint64(24)) | np.uint64(1) for each in values]  # no hash is 0
    values[1][: sizes[0] // 2] = values[0][: min(sizes[0] // 2, sizes[1])]
    sets = [minhash._distinct(each.copy()) for each in values]
    for each, hashes in zip(values, sets, strict=True):
        assert sorted(hashes.tolist()) == sorted(set(each.tolist()))
    common = set(values[0].tolist()) & set(values[1].tolist())
    assert minhash.common_hashes(sets[0], sets[1]) == len(common)
    assert minhash.common_hashes(sets[1], sets[0]) == len(common)


def _book(seed: int, characters: int) -> str:
    """A long text of words drawn from a language of some thousand words."""
    draw = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "an", "er")]
    common = random.Random(0)
    words = ["".join(common.choice(syllables) for _ in range(common.randint(1, 3))) for _ in range(4000)]
    text: list[str] = []
    size = 0
    while size < characters:
        text.append(words[int(len(words) * draw.random() ** 3)])
        size += len(text[-1]) + 1
    return " ".join(text)


@pytest.fixture(scope="module")
def book() -> str:
    return _book(1, 600_000)


def _edit_words(text: str, share: float) -> str:
    draw = random.Random(7)
    return " ".join("zorb" if draw.random() < share else word for word in text.split(" "))


def _similarity(first: str, second: str) -> float:
    return long_similarity(*(LongText(minhash.normalise(text), _CHARACTERS) for text in (first, second)))


def test_unrelated_books_are_alike_as_sets_but_not_in_pieces(book: str) -> None:
    other = _book(2, 600_000)
    sets = [minhash.shingle_hashes(minhash.normalise(text), _CHARACTERS) for text in (book, other)]
    assert minhash.jaccard(*sets) > 0.6
    assert _similarity(book, other) == 0


def test_edited_books_are_alike_in_pieces(book: str) -> None:
    assert _similarity(book, book) == 1
    assert _similarity(book, _edit_words(book, 0.02)) > 0.85
    inserted = book[:200_000] + _book(3, 50_000) + book[200_000:]
    assert 0.85 < _similarity(book, inserted) < 0.97
    assert _similarity(inserted, book) == pytest.approx(_similarity(book, inserted), abs=0.02)
    half = book[: len(book) // 2]
    assert _similarity(book, half + _book(4, len(half))) < 0.5
    assert _similarity(book, half) < 0.6


def test_books_are_deduplicated(tmp_path: Path, book: str) -> None:
    texts = [_book(2, 150_000), book, _edit_words(book, 0.02), _book(5, 150_000), english(1)]
    assert min(map(len, texts[:4])) > LONG_CHARACTERS
    kept, _ = near_duplicates.deduplicated(texts, tmp_path, shards=2)
    assert kept == {0, 1, 3, 4}


def test_how_the_work_is_cut_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(3)
    originals = [english(seed, 200) for seed in range(40)]
    texts = originals + [near_duplicates.edited(text, draw.uniform(0, 0.1), draw) for text in originals * 3]
    whole = near_duplicates.deduplicated(texts, tmp_path / "whole", shards=1)
    assert len(whole[0]) < 80
    for name, value in (("_BLOCK_DOCUMENTS", 7), ("_BLOCK_SHARDS", 2)):
        monkeypatch.setattr(data_pipeline.deduplication.job, name, value)
    monkeypatch.setattr(data_pipeline.deduplication.candidates, "_TASK_HASHES", 50)
    assert near_duplicates.deduplicated(texts, tmp_path / "pieces", shards=9) == whole


def _peak_bytes(job: Job, step: str) -> int:
    tracemalloc.start()
    try:
        if step == "firsts":
            deduplication._first_occurrences(job)
        else:
            for task in data_pipeline.deduplication.candidates.band_tasks(job)[:2]:
                data_pipeline.deduplication.candidates.write_candidates(job, task)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def many(tmp_path: Path) -> Iterator[dict[int, Job]]:
    """Jobs whose signature files hold random hashes of so many documents."""
    jobs = {}
    random_hashes = np.random.default_rng(1)
    for documents in (100_000, 400_000):
        starts = tuple(range(0, documents + 1, 50_000))
        job = Job(
            tuple(Path("-") for _ in starts[1:]), tmp_path / str(documents), DeduplicationSettings(), starts
        )
        for shard in range(len(starts) - 1):
            exact = random_hashes.integers(0, 1 << 63, (50_000, 2), dtype=np.uint64)
            bands = random_hashes.integers(0, 1 << 63, (1, 50_000), dtype=np.uint64) * 2
            save_array(job.signature_file("exact", shard), exact)
            save_array(job.signature_file("bands", shard), bands)
        jobs[documents] = job
    yield jobs


def test_memory_of_the_calling_process_is_eighty_bytes_a_document(many: dict[int, Job]) -> None:
    for documents, job in many.items():
        assert _peak_bytes(job, "firsts") < 80 * documents


def test_memory_of_a_worker_does_not_grow_with_documents(
    many: dict[int, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_pipeline.deduplication.candidates, "_TASK_HASHES", 1 << 16)
    peaks = []
    for job in many.values():
        deduplication._first_occurrences(job)
        tasks = data_pipeline.deduplication.candidates.band_tasks(job)
        assert tasks[0].parts in (2, 8)
        peaks.append(_peak_bytes(job, "candidates"))
    assert max(peaks) < 120 * (1 << 16)
    assert peaks[1] < 1.3 * peaks[0]
