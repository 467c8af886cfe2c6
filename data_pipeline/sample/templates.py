"""The language of the sample world's sentence templates: `{slot}` is filled in, `[a|b|]` is one of its alternatives.

Which templates there are, and what fills their slots, is said elsewhere (`vocabulary`, `world`).
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence

_PIECES = re.compile(r"[\[\]|]|\{\w+\}|[^\[\]|{}]+")
_ARTICLE_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
_BLANKS = re.compile(r" {2,}")

Slots = dict[str, str | list | Callable[[], str]]  # a word, a parsed template, or a source of words


def parse_template(template: str) -> list:
    """Split a template into literal strings, `{slot}` strings and tuples of alternatives (each a list again)."""
    nodes, end = _parse_alternatives(iter(_PIECES.findall(template)))
    assert end == "" and len(nodes) == 1, f"unbalanced brackets in template {template!r}"
    return nodes[0]


def _parse_alternatives(pieces: Iterator[str]) -> tuple[list[list], str]:
    alternatives: list[list] = [[]]
    for piece in pieces:
        if piece == "[":
            inner, end = _parse_alternatives(pieces)
            assert end == "]", "a template's [ is not closed"
            alternatives[-1].append(tuple(inner))
        elif piece == "]":
            return alternatives, "]"
        elif piece == "|":
            alternatives.append([])
        else:
            alternatives[-1].append(piece)
    return alternatives, ""


class Templates:
    """The templates of one category, parsed."""

    def __init__(self, lines: Sequence[str]):
        self.templates = [parse_template(line) for line in lines]

    def __len__(self) -> int:
        return len(self.templates)

    def fill(self, index: int, draw: random.Random, slots: Slots) -> str:
        """A sentence from template `index`: its first letter a capital, `a` before a vowel `an`."""
        parts: list[str] = []
        _expand(self.templates[index], draw, slots, parts)
        text = _ARTICLE_BEFORE_VOWEL.sub(r"\1n ", _BLANKS.sub(" ", "".join(parts)))
        first = 1 if text[0] == '"' else 0
        return text[:first] + text[first].upper() + text[first + 1 :]


def _expand(nodes: list, draw: random.Random, slots: Slots, parts: list[str]) -> None:
    for node in nodes:
        if isinstance(node, tuple):
            _expand(node[int(draw.random() * len(node))], draw, slots, parts)
        elif node[0] == "{":
            value = slots[node[1:-1]]
            if isinstance(value, list):
                _expand(value, draw, slots, parts)
            else:
                parts.append(value if isinstance(value, str) else value())
        else:
            parts.append(node)
