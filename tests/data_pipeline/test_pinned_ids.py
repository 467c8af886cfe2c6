"""The ids of whole texts, pinned: the same from every encoder, and from version to version.

The hashes are of ids that the library `tokenizers` gave alone, of documents or of sentences that nltk found alone:
`REAL_DATA=… PYTHONPATH=.:tests python tests/data_pipeline/test_pinned_ids.py` prints them.
"""

import gzip
import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from corpus_files import NOTHING_LEARNED, real_data

from data_pipeline.sample.files import write_sample
from data_pipeline.tokenization import byte_pairs
from data_pipeline.tokenization.byte_pair_libraries import Gigatoken, Tiktoken
from data_pipeline.tokenization.byte_pairs import BytePairEncoder
from data_pipeline.tokenization.encoders import Encoded, Encoder, ReferenceEncoder
from data_pipeline.tokenization.sentences import SentenceSplitter
from data_pipeline.tokenization.tokenizers import load_tokenizer
from data_pipeline.tokenization.word_pieces import WordPieceEncoder

_VOCABULARIES = {"gpt2": "gpt2-vocab.json", "bert": "bert-base-uncased-vocab.txt"}
PINNED = {
    ("gpt2", "novels"): "542b1df3dd17973a",
    ("bert", "novels"): "2faf625d708c2975",
    ("gpt2", "novels, some"): "3f8e736f061ea38f",
    ("bert", "novels, some"): "42d4561c3428c51f",
    ("gpt2", "wikitext"): "358ee35776cb13df",
    ("bert", "wikitext"): "8599c7099791387d",
    ("gpt2", "RACE"): "1b46ecc4f85ef9d3",
    ("bert", "RACE"): "a982a7620b6ec441",
    ("gpt2", "sample"): "31fb2f683d1cc856",
    ("bert", "sample"): "374d9ecc6758aff1",
}


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def texts_of(corpus: str, folder: Path) -> list[str]:
    """The documents of a corpus; the folder takes what is generated."""
    if corpus.startswith("novels"):
        novels = [row["text"] for row in _rows(real_data("gutenberg_small.jsonl.gz"))]
        return novels if corpus == "novels" else novels[::25]
    if corpus == "wikitext":
        return real_data("wikitext103.valid.tokens").read_text(encoding="utf-8").split("\n \n")
    write_sample(folder, seed=1, documents=150)
    if corpus == "sample":
        return [row["text"] for path in sorted((folder / "corpus").iterdir()) for row in _rows(path)]
    passages = [
        json.loads(path.read_text()) for path in sorted((folder / "benchmarks" / "RACE").rglob("*.txt"))
    ]
    return [
        "\n".join(
            [passage["article"], *(f"{question} {' '.join(options)}" for question, options in questions)]
        )
        for passage in passages
        for questions in [zip(passage["questions"], passage["options"], strict=True)]
    ]


def digest(encoded: Encoded) -> str:
    """Of all ids and of where sequences and documents end."""
    parts = (encoded.tokens.astype("<u4"), encoded.lengths.astype("<i8"), encoded.sequences.astype("<i8"))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


def _gpt2(library: type) -> Callable[[], Encoder]:
    def make() -> Encoder:
        encoder = BytePairEncoder(load_tokenizer(real_data(_VOCABULARIES["gpt2"])))
        assert isinstance(encoder._library, library)
        return encoder

    return make


def _bert() -> Encoder:
    tokenizer = load_tokenizer(real_data(_VOCABULARIES["bert"]))
    return WordPieceEncoder(tokenizer, SentenceSplitter(NOTHING_LEARNED))


def _reference(kind: str) -> Encoder:
    tokenizer = load_tokenizer(real_data(_VOCABULARIES[kind]))
    if kind == "gpt2":
        return ReferenceEncoder(tokenizer, None, [tokenizer.end_of_document])
    return ReferenceEncoder(tokenizer, SentenceSplitter(NOTHING_LEARNED))


_ENCODERS: dict[str, tuple[str, Callable[[], Encoder]]] = {
    "gigatoken": ("gpt2", _gpt2(Gigatoken)),
    "tiktoken": ("gpt2", _gpt2(Tiktoken)),
    "tokenizers": ("gpt2", lambda: _reference("gpt2")),
    "words": ("bert", _bert),
    "nltk and tokenizers": ("bert", lambda: _reference("bert")),
}
_SLOW = ("tokenizers", "nltk and tokenizers")


@pytest.mark.parametrize("name", _ENCODERS)
def test_ids_are_what_they_were(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, make = _ENCODERS[name]
    if name == "tiktoken":
        monkeypatch.setattr(byte_pairs, "LIBRARIES", (Tiktoken,))
    encoder = make()
    corpora = (
        ["novels, some", "RACE", "sample"] if name in _SLOW else ["novels", "wikitext", "RACE", "sample"]
    )
    for corpus in corpora:
        assert digest(encoder.encode_documents(texts_of(corpus, tmp_path))) == PINNED[kind, corpus], corpus


def _by_libraries(kind: str, texts: Sequence[str]) -> Encoded:
    """Nothing of the encoders: nltk's sentences one document at a time, `tokenizers` one text at a time."""
    backend: tokenizers.Tokenizer = load_tokenizer(real_data(_VOCABULARIES[kind])).backend
    split = SentenceSplitter(NOTHING_LEARNED) if kind == "bert" else lambda text: [text]
    end = [] if kind == "bert" else [backend.token_to_id("<|endoftext|>")]
    tokens, lengths, sequences = [], [], []
    for text in texts:
        ids = [backend.encode(part, add_special_tokens=False).ids for part in split(text)]
        full = [[*part, *end] for part in ids if part]
        tokens += [index for part in full for index in part]
        lengths += [len(part) for part in full]
        sequences.append(len(full))
    return Encoded(np.array(tokens, np.uint32), np.array(lengths), np.array(sequences))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for one in ("novels", "novels, some", "wikitext", "RACE", "sample"):
            found = texts_of(one, Path(place))
            for each in _VOCABULARIES:
                print(f'    ("{each}", "{one}"): "{digest(_by_libraries(each, found))}",', flush=True)
