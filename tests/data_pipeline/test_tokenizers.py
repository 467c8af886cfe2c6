"""Tokenizers: same bytes at every training, the published vocabularies, special tokens that text cannot spell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from corpus_files import english, real_data, write_documents

import data_pipeline.tokenization.cuts
from data_pipeline.tokenization.tokenizers import TokenizerError, load_tokenizer, train_tokenizer

_UNUSUAL = "naïve Zoë’s 東京 — 1,234 kg"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with document shards in `documents/`, and tokenizers in `gpt2/` and `bert/`."""
    directory = tmp_path_factory.mktemp("tokenizers")
    texts = [english(seed) + " " + _UNUSUAL for seed in range(40)]
    shards = write_documents(directory / "documents", texts, shards=2)
    train_tokenizer("gpt2", shards, directory / "gpt2", 500)
    train_tokenizer("bert", shards, directory / "bert", 500)
    return directory


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_training_in_another_process_gives_the_same_bytes(trained: Path, tmp_path: Path, kind: str) -> None:
    """WordPiece training of the library differs from process to process unless its first ids are fixed."""
    program = (
        "import sys; from pathlib import Path; from data_pipeline.engine.documents import list_shards\n"
        "from data_pipeline.tokenization.tokenizers import train_tokenizer\n"
        "if __name__ == '__main__':\n"
        f"    train_tokenizer({kind!r}, list_shards(Path(sys.argv[1])), Path(sys.argv[2]), 500)"
    )
    subprocess.run([sys.executable, "-c", program, trained / "documents", tmp_path], check=True)
    assert (tmp_path / "tokenizer.json").read_bytes() == (trained / kind / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_text_cannot_spell_special_tokens(trained: Path, kind: str) -> None:
    tokenizer = load_tokenizer(trained / kind)
    names = ["<|endoftext|>"] if kind == "gpt2" else ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    special = (
        [tokenizer.end_of_document]
        if kind == "gpt2"
        else [tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.mask]
    )
    for name in names:
        assert not set(tokenizer.encode(f"the {name} of {name}")) & set(special)


def test_ids_of_special_tokens_and_sizes(trained: Path) -> None:
    bert = load_tokenizer(trained / "bert")
    assert (bert.pad, bert.cls, bert.sep, bert.mask) == (0, 2, 3, 4)
    assert load_tokenizer(trained / "gpt2").end_of_document == 0
    assert bert.vocabulary_size <= 500
    assert bert.continuation.shape == (bert.vocabulary_size,)
    assert bert.continuation[bert.encode("thethe")].tolist()[0] is False
    assert bert.continuation[bert.encode("thethe")].tolist()[1] is True


def test_gpt2_round_trip_is_exact(trained: Path) -> None:
    tokenizer = load_tokenizer(trained / "gpt2")
    text = "  Any bytes: \x00 😀 \u202e " + _UNUSUAL + "\n\n end "
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_long_texts_in_pieces_give_the_same_ids(
    trained: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    tokenizer = load_tokenizer(trained / kind)
    texts = [english(1) + "  \n\n  " + english(2) + "\n" + _UNUSUAL + " " * 99, "x" * 500, " " * 500, ""]
    whole = tokenizer.encode_batch(texts)
    monkeypatch.setattr(data_pipeline.tokenization.cuts, "PIECE_CHARACTERS", 37)
    assert tokenizer.encode_batch(texts) == whole


def test_vocabulary_too_small_for_the_alphabet(trained: Path, tmp_path: Path) -> None:
    shards = sorted((trained / "documents").glob("*.parquet"))
    with pytest.raises(TokenizerError, match="raise vocabulary_size"):
        train_tokenizer("gpt2", shards, tmp_path, 100)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("tokenizer.json", "{", "not a tokenizer that can be read"),
        (
            "tokenizer.json",
            '{"version": "1.0", "model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}}',
            "neither",
        ),
        ("vocab.json", "{}", "merges are missing"),
        ("vocab.txt", "a\nb\n", r"no token \[PAD\]"),
        ("other.bin", "", "holds neither tokenizer.json"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match=rf"{tmp_path}.*{message}"):
        load_tokenizer(tmp_path)


def test_missing_path() -> None:
    with pytest.raises(TokenizerError, match="absent: no such"):
        load_tokenizer(Path("absent"))


def test_published_vocabularies(tmp_path: Path) -> None:
    gpt2 = load_tokenizer(real_data("gpt2-vocab.json"))
    bert = load_tokenizer(real_data("bert-base-uncased-vocab.txt"))
    assert (gpt2.vocabulary_size, gpt2.end_of_document) == (50257, 50256)
    assert gpt2.encode("Hello world, don't panic.") == [15496, 995, 11, 836, 470, 13619, 13]
    assert (bert.vocabulary_size, bert.pad, bert.cls, bert.sep, bert.mask) == (30522, 0, 101, 102, 103)
    assert bert.encode("Hello world") == [7592, 2088]


def test_fingerprint_depends_on_the_ids_only(tmp_path: Path) -> None:
    """The same vocabulary as two files or as one tokenizer.json, with and without a registered special token."""
    gpt2 = load_tokenizer(real_data("gpt2-vocab.json"))
    gpt2.save(tmp_path / "tokenizer.json")
    content: dict[str, Any] = json.loads((tmp_path / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] = [{"id": 50256, "content": "<|endoftext|>", **flags}]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == gpt2.fingerprint
    assert again.encode("a <|endoftext|> b") == gpt2.encode("a <|endoftext|> b")
    assert load_tokenizer(real_data("bert-base-uncased-vocab.txt")).fingerprint != gpt2.fingerprint


def test_a_panic_of_the_library_is_an_error_of_ours(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as a BaseException; Ctrl-C is one as well, and stays what it is."""

    class PanicException(BaseException):
        """As the library's is called."""

    class Panicking:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def encode(self, *_: object, **__: object) -> None:
            raise self.error

        encode_batch_fast = encode

    tokenizer = load_tokenizer(trained / "gpt2")
    tokenizer.backend = Panicking(PanicException("not a char boundary"))
    for call in (tokenizer.encode, tokenizer._encode_uncut):
        with pytest.raises(TokenizerError, match=r"gives up on a text \('a b' …\): not a char boundary"):
            call("a b")
    with pytest.raises(TokenizerError, match="one of 2 texts"):
        tokenizer.encode_batch(["a", "b"])
    tokenizer.backend = Panicking(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("a b")


def test_programs_find_tokenizers_where_they_were() -> None:
    import data_pipeline.tokenizers as short

    assert short.load_tokenizer is load_tokenizer
