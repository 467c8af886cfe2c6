"""What the sample corpus plants for cleaning to find: foreign, short, garbled, duplicate and contaminated documents."""

import random

from data_pipeline.sample.vocabulary import FOREIGN_SENTENCES

_ACCENTED = {"e": "é", "a": "ä", "o": "ö", "u": "ü", "c": "ç"}  # all defined in Windows-1252
NEAR_DUPLICATE_LEAST = 0.83
NEAR_DUPLICATE_MOST = 0.98


def character_shingles(text: str, size: int = 5) -> set[str]:
    """The set of character n-grams of a text."""
    return {text[start : start + size] for start in range(len(text) - size + 1)}


def jaccard(first: str, second: str) -> float:
    """Jaccard similarity of two texts in character 5-grams."""
    one, two = character_shingles(first), character_shingles(second)
    return len(one & two) / len(one | two)


def foreign(draw: random.Random) -> tuple[str, str]:
    """A document of another language, long enough that its length is no reason to drop it, and the language."""
    language = draw.choice(sorted(FOREIGN_SENTENCES))
    sentences = list(FOREIGN_SENTENCES[language])
    draw.shuffle(sentences)
    return " ".join(sentences[: draw.randint(13, 16)]), language


def shortened(draw: random.Random, text: str) -> str:
    """The first sentences of a text, well under 128 tokens."""
    words = text.split()
    return " ".join(words[: draw.randint(20, 70)])


def accented(draw: random.Random, text: str) -> str:
    """The text with some words spelled with accents and its dashes long, so that it is more than ASCII."""
    words = text.replace(", and ", " — and ").split(" ")
    for place in draw.sample(range(len(words)), len(words) // 12):
        words[place] = "".join(_ACCENTED.get(letter, letter) for letter in words[place])
    return " ".join(words)


def garbled(text: str) -> str:
    """Mojibake: UTF-8 read as Windows-1252."""
    return text.encode("utf-8").decode("cp1252")


def edited(draw: random.Random, text: str) -> str:
    """A near-duplicate: a few words changed or dropped, similarity clearly above 0.8."""
    while True:
        words = text.split(" ")
        for _ in range(max(2, len(words) // 60)):
            place = draw.randrange(1, len(words) - 1)
            words[place] = draw.choice(("really", "somehow", "", "quite", "again"))
        result = " ".join(word for word in words if word)
        if NEAR_DUPLICATE_LEAST < jaccard(text, result) < NEAR_DUPLICATE_MOST:
            return result


def embedded(draw: random.Random, text: str, passage: str) -> str:
    """A document with a benchmark passage as one of its paragraphs."""
    paragraphs = text.split("\n\n")
    paragraphs.insert(draw.randint(0, len(paragraphs)), passage)
    return "\n\n".join(paragraphs)
