"""Zero-shot perplexity on WikiText-103 (paper section 5.2, equation 4 of its appendix).

The benchmark's file is tokenized by words (` @-@ `, `<unk>`, blanks before punctuation), a language model reads ordinary
text: so it is detokenised first, and its words are counted as they stand in the file.
"""

import re
from collections.abc import Sequence

from data_pipeline.benchmarks.wikitext103 import count_original_tokens, is_title
from evaluate.perplexity import COLUMNS, SETTINGS, Perplexity, stretches, stride_errors
from recipes.records import Published, ZeroShot, add_zero_shot

# What detokenisation does, in this order. The first pattern's slashes are as the established evaluation has
# them: it never matches ordinary text, and is kept so that nobody "mends" it and changes every number.
_BEFORE_BRACKETS: tuple[tuple[str, str], ...] = (
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    (" : ", ": "),
    (" ; ", "; "),
    (" . ", ". "),
    (" ! ", "! "),
    (" ? ", "? "),
    (" , ", ", "),
)
_BRACKETS = (
    ("(", ")"),
    ("[", "]"),
    ("{", "}"),
    ('"', '"'),
    ("'", "'"),
)  # blanks at the ends of what they enclose go
_AFTER_BRACKETS: tuple[tuple[str, str], ...] = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)


def detokenize(text: str) -> str:
    """WikiText's word-tokenized text as ordinary text, by the rules published numbers are computed with."""
    text = text.replace("s '", "s'")
    text = re.sub(r"/' [0-9]/", r"/'[0-9]/", text)
    for spelled, plain in _BEFORE_BRACKETS:
        text = text.replace(spelled, plain)
    for opening, closing in _BRACKETS:
        text = _without_inner_blanks(text, opening, closing)
    for spelled, plain in _AFTER_BRACKETS:
        text = text.replace(spelled, plain)
    return text


def _without_inner_blanks(text: str, opening: str, closing: str) -> str:
    """`( text )` as `(text)`, from the first opening bracket to the next closing one, in linear time."""
    parts = text.split(closing)
    for index, part in enumerate(parts[:-1]):
        if opening == closing:
            parts[index] = part.strip() if index % 2 else part
            continue
        before, found, inner = part.partition(opening)
        parts[index] = before + found + inner.strip()
    return closing.join(parts)


class WikiText103(Perplexity):
    """The benchmark's file."""

    def count_words(self, text: str) -> int:
        return count_original_tokens(text)

    def words_within(self, part: str) -> int:
        return part.count(" ")

    def spelled(self, text: str) -> str:
        return detokenize(text)

    def documents(self, text: str) -> list[str]:
        """Articles."""
        return stretches(text, title_places(text)[1:])


def title_places(text: str) -> Sequence[int]:
    """Where the titles of articles begin."""
    return [line.start() for line in re.finditer(r"^.*$", text, re.MULTILINE) if is_title(line[0])]


WIKITEXT103 = add_zero_shot(
    ZeroShot(
        name="wikitext103",
        title="WikiText-103",
        benchmark="wikitext103",
        program="evaluate.wikitext103:WikiText103",
        causal=True,
        columns=COLUMNS,
        published=Published(
            columns=("perplexity",),
            rows=(
                ("GPT-2 355M", (19.31,)),
                ("GPT-2 2.5B", (12.76,)),
                ("GPT-2 8.3B", (10.81,)),
                ("previous best", (15.79,)),
            ),
            place="table 3",
            paths=("perplexity",),
        ),
        facts=lambda result: f"perplexity {result['perplexity']:.2f}",
        note="Perplexity per word of the benchmark's own tokenization.",
        settings=SETTINGS,
        errors=stride_errors,
    )
)
