"""WordPiece word by word gives the reference's ids for any text, or says that it cannot."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpus_files import added_token, english, real_data, uncut_ids, write_documents

import data_pipeline.tokenization.word_pieces
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.sample_check import UnsuitableTokenizerError
from data_pipeline.tokenization.sentences import train_sentence_splitter
from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError, load_tokenizer, train_tokenizer
from data_pipeline.tokenization.word_pieces import WordPieceEncoder

_PARTS = [
    *"aZé1٣.'-_ \n\t\r\v\x00\x1c\x7f\x85\xa0\xad東😀́İßﬁ£$^`~|<>+=§°·‘’“”–—…‐‑•‹›¡¿",
    "\u200b",
    "\u2028",
    "\ufeff",
    "\ufffd",
    "[MASK]",
    "[UNK]",
    "[unused1]",
    "##ing",
    "don't",
    "o'clock",
    "U.S.A.",
    "12,345.67%",
    "e\u0301",
    "x" * 99,
    "x" * 100,
    "x" * 101,
    "The",
    "WATER",
    "houses ",
    " ",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with documents, a WordPiece tokenizer trained on them, and a sentence splitter."""
    directory = tmp_path_factory.mktemp("word_pieces")
    texts = [f"{english(seed)} {_random_text(random.Random(seed), 100)}" for seed in range(40)]
    shards = write_documents(directory / "documents", texts)
    train_tokenizer("bert", shards, directory, 2000)
    train_sentence_splitter(shards, directory)
    return directory


@pytest.fixture(params=["trained", "published"])
def tokenizer(request: pytest.FixtureRequest, trained: Path) -> Tokenizer:
    return load_tokenizer(trained if request.param == "trained" else real_data("bert-base-uncased-vocab.txt"))


def _random_text(draw: random.Random, parts: int) -> str:
    """A text of one of three kinds: plain, with some characters that are not, and with many."""
    plain = [part for part in _PARTS if data_pipeline.tokenization.word_pieces._PLAIN.fullmatch(part)]
    kind = draw.randrange(3)
    return "".join(
        draw.choice(_PARTS if draw.random() < (0.0, 0.03, 1.0)[kind] else plain)
        for _ in range(draw.randrange(parts))
    )


def test_random_texts(tokenizer: Tokenizer) -> None:
    encoder, draw = WordPieceEncoder(tokenizer), random.Random(1)
    for _ in range(300):
        texts = [_random_text(draw, 30) for _ in range(draw.randrange(12))]
        for text, ids in zip(texts, encoder.encode_batch(texts), strict=True):
            assert ids == uncut_ids(tokenizer, text), repr(text)


def test_every_character_between_letters(tokenizer: Tokenizer) -> None:
    encoder = WordPieceEncoder(tokenizer)
    points = [*range(0xD800), *range(0xE000, 0x10000), *range(0x10000, 0x110000, 97)]
    texts = [f"a{chr(point)}the {chr(point)}1{chr(point)}." for point in points]
    expected = tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)
    for text, ids, encoding in zip(texts, encoder.encode_batch(texts), expected, strict=True):
        assert ids == encoding.ids, repr(text)


def test_pairs_of_plain_characters(trained: Path) -> None:
    tokenizer = load_tokenizer(trained)
    plain = [
        chr(point)
        for point in range(0x2100)
        if data_pipeline.tokenization.word_pieces._PLAIN.fullmatch(chr(point))
    ]
    assert len(plain) == 95 + 3 + 7
    texts = [f"w{one}{other}" for one in plain for other in plain]
    expected = tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)
    assert WordPieceEncoder(tokenizer).encode_batch(texts) == [encoding.ids for encoding in expected]


def test_real_texts() -> None:
    tokenizer = load_tokenizer(real_data("bert-base-uncased-vocab.txt"))
    encoder = WordPieceEncoder(tokenizer)
    with gzip.open(real_data("gutenberg_small.jsonl.gz"), "rt", encoding="utf-8") as stream:
        texts = [line for record in stream for line in json.loads(record)["text"].split("\n\n")]
    texts += real_data("wikitext103.valid.tokens").read_text(encoding="utf-8").split("\n")
    assert encoder.encode_batch(texts) == tokenizer.encode_batch(texts)
    plain = sum(len(text) for text in texts if data_pipeline.tokenization.word_pieces._PLAIN.fullmatch(text))
    assert plain > 0.8 * sum(map(len, texts))  # or it would not be fast


def test_each_word_is_asked_for_once_and_few_are_kept(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(trained)
    monkeypatch.setattr(data_pipeline.tokenization.word_pieces, "_MOST_WORDS", 3)
    asked: list[str] = []
    encode = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda text: asked.append(text) or encode(text))
    encoder = WordPieceEncoder(tokenizer)
    encoder.encode_batch(["one two One", f"{'x' * 101} {'x' * 101} two three", "four four three"])
    assert asked == ["one", "two", "x" * 101, "x" * 101, "three", "four", "four"]
    assert list(encoder._words) == ["one", "two", "three"]


@pytest.mark.parametrize(
    "edit, reason",
    [
        (lambda content: content["normalizer"].update(lowercase=False), "uncased"),
        (lambda content: content["normalizer"].update(strip_accents=True), "uncased"),
        (lambda content: content["normalizer"].update(clean_text=False), "uncased"),
        (lambda content: content.update(normalizer={"type": "Lowercase"}), "changes or splits"),
        (lambda content: content.update(normalizer=None), "changes or splits"),
        (lambda content: content.update(pre_tokenizer={"type": "Whitespace"}), "changes or splits"),
        (
            lambda content: content["added_tokens"].append(added_token(1990, "house")),
            "added tokens",
        ),
    ],
)
def test_tokenizers_that_it_would_get_wrong_are_run_by_the_reference(
    trained: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object], reason: str
) -> None:
    content = json.loads((trained / "tokenizer.json").read_text(encoding="utf-8"))
    edit(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UnsuitableTokenizerError, match=reason):
        WordPieceEncoder(load_tokenizer(tmp_path))
    facts = tokenize_corpus(
        sorted((trained / "documents").glob("*.parquet")),
        tmp_path,
        tmp_path / "out",
        sentence_splitter=trained,
        executor=LocalExecutor(1),
    )
    assert reason in facts["encoded_by_reference"]


def test_byte_pairs_are_refused() -> None:
    with pytest.raises(UnsuitableTokenizerError, match="not a WordPiece"):
        WordPieceEncoder(load_tokenizer(real_data("gpt2-vocab.json")))


@pytest.mark.parametrize("number", [0, 5, 256])
def test_a_wrong_id_in_a_sampled_document_stops_the_shard(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    texts = [f"A house. Document {index} of the water." for index in range(300)]
    shards = write_documents(tmp_path / "documents", texts, shards=1)
    right = WordPieceEncoder._encode

    def wrong(self: WordPieceEncoder, text: str) -> list[int]:
        return [index + (text == f"Document {number} of the water.") for index in right(self, text)]

    monkeypatch.setattr(WordPieceEncoder, "_encode", wrong)
    message = rf"documents-00000.parquet: document t/{number:06d}: .* differ at token 0: \d+ is not \d+"
    with pytest.raises(TokenizerError, match=message):
        tokenize_corpus(
            shards, trained, tmp_path / "out", sentence_splitter=trained, executor=LocalExecutor(1)
        )
    assert not list((tmp_path / "out").glob("*.idx"))
