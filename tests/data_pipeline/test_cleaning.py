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
        ("write &amp;lt; for &lt;", "write &lt; for <"),  # decoded once
        ("&amp;amp;eacute; and &amp;#39;", "&amp;eacute; and &#39;"),
        ("&Atilde;&copy;", "é"),
        ("Ð\x92Ð\x85 Straße", "ВЅ Straße"),  # parts before the whole: all of it is Latin-1
        ("é â\x80\x93Ã¢â‚¬Å›b", "é –“b"),  # one part, wrong in two ways
        (
            "&lt;b&gt; is\n<b>&amp;</b>",
            "<b> is\n<b>&amp;</b>",
        ),  # from the first line with a tag on it is HTML
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
    assert clean_text(text, CleaningSettings()) == " = " + text.strip().removeprefix("= ")


@pytest.mark.parametrize(
    "before, after",
    [
        ("    def f(x):\n        return x\n", "    def f(x):\n        return x"),
        ("\n \t\n\t  Tyger Tyger,\n  burning bright \n\n", "\t  Tyger Tyger,\n  burning bright"),
        ("\xa0 a", "\xa0 a"),
        ("a", "a"),
        (" \n ", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize("repair", [True, False])
def test_the_first_lines_indentation_stays(before: str, after: str, repair: bool) -> None:
    assert clean_text(before, CleaningSettings(repair=repair)) == after


def test_without_repair_only_control_characters_go() -> None:
    assert clean_text("cafÃ©\x00", CleaningSettings(repair=False)) == "cafÃ©"


def test_needless_newlines() -> None:
    text = "one\ntwo \n three\n \n\nfour\nfive"
    assert clean_text(text, CleaningSettings(join_lines=True)) == "one two three\n\nfour five"
    assert clean_text("  a\n\n\n \t\n b\n\tc  d ", CleaningSettings(join_lines=True)) == "a\n\nb c  d"


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
    assert {entry["id"]: entry.get("language_share") for entry in listed if "language" in entry} == {
        "t/000002": 0.0,
        "t/000004": 0.0,
    }
    assert [entry["language"] for entry in listed if "language" in entry] == ["de", "un"]
    assert {entry["id"]: entry["reason"] for entry in listed} == {
        "t/000001": "too_short",
        "t/000002": "not_english",
        "t/000004": "not_english",
        "t/000005": "too_short",
    }


def test_other_language(tmp_path: Path) -> None:
    assert run([english(1), _GERMAN], tmp_path, language="de")["dropped"] == {"not_de": 1}
    assert read_documents(tmp_path / "out")[0].id == "t/000001"


def test_the_share_of_the_language_decides_and_is_recorded(tmp_path: Path) -> None:
    """Not the start of a text: a notice in one language before a text in another."""
    english_text = " ".join(english(seed) for seed in range(60))
    texts = [
        english_text[:1100] + _GERMAN * 40,
        _GERMAN[:1500] + english_text,
        english_text[:2000] + _GERMAN[:1000],
    ]
    summary = run(texts, tmp_path)
    assert summary["dropped"] == {"not_english": 1}
    scores = sorted((tmp_path / "out" / "scores").iterdir())
    kept = {entry["id"]: entry for path in scores for entry in map(json.loads, path.read_text().splitlines())}
    assert [document.id for document in read_documents(tmp_path / "out")] == list(kept)
    assert list(kept) == ["t/000001", "t/000002"]
    assert kept["t/000001"]["language_share"] > 0.85
    assert 0.5 < kept["t/000002"]["language_share"] < 0.8
    assert run(texts, tmp_path / "more", language_share=0.8)["dropped"] == {"not_english": 2}
    assert run(texts, tmp_path / "all", language_share=0.0)["dropped"] == {}
    assert run(texts, tmp_path / "other", language="de")["dropped"] == {"not_de": 2}


_HEBREW = "הזקן הלך בבוקר אל השוק וקנה שם קמח ומלח ופנס כי הלילות נעשו ארוכים יותר וילדיו פחדו בחושך. "
_CHINESE = "老磨坊主人清早走過橋到市場去買了麵粉鹽和一盞燈籠因為夜晚又變長了他的孩子們在黑暗中感到害怕。"
_SIMPLE_CHINESE = (
    "老磨坊主人清早走过桥到市场去买了面粉盐和一盏灯笼因为夜晚又变长了他的孩子们在黑暗中感到害怕。"
)
_JAPANESE = "年老いた粉屋は朝早く橋を渡って市場へ行き、そこで小麦粉と塩とランタンを買いました。"
_THAI = "คนโม่แป้งชราเดินข้ามสะพานไปตลาดแต่เช้าและซื้อแป้งเกลือและตะเกียงเพราะกลางคืนยาวขึ้นอีกแล้ว"


@pytest.mark.parametrize(
    "language, text",
    [
        ("he", _HEBREW * 8),
        ("iw", _HEBREW * 8),
        ("zh", _CHINESE * 4),
        ("zh", _SIMPLE_CHINESE * 4),
        ("zh-Hant", _CHINESE * 4),
        ("zh-Hans", _SIMPLE_CHINESE * 4),
        ("ja", _JAPANESE * 4),
        ("th", _THAI * 6),
    ],
)
def test_languages_by_their_other_codes_and_without_blanks(tmp_path: Path, language: str, text: str) -> None:
    summary = run([text, text[:40], english(1)], tmp_path, language=language)
    assert summary["dropped"] == {"too_short": 1, f"not_{language}": 1}


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
