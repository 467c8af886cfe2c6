"""Near duplicates of real text against brute force, long texts in pieces, and the memory that N documents take."""

import functools
import itertools
import json
import os
import pickle
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corpus_files import english

import data_pipeline.deduplication.job as job_module
from benchmarks import near_duplicates
from benchmarks.texts import write_shards
from core.files import atomic_write
from data_pipeline.deduplication import (
    candidates,
    clusters,
    deduplication,
    minhash,
    signatures,
    verification,
)
from data_pipeline.deduplication.job import Job, Numbers, on_job, save_bits, share, shared
from data_pipeline.deduplication.long_texts import LONG_CHARACTERS, LongText, long_similarity
from data_pipeline.deduplication.verification import Forest
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.resumable import add_counts, run_shards
from data_pipeline.settings import DeduplicationSettings

_CHARACTERS = minhash.Shingles("character", 5)


@pytest.mark.skipif("REAL_DATA" not in os.environ, reason="REAL_DATA names no folder of real files")
def test_edited_documents_against_brute_force(tmp_path: Path) -> None:
    texts = near_duplicates.edited_corpus(600)
    kept, clusters = near_duplicates.deduplicated(texts, tmp_path)
    truth = near_duplicates.brute_force(texts, 0.65)
    assert max(value for pair, value in truth.items() if set(pair) <= kept) <= 0.85

    scores = {(int(a), int(b)): value for cluster in clusters for a, b, value in cluster["similar"]}
    assert all(truth[pair] == pytest.approx(value, abs=1e-4) for pair, value in scores.items())
    removed = [reason for cluster in clusters for reason in cluster["removed"].values()]
    assert len(scores) == removed.count("near_duplicate")
    assert len(scores) > 150
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


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str, float]]:
    """Texts that nothing else is like, each with an edited copy, and the Jaccard similarity of their 5-grams as strings."""
    draw = random.Random(5)
    found = []
    for _ in range(1500):
        words = [
            "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(220)
        ]
        share = draw.uniform(0.0, 0.28)
        copy = ["".join(draw.choices("xyz", k=4)) if draw.random() < share else word for word in words]
        texts = " ".join(words), " ".join([*copy[:-1], "end"])
        one, other = ({text[start : start + 5] for start in range(len(text) - 4)} for text in texts)
        found.append((*texts, len(one & other) / len(one | other)))
    return found


def _promised(similarities: list[float]) -> tuple[float, float]:
    """How many pairs of such similarities 32 bands of 8 rows find, and the deviation of that number."""
    chances = [1 - (1 - value**8) ** 32 for value in similarities]
    return sum(chances), sum(chance * (1 - chance) for chance in chances) ** 0.5


_RANGES = ((0.4, 0.55), (0.55, 0.65), (0.65, 0.7), (0.7, 0.75), (0.75, 0.8), (0.8, 1.0))


@pytest.mark.parametrize("low, high", _RANGES)
def test_as_many_pairs_share_a_band_as_theory_says(
    pairs: list[tuple[str, str, float]], low: float, high: float
) -> None:
    """Neither less, which loses duplicates, nor more, which takes time."""
    chosen = [pair for pair in pairs if low < pair[2] <= high]
    assert len(chosen) > 60
    bands = [
        minhash.band_hashes(minhash.signatures(map(minhash.normalise, texts), _CHARACTERS, 256), 32)
        for texts in ([one for one, _, _ in chosen], [other for _, other, _ in chosen])
    ]
    found = int((bands[0] == bands[1]).any(axis=0).sum())
    expected, deviation = _promised([value for *_, value in chosen])
    assert abs(found - expected) <= 4 * deviation + 1


def test_the_pairs_above_the_threshold_are_found_as_often_as_theory_says_and_no_others(
    tmp_path: Path, pairs: list[tuple[str, str, float]]
) -> None:
    """From shards to clusters: each pair is a cluster of its own, so what is found is found by its own bands."""
    texts = [text for *both, _ in pairs for text in both]
    order = random.Random(6).sample(range(len(texts)), len(texts))
    kept, clusters = near_duplicates.deduplicated([texts[number] for number in order], tmp_path)
    similarity = {}
    for cluster in clusters:
        ((one, other, value),) = cluster["similar"]
        assert {one, other} == {cluster["kept"], *cluster["removed"]} and int(one) in kept
        first, second = sorted((order[int(one)], order[int(other)]))
        assert first % 2 == 0 and second == first + 1
        similarity[first // 2] = value
    for number, value in similarity.items():
        assert value == pytest.approx(pairs[number][2], abs=5e-5)
        assert pairs[number][2] > 0.7
    assert len(kept) == len(texts) - len(similarity)
    for low, high in _RANGES[3:]:
        values = [value for *_, value in pairs if low < value <= high]
        found = sum(low < pairs[number][2] <= high for number in similarity)
        expected, deviation = _promised(values)
        assert len(values) > 60 and found >= expected - 4 * deviation - 1
    assert len(similarity) > 400


@pytest.mark.parametrize(
    "text",
    ["", " \n", "a", "  A\t\n b ", "Ünïcödé  ẞ İ K", "x\x1c\x85\u2028\u3000y", "𐐀 \U0010ffff 😀", "ab" * 9,
     "“‘Ÿ”’ – Š…\xa0\xa0É", "“\u2009\u2009\u212bÅ”", "“ж” \x81", "ŒUVRE\u202f!  €™"],
)  # fmt: skip
def test_normalised_texts_are_lower_case_with_single_blanks(text: str) -> None:
    expected = " ".join("".join(c.lower() if len(c.lower()) == 1 else c for c in text).split())
    codes = minhash.normalise(text)
    assert "".join(map(chr, minhash.code_points(codes).tolist())) == expected
    page = expected.encode("cp1252", "ignore")
    is_in_bytes = len(page) == len(expected)
    assert codes.dtype == (np.uint8 if is_in_bytes else np.uint32)
    assert bytes(codes) == (page if is_in_bytes else expected.encode("utf-32-le"))
    several = minhash.normalise_all(["A  b", text, "", text, "“ ”"])
    assert [bytes(part) for part in several] == [b"a b", bytes(codes), b"", bytes(codes), b"\x93 \x94"]
    assert bytes(minhash.normalise(expected)) == bytes(codes)  # equal texts, equal codes


def test_marks_of_typesetters_cost_no_similarity_beside_rarer_characters(tmp_path: Path) -> None:
    """One of two texts is in bytes, the other has a character that is in no code page; and both are long."""
    plain = f"“{english(5)}” – naïve…"
    pairs = [(plain, f"{plain} ж"), (plain * 110, f"{plain * 110} ж")]
    for number, texts in enumerate(pairs):
        one, other = (
            {normal[start : start + 5] for start in range(len(normal) - 4)}
            for normal in (" ".join(text.lower().split()) for text in texts)
        )
        _, ((cluster),) = near_duplicates.deduplicated(list(texts), tmp_path / f"{number}", shards=1)
        ((_, _, value),) = cluster["similar"]
        assert value == pytest.approx(len(one & other) / len(one | other), abs=5e-5) and value < 1


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
        assert set(hashes.tolist()) == set(minhash.shingle_hashes(text, _CHARACTERS).tolist())
        for part in minhash.shingle_blocks(text, _CHARACTERS, 50):
            assert len(set(part.tolist())) == len(part)


@pytest.mark.parametrize("bits", [64, 20, 12])
@pytest.mark.parametrize(
    "sizes", [(0, 0), (0, 5), (7, 0), (3000, 4000), (15000, 9000), (30000, 100), (50000, 40000)]
)
def test_sets_of_hashes_agree_with_python_sets(bits: int, sizes: tuple[int, int]) -> None:
    """Few bits make many hashes share the places of a table, and occur more than once."""
    draw = np.random.default_rng(bits)
    shift = np.uint64(64 - bits)
    values = [draw.integers(1, 1 << 64, size, dtype=np.uint64) >> shift for size in sizes]
    values = [(each << np.uint64(24)) | np.uint64(1) for each in values]  # no hash is 0
    values[1][: sizes[0] // 2] = values[0][: min(sizes[0] // 2, sizes[1])]
    for each in values:
        assert sorted(minhash.distinct(each.copy()).tolist()) == sorted(set(each.tolist()))
    one, other = (set(each.tolist()) for each in values)
    assert minhash.overlap(*values) == (len(one), len(other), len(one & other))
    assert minhash.overlap(values[1], values[0]) == (len(other), len(one), len(one & other))


@pytest.mark.parametrize("size", [1, 3, 5, 8, 11])
def test_shingles_are_the_same_in_ascii_and_in_other_texts(size: int) -> None:
    """And as many as there are: no two become one."""
    shingles = minhash.Shingles("character", size)
    draw = random.Random(size)
    ascii_text = "".join(draw.choice("ab c") for _ in range(300))
    mixed = "".join(draw.choice("ab c’é¡ ") for _ in range(300)) + ascii_text
    texts = [ascii_text, mixed, "ÿĀ𝐀" + ascii_text, "a", "é"]
    codes = [minhash.normalise(text) for text in texts]
    plain = ["".join(map(chr, each.tolist())).ljust(size, "\0") for each in codes]
    for (one, first), (other, second) in itertools.product(zip(codes, plain, strict=True), repeat=2):
        sets = [
            {text[start : start + size] for start in range(len(text) - size + 1)} for text in (first, second)
        ]
        found = minhash.overlap(
            minhash.shingle_hashes(one, shingles), minhash.shingle_hashes(other, shingles)
        )
        assert found == (len(sets[0]), len(sets[1]), len(sets[0] & sets[1]))


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
    for module, name, value in (
        (signatures, "_CHUNK_DOCUMENTS", 7),
        (signatures, "_BLOCK_CHARACTERS", 3000),
        (job_module, "_MOST_GROUPS", 4),
        (candidates, "_TASK_HASHES", 100),
        (candidates, "_LEAST_MEMBERS", 300),
        (verification, "_ESTIMATED_AT_ONCE", 5),
        (verification, "_LEAST_CHAINED", 3),
        (clusters, "_LEAST_IDS", 9),
    ):
        monkeypatch.setattr(module, name, value)
    assert near_duplicates.deduplicated(texts, tmp_path / "pieces", shards=9) == whole


def _job(directory: Path, shards: int, shard_documents: int) -> Job:
    """A job of so many shards, none of which is there."""
    starts = np.arange(0, (shards + 1) * shard_documents, shard_documents)
    inputs = tuple(f"in/documents-{number:05d}.parquet" for number in range(shards))
    return Job(inputs, directory, DeduplicationSettings(), starts)


def _peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _write_random_hashes(job: Job, distinct: int) -> None:
    """Hashes as of documents of which each is like about N / distinct others, and none is a copy."""
    draw = np.random.default_rng(1)
    for group, (start, end) in enumerate(itertools.pairwise(job.group_starts.tolist())):
        with atomic_write(job.file("hashes", group)) as path, path.open("wb") as stream:
            for size in [1 << 16] * ((end - start) >> 16) + [(end - start) & 0xFFFF]:
                exact = draw.integers(0, 1 << 63, (size, 2), dtype=np.uint64).tobytes()
                bands = draw.integers(0, distinct, (job.settings.bands, size), dtype=np.uint64)
                bands *= np.uint64((1 << 64) // distinct)
                stream.write(signatures._chunk([exact], [bands]) if size else b"")


@pytest.fixture
def many(tmp_path: Path) -> dict[int, Job]:
    """Jobs of so many documents whose files hold random hashes."""
    settings = DeduplicationSettings(permutations=16, bands=2)
    jobs = {}
    for documents in (100_000, 400_000):
        starts = np.arange(0, documents + 1, 50_000)
        job = jobs[documents] = Job(("-",) * (len(starts) - 1), tmp_path / str(documents), settings, starts)
        _write_random_hashes(job, documents // 8)
    return jobs


def test_memory_of_a_worker_grows_with_a_bit_a_document_alone(
    many: dict[int, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "_TASK_HASHES", 1 << 16)
    monkeypatch.setattr(candidates, "_MOST_MEMBERS", 1 << 16)
    peaks = []
    for job in many.values():
        for task in candidates.copy_tasks(job).values():
            peak = _peak_bytes(functools.partial(candidates.write_copies, job, task))
            assert peak < 100 * (1 << 16)
        save_bits(candidates.distinct_file(job), np.ones(job.documents, np.bool_))
        tasks = candidates.band_tasks(job)
        assert tasks[0].parts in (2, 8)
        peaks.append(
            max(_peak_bytes(functools.partial(candidates.write_buckets, job, task)) for task in tasks)
        )
        pair_tasks = candidates.pair_tasks(job, range(job.settings.bands))
        members = [len(candidates.read_buckets(job, task)[0]) for task in pair_tasks]
        assert sum(members) > 1.9 * job.documents  # two bands, of nearly all documents
        assert max(members) < 1.1 * (1 << 16)
    assert max(peaks) < 100 * (1 << 16)
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("size", [2, 2000, 60_000])
def test_memory_of_the_calling_process_grows_with_documents_in_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Half of the documents are in clusters, each linked with the one before it; every third is a copy."""
    documents, shard = 120_000, 4000
    job = Job(("-",) * 30, tmp_path, DeduplicationSettings(), np.arange(0, documents + 1, shard))
    clustered = np.arange(0, documents, 2)
    is_copy = (np.arange(len(clustered)) % 3 == 2) & (np.arange(len(clustered)) % size > 0)
    before = np.maximum.accumulate(np.where(is_copy, 0, clustered))
    copies = np.stack([clustered[is_copy], before[is_copy]], axis=1)
    distinct = clustered[~is_copy]
    is_linked = distinct[1:] // 2 // size == distinct[:-1] // 2 // size
    links = np.zeros(int(is_linked.sum()), verification.LINK)
    links["pair"] = distinct[:-1][is_linked] * documents + distinct[1:][is_linked]
    links["similarity"] = 0.9
    monkeypatch.setattr(clusters, "read_ids", lambda _: [f"s/{number:06d}" for number in range(shard)])
    counts = {}

    def work() -> None:
        found = clusters.Clusters(job, copies, [links[::2], links[1::2], links[:100]])
        pairs = found.chained_pairs()
        tasks = found.id_tasks()
        for task in tasks.values():
            clusters.write_ids(job, task)
        counts.update(found.write((pairs, np.full(len(pairs), 0.5)), tasks.values()), chained=len(pairs))

    peak = _peak_bytes(work)
    each = 300 if size < clusters._MEMBERS_AT_ONCE else 600  # a cluster is written at once
    assert peak < 2 * documents + each * len(clustered) + 200 * shard
    number = len(clustered) // size
    near = len(distinct) - number
    assert counts["clusters"] == number
    assert counts["chained"] == near - (len(links) if size == 2 else number)  # linked with the first itself
    assert counts["removed_by_chain"] >= counts["chained"]
    lines = (tmp_path / "clusters.jsonl").read_text().splitlines()
    assert sum(len(json.loads(line)["similar"]) for line in lines) == len(links)
    removed = np.load(clusters.removed_file(job))
    assert np.count_nonzero(removed) == len(clustered) - number


def test_memory_of_the_calling_process_grows_with_shards(tmp_path: Path) -> None:
    """What it holds of each: names, paths and counts, in all steps that have a task a shard."""
    counts = {"documents_in": 4000, "bytes_in": 16_000_000, "documents": 3900, "bytes": 15_000_000}
    written = json.dumps({**counts, "dropped": {"exact_duplicate": 40, "near_duplicate": 60}})
    peaks = []
    for shards in (200, 1200):
        (tmp_path / str(shards) / "stats").mkdir(parents=True)
        for number in range(shards):
            (tmp_path / str(shards) / "stats" / f"documents-{number:05d}.json").write_text(written)
        job = _job(tmp_path / str(shards), shards, 4000)

        def work(job: Job = job) -> None:
            share(job)
            tasks = {f"documents-{number:05d}": number for number in range(len(job.inputs))}
            done = functools.partial(on_job, deduplication._write_kept, shared(job))
            add_counts(run_shards("deduplicate", done, tasks, job.output, LocalExecutor(1)))

        peaks.append(_peak_bytes(work))
    assert peaks[1] - peaks[0] < 2000 * 1000


@pytest.mark.parametrize("size", [1, 40, 2000, 30_000])
def test_pairs_and_memory_are_linear_in_documents_whatever_the_size_of_clusters(size: int) -> None:
    """All documents of a cluster agree in every band; what is like one another is joined in the first round."""
    documents, bands = 30_000, 4
    members = np.tile(np.arange(documents), bands)
    sizes = np.full(documents * bands // size, size)
    forest = Forest(np.arange(documents))
    pairs = 0

    def work() -> None:
        nonlocal pairs
        for _, first, second in candidates.rounds(members, sizes, forest.labels):
            pairs += len(first)
            for one, other in zip(first.tolist(), second.tolist(), strict=True):
                forest.join(one, other)

    assert _peak_bytes(work) < 80 * bands * documents
    assert pairs == documents - documents // size


@pytest.mark.parametrize("size", [1, 30, 300])
def test_a_document_is_compared_about_once_however_many_tasks_share_its_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """What is alike in one band is joined before other bands are looked at, and what may be alike comes last of all."""
    monkeypatch.setattr(candidates, "_LEAST_MEMBERS", 200)
    draw = random.Random(1)
    texts = []
    for _ in range(600 // size):
        words = [
            "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(100)
        ]
        for _ in range(size):
            share = draw.uniform(0.0, 0.06) * (size > 1)
            copy = ["".join(draw.choices("xyz", k=4)) if draw.random() < share else word for word in words]
            texts.append(" ".join(copy))
    draw.shuffle(texts)
    shards = write_shards(texts, tmp_path / "in", 200)
    counts = deduplication.deduplicate(
        shards, tmp_path / "out", DeduplicationSettings(), executor=LocalExecutor(1)
    )
    assert counts["documents"] == 600 // size
    removed = 600 - counts["documents"]
    assert removed * 0.9 <= counts["compared_pairs"] <= 1.3 * removed  # some are copies


def test_a_large_bucket_in_parts_has_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_LARGEST_BUCKET", 30)

    def pairs(members: Numbers, sizes: Numbers) -> set[tuple[int, int, int]]:
        found = candidates.rounds(members, sizes, lambda: np.arange(1000))
        return {
            (step, *pair)
            for step, *ends in found
            for pair in zip(*(end.tolist() for end in ends), strict=True)
        }

    members, sizes = np.concatenate([np.arange(700), np.arange(990, 995)]), np.array([700, 5])
    first_rounds: dict[tuple[int, int], int] = {}
    for step, one, other in sorted(pairs(members, sizes), reverse=True):
        first_rounds[one, other] = step
    expected = {(0, other): 0 for other in range(1, 700)}
    expected |= {(one, one + step): step for step in range(1, 25) for one in range(1, 700 - step)}
    expected |= {(990, other): 0 for other in range(991, 995)}
    expected |= {(one, other): other - one for one in range(991, 995) for other in range(one + 1, 995)}
    assert first_rounds == expected
    monkeypatch.setattr(candidates, "_LARGEST_PART", 100)
    cut: dict[tuple[int, int], int] = {}
    for step, one, other in sorted(pairs(*candidates._cut(members, sizes)), reverse=True):
        cut[one, other] = step
    assert cut == expected


def test_three_hundred_thousand_shards_are_planned_in_linear_time(tmp_path: Path) -> None:
    """What runs once for all: the job file, numbers of files and tasks, what a task carries, and whose a document is."""
    times = []
    for shards in (30_000, 300_000):
        job = _job(tmp_path / str(shards), shards, 4000)
        started = time.process_time()
        share(job)
        work = functools.partial(on_job, candidates.write_buckets, shared(job))
        assert len(pickle.dumps(work)) < 2000
        assert len(job.groups) <= 512
        assert max(map(len, job.groups)) - min(map(len, job.groups[:-1])) <= 1
        assert sum(map(len, job.groups)) == shards
        tasks = candidates.band_tasks(job)
        assert len(tasks) + len(candidates.copy_tasks(job)) < 20_000
        assert len(pickle.dumps(tasks[-1])) < 200
        job.by_shard(np.arange(0, job.documents, 4000))
        times.append(time.process_time() - started)
        copy = job_module._load(shared(job))
        assert job_module._load(shared(job)) is copy  # read once a process
        assert (copy.inputs, copy.documents) == (job.inputs, shards * 4000)
    assert times[1] < 20 * max(times[0], 0.05)
    assert times[1] < 10
