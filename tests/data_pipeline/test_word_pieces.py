"""Sentences and WordPiece word by word give the ids of the libraries for any text, or it is said that they cannot."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from corpus_files import NOTHING_LEARNED, added_token, english, real_data, uncut_ids, write_documents
from tokenizers import normalizers

import data_pipeline.tokenization.word_pieces
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.encoders import Encoded, ReferenceEncoder, UnsuitableTokenizerError
from data_pipeline.tokenization.sentences import (
    SentenceSplitter,
    train_sentence_splitter,
)
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

_HOSTILE = [
    "Mr.",
    "Dr.",
    "No.",
    "7",
    "St.",
    "The",
    "the",
    "He",
    "said.",
    "said",
    "e.g.",
    "U.S.",
    "J.",
    "R.",
    "p.m.",
    "1990.",
    "3.50",
    "12,345.",
    "...",
    "..",
    ".",
    "?",
    "!",
    "?!",
    "!!!",
    '"',
    "'",
    "”",
    "’",
    "“",
    "‘",
    ")",
    "(",
    "]",
    "}",
    "«",
    "»",
    "--",
    "---",
    "-",
    "–",
    "—",
    ",",
    ";",
    ":",
    "*",
    "@",
    "#",
    "etc.",
    "vol.",
    "Vol.",
    "x.y",
    "a.b.",
    "ends.)",
    "(Yes.)",
    "no?”--",
    "'s",
    "co.",
    "Co.",
    "É.",
    "Ünd",
    "東.京",
    "。",
    '!"',
    '".',
    '"."',
    ".'",
    ".’",
    "hon.",
    "Hon.",
    "s.!",
    '"--no!"--yes',
    '"Hello!"cried',
    "left.--Then",
    "end.”)",
    "’--and",
    "”--“",
    "...”",
    ".)--",
    'x.")--y?’z',
]
_BLANKS = [*"     \n\t", "  ", "\n\n", " \n \n", "\r\n", "", ""]
_ODD_BLANKS = [*_BLANKS, *"\xa0\u2028\v\x1c\u3000\x85"]
# Some of everything that Punkt learns: bits of the contexts are 1: upper case first, 2: within; 4, 5: lower case.
_LEARNED = {
    "abbreviations": ["co", "x", "e.g", "u.s", "s"],
    "collocations": [["said", "he"], ["##number##", "the"], ["j", "r"], ["...", "and"]],
    "sentence_starters": ["the", "he"],
    "orthographic_context": {"the": 34, "he": 18, "and": 32, "i": 4, "said": 32},
}


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
    """A text of one of three kinds: ASCII, with some characters that are not, and with many."""
    plain = [part for part in _PARTS if part.isascii() and (part.isprintable() or part in "\n\t\r")]
    kind = draw.randrange(3)
    return "".join(
        draw.choice(_PARTS if draw.random() < (0.0, 0.03, 1.0)[kind] else plain)
        for _ in range(draw.randrange(parts))
    )


def _plain_splitter() -> SentenceSplitter:
    return SentenceSplitter(NOTHING_LEARNED)


def _assert_same(tokenizer: Tokenizer, splitter: SentenceSplitter, batches: list[list[str]]) -> None:
    """The ids, sentences and documents of the libraries themselves."""
    encoder, reference = WordPieceEncoder(tokenizer, splitter), ReferenceEncoder(tokenizer, splitter)
    for documents in batches:
        given, expected = encoder.encode_documents(documents), reference.encode_documents(documents)
        if not all(map(np.array_equal, given, expected)):
            for text in documents:
                one, other = encoder.encode_documents([text]), reference.encode_documents([text])
                assert [part.tolist() for part in one] == [part.tolist() for part in other], repr(text)
        assert all(map(np.array_equal, given, expected))


def test_random_texts(tokenizer: Tokenizer) -> None:
    draw = random.Random(1)
    batches = [[_random_text(draw, 30) for _ in range(draw.randrange(12))] for _ in range(300)]
    _assert_same(tokenizer, _plain_splitter(), batches)
    encoder = WordPieceEncoder(tokenizer, _plain_splitter())
    for text in (text for documents in batches[:100] for text in documents if text.isprintable()):
        assert encoder.encode_documents([text]).tokens.tolist() == uncut_ids(tokenizer, text), repr(text)


@pytest.mark.parametrize("learned", [NOTHING_LEARNED, _LEARNED], ids=["nothing", "some"])
def test_hostile_sentences(learned: dict[str, Any]) -> None:
    """Marks, closing marks, dashes, abbreviations, numbers and initials beside each other, with all kinds of blanks."""
    tokenizer = load_tokenizer(real_data("bert-base-uncased-vocab.txt"))
    draw = random.Random(2)

    def text() -> str:
        blanks = _ODD_BLANKS if draw.random() < 0.2 else _BLANKS
        return "".join(draw.choice(_HOSTILE) + draw.choice(blanks) for _ in range(draw.randrange(30)))

    _assert_same(tokenizer, SentenceSplitter(learned), [[text() for _ in range(20)] for _ in range(60)])


@pytest.mark.parametrize(
    "settings",
    [
        {"lowercase": False},
        {"lowercase": False, "strip_accents": True},
        {"strip_accents": False},
        {"handle_chinese_chars": False},
        {"clean_text": False},
        None,
    ],
)
def test_any_setting_of_the_normalizer(settings: dict[str, Any] | None) -> None:
    tokenizer = load_tokenizer(real_data("bert-base-uncased-vocab.txt"))
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.normalizer = None if settings is None else normalizers.BertNormalizer(**settings)
    other = Tokenizer(backend, "edited")
    draw = random.Random(3)
    parts = [
        *_PARTS,
        *_HOSTILE,
        "E\u0301",
        "\u0301",
        "\u1e69",
        "s\u0323\u0307",
        "Σ",
        "ΑΣ",
        "中a中",
        "\u00ad",
        "\U0001f1e9",
    ]
    texts = ["".join(draw.choice(parts) + draw.choice(_ODD_BLANKS) for _ in range(20)) for _ in range(300)]
    _assert_same(other, _plain_splitter(), [texts])


def test_every_character_between_letters(tokenizer: Tokenizer) -> None:
    encoder = WordPieceEncoder(tokenizer, _plain_splitter())
    points = [
        *range(0x3000),
        *range(0x3000, 0xD800, 17),
        *range(0xE000, 0x10000, 5),
        *range(0x10000, 0x110000, 197),
    ]
    texts = [f"a{chr(point)}the {chr(point)}1{chr(point)}," for point in points]
    expected = tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)
    encoded = encoder.encode_documents(texts)
    found = encoded.tokens.tolist()
    assert found == [index for encoding in expected for index in encoding.ids]
    sizes = np.add.reduceat(encoded.lengths, np.cumsum(encoded.sequences) - encoded.sequences)
    assert sizes.tolist() == [len(encoding.ids) for encoding in expected]


def test_real_texts() -> None:
    """Of learned parameters; of none `test_pinned_ids` tries every document."""
    tokenizer = load_tokenizer(real_data("bert-base-uncased-vocab.txt"))
    with gzip.open(real_data("gutenberg_small.jsonl.gz"), "rt", encoding="utf-8") as stream:
        novels = [json.loads(record)["text"] for record in stream][::20]
    texts = real_data("wikitext103.valid.tokens").read_text(encoding="utf-8").split("\n \n")[::20]
    _assert_same(tokenizer, SentenceSplitter(_LEARNED), [novels, texts])


def test_segments_and_paragraphs_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(real_data("bert-base-uncased-vocab.txt"))
    draw = random.Random(4)
    module = data_pipeline.tokenization.word_pieces
    texts = ["".join(draw.choice(_HOSTILE) + draw.choice(_BLANKS) for _ in range(90)) for _ in range(40)]
    for longest, segment, most in ((50, 1 << 20, 1 << 18), (1 << 20, 30, 5), (120, 200, 5)):
        monkeypatch.setattr(module, "_LONGEST_PARAGRAPH", longest)
        monkeypatch.setattr(module, "_SEGMENT_CHARACTERS", segment)
        monkeypatch.setattr(module, "_MOST_WORDS", most)
        _assert_same(tokenizer, _plain_splitter(), [texts])


def test_each_word_is_asked_for_once_and_few_are_kept(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(trained)
    monkeypatch.setattr(data_pipeline.tokenization.word_pieces, "_MOST_WORDS", 3)
    asked: list[list[str]] = []
    encode = tokenizer.encode_batch
    monkeypatch.setattr(tokenizer, "encode_batch", lambda texts: asked.append(texts) or encode(texts))
    encoder = WordPieceEncoder(tokenizer, _plain_splitter())
    for text in ("one two one", "two\nthree four.", "one", "Mr.\xa0Fox"):
        encoder.encode_documents([text])
    # the fourth word is one too many: all are forgotten; Punkt and the library are shown odd blanks whole
    assert asked == [["one", "two"], ["three", "four."], ["one"], ["Mr.\xa0Fox"]]
    monkeypatch.setattr(data_pipeline.tokenization.word_pieces, "_MOST_CHARACTERS", 9)
    encoder = WordPieceEncoder(tokenizer, _plain_splitter())
    for text in ("0123456789", "0123456789"):
        encoder.encode_documents([text])
    assert asked[-2:] == [["0123456789"], ["0123456789"]]


def test_nothing_is_remembered_of_words_that_failed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(trained)
    encoder = WordPieceEncoder(tokenizer, _plain_splitter())
    with pytest.raises(TokenizerError, match="surrogate"):
        encoder.encode_documents(["the \ud83d!"])
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "encode_batch", lambda texts: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encoder.encode_documents(["the house"])
    assert encoder.encode_documents(["the house"]).tokens.tolist() == uncut_ids(tokenizer, "the house")


@pytest.mark.parametrize(
    "edit, reason",
    [
        (lambda content: content.update(normalizer={"type": "Lowercase"}), "changes or splits"),
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
        WordPieceEncoder(load_tokenizer(tmp_path), _plain_splitter())
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
        WordPieceEncoder(load_tokenizer(real_data("gpt2-vocab.json")), _plain_splitter())


@pytest.mark.parametrize("number", [0, 5, 256])
def test_a_wrong_id_in_a_sampled_document_stops_the_shard(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    texts = [f"A house. Document {index} of the water." for index in range(300)]
    shards = write_documents(tmp_path / "documents", texts, shards=1)
    right = WordPieceEncoder.encode_documents

    def wrong(self: WordPieceEncoder, documents: list[str]) -> Encoded:
        tokens, lengths, sequences = right(self, documents)
        if texts[number] in documents:
            tokens = tokens.copy()
            tokens[lengths[: sequences[: documents.index(texts[number])].sum()].sum()] += 1
        return Encoded(tokens, lengths, sequences)

    monkeypatch.setattr(WordPieceEncoder, "encode_documents", wrong)
    message = rf"documents-00000.parquet: document t/{number:06d}: .* differ at token 0: \d+ is not \d+"
    with pytest.raises(TokenizerError, match=message):
        tokenize_corpus(
            shards, trained, tmp_path / "out", sentence_splitter=trained, executor=LocalExecutor(1)
        )
    assert not list((tmp_path / "out").glob("*.idx"))
