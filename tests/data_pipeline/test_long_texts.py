"""Long texts that repeat themselves or come in another order: their similarity is that of the sets of their 5-grams."""

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from corpus_files import english
from test_near_duplicates import _book

import data_pipeline.deduplication.long_texts
from benchmarks import near_duplicates
from data_pipeline.deduplication import minhash
from data_pipeline.deduplication.long_texts import LONG_CHARACTERS, LongText, long_similarity

_CHARACTERS = minhash.Shingles("character", 5)


def exact(first: str, second: str) -> float:
    """Written without the pipeline's code: sets of strings."""
    one, other = ({text[start : start + 5] for start in range(len(text) - 4)} for text in (first, second))
    return len(one & other) / len(one | other)


def similarity(first: str, second: str) -> float:
    return long_similarity(*(LongText(minhash.normalise(text), _CHARACTERS) for text in (first, second)))


def _lines(seed: int, kinds: int, length: int = 80) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=length)).strip() for _ in range(kinds)]


def _log(seed: int, size: int = 150_000) -> str:
    """Some lines again and again."""
    draw, lines = random.Random(seed), _lines(seed, 60)
    return " ".join(draw.choices(lines, k=size // 80)) + " " + " ".join(lines)


def _chapters(text: str, parts: int = 20) -> list[str]:
    size = len(text) // parts
    return [text[start : start + size].strip() for start in range(0, size * parts, size)]


def _shuffled(parts: list[str], separator: str) -> str:
    return separator.join(random.Random(5).sample(parts, len(parts)))


_BOOK = _book(8, 130_000)
_OTHER = _book(9, 130_000)
_ENTRIES = [f"{word} {number}" for number, word in enumerate(_lines(4, 9000, 9))]
_LIKE = {
    "a log that is 1 % longer": (" ".join(_lines(1, 60) * 31), " ".join(_lines(1, 60) * 31 + _lines(2, 19))),
    "a log with its lines in another order": (_log(3), _shuffled(_lines(3, 60) * 30, " ")),
    "one line": (f"{_lines(6, 1)[0]} " * 1500, f"{_lines(6, 1)[0]} " * 1600 + "and an end"),
    "one character": ("a" * 120_000, "a" * 150_000),
    "every chapter twice": (_BOOK, " ".join(part for part in _chapters(_BOOK) for _ in range(2))),
    "the whole twice": (_BOOK, f"{_BOOK} {_BOOK}"),
    "both twice": (f"{_BOOK} {_BOOK}", f"{_BOOK} {_BOOK} {english(1)}"),
    "chapters in another order": (_BOOK, _shuffled(_chapters(_BOOK), " ")),
    "the second half first": (_BOOK, " ".join(reversed(_chapters(_BOOK, 2)))),
    "half in another order": (
        _BOOK,
        _chapters(_BOOK, 2)[0] + " " + _shuffled(_chapters(_chapters(_BOOK, 2)[1]), " "),
    ),
    "pages in another order": (_BOOK, _shuffled(_chapters(_BOOK, 130), " ")),
    "two books, page by page": (
        f"{_BOOK} {_OTHER}",
        " ".join(
            part for pair in zip(_chapters(_BOOK, 100), _chapters(_OTHER, 100), strict=True) for part in pair
        ),
    ),
    "entries in another order": ("\n".join(_ENTRIES), _shuffled(_ENTRIES, "\n")),
    "entries with another end": ("\n".join(_ENTRIES), "\n".join(_ENTRIES[:-700])),
}


@pytest.mark.parametrize("kind", _LIKE)
def test_similarity_is_that_of_the_sets(kind: str) -> None:
    first, second = _LIKE[kind]
    assert min(len(first), len(second)) > LONG_CHARACTERS
    first, second = (" ".join(text.lower().split()) for text in (first, second))
    truth = exact(first, second)
    assert truth > 0.7
    assert similarity(first, second) == pytest.approx(truth, abs=1e-12)
    assert similarity(second, first) == pytest.approx(truth, abs=1e-12)


def test_they_are_duplicates_of_each_other_and_of_nothing_else(tmp_path: Path) -> None:
    kinds = (
        "a log that is 1 % longer",
        "one line",
        "one character",
        "every chapter twice",
        "entries in another order",
    )
    texts = [_OTHER, *(text for kind in kinds for text in _LIKE[kind]), _log(9)]
    kept, clusters = near_duplicates.deduplicated(texts, tmp_path, shards=2)
    assert kept == {0, 1, 3, 5, 7, 9, 11}
    for cluster in clusters:
        ((one, other, value),) = cluster["similar"]
        pair = (" ".join(texts[int(name)].split()) for name in (one, other))
        assert value == pytest.approx(exact(*pair), abs=1e-4)


@pytest.mark.parametrize(
    "first, second",
    [
        (_BOOK, _OTHER),
        (english(1, 25_000), english(2, 25_000)),  # of a few dozen words, 0.99 as sets
        (_log(1), _log(2)),
        (
            "".join(random.Random(1).choices("0123456789", k=400_000)),
            "".join(random.Random(2).choices("0123456789", k=400_000)),
        ),
    ],
    ids=["books", "few words", "logs", "digits"],
)
def test_what_texts_share_by_chance_does_not_count(first: str, second: str) -> None:
    assert min(len(first), len(second)) > LONG_CHARACTERS
    assert similarity(first, second) < 0.1


def test_of_many_shingles_a_sample_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_pipeline.deduplication.long_texts, "_SET_HASHES", 1 << 16)
    monkeypatch.setattr(data_pipeline.deduplication.long_texts, "_MERGED_HASHES", 1 << 15)
    draw = np.random.default_rng(1)
    parts = draw.integers(32, 127, (4, 60_000), dtype=np.uint8)
    pair = [LongText(np.concatenate([*parts[:3], last]), _CHARACTERS) for last in (parts[3][:9], parts[3])]
    assert all(1 << 15 < len(text.sample) <= 1 << 17 for text in pair)
    sets = [minhash.shingle_hashes(text.codes, _CHARACTERS) for text in pair]
    assert long_similarity(*pair) == pytest.approx(minhash.jaccard(*sets), abs=0.01)


def test_memory_is_bounded_by_the_text_and_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_pipeline.deduplication.long_texts, "_SET_HASHES", 1 << 16)
    monkeypatch.setattr(data_pipeline.deduplication.long_texts, "_MERGED_HASHES", 1 << 14)
    codes = np.random.default_rng(1).integers(32, 127, 2_000_000, dtype=np.uint8)
    tracemalloc.start()
    try:
        text = LongText(codes, _CHARACTERS)
        assert len(text.sample) > 1 << 15
        assert tracemalloc.get_traced_memory()[1] < 120 * (1 << 16)
    finally:
        tracemalloc.stop()
