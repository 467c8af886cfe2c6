"""Benchmark text that is hidden from a comparison of characters: what a reader sees is found, and the original cut."""

import html
import json
import random
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_files import english

import data_pipeline.decontamination.ngrams
import data_pipeline.decontamination.words
from data_pipeline.decontamination.ngrams import BenchmarkNgrams
from data_pipeline.decontamination.words import folded, readings, words

_PASSAGE = (
    "Nobody on the quay had expected that José Müller, the old ferryman of the office fleet, didn't ever give away "
    "his brass lantern in the winter of 1911 without a word about the naïve fisher's café"
)
_ACCENTED = _PASSAGE.replace("e", "é").replace("a", "à").replace("o", "ö")
_WORDS = _PASSAGE.split(" ")


def _between(mark: str) -> Callable[[str], str]:
    """The mark between all letters."""
    return mark.join


def _in_words(mark: str) -> Callable[[str], str]:
    return lambda text: " ".join(f"{word[:2]}{mark}{word[2:]}" for word in text.split(" "))


def _round_words(before: str, after: str) -> Callable[[str], str]:
    return lambda text: " ".join(f"{before}{word}{after}" for word in text.split(" "))


def _wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _bold(text: str) -> str:
    return "".join(
        chr(0x1D400 + ord(c) - 65)
        if "A" <= c <= "Z"
        else chr(0x1D41A + ord(c) - 97)
        if "a" <= c <= "z"
        else c
        for c in text
    )


def _broken_at_ends(hyphen: str) -> Callable[[str], str]:
    """Every word of six letters and more broken at the end of a line."""
    return lambda text: " ".join(
        f"{word[:3]}{hyphen}\n{word[3:]}" if len(word) > 5 and word.isalpha() else word
        for word in text.split(" ")
    )


_PLANTS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "soft hyphens": _in_words("\u00ad"),
    "soft hyphens between all letters": _between("\u00ad"),
    "zero-width spaces in words": _in_words("\u200b"),
    "zero-width spaces for blanks": lambda text: text.replace(" ", "\u200b"),
    "zero-width spaces beside blanks": lambda text: text.replace(" ", " \u200b"),
    "zero-width non-joiners": _in_words("\u200c"),
    "zero-width joiners": _in_words("\u200d"),
    "word joiners": _in_words("\u2060"),
    "byte order marks": _in_words("\ufeff"),
    "byte order marks before words": _round_words("\ufeff", ""),
    "left-to-right marks": _round_words("\u200e", "\u200f"),
    "embeddings and isolates": _round_words("\u202a", "\u202c\u2066\u2069"),
    "invisible times": _in_words("\u2062"),
    "mongolian vowel separators": _in_words("\u180e"),
    "tag characters": _in_words("\U000e0041"),
    "variation selectors": _between("\ufe0f"),
    "supplementary variation selectors": _in_words("\U000e0101"),
    "grapheme joiners": _in_words("\u034f"),
    "combining marks": _between("\u0336"),
    "Hangul fillers": _in_words("\u3164"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "composed": lambda text: unicodedata.normalize("NFC", text),
    "without accents": lambda text: text.replace("é", "e").replace("ü", "u").replace("ï", "i"),
    "upper case": str.upper,
    "swapped case": str.swapcase,
    "typographic apostrophes": lambda text: text.replace("'", "’"),
    "letter apostrophes": lambda text: text.replace("'", "ʼ"),
    "typographic quotes": _round_words("“", "”"),
    "ligatures": lambda text: text.replace("ffi", "ﬃ").replace("fi", "ﬁ").replace("fl", "ﬂ"),
    "wide letters": _wide,
    "mathematical letters": _bold,
    "long s": lambda text: text.replace("s", "ſ"),
    "underscores of emphasis": _round_words("_", "_"),
    "emphasis of all": lambda text: f"_{text}_",
    "stars": _round_words("**", "**"),
    "stars in words": lambda text: " ".join(f"{word[:2]}*{word[2:]}*" for word in text.split(" ")),
    "strike-through and code": _round_words("~~`", "`~~"),
    "quoted lines": lambda text: "> " + text.replace(" ", "\n> "),
    "headings and bullets": lambda text: "# " + text.replace(" ", "\n- "),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "ideographic spaces": lambda text: text.replace(" ", "\u3000"),
    "line separators": lambda text: text.replace(" ", "\u2028"),
    "tags": _round_words("<i class='x'>", "</i>"),
    "line break tags": lambda text: text.replace(" ", " <br/>"),
    "entities": lambda text: "".join(f"&#{ord(c)};" if not c.isascii() or c == "'" else c for c in text),
    "named entities": lambda text: html.escape(text).replace("é", "&eacute;").replace(" ", "&nbsp;"),
    "soft hyphens as entities": _in_words("&shy;"),
    "notes": lambda text: " ".join(f"{word}[{number}]" for number, word in enumerate(text.split(" "))),
    "links": _round_words("[", "](https://example.org/a_b)"),
    "hyphens at ends of lines": _broken_at_ends("-"),
    "soft hyphens at ends of lines": _broken_at_ends("\u00ad"),
    "control characters": _in_words("\x08"),
}


@pytest.fixture(scope="module")
def ngrams(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkNgrams:
    return _ngrams(tmp_path_factory.mktemp("benchmark"), _PASSAGE)


def _ngrams(directory: Path, *passages: str) -> BenchmarkNgrams:
    path = directory / "lambada.jsonl"
    path.write_text("".join(json.dumps({"text": passage}) + "\n" for passage in passages))
    return BenchmarkNgrams((("lambada", path),), 13, 8)


@pytest.mark.parametrize("plant", _PLANTS)
def test_what_a_reader_sees_is_found_whole(ngrams: BenchmarkNgrams, plant: str) -> None:
    before, hide, after = english(1), _PLANTS[plant], english(2)
    hidden = hide(_PASSAGE)
    matches = ngrams.find([f"{before} {hidden} {after}"])[0]
    start = min(match.start for match in matches) - len(before) - 1
    end = max(match.end for match in matches) - len(before) - 1
    assert 0 <= start < len(hide(_WORDS[0]))  # in the first word
    assert 0 <= len(hidden) - end < len(hide(_WORDS[-1]))  # in the last word


def test_documents_searched_together_are_searched_apart(
    ngrams: BenchmarkNgrams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends in one document and goes on in the next one is in neither; places are those in each document."""
    half = len(_WORDS) // 2
    first, second = " ".join(_WORDS[:half]), " ".join(_WORDS[half:])
    texts = [
        english(1),
        f"{english(2)} {_PASSAGE}",
        " ".join(_WORDS[:7]),
        " ".join(_WORDS[7:]) + " é",
        "",
        _PASSAGE,
        " ".join(_WORDS[7:12]),
        f"“{_PASSAGE}” {first}",
        second,
        *(plant(_PASSAGE) for plant in _PLANTS.values()),
    ]
    apart = [ngrams.find([text])[0] for text in texts]
    assert [bool(matches) for matches in apart[:7]] == [False, True, False, True, False, True, False]
    assert apart[5][0].start == 0 and apart[5][-1].end == len(_PASSAGE)
    for characters in (1, 300, 1 << 16):
        monkeypatch.setattr(data_pipeline.decontamination.ngrams, "_GROUP_CHARACTERS", characters)
        assert ngrams.find(texts) == apart
    short = [" ".join(_WORDS[:7]), " ".join(_WORDS[7:14])] * 3  # runs of 13 only across their ends
    assert ngrams.find(short) == [[]] * 6


@pytest.mark.parametrize("plant", _PLANTS)
def test_a_hidden_benchmark_finds_its_plain_text(tmp_path: Path, plant: str) -> None:
    ngrams = _ngrams(tmp_path, _PLANTS[plant](_PASSAGE))
    assert ngrams.find([f"{english(1)} {_PASSAGE} {english(2)}"])[0]
    assert ngrams.find([f"{english(1)} {english(2)}"])[0] == []


@pytest.mark.parametrize(
    "benchmark, repaired",
    [
        (_PASSAGE.encode().decode("cp1252"), _PASSAGE),  # mojibake
        (_PASSAGE.replace("'", "&#39;").replace("é", "&eacute;"), _PASSAGE),
        (unicodedata.normalize("NFD", _ACCENTED), _ACCENTED),
        (_ACCENTED, unicodedata.normalize("NFD", _ACCENTED)),
        (_PASSAGE.replace("'", "’").upper(), _PASSAGE),
        (_PASSAGE.replace(" ", "\r\n"), _PASSAGE.replace(" ", "\n")),
    ],
)
def test_benchmarks_are_repaired_as_documents_are(tmp_path: Path, benchmark: str, repaired: str) -> None:
    ngrams = _ngrams(tmp_path, benchmark)
    for text in (benchmark, repaired):
        matches = ngrams.find([f"{english(1)} {text} {english(2)}"])[0]
        assert min(matches).start == len(english(1)) + 1
        rest = len(english(1)) + 1 + len(text) - max(match.end for match in matches)
        assert 0 <= rest < len("&eacute;")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ... ",
        "x",
        "Don't stop_me 1,000 times",
        "ÀÉ ß İx 東京\u3000é\u0301 𠀀a \ud7ff ŉ ½ x² ™ ⓐ ʼtis 한국 ﬃ\u00ad\u00ad",
        "\u0301 \u200b",
        "ab " * 70,
        "áb\u00ad " * 70,
        "y" * 300 + " z" * 90,
    ],
)
@pytest.mark.parametrize("block", [1 << 20, 16])
def test_words_as_arrays_are_those_of_single_characters(
    monkeypatch: pytest.MonkeyPatch, text: str, block: int
) -> None:
    """Written with strings and `unicodedata`, a character at a time."""
    if "yyy" not in text:  # a word that is longer than a block is cut
        monkeypatch.setattr(data_pipeline.decontamination.words, "_BLOCK_CHARACTERS", block)
    expected: list[tuple[str, int, int]] = []
    is_open = False
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        if category == "Cf" or category[0] == "M":
            continue
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
        if not (character.isalnum() or character == "ⓐ"):
            plain = " "
        for part in plain:
            if unicodedata.category(part)[0] == "M":
                continue
            if not part.isalnum() or part == "ʼ":
                is_open = False
            elif is_open:
                expected[-1] = (expected[-1][0] + part, expected[-1][1], place + 1)
            else:
                expected.append((part, place, place + 1))
                is_open = True
    hashes, starts, ends = words(text)
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [entry[1:] for entry in expected]
    by_word = dict(zip((entry[0] for entry in expected), hashes.tolist(), strict=True))
    assert hashes.tolist() == [by_word[entry[0]] for entry in expected]
    assert len(set(hashes.tolist())) == len(by_word)
    assert folded(text).split() == [entry[0] for entry in expected]


def test_every_character_is_read_the_same_alone_and_in_a_title() -> None:
    for code in range(0x110000):
        if code % 97 == 0 and not 0xD800 <= code < 0xE000:
            text = f"a{chr(code)}b"
            assert len(words(text).starts) == len(folded(text).split()), hex(code)


def test_random_plants_against_a_naive_matcher(tmp_path: Path) -> None:
    counts = fuzz_plants(tmp_path, random.Random(1), documents=150)
    assert min(counts.values()) > 30


def fuzz_plants(directory: Path, draw: random.Random, documents: int) -> dict[str, int]:
    """Documents of words that are hidden in random ways, with runs of a benchmark's words in them: what is found is
    exactly what sets of word tuples say."""
    vocabulary = ["".join(draw.choices("abdegklmnorstuvé", k=draw.randint(3, 9))) for _ in range(300)]
    passages = [draw.choices(vocabulary, k=size) for size in (*range(6, 16), 40, 80, 120)]
    ngrams = _ngrams(directory, *map(" ".join, passages))
    runs = {size: set[tuple[str, ...]]() for size in range(8, 14)}
    for passage in passages:
        size = min(len(passage), 13)
        if size >= 8:
            runs[size] |= {tuple(passage[i : i + size]) for i in range(len(passage) - size + 1)}
    hiding = [
        plant
        for name, plant in _PLANTS.items()
        if name not in ("typographic quotes", "links", "tags", "notes")
    ]
    counts = {"found": 0, "not found": 0}
    for _ in range(documents):
        text = draw.choices(vocabulary, k=draw.randint(0, 60))
        for _ in range(draw.randint(0, 2)):
            passage = draw.choice(passages)
            start = draw.randint(0, max(0, len(passage) - 14))
            place = draw.randint(0, len(text))
            text[place:place] = passage[start : start + draw.randint(6, 40)]
        expected = {
            (i, i + size)
            for size, known in runs.items()
            for i in range(len(text) - size + 1)
            if tuple(text[i : i + size]) in known
        }
        hidden = draw.choice(hiding)(" ".join(text))
        found = {(match.start, match.end) for match in ngrams.find([hidden])[0]}
        assert bool(found) == bool(expected), hidden
        places = [words(reading) for reading in readings(hidden)]
        spans = {
            (int(read.starts[i]), int(read.ends[j - 1]))
            for read in places
            if len(read.starts) == len(text)
            for i, j in expected
        }
        assert found <= spans, hidden
        counts["found" if found else "not found"] += 1
    return counts


@pytest.mark.parametrize(
    "unit",
    [
        "<a ",
        "<",
        "[",
        "[a",
        "](",
        "](a",
        "&a",
        "&#",
        "a-\n",
        "-\n \t",
        "a*",
        "a_",
        "*",
        "\u00ad",
        "\u200ba",
        "[1]",
        " ",
        "\u0301",
    ],
)
def test_any_text_is_read_in_linear_time(ngrams: BenchmarkNgrams, unit: str) -> None:
    seconds = []
    for size in (1 << 17, 1 << 20):
        text = unit * (size // len(unit))
        started = time.process_time()
        assert ngrams.find([text])[0] == []
        seconds.append(time.process_time() - started)
    assert seconds[1] < 32 * max(seconds[0], 0.01)  # eight times the text
