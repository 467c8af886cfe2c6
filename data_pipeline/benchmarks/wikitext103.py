"""WikiText-103's data: one text, tokenized by words (` @-@ `, `<unk>`, blanks before punctuation).

One paragraph a line, ` = Title = ` above an article, ` = = Heading = = ` above its sections.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.files import atomic_write
from data_pipeline.benchmarks.benchmark import (
    UNKNOWN_WORD,
    Benchmark,
    BenchmarkText,
    Origin,
    Rows,
    Sample,
    add_benchmark,
    text_of,
)
from data_pipeline.sample.text import Article, Guard, article
from data_pipeline.sample.world import World
from data_pipeline.text_files import read_text

_TITLE = re.compile(r" = (?!= )((?:(?! = ).)+) = $")
_SAMPLE_ARTICLES = {"valid": 30, "test": 60}
MOST_UNKNOWN = 0.01  # share of WikiText-103's words that are `<unk>`: 0.4 %, of WikiText-2's 2.6 %
_UNKNOWN_RATE = 0.02  # of capitalised words; real WikiText has about 0.4 % of all words


def count_original_tokens(text: str) -> int:
    """Words of the benchmark's own tokenization: what perplexity is normalised by."""
    return len(text.strip().split(" "))


def normalise(text: str) -> tuple[str, str]:
    """A text with the line ends of the published file, "\\n"; and what others it had: "CRLF", "CR" or nothing.

    Between words of the benchmark a carriage return would count as part of the text, and change every number.
    """
    if "\r\n" in text:
        return text.replace("\r\n", "\n").removesuffix("\r"), "CRLF"  # of a last line without its newline
    if "\r" in text and "\n" not in text:
        return text.replace("\r", "\n"), "CR"
    return text, ""


def is_title(line: str) -> bool:
    """Whether a line is the title of an article."""
    return _TITLE.match(line) is not None


def _texts(content: str) -> Iterator[BenchmarkText]:
    before = ""
    lines = normalise(content)[0].split("\n")
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        heading = _TITLE.match(line)
        if heading and not before.strip() and not after.strip():
            yield BenchmarkText("", heading.group(1))
        else:  # a formula looks like a title, but stands in its paragraph
            yield BenchmarkText(line)
        before = line


def _row_texts(row: Any) -> Iterator[BenchmarkText]:
    yield from _texts(text_of(row, "text").removesuffix("\n"))


def write_rows(rows: Rows, target: Path) -> None:
    """Write the hub's rows of the test set, which lack the content of blank lines, " \\n"."""
    with atomic_write(target) as temporary:
        content = "".join(row["text"] or " \n" for row in rows("test"))
        temporary.write_text(content, encoding="utf-8", newline="")


def count(path: Path) -> dict[str, Any]:
    """Words; and unknown ones, where they are so many that it must be WikiText-2, which has the same articles."""
    words, unknown = _words_and_unknown(path)
    return {"words": words, **({UNKNOWN_WORD: unknown} if unknown > words * MOST_UNKNOWN else {})}


def count_of_wikitext2(path: Path) -> dict[str, Any]:
    """Words; and unknown ones, where they are too few."""
    words, unknown = _words_and_unknown(path)
    return {"words": words, **({UNKNOWN_WORD: unknown} if unknown <= words * MOST_UNKNOWN else {})}


def _words_and_unknown(path: Path) -> tuple[int, int]:
    text = normalise(read_text(path))[0]
    return count_original_tokens(text), text.count(f" {UNKNOWN_WORD} ")


def _spaced(text: str) -> str:
    """Running text in WikiText's tokenised spelling (no `<unk>` yet)."""
    text = re.sub(r"(?<=\d),(?=\d)", " @,@ ", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", " @.@ ", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " @-@ ", text)
    text = re.sub(r"(?<=\w)'s\b", " 's", text)
    text = re.sub(r'(?<![@\s])([.,;:!?()"])(?!@)', r" \1", text)
    text = re.sub(r'([("])(?=\S)', r"\1 ", text)
    return re.sub(r" {2,}", " ", text).strip()


def _lines(draw: random.Random, text: Article) -> list[str]:
    """An article as lines of a `.tokens` file; each begins with a blank and ends with one."""

    def paragraph(plain: str) -> str:
        words = [
            UNKNOWN_WORD if word[0].isupper() and draw.random() < _UNKNOWN_RATE else word
            for word in _spaced(plain).split(" ")
        ]
        return f" {' '.join(words)} "

    lines = [" ", f" = {_spaced(text.title)} = ", " ", paragraph(text.lead)]
    for heading, paragraphs in text.sections:
        lines += [" ", f" = = {heading} = = ", " ", *map(paragraph, paragraphs)]
    return lines


def _write_sample(path: Path, world: World, guard: Guard, seed: int) -> list[str]:
    """Write the test set to `path` and the validation set beside it; returns the test articles in plain spelling."""
    plain: list[str] = []
    for split, articles in _SAMPLE_ARTICLES.items():
        draw = random.Random(f"wikitext {split} {seed}")
        made = [article(draw, world, Guard(), least_words=250, most_words=450) for _ in range(articles)]
        plain = [text.plain() for text in made]
        lines = [line for text in made for line in _lines(draw, text)]
        for text in plain:
            guard.add(text)
        with atomic_write(path.with_name(f"wiki.{split}.tokens")) as temporary:
            temporary.write_text("\n".join([*lines, " "]) + "\n", encoding="utf-8")
    return plain


WIKITEXT103 = add_benchmark(
    Benchmark(
        name="wikitext103",
        title="WikiText-103",
        file="wiki.test.tokens",
        suffix=".tokens",
        texts=_texts,
        row_texts=_row_texts,
        other_suffixes=(".raw",),
        origin=Origin(
            "Salesforce/wikitext",
            configuration="wikitext-103-v1",
            licence="CC BY-SA 3.0 and GFDL",
            terms="attribution, and the same licence for derived texts",
            write=write_rows,
            count=count,
            counts={"words": 245_566},
            others={"validation set": {"words": 217_642}},
        ),
        sample=Sample("wikitext103/wiki.test.tokens", _write_sample, share=0.004, whole=True),
    )
)
