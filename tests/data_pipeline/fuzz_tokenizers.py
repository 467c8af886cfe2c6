"""Fuzz of tokenizers with all that stands beside them: `python tests/data_pipeline/fuzz_tokenizers.py --inputs 100000`.

Folders are made as hubs hand them out, with random settings, added and special tokens, names and defects. What is
loaded must give the ids of an independent reader of the same files, for every text: `transformers` where there is a
vocabulary with settings beside it, `tokenizers` itself, on the whole text, where there is a `tokenizer.json`; in both,
text may not become a special token. What is not loaded must be refused with a `TokenizerError`. An input is one text
read by one tokenizer. Texts are also read in pieces of a few characters, and by the fast encoders where they apply.
"""

import argparse
import collections
import json
import random
import shutil
import string
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tokenizers
from corpus_files import NOTHING_LEARNED
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from core.registry import attribute
from data_pipeline.tokenization import cuts
from data_pipeline.tokenization.encoders import ReferenceEncoder, UnsuitableTokenizerError, check
from data_pipeline.tokenization.kinds import KINDS, TokenizerError
from data_pipeline.tokenization.sentences import SentenceSplitter
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer

TEXTS_EACH = 40
_END = "<|endoftext|>"
_BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_WORDS = [
    "the",
    "The",
    "THE",
    "house",
    "House",
    "café",
    "Café",
    "naïve",
    "Straße",
    "İstanbul",
    "Ångström",
    "don't",
    "I'll",
    "it's",
    "'s",
    "12,345.67",
    "(a)",
    "a-b",
    "...",
    "--",
    "東京",
    "京都",
    "مرحبا",
    "한국어",
    "é",
    "ﬁ",
    "½",
    "##",
    "##a",
    "[",
    "]",
    "<",
    ">",
    "<|",
    "|>",
    "|",
    "end",
    "endoftext",
]
_BLANKS = [
    " ",
    " ",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\x85",
    "\v",
    "     ",
    "",
]
_ADDED = ["COVID-19", "the house", "<ent>", "  ", "\n", "caf\u00e9", "THE", "[unk1]", "<|pad|>", "end", "_x_"]
_CHARACTERS = sorted(set("".join(_WORDS)) | set(string.printable) - set(string.whitespace))


def random_text(draw: random.Random, more: list[str]) -> str:
    """Words, special and added tokens, blanks of all kinds, and characters of all planes."""

    def part() -> str:
        kind = draw.randrange(12)
        if kind == 0:
            return chr(draw.choice((draw.randrange(0xD800), draw.randrange(0xE000, 0x110000))))
        if kind == 1:
            return draw.choice([_END, *_BERT, *more]) if draw.random() < 0.7 else draw.choice(_ADDED)
        if kind == 2:
            return draw.choice("aZ1 \n.\u6771") * draw.randrange(1, 30)
        return draw.choice(_WORDS)

    return "".join(part() + draw.choice(_BLANKS) for _ in range(draw.randrange(16)))


class Material:
    """Vocabularies that the folders are made of."""

    def __init__(self) -> None:
        trained = tokenizers.Tokenizer(models.BPE())
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        draw = random.Random(0)
        texts = [" ".join(draw.choice(_WORDS) for _ in range(200)) for _ in range(30)]
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
        trained.train_from_iterator(texts, trainer)
        model = json.loads(trained.to_str())["model"]
        self.vocabulary: dict[str, int] = model["vocab"] | {_END: len(model["vocab"])}
        self.merges: list[list[str]] = model["merges"]
        words = [word for word in _WORDS if word.isalpha()]
        self.cased = list(dict.fromkeys([*_BERT, *_CHARACTERS, *(f"##{c}" for c in _CHARACTERS), *words]))
        normalizer = normalizers.BertNormalizer()
        self.uncased = [t for t in self.cased if t in _BERT or normalizer.normalize_str(t).strip() == t]


def _added(draw: random.Random, size: int) -> list[dict[str, Any]]:
    """Entries as `tokenizer.json` and `added_tokens_decoder` have them."""
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    contents = draw.sample(_ADDED, draw.choice((0, 0, 1, 2, 4)))
    return [
        {"id": size + index, "content": content, **{flag: draw.random() < 0.3 for flag in flags}}
        | {"special": draw.random() < 0.3}
        for index, content in enumerate(contents)
    ]


def _beside(
    draw: random.Random, folder: Path, settings: dict[str, Any], size: int, class_name: str
) -> list[str]:
    """Write the files beside a vocabulary; returns the special tokens that they name."""
    config = {key: draw.choice(values) for key, values in settings.items() if draw.random() < 0.6}
    if draw.random() < 0.5:
        config["tokenizer_class"] = class_name + draw.choice(("", "Fast"))
    added = _added(draw, size)
    special = [entry["content"] for entry in added if entry["special"]]
    roles: dict[str, Any] = {"additional_special_tokens": special} if special else {}
    if draw.random() < 0.5:
        config["added_tokens_decoder"] = {
            str(entry["id"]): {key: entry[key] for key in entry if key != "id"} for entry in added
        }
        config |= roles if draw.random() < 0.5 else {}
    elif added:
        content = {entry["content"]: entry["id"] for entry in added}
        (folder / "added_tokens.json").write_text(json.dumps(content), encoding="utf-8")
        if draw.random() < 0.5:
            config |= roles
        else:
            roles = {"extra_special_tokens": special}  # transformers 5 does not know the older name here
            (folder / "special_tokens_map.json").write_text(json.dumps(roles), encoding="utf-8")
    if config or draw.random() < 0.5:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return special


Ids = Callable[[str], list[int]]


def _by_transformers(folder: Path, class_name: str) -> Ids:
    import transformers

    theirs = getattr(transformers, class_name).from_pretrained(folder, split_special_tokens=True)
    return lambda text: theirs.encode(text, add_special_tokens=False)


def words_folder(
    draw: random.Random, material: Material, folder: Path
) -> tuple[Path, Callable[[], Ids], list[str]]:
    cased = draw.random() < 0.5
    words = material.cased if cased else material.uncased
    end = draw.choice(("\n", "\r\n"))
    (folder / "vocab.txt").write_bytes(end.join([*words, ""]).encode())
    settings = {
        "do_lower_case": [False, False, True] if cased else [True, False],
        "strip_accents": [None, True, False],
        "tokenize_chinese_chars": [True, False],
        "model_max_length": [512],
        "mask_token": ["[MASK]"],
    }
    special = _beside(draw, folder, settings, len(words), "BertTokenizer")
    return folder, lambda: _by_transformers(folder, "BertTokenizer"), special


def bytes_folder(
    draw: random.Random, material: Material, folder: Path
) -> tuple[Path, Callable[[], Ids], list[str]]:
    (folder / "vocab.json").write_text(json.dumps(material.vocabulary), encoding="utf-8")
    merges = "#version: 0.2\n" * draw.randrange(2) + "".join(f"{a} {b}\n" for a, b in material.merges)
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    settings = {
        "add_prefix_space": [False, True],
        "eos_token": [_END, {"__type": "AddedToken", "content": _END, "lstrip": False}],
        "errors": ["replace"],
        "add_bos_token": [False],
    }
    special = _beside(draw, folder, settings, len(material.vocabulary), "GPT2Tokenizer")
    path = folder
    if draw.random() < 0.3:  # OpenAI's names, in a folder of their own
        path = folder / "openai"
        path.mkdir()
        names = {"vocab.json": "encoder.json", "merges.txt": "vocab.bpe"}
        for file in list(folder.glob("*.*")):
            shutil.copy(file, path / names.get(file.name, file.name))
    elif draw.random() < 0.3:
        path = folder / "vocab.json"
    return path, lambda: _by_transformers(folder, "GPT2Tokenizer"), special


_NORMALIZERS: list[Any] = [
    None, None, None, normalizers.NFC(), normalizers.NFKC(), normalizers.Lowercase(), normalizers.Prepend("x"),
    normalizers.Strip(), normalizers.Replace("  ", " "), normalizers.Replace("\n", " "),
    normalizers.BertNormalizer(lowercase=False), normalizers.BertNormalizer(clean_text=False),
]  # fmt: skip


def definition_folder(
    draw: random.Random, material: Material, folder: Path
) -> tuple[Path, Callable[[], Ids], list[str]]:
    """A `tokenizer.json` with any settings, the end of a document added in any way."""
    if draw.random() < 0.6:
        backend = tokenizers.Tokenizer(
            models.BPE(dict(material.vocabulary), [tuple(merge) for merge in material.merges])
        )
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=draw.random() < 0.3, use_regex=draw.random() < 0.8
        )
        backend.decoder = decoders.ByteLevel()
        specials = [_END]
    else:
        vocabulary = {token: index for index, token in enumerate(material.cased)}
        backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        backend.pre_tokenizer = draw.choice(
            [pre_tokenizers.BertPreTokenizer()] * 3
            + [pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits()]
        )
        specials = _BERT
    if normalizer := draw.choice(_NORMALIZERS):
        backend.normalizer = normalizer
    content = json.loads(backend.to_str())
    vocabulary = content["model"]["vocab"]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    content["added_tokens"] = [
        {"id": vocabulary[token], "content": token, **flags, "special": draw.random() < 0.5}
        for token in specials
        if draw.random() < 0.6
    ]
    content["added_tokens"].sort(key=lambda token: token["id"])
    added = _added(draw, len(vocabulary))
    content["added_tokens"] += added
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    for token in content["added_tokens"]:
        token["special"] |= (
            token["content"] in specials
        )  # for the other reader: what is special is not found in text

    def others() -> Ids:
        theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
        theirs.encode_special_tokens = True
        return lambda text: theirs.encode(text, add_special_tokens=False).ids

    return folder, others, [token["content"] for token in added if token["special"]]


def damage(draw: random.Random, folder: Path) -> None:
    """Cut, change or replace something in one of the files."""
    path = draw.choice(sorted(file for file in folder.rglob("*") if file.is_file()))
    content = path.read_bytes()
    kind = draw.randrange(4)
    if kind == 0:
        content = content[: draw.randrange(len(content) + 1)]
    elif kind == 1 and content:
        place = draw.randrange(len(content))
        content = content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]
    elif kind == 2 and path.suffix == ".json":
        content = draw.choice([b"[]", b"null", b"3", b'{"a": 1}', b'{"added_tokens_decoder": 3}', b"\xff"])
    elif path.name == "tokenizer_config.json":
        table = json.loads(content)
        keys = ["do_lower_case", "strip_accents", "add_prefix_space", "do_basic_tokenize", "never_split", "dropout",
                "tokenizer_class", "eos_token", "mask_token", "added_tokens_decoder", "additional_special_tokens"]  # fmt: skip
        table[draw.choice(keys)] = draw.choice(
            [None, True, False, 3, "x", [], ["the"], {}, {"5": {}}, {"5": {"content": "the"}}, 0.5]
        )
        content = json.dumps(table).encode()
    path.write_bytes(content)


_MAKERS = (words_folder, bytes_folder, definition_folder)
Counts = collections.Counter[str]


def check_one(seed: int, material: Material, folder: Path, texts: int, counts: Counts) -> None:
    """Make a folder, load it both ways and compare; raises AssertionError on a difference, lets tracebacks through."""
    draw = random.Random(seed)
    maker = draw.choice(_MAKERS)
    path, other, special = maker(draw, material, folder)
    damaged = draw.random() < 0.25
    if damaged:
        damage(draw, path if path.is_dir() else path.parent)
    counts["tokenizers"] += 1
    try:
        ours = load_tokenizer(path)
    except TokenizerError as error:
        counts["refused, damaged" if damaged else "refused"] += 1
        counts[f"refused: {str(error).replace(str(folder), '')[:60]}"] += 1
        return
    if damaged and path != folder:
        return  # the other reader looks at the undamaged files
    try:
        theirs = other()
    except Exception:  # of any kind: what they refuse, we may read
        assert damaged, f"seed {seed}: only we read {maker.__name__}"
        counts["damaged, read by us alone"] += 1
        return
    if damaged and maker is definition_folder:
        return  # the other reader has the definition before the damage
    forbidden = {index for name in (*KINDS[ours.kind].special_tokens, *(() if damaged else special)) if (index := ours.backend.token_to_id(name)) is not None and name != "[UNK]"}  # fmt: skip
    for text in (random_text(draw, special) for _ in range(texts)):
        _compare(seed, ours, theirs, text, forbidden, draw.randrange(1, 12), counts)


def _compare(
    seed: int, ours: Tokenizer, theirs: Ids, text: str, forbidden: set[int], piece: int, counts: Counts
) -> None:
    counts["inputs"] += 1
    try:
        expected = theirs(text)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        counts["the library gives up"] += 1
        try:  # and so do we, by an error
            ours.encode(text)
        except TokenizerError:
            return
        raise AssertionError(f"seed {seed}: {text!r}: only we encode it") from error
    for number, found in enumerate(_ways(ours, text, piece)):
        assert found == expected, f"seed {seed}, way {number}: {text!r}: {found} is not {expected}"
        assert forbidden.isdisjoint(found), f"seed {seed}: {text!r} became a special token"


def _ways(ours: Tokenizer, text: str, piece: int) -> Iterator[list[int]]:
    """The ids of the whole, in pieces of some characters, and by the fast encoder where it can; of one that finds
    sentences they are compared sentence by sentence."""
    yield ours.encode(text)
    usual, cuts.PIECE_CHARACTERS = cuts.PIECE_CHARACTERS, piece
    try:
        yield ours.encode(text)
        kind = KINDS[ours.kind]
        splitter = [SentenceSplitter(NOTHING_LEARNED)] if kind.sentences else []
        try:
            encoder = attribute(kind.encoder)(ours, *splitter)
        except UnsuitableTokenizerError:
            return
        if splitter:
            check(encoder, ReferenceEncoder(ours, *splitter), text, encoder.encode_documents([text]))
        else:
            yield encoder.encode(text).tolist()
    finally:
        cuts.PIECE_CHARACTERS = usual


def run(inputs: int, seed: int = 0, texts: int = TEXTS_EACH) -> Counts:
    """Compare until so many inputs were; returns what was counted."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    material, counts = Material(), Counts()
    while counts["inputs"] < inputs:
        with tempfile.TemporaryDirectory() as folder:
            check_one(seed, material, Path(folder), texts, counts)
        seed += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()
    for name, count in sorted(run(options.inputs, options.seed).items()):
        print(f"{count:8,} {name}")
    print(f"{time.monotonic() - start:.0f} s, no differences")


if __name__ == "__main__":
    main()
