"""The fast encoder gives the reference's ids for any text, or says that it cannot."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpus_files import added_token, english, real_data, uncut_ids, write_documents
from tokenizers import models

import data_pipeline.tokenization.byte_pair_libraries
import data_pipeline.tokenization.byte_pairs
import data_pipeline.tokenization.cuts
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.indexed.dataset import IndexedDataset
from data_pipeline.tokenization.byte_pair_libraries import LIBRARIES, Batch, Gigatoken, Tiktoken
from data_pipeline.tokenization.byte_pairs import BytePairEncoder, vocabulary_of
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.encoders import ReferenceEncoder, UnsuitableTokenizerError, check
from data_pipeline.tokenization.loading import byte_level
from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError, load_tokenizer, train_tokenizer

_BLANKS = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
_WORDS = [
    "don't",
    "I'll",
    "we've",
    "they're",
    "it's",
    "I'm",
    "he'd",
    "'S",
    "'tis",
    "''",
    "'s's",
    "'",
    "s",
    "naïve",
    "Zoë",
    "東京都",
    "한국어",
    "العربية",
    "١٢٣",
    "½",
    "Ⅷ",
    "²³",
    "12,345.67",
    "ạ́",
    "́",
    "👩\u200d👩\u200d👧",
    "🇩🇪",
    "<|endoftext|>",
    "[MASK]",
    "\\n",
    "...",
    "---",
    "___",
    "ǅ",
    "ß",
    "İ",
    "ﬁ",
    "\x00",
    "\x7f",
    "\u202e",
    "\uffff",
    "\U0010ffff",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `tokenizer.json`, trained on text of many kinds."""
    directory = tmp_path_factory.mktemp("byte_pairs")
    texts = [f"{english(seed)}\n\n    {_random_text(random.Random(seed), 300)}" for seed in range(60)]
    train_tokenizer("gpt2", write_documents(directory / "documents", texts), directory, 900)
    return directory


@pytest.fixture(params=["trained", "published"])
def tokenizer(request: pytest.FixtureRequest, trained: Path) -> Tokenizer:
    return load_tokenizer(trained if request.param == "trained" else real_data("gpt2-vocab.json"))


def _random_text(draw: random.Random, parts: int) -> str:
    """Words, runs of one character and characters of all planes, with blanks of all kinds between them."""

    def part() -> str:
        kind = draw.randrange(6)
        if kind == 0:
            return draw.choice(_WORDS)
        if kind == 1:
            return draw.choice(_BLANKS) * draw.choice((1, 1, 1, 2, 3, 9))
        if kind == 2:
            return draw.choice("aZé1٣.'-_ \n東😀") * draw.randrange(1, 40)
        if kind == 3:
            return chr(draw.choice((draw.randrange(0xD800), draw.randrange(0xE000, 0x110000))))
        return draw.choice((" ", "")) + draw.choice(("the", "of", "house", "'s", "1", ",", "Water", "é"))

    return "".join(part() for _ in range(draw.randrange(parts)))


@pytest.mark.parametrize("library", LIBRARIES)
def test_random_texts(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, library: type) -> None:
    monkeypatch.setattr(data_pipeline.tokenization.byte_pairs, "LIBRARIES", (library,))
    encoder, draw = BytePairEncoder(tokenizer), random.Random(1)
    for _ in range(1500):
        text = _random_text(draw, 30)
        assert encoder.encode(text).tolist() == uncut_ids(tokenizer, text), repr(text)


@pytest.mark.parametrize("character", ["a", "!", "9", "東", "😀", " ", "\n", "\xa0", "\x85"])
def test_long_runs(trained: Path, character: str) -> None:
    tokenizer = load_tokenizer(trained)
    text = f"x {character * 150_000}x{character}"
    assert BytePairEncoder(tokenizer).encode(text).tolist() == uncut_ids(tokenizer, text)


@pytest.mark.parametrize("blank", [" ", "\t\r\n", "\v"])
def test_a_million_blanks_before_a_word(trained: Path, blank: str) -> None:
    """The library's regular expressions run out of memory over them, unless they are cut off."""
    tokenizer = load_tokenizer(trained)
    text = f"a word{blank * (1_100_000 // len(blank))}and  another{blank}"
    assert BytePairEncoder(tokenizer).encode(text).tolist() == uncut_ids(tokenizer, text)


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_pieces_give_the_ids_of_the_whole(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "bert":
        train_tokenizer("bert", sorted((trained / "documents").glob("*.parquet")), tmp_path, 3000)
    tokenizer = load_tokenizer(tmp_path if kind == "bert" else trained)
    encode = BytePairEncoder(tokenizer).encode if kind == "gpt2" else tokenizer.encode
    draw = random.Random(2)
    for _ in range(2000):
        text = _random_text(draw, 30)
        monkeypatch.setattr(data_pipeline.tokenization.cuts, "PIECE_CHARACTERS", draw.randrange(12))
        assert list(encode(text)) == uncut_ids(tokenizer, text), repr(text)


def test_very_long_document(tokenizer: Tokenizer) -> None:
    lines = [english(seed, 5000) + "\n\n  " for seed in range(60)]
    text = "".join(lines)
    assert len(text) > 3 * data_pipeline.tokenization.cuts.PIECE_CHARACTERS
    assert len(list(data_pipeline.tokenization.cuts.pieces(text, tokenizer._cuts))) > 2
    assert BytePairEncoder(tokenizer).encode(text).tolist() == uncut_ids(tokenizer, text)


def test_text_cannot_spell_the_special_token(tokenizer: Tokenizer) -> None:
    text = "<|endoftext|> in <|endoftext|><|endoftext|" * 50
    ids = BytePairEncoder(tokenizer).encode(text).tolist()
    assert ids == uncut_ids(tokenizer, text)
    assert tokenizer.end_of_document not in ids


@pytest.mark.parametrize("library", LIBRARIES)
def test_texts_without_ids(trained: Path, monkeypatch: pytest.MonkeyPatch, library: type) -> None:
    monkeypatch.setattr(data_pipeline.tokenization.byte_pairs, "LIBRARIES", (library,))
    encoder = BytePairEncoder(load_tokenizer(trained))
    for documents in ([], [""], ["", ""], ["", "a", ""]):
        encoded = encoder.encode_documents(documents)
        assert encoded.sequences.tolist() == [int(bool(text)) for text in documents]
        assert len(encoded.tokens) == encoded.lengths.sum() == 2 * sum(map(bool, documents))
    assert encoder.encode("").tolist() == []


def _edited(trained: Path, directory: Path, edit: Callable[[dict[str, Any]], object]) -> Tokenizer:
    """The trained tokenizer with its definition changed, saved in the directory."""
    content = json.loads((trained / "tokenizer.json").read_text(encoding="utf-8"))
    edit(content)
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return load_tokenizer(directory)


def _swap_two_ids(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    first, second = ("".join(content["model"]["merges"][index]) for index in (3, 200))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def _add_unreachable_token(content: dict[str, Any]) -> None:
    """Merges 0 1, then 1 2, then 0 12: `012` is 01 2, which no merge joins, but `tiktoken` would."""
    model = content["model"]
    model["merges"] = [["0", "1"], ["1", "2"], ["0", "12"]]
    names = [name for name, index in model["vocab"].items() if index <= 256]
    model["vocab"] = {name: index for index, name in enumerate([*names, "01", "12", "012"])}


@pytest.mark.parametrize(
    "edit, reason",
    [
        (_swap_two_ids, "not in the order of their ids"),
        (_add_unreachable_token, "never reached"),
        (lambda content: content["model"]["vocab"].pop("Ā"), "256 bytes"),
        (lambda content: content.update(normalizer={"type": "Lowercase"}), "changes or splits"),
        (lambda content: content["pre_tokenizer"].update(add_prefix_space=True), "changes or splits"),
        (lambda content: content["model"].update(ignore_merges=True), "ignore_merges"),
        (
            lambda content: content["added_tokens"].append(added_token(950, "house")),
            "added tokens",
        ),
    ],
)
def test_tokenizers_that_it_would_get_wrong_are_refused(
    trained: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object], reason: str
) -> None:
    with pytest.raises(UnsuitableTokenizerError, match=reason):
        BytePairEncoder(_edited(trained, tmp_path, edit))


def test_wordpiece_is_refused() -> None:
    with pytest.raises(UnsuitableTokenizerError, match="not a byte-level"):
        BytePairEncoder(load_tokenizer(real_data("bert-base-uncased-vocab.txt")))


def test_a_refused_tokenizer_is_run_by_the_reference(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = _edited(trained, tmp_path, _swap_two_ids)
    texts = [english(seed) for seed in range(20)] + [""]
    shards = write_documents(tmp_path / "documents", texts, shards=2)
    facts = tokenize_corpus(
        shards, tmp_path, tmp_path / "out", sentence_splitter=None, executor=LocalExecutor(1)
    )
    assert facts["encoded_by_reference"] == "its merges are not in the order of their ids"
    assert "several times slower" in caplog.text
    assert (facts["documents"], facts["empty_documents"]) == (20, 1)
    dataset = IndexedDataset(tmp_path / "out" / "corpus")
    for text, ids in zip(texts, dataset, strict=False):
        assert ids.tolist() == [*uncut_ids(tokenizer, text), tokenizer.end_of_document]


@pytest.mark.parametrize("number", [0, 5, 256, 1024])
def test_a_wrong_id_in_a_sampled_document_stops_the_shard(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    texts = [f"document {index} of the house" for index in range(1100)]  # more than a row group
    shards = write_documents(tmp_path / "documents", texts, shards=1)
    right = Gigatoken.encode_batch

    def wrong(self: Gigatoken, given: list[str]) -> Batch:
        tokens, lengths = right(self, given)
        tokens = tokens.copy()
        for index in (index for index, text in enumerate(given) if text == texts[number]):
            tokens[lengths[: index + 1].sum() - 2] += 1
        return Batch(tokens, lengths)

    monkeypatch.setattr(Gigatoken, "encode_batch", wrong)
    first = len(uncut_ids(load_tokenizer(trained), texts[number])) - 2
    message = rf"documents-00000.parquet: document t/{number:06d}: .* differ at token {first}: \d+ is not \d+"
    with pytest.raises(TokenizerError, match=message):
        tokenize_corpus(shards, trained, tmp_path / "out", sentence_splitter=None, executor=LocalExecutor(1))
    assert not list((tmp_path / "out").glob("*.idx"))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_gives_other_ids_is_not_used(
    trained: Path, monkeypatch: pytest.MonkeyPatch, library: type
) -> None:
    right = library.encode_batch

    def wrong(self: object, texts: list[str]) -> Batch:
        return Batch(right(self, texts).tokens + 1, right(self, texts).lengths)

    monkeypatch.setattr(library, "encode_batch", wrong)
    used = BytePairEncoder(load_tokenizer(trained))._library
    assert not isinstance(used, library) and isinstance(used, LIBRARIES)
    monkeypatch.setattr(data_pipeline.tokenization.byte_pairs, "LIBRARIES", (library,))
    with pytest.raises(UnsuitableTokenizerError, match="no fast library"):
        BytePairEncoder(load_tokenizer(trained))


def test_another_pattern_is_found_out(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(trained)
    encoder = BytePairEncoder(tokenizer)
    monkeypatch.setattr(data_pipeline.tokenization.byte_pair_libraries, "_PATTERN", r"\s?\p{L}+|\s?\S|\s+")
    encoder._library = Tiktoken(vocabulary_of(tokenizer))
    text = english(1) + "\n\n" + "1234 5678 ..."
    reference = ReferenceEncoder(tokenizer, None, [tokenizer.end_of_document])
    with pytest.raises(TokenizerError, match=r"the end|is not"):
        check(encoder, reference, text, encoder.encode_documents([text]))


def test_a_panic_of_a_library_is_a_reason_not_to_use_it(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicException(BaseException):
        pass

    def panics(self: Gigatoken, texts: list[str]) -> Batch:
        raise PanicException("stack overflow")

    monkeypatch.setattr(Gigatoken, "encode_batch", panics)
    assert isinstance(BytePairEncoder(load_tokenizer(trained))._library, Tiktoken)


def test_where_gigatoken_is_not_installed_tiktoken_serves(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(trained)
    assert isinstance(BytePairEncoder(tokenizer)._library, Gigatoken)
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    assert isinstance(BytePairEncoder(tokenizer)._library, Tiktoken)


def test_characters_that_only_one_library_knows_are_left_to_the_reference() -> None:
    """U+323B0 is a letter in Unicode 17, nothing before: so an `'s` after it is a suffix or a part of marks."""
    tokenizer = load_tokenizer(real_data("gpt2-vocab.json"))
    encoder, text = BytePairEncoder(tokenizer), "a \U000323b0's b"
    assert encoder._library.encode_batch([text]).tokens.tolist() != uncut_ids(
        tokenizer, text
    )  # or nothing is tried
    texts = ["first", text, "second", "\u4e2d's", ""]
    encoded = encoder.encode_documents(texts)
    assert encoded.sequences.tolist() == [1, 1, 1, 1, 0]
    expected = [[*uncut_ids(tokenizer, text), tokenizer.end_of_document] for text in texts[:-1]]
    assert encoded.tokens.tolist() == [index for ids in expected for index in ids]
    assert encoded.lengths.tolist() == [len(ids) for ids in expected]


def test_boundaries_of_every_character(visible: Tokenizer) -> None:
    """Of a sample of all planes, and of all that the libraries disagree on."""
    points = {*range(0x80, 0xD800, 7), *range(0xE000, 0x110000, 331), *range(0x10000, 0x20000, 13)}
    points |= {
        0x88F,
        0xC5C,
        0xCDC,
        0xA7CE,
        0xA7F1,
        0x10940,
        0x11DB0,
        0x16EA0,
        0x1E6C0,
        0x2B73A,
        0x323B0,
        0x33479,
    }
    texts = [f"\na{c}a\n1{c}1\n.{c}.\n {c} {c}'s\n{c}  a" for c in map(chr, sorted(points))]
    encoder = BytePairEncoder(visible)
    encodings = visible.backend.encode_batch_fast(texts, add_special_tokens=False)
    for text, encoding in zip(texts, encodings, strict=True):
        assert encoder.encode(text).tolist() == encoding.ids, repr(text)


@pytest.fixture(scope="module")
def visible() -> Tokenizer:
    """A tokenizer that merges every character with a neighbour of another class, so that splits are seen in its ids."""
    byte = data_pipeline.tokenization.byte_pairs._byte_characters()
    character = {value: key for key, value in byte.items()}
    ids = {key: index for index, key in enumerate(byte)}
    merges = [
        pair
        for probe in (character[ord(probe)] for probe in "a1. ")
        for other in range(0x80, 0xF5)
        for pair in [(character[other], probe) if other < 0xC0 else (probe, character[other])]
    ]
    ids |= {first + second: 256 + index for index, (first, second) in enumerate(merges)}
    return Tokenizer(byte_level(models.BPE({**ids, "<|endoftext|>": len(ids)}, merges)), "visible")


def test_words_are_forgotten_before_they_take_much_memory(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(trained)
    libraries = data_pipeline.tokenization.byte_pair_libraries
    monkeypatch.setattr(libraries, "_LEAST_TEXT", 1000)
    memory = iter([10**9, *[10**9 + (200 << 20)] * 3, 10**9 + (300 << 20), None, None])
    monkeypatch.setattr(libraries, "_resident_bytes", lambda: next(memory))
    made = []
    right = Gigatoken._made
    monkeypatch.setattr(Gigatoken, "_made", lambda self: made.append(0) or right(self))
    library = Gigatoken(vocabulary_of(tokenizer))
    text = english(1)[:600]
    for _ in range(4):  # the first one is below the least
        assert library.encode_batch([text]).tokens.tolist() == uncut_ids(tokenizer, text)
    assert len(made) == 1 and library._characters == 2400
    library.encode_batch([text])  # memory has grown
    assert len(made) == 2 and library._characters == 0
    monkeypatch.setattr(libraries, "_MOST_TEXT", 1100)  # memory is not known
    library.encode_batch([text] * 2)
    assert len(made) == 3


@pytest.mark.parametrize("module", ["tiktoken", "gigatoken", "awkward"])
def test_nothing_but_encoding_a_corpus_needs_the_libraries(module: str) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; import data_pipeline.tokenization.corpus"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
