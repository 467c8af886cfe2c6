"""Which characters tokens stand for: exact in texts that tokenizers lower-case, strip of accents and clean, and in long ones."""

import itertools
import os
import random

import numpy as np
import pytest
from corpus_files import real_data
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from data_pipeline.tokenization import cuts
from data_pipeline.tokenization.kinds import KINDS
from data_pipeline.tokenization.loading import byte_level, word_piece
from data_pipeline.tokenization.places import PlacedIds
from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError, load_tokenizer

# What normalizers change: accents of their own, characters that become two or none, blanks of all kinds, wide ones.
PARTS = (
    *("a", "The", "B", "9", ".", "'", "-", " ", "  ", "\n", "\t", "\xa0", "\u2028", "\x85", "\x1c"),
    *(
        "é",
        "e\u0301",
        "\u0301",
        "\u0300\u0301",
        "İ",
        "ß",
        "ẞ",
        "ﬁ",
        "Ǆ",
        "ŉ",
        "ΐ",
        "½",
        "ﷺ",
        "\u0e33",
        "각",
        "\u1161",
    ),
    *(
        "中",
        "\U0001d4b3",
        "\U0001f468\u200d\U0001f469",
        "\U0001f1e9\U0001f1ea",
        "\u200b",
        "\ufeff",
        "\x00",
        "\xad",
    ),
)


WORDS = (
    "cafe",
    "cafes",
    "in",
    "he",
    "said",
    "istanbul",
    "the",
    "19",
    "##90",
    "##s",
    "e",
    "ab",
    "a",
    "b",
    "x",
    "y",
)
CHARACTERS = (
    *".!'-",
    *"中文",
    "9",
    "##9",
    "\u1100",
    "##\u1161",
    "##\u11a8",
    "s",
    "ss",
    "ß",
    "##b",
    "##x",
    "1",
    "2",
    "##0",
)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    """Of both kinds: small ones, and the published ones where they are."""
    vocabulary = [*KINDS["bert"].special_tokens, *WORDS, *CHARACTERS]
    alphabet = {token: place for place, token in enumerate(["<|endoftext|>", *sorted(ByteLevel.alphabet())])}
    found = {
        "bert": Tokenizer(word_piece({token: place for place, token in enumerate(vocabulary)}), "small"),
        "gpt2": Tokenizer(byte_level(BPE(alphabet, [])), "small"),
    }
    if "REAL_DATA" in os.environ:
        found["real bert"] = load_tokenizer(real_data("bert-base-uncased-vocab.txt"))
        found["real gpt2"] = load_tokenizer(real_data("gpt2-vocab.json"))
    return found


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Café in CAFE\u0301S!", ["Café", "in", "CAFE\u0301S", "!"]),
        ("e\u0301 x", ["e\u0301", "x"]),
        ("a\u0301\u0302b", ["a\u0301\u0302b"]),
        ("\ufeffHe\u200b\u2028said", ["\ufeffHe\u200b", "said"]),
        ("İstanbul", ["İstanbul"]),
        ("1999中文.", ["19", "9", "9", "中", "文", "."]),
        ("x \x00\u200b y", ["x", "y"]),
        ("x \x00y", ["x", "\x00y"]),
        ("각", ["각", "각", "각"]),
        ("", []),
        (" \u2028", []),
    ],
)
def test_characters_of_berts_tokens(tokenizers: dict[str, Tokenizer], text: str, pieces: list[str]) -> None:
    [tokens] = tokenizers["bert"].encode_with_places([text])
    assert [tokens.text(text, place, place) for place in range(len(tokens.ids))] == pieces


def _check(tokenizer: Tokenizer, text: str, *, lossless: bool) -> None:
    [tokens] = tokenizer.encode_with_places([text])
    assert tokens.ids.tolist() == tokenizer.encode(text)
    for places in (tokens.starts, tokens.ends):
        assert (np.diff(places) >= 0).all() and ((places >= 0) & (places <= len(text))).all()
    held = {place for span in zip(tokens.starts, tokens.ends, strict=True) for place in range(*span)}
    for place, character in enumerate(text):
        if place in held or character.isspace():
            continue
        assert not lossless, "a token stands for every character that is no blank"
        assert not held & {place - 1, place + 1}, f"{character!r} of {text!r} touches a token"
    for first, last in itertools.combinations_with_replacement(range(len(tokens.ids)), 2):
        start, end = int(tokens.starts[first]), int(tokens.ends[last])
        answer = text[start:end]
        if not answer.strip():
            continue
        # An answer at the borders of tokens comes back as it is, blanks at its ends apart.
        found = tokens.tokens_of(start + len(answer) - len(answer.lstrip()), start + len(answer.rstrip()))
        assert found is not None and tokens.text(text, *found).strip() == answer.strip(), (text, first, last)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "real bert", "real gpt2"])
def test_answers_at_the_borders_of_tokens_come_back(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    if kind not in tokenizers:
        pytest.skip("REAL_DATA is not set")
    draw = random.Random(f"places {kind}")
    for _ in range(400):
        text = "".join(draw.choices(PARTS, k=draw.randint(0, 12)))
        _check(tokenizers[kind], text, lossless="gpt2" in kind)


def test_an_answer_within_tokens_is_in_the_fewest_that_hold_it(tokenizers: dict[str, Tokenizer]) -> None:
    text = "In the 1990s and 2000s."
    [tokens] = tokenizers["bert"].encode_with_places([text])
    for answer in ("1990", "990s and 20", "s", "n"):
        start = text.index(answer)
        span = tokens.tokens_of(start, start + len(answer))
        assert span is not None
        whole = tokens.text(text, *span)
        assert answer in whole and " " not in whole.replace(answer, "", 1).strip()
        wider = [(a, b) for a in range(len(tokens.ids)) for b in range(a, len(tokens.ids))]
        holding = [
            p for p in wider if tokens.starts[p[0]] <= start and tokens.ends[p[1]] >= start + len(answer)
        ]
        assert min(holding, key=lambda p: p[1] - p[0]) == span
    assert tokens.tokens_of(2, 3) is None, "a blank"


def test_places_in_a_text_that_is_encoded_in_pieces(
    tokenizers: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Cafe\u0301 and  more\u200b words. " * 40
    [whole] = tokenizers["bert"].encode_with_places([text])
    monkeypatch.setattr(cuts, "PIECE_CHARACTERS", 100)
    [cut] = tokenizers["bert"].encode_with_places([text])
    assert all((ours == theirs).all() for ours, theirs in zip(cut, whole, strict=True))
    assert isinstance(cut, PlacedIds)


def test_half_a_pair_is_refused(tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(TokenizerError, match=r"lone surrogate U\+D83D"):
        tokenizers["bert"].encode_with_places(["a \ud83d"])
