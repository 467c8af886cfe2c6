"""Cleaning: what is repaired and what is left alone, and each reason to drop a document."""

import json
from pathlib import Path
from typing import Any

import pytest
from corpus_files import contents, english, read_documents, real_data, write_documents

from data_pipeline.cleaning import clean, clean_text
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.settings import CleaningSettings
from data_pipeline.tokenization.tokenizers import load_tokenizer, train_tokenizer

_GERMAN = (
    "Der alte Müller ging am frühen Morgen über die Brücke zum Markt und kaufte dort Mehl, Salz und eine Laterne, "
    "weil die Nächte wieder länger wurden und seine Kinder im Dunkeln Angst hatten. "
) * 8


def run(texts: list[str], directory: Path, workers: int = 1, **settings: Any) -> dict[str, Any]:
    length_tokenizer = settings.pop("length_tokenizer", None)
    return clean(
        write_documents(directory / "in", texts, shards=2),
        directory / "out",
        CleaningSettings(**settings),
        length_tokenizer=length_tokenizer,
        executor=LocalExecutor(workers),
    )


@pytest.mark.parametrize(
    "before, after",
    [
        ("The cafÃ© wasnâ€™t open.", "The café wasn’t open."),
        ("fish &amp; chips", "fish & chips"),
        ("a\x00b\x07c\x7fd\ufffee", "abcde"),
        ("one\r\ntwo\rthree\x0cfour", "one\ntwo\nthree\nfour"),
        ("\x1b[1mbold\x1b[0m text", "bold text"),
        ("Zoe\u0301", "Zoé"),
    ],
)
def test_repairs(before: str, after: str) -> None:
    assert clean_text(before, CleaningSettings()) == after


@pytest.mark.parametrize(
    "text", ["“Curly” quotes’ – ﬁne ½ Ａ x² Ωμέγα 東京 ☃", "if (a < b && c > d) return;", "tab\tand\nnewline"]
)
def test_what_is_not_broken_stays(text: str) -> None:
    assert clean_text(text, CleaningSettings()) == text


def test_real_text_is_not_changed() -> None:
    text = real_data("wikitext103.valid.tokens").read_text(encoding="utf-8")
    assert clean_text(text, CleaningSettings()) == text.strip()


def test_without_repair_only_control_characters_go() -> None:
    assert clean_text("cafÃ©\x00", CleaningSettings(repair=False)) == "cafÃ©"


def test_needless_newlines() -> None:
    text = "one\ntwo \n three\n \n\nfour\nfive"
    assert clean_text(text, CleaningSettings(join_lines=True)) == "one two three\n\nfour five"


def test_every_reason_is_counted_and_listed(tmp_path: Path) -> None:
    texts = [english(1), "too short", _GERMAN, english(2) + " &amp;", "12 34 " * 100, ""]
    summary = run(texts, tmp_path)
    assert [document.id for document in read_documents(tmp_path / "out")] == ["t/000000", "t/000003"]
    assert summary["dropped"] == {"not_english": 2, "too_short": 2}
    assert (summary["documents_in"], summary["documents"], summary["repaired"]) == (6, 2, 1)
    assert summary["length_counted_by"] == "words × 4/3 ≥ 128"
    listed = [
        json.loads(line)
        for path in sorted((tmp_path / "out" / "dropped").iterdir())
        for line in path.read_text().splitlines()
    ]
    assert {entry["id"]: entry["reason"] for entry in listed} == {
        "t/000001": "too_short",
        "t/000002": "not_english",
        "t/000004": "not_english",
        "t/000005": "too_short",
    }


def test_other_language(tmp_path: Path) -> None:
    assert run([english(1), _GERMAN], tmp_path, language="de")["dropped"] == {"not_de": 1}
    assert read_documents(tmp_path / "out")[0].id == "t/000001"


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = [english(seed) for seed in range(20)] + ["short", _GERMAN]
    for workers in (1, 2):
        run(texts, tmp_path / str(workers), workers)
    assert contents(tmp_path / "1" / "out") == contents(tmp_path / "2" / "out")


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_length_in_tokens_is_exact_at_the_limit(tmp_path: Path, kind: Any) -> None:
    """A document of exactly the minimum stays, one token fewer goes, though words are what is looked at first."""
    train_tokenizer(
        kind, write_documents(tmp_path / "train", [english(seed) for seed in range(30)]), tmp_path, 400
    )
    tokenizer = load_tokenizer(tmp_path)
    texts = [english(seed, words) for seed, words in enumerate((90, 100, 110, 120, 130, 140))]
    lengths = [len(tokenizer.encode(text)) for text in texts]
    limit = lengths[3]
    summary = run(texts, tmp_path / "run", minimum_tokens=limit, length_tokenizer=tmp_path)
    assert summary["documents"] == sum(length >= limit for length in lengths) == 3
    assert tokenizer.fingerprint[:12] in summary["length_counted_by"]
