"""Repair that asks its library only where it can change something: the same as asking it for everything."""

import itertools
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fuzz_cleaning import document

import data_pipeline.repair
from data_pipeline.repair import MARKS, clean_characters

_ASCII = [chr(code) for code in range(128)]
_ALL_MARKS = [chr(code) for code in range(0x80, 0x3000) if re.match(f"[{MARKS}]", chr(code))]


def always_asked(text: str) -> str:
    """The text after the library was asked for every line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_pipeline.repair, "_OTHER", re.compile(""))
        patch.setattr(data_pipeline.repair, "_is_clean", lambda line: False)
        return clean_characters(text, repair=True)


def test_every_alternative_for_wrong_decodings_needs_another_character() -> None:
    """The proof, of any length of text: each alternative has a place that neither ASCII nor a mark can take."""
    from ftfy.badness import BADNESS_RE

    parsed = re._parser.parse(BADNESS_RE.pattern, BADNESS_RE.flags)
    assert parsed.getwidth()[1] <= data_pipeline.repair._WIDEST
    ((kind, (_, alternatives)),) = parsed.data
    assert str(kind) == "BRANCH" and len(alternatives) > 20
    for alternative in alternatives:
        assert _needs_another(alternative), alternative


def _needs_another(items: Any) -> bool:
    return any(_is_other(*item) for item in items)


def _is_other(kind: Any, value: Any) -> bool:
    """Whether an item has to be matched, and by a character that is neither ASCII nor a mark."""
    if str(kind) == "BRANCH":
        return all(map(_needs_another, value[1]))
    if str(kind) == "SUBPATTERN":
        return _needs_another(value[-1])
    if str(kind) == "LITERAL":
        return chr(value) not in {*_ASCII, *_ALL_MARKS}
    if str(kind) == "IN":
        assert all(str(what) in ("LITERAL", "RANGE", "CATEGORY", "NEGATE") for what, _ in value)
        if any(str(what) in ("CATEGORY", "NEGATE") for what, _ in value):
            return False
        ranges = [(one, one) if str(what) == "LITERAL" else one for what, one in value]
        return not any(low <= ord(mark) <= high for mark in (*_ASCII, *_ALL_MARKS) for low, high in ranges)
    return False  # the start of a text, an optional part


def test_strings_of_marks_come_back_from_the_library_as_they_are() -> None:
    nine = "‘’“”–—…\xa0•"
    strings = ["".join(marks) for size in range(1, 5) for marks in itertools.product(nine, repeat=size)]
    assert len(strings) == 7380
    assert always_asked("\n".join(strings)) == "\n".join(strings)
    near = [*_ALL_MARKS, *"aZ0 .,&;\"'<->()\t"]
    pairs = ["".join(pair) for pair in itertools.product(near, repeat=2)]
    text = "\n".join(pair + other for pair in pairs for other in ("", "a", " ", "”"))
    assert always_asked(text) == text == clean_characters(text, repair=True)


def test_typographic_text_does_not_ask_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "“It’s – well … done,” she said—twice.\n" + "".join(_ALL_MARKS) + "\ncafé, señor, Łódź, привет, 東京"
    )

    def asked() -> None:
        raise AssertionError

    monkeypatch.setattr(data_pipeline.repair, "_repairer", asked)
    assert clean_characters(text, repair=True) == text
    with pytest.raises(AssertionError):
        clean_characters("“caf" + "é".encode().decode("cp1252") + "”", repair=True)


@pytest.mark.parametrize(
    "wrong, right",
    [
        ("“itâ€™s” – cafÃ©", "“it’s” – café"),
        ("“quoted” â€” dash … naÃ¯ve’s", "“quoted” — dash … naïve’s"),
        ("’ e\u0301 ‘", "’ é ‘"),
        ("“a\x1b[0mb”\u2028c\ufeff", "“ab”\nc"),
        ("—\x85—", "—…—"),
        ("“&eacute;” &mdash; …", "“é” — …"),
        ("one\r\n“two”\rthree’s\x0c", "one\n“two”\nthree’s\n"),
    ],
)
def test_what_is_broken_among_marks_is_repaired(wrong: str, right: str) -> None:
    assert clean_characters(wrong, repair=True) == right == always_asked(wrong)


def _texts(draw: random.Random) -> Iterator[str]:
    from ftfy.badness import MOJIBAKE_CATEGORIES

    odd = [
        character
        for listed in MOJIBAKE_CATEGORIES.values()
        for character in re.sub("(.)-(.)", r"\1\2", listed)
    ]
    odd += [*_ALL_MARKS, *"éÃÂâ€œØÙвЂà²√×³ГўВЂВ東\u0301\x85\u2028\ufeff\x1b\ufffe&;"]
    for _ in range(1500):
        letters = (draw.choice(odd) if draw.random() < 0.3 else draw.choice("abc  De.\n") for _ in range(40))
        yield "".join(letters)
    for _ in range(150):
        yield document(draw)


@pytest.mark.parametrize("seed", range(2))
def test_random_texts_are_repaired_as_if_the_library_was_always_asked(seed: int) -> None:
    changed = 0
    for text in _texts(random.Random(seed)):
        result = clean_characters(text, repair=True)
        assert result == always_asked(text), text
        changed += result != text
    assert changed > 100
