"""Clean random raw documents and compare with ftfy, html and plain string methods: `fuzz_cleaning.py SEED ROUNDS`.

`fuzz_cleaning.py linear CHARACTERS` takes the time of all that reads raw documents, for every text of `raw_texts`, at so
many characters and at twice as many. Run in small by `test_cleaning_fuzz.py`. The last line counts the documents, or
the slow texts.
"""

import contextlib
import functools
import html
import json
import random
import re
import sys
import unicodedata
from collections.abc import Callable

import ftfy

from data_pipeline.cleaning import clean_text
from data_pipeline.engine.documents import Document
from data_pipeline.filters.c4 import C4
from data_pipeline.filters.filter import Filter
from data_pipeline.filters.gopher import GopherQuality, GopherRepetition
from data_pipeline.filters.pii import PersonalData
from data_pipeline.languages import language_shares
from data_pipeline.settings import CleaningSettings
from data_pipeline.tokenization.sentences import SentenceSplitter

_TEXT = (
    "café naïve “quoted” it’s – — … Zoë привет мир Ελλάδα 東京 東京都 señor Łódź ½ £5 €10 ﬁne déjà-vu à la mode plain "
    "words here Mr. Dr. U.S. etc. The Straße x² ☃ 😀 no. 7 “Mr. I. a.m."
)
_WORDS = _TEXT.split()
_ENCODINGS = ("latin-1", "windows-1252", "windows-1251", "windows-1250", "iso-8859-2", "macroman", "cp437")
_PIECES = (
    *(
        "\x00",
        "\x1b[1m",
        "\x1b[",
        "\r\n",
        "\r",
        "\x0b",
        "\x0c",
        "\x85",
        "\u2028",
        "\u2029",
        "\x9d",
        "\x7f",
        "\ufeff",
    ),
    *(
        "e\u0301",
        "\u0301\u0323",
        "\ufffe",
        "\U0001ffff",
        "\ufdd0",
        "\xad",
        "\u200b",
        "\xa0",
        "\u3000",
        "\ufffd",
    ),
    *(
        "&amp;",
        "&lt;",
        "&eacute;",
        "&#39;",
        "&#x41;",
        "&amp;lt;",
        "&amp;amp;",
        "&nbsp;",
        "& ",
        "<b>",
        "a < b",
        "7,5",
    ),
    *(
        "    ",
        "\t",
        "\n\n",
        "\n \n",
        " \n",
        "\n  ",
        '"',
        "'",
        "(",
        ")",
        "[",
        "]",
        "!",
        "?",
        "...",
        ". ",
        "-",
        "--",
    ),
)
_CHOSEN = ftfy.TextFixerConfig(
    unescape_html=False,
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    explain=False,
)
PARAMETERS = {
    "abbreviations": ["approx"],
    "collocations": [],
    "sentence_starters": ["the"],
    "orthographic_context": {},
}

# As they ship, but none is dropped early.
FILTER_RULES: dict[str, Filter] = {
    "gopher_quality": GopherQuality(
        minimum_words=0, maximum_words=10**9, minimum_word_length=0.0, symbol_ratio=9.0
    ),
    "gopher_repetition": GopherRepetition(
        lines=1.0,
        paragraphs=1.0,
        line_characters=1.0,
        paragraph_characters=1.0,
        top_ngrams=[99.0] * 3,
        duplicate_ngrams=[99.0] * 6,
    ),
    "c4": C4(minimum_line_words=0, maximum_word_length=10**9, terminal_marks="y"),
    "c4 as it ships": C4(),
    "pii": PersonalData(),
}


def readers() -> dict[str, Callable[[str], object]]:
    """What reads raw documents."""
    return {
        "clean": functools.partial(clean_text, settings=CleaningSettings()),
        "join lines": functools.partial(clean_text, settings=CleaningSettings(join_lines=True, repair=False)),
        "languages": lambda text: language_shares(clean_text(text, CleaningSettings(repair=False))),
        "sentences": SentenceSplitter(PARAMETERS),
        **{f"filter {name}": functools.partial(_ask, rule) for name, rule in FILTER_RULES.items()},
    }


def _ask(rule: Filter, text: str) -> object:
    return rule.keep(Document("d/0", text, "d", json.dumps({"url": f"http://e.com/{text}"})))


def document(draw: random.Random) -> str:
    """A document of words in order, words decoded wrongly up to twice, and what is hard to repair."""
    parts = []
    for _ in range(draw.randint(0, 12)):
        text = " ".join(draw.choice(_WORDS) for _ in range(draw.randint(1, 5)))
        for _ in range(draw.choice((0, 0, 0, 1, 1, 2))):
            with contextlib.suppress(UnicodeDecodeError):  # what is lost nobody can repair
                text = text.encode().decode(draw.choice(_ENCODINGS[:2] + _ENCODINGS))
        parts.append(draw.choice(_PIECES) + text if draw.random() < 0.5 else text)
        parts.append(draw.choice((" ", "\n", "", draw.choice(_PIECES))))
    return "".join(parts)


def repaired(text: str) -> str:
    """What ftfy, told not to touch entities, makes of a text whose entities `html` has decoded once."""
    lines = text.split("\n")
    is_html = [False]
    for line in lines:
        is_html.append(is_html[-1] or "<" in line)
    text = "\n".join(
        line if inside else html.unescape(line) for line, inside in zip(lines, is_html[1:], strict=True)
    )
    for wrong in ("\r\n", "\r", "\x0b", "\x0c"):
        text = text.replace(wrong, "\n")
    return "".join(character for character in ftfy.fix_text(text, _CHOSEN) if is_character(character))


def is_character(character: str) -> bool:
    code = ord(character)
    if unicodedata.category(character) == "Cc":
        return character in "\t\n"
    return not (0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE)


def trimmed(text: str) -> str:
    lines = text.split("\n")
    while lines and not lines[0].strip():
        del lines[0]
    return "\n".join(lines).rstrip()


def joined(text: str) -> str:
    """By the expressions that say it, which take too long for long texts."""
    parts = re.split(r"\s*\n\s*\n\s*", text.strip())
    return "\n\n".join(re.sub(r"[^\S\n]*\n[^\S\n]*", " ", part) for part in parts)


def check(text: str, split: SentenceSplitter) -> None:
    cleaned = clean_text(text, CleaningSettings())
    assert cleaned == trimmed(repaired(text)), (text, cleaned, trimmed(repaired(text)))
    plain = clean_text(text, CleaningSettings(repair=False))
    for wrong in ("\r\n", "\r", "\x0b", "\x0c"):
        text = text.replace(wrong, "\n")
    assert plain == trimmed("".join(filter(is_character, text))), text
    lines = clean_text(text, CleaningSettings(repair=False, join_lines=True))
    assert lines == joined(plain), (text, lines, joined(plain))
    assert "".join("".join(split(cleaned)).split()) == "".join(cleaned.split()), text
    assert all(0 < share <= 1 for share in language_shares(cleaned).values()), text


def main(arguments: list[str]) -> None:
    if arguments[0] == "linear":
        from test_linear_time import EXPRESSIONS, scan, slow

        functions = {**readers(), **{where: scan(pattern) for where, pattern in EXPRESSIONS.items()}}
        found = [(name, slow(function, int(arguments[1]))) for name, function in functions.items()]
        for name, texts in found:
            print(name, texts or "linear")
        print(sum(len(texts) for _, texts in found))
        return
    draw, split = random.Random(int(arguments[0])), SentenceSplitter(PARAMETERS)
    for _ in range(int(arguments[1])):
        check(document(draw), split)
    print(arguments[1])


if __name__ == "__main__":
    main(sys.argv[1:])
