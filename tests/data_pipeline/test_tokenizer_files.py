"""What stands beside a vocabulary is obeyed as transformers does, or refused; text never becomes a special token."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from corpus_files import NOTHING_LEARNED, added_token, real_data, uncut_ids
from tokenizers import models, normalizers, pre_tokenizers

from data_pipeline.tokenization.byte_pairs import BytePairEncoder
from data_pipeline.tokenization.loading import tokenizer_files
from data_pipeline.tokenization.sentences import SentenceSplitter
from data_pipeline.tokenization.tokenizers import TokenizerError, load_tokenizer
from data_pipeline.tokenization.word_pieces import WordPieceEncoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CASED = [
    *SPECIAL,
    "The",
    "the",
    "Paris",
    "paris",
    "caf",
    "café",
    "cafe",
    "##é",
    "##e",
    "東",
    "京",
    "東京",
    "##京",
    ".",
]
UNCASED = [*SPECIAL, "the", "paris", "cafe", "caf", "##e", "東", "京", "東京", "."]
TEXT = "The paris Paris café CAFÉ 東京 [MASK] ."
END = "<|endoftext|>"


def words(folder: Path, tokens: list[str], **files: Any) -> Path:
    """A folder with a `vocab.txt` and JSON files by their names."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    write_beside(folder, **files)
    return folder


def write_beside(folder: Path, **files: Any) -> None:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def byte_pairs(folder: Path, names: tuple[str, str] = ("vocab.json", "merges.txt"), **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("e", "n"), ("en", "d")]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges), END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / names[0]).write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / names[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_beside(folder, **files)
    return folder


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("accents", [None, True, False])
@pytest.mark.parametrize("chinese", [True, False])
def test_settings_of_bert_are_obeyed(
    tmp_path: Path, lower: bool, accents: bool | None, chinese: bool
) -> None:
    import transformers

    settings = {"do_lower_case": lower, "strip_accents": accents, "tokenize_chinese_chars": chinese}
    folder = words(tmp_path, CASED, tokenizer_config=settings)
    theirs = transformers.BertTokenizer.from_pretrained(folder, split_special_tokens=True)
    expected = theirs.encode(TEXT, add_special_tokens=False)
    for path in (folder, folder / "vocab.txt"):
        tokenizer = load_tokenizer(path)
        assert tokenizer.encode(TEXT) == expected
    tokenizer.save(tmp_path / "again" / "tokenizer.json")
    again = load_tokenizer(tmp_path / "again")
    assert (again.encode(TEXT), again.fingerprint) == (expected, tokenizer.fingerprint)


def test_a_file_with_a_prefix_has_its_settings_by_the_same_prefix(tmp_path: Path) -> None:
    folder = words(tmp_path, CASED, tokenizer_config={"do_lower_case": True})
    (folder / "vocab.txt").rename(folder / "bert-base-cased-vocab.txt")
    assert load_tokenizer(folder / "bert-base-cased-vocab.txt").encode("The") == [CASED.index("the")]
    write_beside(folder, **{"bert-base-cased-tokenizer_config": {"do_lower_case": False}})
    assert load_tokenizer(folder / "bert-base-cased-vocab.txt").encode("The") == [CASED.index("The")]
    names = [path.name for path in tokenizer_files(folder / "bert-base-cased-vocab.txt")]
    assert names == ["bert-base-cased-vocab.txt", "bert-base-cased-tokenizer_config.json"]


def test_a_list_of_words_may_have_any_name(tmp_path: Path) -> None:
    words(tmp_path, CASED, tokenizer_config={"do_lower_case": False})
    path = (tmp_path / "vocab.txt").rename(tmp_path / "my-words.txt")
    assert load_tokenizer(path).encode("The") == [CASED.index("The")]


def test_a_cased_vocabulary_without_a_word_is_refused(tmp_path: Path) -> None:
    for config in ({}, {"tokenizer_config": {"model_max_length": 512}}):
        with pytest.raises(
            TokenizerError, match=r'upper-case letters \(Paris, The\).*"do_lower_case": false'
        ):
            load_tokenizer(words(tmp_path, CASED, **config))
    assert load_tokenizer(words(tmp_path, UNCASED)).encode("The") == [UNCASED.index("the")]


@pytest.mark.parametrize("prefix_space", [True, False])
@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_settings_and_names_of_gpt2_are_obeyed(
    tmp_path: Path, prefix_space: bool, names: tuple[str, str]
) -> None:
    import transformers

    config = {"add_prefix_space": prefix_space, "tokenizer_class": "GPT2Tokenizer"}
    theirs_folder = byte_pairs(tmp_path / "theirs", tokenizer_config=config)
    theirs = transformers.GPT2Tokenizer.from_pretrained(theirs_folder, split_special_tokens=True)
    text = f"the end\n the{END} the"
    folder = byte_pairs(tmp_path / "ours", names, tokenizer_config=config)
    for path in (folder, folder / names[0], folder / names[1]):
        assert load_tokenizer(path).encode(text) == theirs.encode(text, add_special_tokens=False)
        assert [file.name for file in tokenizer_files(path)] == [*names, "tokenizer_config.json"]


@pytest.mark.parametrize(
    "files, message",
    [
        ({"tokenizer_config": {"do_lower_case": "false"}}, "do_lower_case is 'false', must be true or false"),
        ({"tokenizer_config": {"do_lower_case": None}}, "do_lower_case is None, must be true or false"),
        ({"tokenizer_config": {"strip_accents": 1}}, "strip_accents is 1, must be true, false or null"),
        ({"tokenizer_config": {"do_basic_tokenize": False}}, "do_basic_tokenize is False, only True"),
        ({"tokenizer_config": {"never_split": ["the"]}}, "never_split is .*not supported"),
        ({"tokenizer_config": {"wordpieces_prefix": "@@"}}, "wordpieces_prefix is '@@', only '##'"),
        ({"tokenizer_config": {"add_prefix_space": True}}, "add_prefix_space is not supported for .* bert"),
        ({"tokenizer_config": {"tokenizer_class": "BertJapaneseTokenizer"}}, "BertJapaneseTokenizer, which reads"),
        ({"tokenizer_config": {"tokenizer_class": "GPT2TokenizerFast"}}, "a folder of its own"),
        ({"tokenizer_config": {"mask_token": "<mask>"}}, r"mask_token is <mask>; .* is \[MASK\]"),
        ({"special_tokens_map": {"cls_token": "<s>"}}, r"special_tokens_map.json: cls_token is <s>"),
        ({"tokenizer_config": {"bos_token": "the"}, "special_tokens_map": {"bos_token": "cafe"}}, "in the other"),
        ({"tokenizer_config": {"bos_token": "<s>"}}, "names the special token <s>, which has no id"),
        ({"tokenizer_config": {"bos_token": "cafe"}}, "text that spells the special token cafe becomes it"),
        ({"added_tokens": {"<ent>": 99}}, "'<ent>' has id 99, but .* gets 14"),
        ({"added_tokens": {"<ent>": "14"}}, "malformed added token"),
        ({"added_tokens": []}, r"added_tokens.json: must be a JSON object"),
        ({"tokenizer_config": {"added_tokens_decoder": {"14": "x"}}}, "added_tokens_decoder must give each id"),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"14": {"content": "<e>"}}}, "added_tokens": {"<e>": 15}},
            "'<e>' has id 15 in added_tokens.json, but 14 in",
        ),
    ],
)  # fmt: skip
def test_what_is_not_done_or_contradicts_itself_is_refused(
    tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(words(tmp_path, UNCASED, **files))


@pytest.mark.parametrize("where", ["added_tokens", "added_tokens_decoder"])
def test_added_tokens_are_found_in_text_and_special_ones_are_not(tmp_path: Path, where: str) -> None:
    roles = {"additional_special_tokens": ["<ent>"]}
    if where == "added_tokens":
        files = {"added_tokens": {"COVID-19": 14, "<ent>": 15}, "special_tokens_map": roles}
    else:
        flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True}
        decoder = {
            "14": {"content": "COVID-19", "special": False, **flags},
            "15": {"content": "<ent>", **flags},
        }
        files = {"tokenizer_config": {"added_tokens_decoder": decoder, **roles}}
    tokenizer = load_tokenizer(words(tmp_path, UNCASED, **files))
    reference = tokenizers.Tokenizer(
        models.WordPiece({t: i for i, t in enumerate(UNCASED)}, unk_token="[UNK]")
    )
    reference.normalizer = normalizers.BertNormalizer()
    reference.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    reference.add_tokens(["COVID-19"])
    assert tokenizer.vocabulary_size == 16
    for text in ("the covid-19 cafe", "COVID-19<ent>covid-19", "the <ent>"):
        assert tokenizer.encode(text) == reference.encode(text).ids
    assert load_tokenizer(words(tmp_path / "plain", UNCASED)).fingerprint != tokenizer.fingerprint


def definition(backend: tokenizers.Tokenizer, folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """A `tokenizer.json`, changed."""
    content = json.loads(backend.to_str())
    edit(content)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def plain_gpt2(folder: Path) -> tokenizers.Tokenizer:
    return load_tokenizer(byte_pairs(folder)).backend


def plain_bert(folder: Path) -> tokenizers.Tokenizer:
    return load_tokenizer(words(folder, UNCASED)).backend


def test_an_end_that_is_not_called_special_is_still_not_found_in_text(tmp_path: Path) -> None:
    backend = plain_gpt2(tmp_path / "made")
    end = backend.token_to_id(END)
    folder = definition(
        backend, tmp_path / "ours", lambda content: content.update(added_tokens=[added_token(end, END)])
    )
    found = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(f"the{END}").ids
    assert end in found  # or the fault could not be seen
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode(f"the{END}the") == uncut_ids(load_tokenizer(tmp_path / "made"), f"the{END}the")
    assert BytePairEncoder(tokenizer).encode(f"the{END}the").tolist() == tokenizer.encode(f"the{END}the")
    assert tokenizer.end_of_document == end and tokenizer.decode([end]) == END
    assert tokenizer.fingerprint == load_tokenizer(tmp_path / "made").fingerprint


@pytest.mark.parametrize("name", SPECIAL)
def test_no_special_token_of_bert_is_found_in_text(tmp_path: Path, name: str) -> None:
    backend = plain_bert(tmp_path / "made")
    index = backend.token_to_id(name)
    folder = definition(
        backend, tmp_path / "ours", lambda content: content.update(added_tokens=[added_token(index, name)])
    )
    text = f"the {name} cafe"
    assert load_tokenizer(folder).encode(text) == uncut_ids(load_tokenizer(tmp_path / "made"), text)
    assert index == 1 or index not in load_tokenizer(folder).encode(text)


def _whole_words(content: dict[str, Any]) -> None:
    content.update(pre_tokenizer={"type": "WhitespaceSplit"}, normalizer=None)


def _end_by_merges(content: dict[str, Any]) -> None:
    model, parts = content["model"], list(END)
    content["pre_tokenizer"]["use_regex"] = False
    for place in range(1, len(parts)):
        left = "".join(parts[:place])
        model["merges"].insert(place - 1, [left, parts[place]])
        model["vocab"].setdefault(left + parts[place], len(model["vocab"]))


@pytest.mark.parametrize(
    "make, edit, name",
    [
        (plain_bert, _whole_words, r"\[CLS\]"),
        (plain_gpt2, _end_by_merges, r"<\|endoftext\|>"),
        (
            plain_gpt2,
            lambda content: (
                content["model"].update(ignore_merges=True)
                or content["pre_tokenizer"].update(use_regex=False)
            ),
            r"<\|endoftext\|>",
        ),
    ],
)
def test_a_model_that_makes_special_tokens_of_text_is_refused(
    tmp_path: Path,
    make: Callable[[Path], tokenizers.Tokenizer],
    edit: Callable[[dict[str, Any]], object],
    name: str,
) -> None:
    with pytest.raises(TokenizerError, match=f"text that spells the special token {name} becomes it"):
        load_tokenizer(definition(make(tmp_path / "made"), tmp_path / "ours", edit))


@pytest.mark.parametrize(
    "make, edit, config, message",
    [
        (plain_bert, lambda c: c["normalizer"].update(lowercase=False), {"do_lower_case": True}, "do_lower_case is true"),
        (plain_bert, lambda c: c["normalizer"].update(lowercase=False), {"tokenizer_class": "BertTokenizerFast"},
         "do_lower_case is true by its class"),
        (plain_bert, lambda c: c["normalizer"].update(strip_accents=False), {"strip_accents": None, "do_lower_case": True},
         "strip_accents is true, but"),
        (plain_bert, lambda c: c["normalizer"].update(handle_chinese_chars=False), {"tokenize_chinese_chars": True},
         "tokenize_chinese_chars is true, but"),
        (plain_gpt2, lambda c: c["pre_tokenizer"].update(add_prefix_space=True), {"add_prefix_space": False},
         "add_prefix_space is false, but"),
        (plain_gpt2, lambda c: None, {"added_tokens_decoder": {"262": {"content": "<e>", "special": True}}},
         "'<e>' with id 262 is not in"),
        (plain_gpt2, lambda c: c.update(added_tokens=[added_token(262, "end")]),
         {"added_tokens_decoder": {"262": {"content": "end", "lstrip": True, "normalized": False}}}, "those flags"),
        (plain_gpt2, lambda c: None, {"eos_token": "</s>"}, "eos_token is </s>"),
        (plain_gpt2, lambda c: None, {"do_lower_case": True}, "do_lower_case is not supported for tokenizers of kind gpt2"),
        (plain_gpt2, lambda c: c["model"].update(dropout=0.1), {}, "drops merges at random"),
        (plain_gpt2, lambda c: c["model"]["vocab"].update({"!": 3}), {}, "two tokens have the same id"),
    ],
)  # fmt: skip
def test_a_definition_and_what_stands_beside_it_must_agree(
    tmp_path: Path,
    make: Callable[..., Any],
    edit: Callable[..., object],
    config: dict[str, Any],
    message: str,
) -> None:
    folder = definition(make(tmp_path / "made"), tmp_path / "ours", edit)
    write_beside(folder, tokenizer_config=config)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(folder)


def test_a_definition_that_agrees_with_its_settings_is_taken(tmp_path: Path) -> None:
    cased = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    made = load_tokenizer(words(tmp_path / "made", CASED, tokenizer_config=cased))
    folder = definition(made.backend, tmp_path / "ours", lambda content: content)
    write_beside(folder, tokenizer_config=cased)
    assert load_tokenizer(folder).encode(TEXT) == made.encode(TEXT)
    made = load_tokenizer(byte_pairs(tmp_path / "made2", tokenizer_config={"add_prefix_space": True}))
    folder = definition(made.backend, tmp_path / "ours2", lambda content: content)
    write_beside(folder, tokenizer_config={"add_prefix_space": True, "tokenizer_class": "GPT2Tokenizer"})
    assert load_tokenizer(folder).encode("the the") == made.encode("the the")


@pytest.mark.parametrize("keep", [0.5, 0.999])
@pytest.mark.parametrize("end", ["first", "last"])
def test_merges_that_are_cut_off_are_noticed(tmp_path: Path, keep: float, end: str) -> None:
    (tmp_path / "vocab.json").write_bytes(real_data("gpt2-vocab.json").read_bytes())
    lines = real_data("gpt2-merges.txt").read_bytes().split(b"\n")
    kept = int(len(lines) * keep)
    (tmp_path / "merges.txt").write_bytes(b"\n".join(lines[:kept] if end == "first" else lines[-kept:]))
    with pytest.raises(TokenizerError, match=r"merges.txt: no merge makes \d+ of the tokens in .*vocab.json"):
        load_tokenizer(tmp_path)


def test_a_definition_that_lost_merges_or_bytes_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = plain_gpt2(tmp_path / "made")
    load_tokenizer(definition(backend, tmp_path / "whole", lambda content: content))
    assert not caplog.records
    load_tokenizer(definition(backend, tmp_path / "merges", lambda content: content["model"]["merges"].pop()))
    assert "no merge makes 1 of its tokens (end): were merges lost?" in caplog.text
    load_tokenizer(
        definition(backend, tmp_path / "bytes", lambda content: content["model"]["vocab"].pop("Ā"))
    )
    assert "1 of the 256 bytes have no token: text loses them" in caplog.text


def test_a_lone_surrogate_is_named(tmp_path: Path) -> None:
    gpt2, bert = (
        load_tokenizer(byte_pairs(tmp_path / "gpt2")),
        load_tokenizer(words(tmp_path / "bert", UNCASED)),
    )

    def words_of_bert(text: str) -> None:
        WordPieceEncoder(bert, SentenceSplitter(NOTHING_LEARNED)).encode_documents([text])

    for encode in (gpt2.encode, bert.encode, BytePairEncoder(gpt2).encode, words_of_bert):  # fmt: skip
        with pytest.raises(TokenizerError, match=r"lone surrogate U\+D83D at character 4"):
            encode("the \ud83d!")
