"""Long texts have the ids of the whole, random tokenizers those of other readers, and time grows with length only."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from corpus_files import uncut_ids
from fuzz_tokenizers import run
from test_tokenizer_files import UNCASED, byte_pairs, plain_gpt2, words
from tokenizers import AddedToken, normalizers, pre_tokenizers

from data_pipeline.tokenization import cuts
from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError, load_tokenizer

_SETTINGS: dict[str, tuple[Any, Any, list[AddedToken]]] = {
    "plain": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, []),
    "a blank before": (pre_tokenizers.ByteLevel(add_prefix_space=True), None, []),
    "no pattern": (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), None, []),
    "NFC": (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC(), []),
    "NFKC": (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFKC(), []),
    "lower case": (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Lowercase(), []),
    "something before": (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Prepend("x"), []),
    "stripped": (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Strip(), []),
    "two blanks": (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Replace("  ", " "), []),
    "no lines": (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Replace("\n", " "), []),
    "runs of blanks": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, [AddedToken(" " * n) for n in range(9, 1, -1)]),
    "a line": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, [AddedToken("\n", normalized=False)]),
    "a phrase": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, [AddedToken("end the", normalized=False)]),
    "blanks before": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, [AddedToken("end", lstrip=True)]),
    "special": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, [AddedToken("<e> x", special=True)]),
}  # fmt: skip


@pytest.mark.parametrize("name", _SETTINGS)
def test_long_texts_have_the_ids_of_the_whole_whatever_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    backend = plain_gpt2(tmp_path)
    backend.pre_tokenizer, normalizer, added = _SETTINGS[name]
    if normalizer:
        backend.normalizer = normalizer
    backend.add_tokens(added)
    backend.encode_special_tokens = True
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(backend.to_str()), name)
    assert (tokenizer._cuts is not None) == (name in ("plain", "special"))
    monkeypatch.setattr(cuts, "PIECE_CHARACTERS", 50)
    draw = random.Random(1)
    parts = [
        "the",
        "end",
        "the end",
        "<e> x",
        "E\u0301",
        "\u00b4",
        " ",
        "  ",
        "     ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        "\u00a0",
    ]
    for _ in range(50):
        text = "".join(draw.choice(parts) for _ in range(200))
        assert tokenizer.encode(text) == backend.encode(text, add_special_tokens=False).ids


def test_a_cut_that_changes_ids_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(byte_pairs(tmp_path, tokenizer_config={"add_prefix_space": True}))
    monkeypatch.setattr(cuts, "PIECE_CHARACTERS", 50)
    text = "the\nend\n" * 20
    assert tokenizer.encode(text) == uncut_ids(tokenizer, text)
    monkeypatch.setattr(tokenizer, "_cuts", load_tokenizer(byte_pairs(tmp_path / "plain"))._cuts)
    with pytest.raises(TokenizerError, match="would get other ids if it were cut at character 51"):
        tokenizer.encode(text)


def test_random_tokenizers_have_the_ids_of_other_readers_or_are_refused() -> None:
    counts = run(inputs=800, texts=10)
    assert counts["inputs"] >= 800 and counts["refused, damaged"] > 5


@pytest.mark.parametrize("kind", ["gpt2", "a blank before", "bert"])
@pytest.mark.parametrize("unit", [" ", "\n", "a", "[", "\u00a0", "the ", "'s", "1"])
def test_time_grows_with_the_length_only(tmp_path: Path, kind: str, unit: str) -> None:
    config = {"tokenizer_config": {"add_prefix_space": True}} if kind == "a blank before" else {}
    folder = words(tmp_path, UNCASED) if kind == "bert" else byte_pairs(tmp_path, **config)
    tokenizer = load_tokenizer(folder)

    def seconds(characters: int) -> float:
        text, times = unit * (characters // len(unit)), []
        for _ in range(3):
            start = time.process_time()
            tokenizer.encode(text)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(100_000) < 12 * seconds(25_000) + 0.02  # a square would be 16 times
