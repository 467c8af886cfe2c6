"""A tokenizer's files as a tokenizer of the library: which they are, and what stands beside a vocabulary.

A `tokenizer.json` says everything itself; GPT-2's and BERT's own vocabularies say nothing of how text is read, so the
files beside them are obeyed (`data_pipeline.tokenization.beside`). Where two files contradict each other, or something
is asked for that is not done here, that is an error. What text becomes lives in `data_pipeline.tokenization.tokenizers`.
"""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from data_pipeline.tokenization.beside import BESIDE_FILES, CONFIG_FILE, Beside, read_beside
from data_pipeline.tokenization.kinds import BYTE_LEVEL, KINDS, WORD_PIECE, TokenizerError

TOKENIZER_FILE = "tokenizer.json"
CONTINUATION = "##"
# Vocabularies of GPT-2, each with its merges: transformers' names, and OpenAI's.
_MERGES = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}
_WORDS = "vocab.txt"
_VOCABULARIES = (TOKENIZER_FILE, *_MERGES, _WORDS)
_SHOWN = 5  # tokens in a message
_logger = logging.getLogger("data_pipeline")


class Loaded(NamedTuple):
    """A tokenizer of the library, its file, and the tokens that the files beside it call special."""

    backend: tokenizers.Tokenizer
    path: Path
    special: frozenset[str]


def byte_level(model: models.BPE, *, add_prefix_space: bool = False) -> tokenizers.Tokenizer:
    """GPT-2's tokenizer around a BPE model over bytes."""
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def word_piece(
    vocabulary: dict[str, int],
    *,
    do_lower_case: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
) -> tokenizers.Tokenizer:
    """BERT's tokenizer around a WordPiece vocabulary; it lower-cases unless told otherwise."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=do_lower_case, strip_accents=strip_accents, handle_chinese_chars=tokenize_chinese_chars
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=CONTINUATION, cleanup=False)
    return backend


def kind_of(backend: tokenizers.Tokenizer, source: str) -> str:
    """The name of the record in `kinds` that a tokenizer of the library fits.

    Raises:
        TokenizerError: none.
    """
    model, splitter = backend.model, backend.pre_tokenizer
    if isinstance(model, models.WordPiece):
        return WORD_PIECE.name
    if isinstance(model, models.BPE) and isinstance(splitter, pre_tokenizers.ByteLevel):
        return BYTE_LEVEL.name
    raise TokenizerError(
        f"{source}: neither a byte-level BPE (GPT-2) nor a WordPiece tokenizer (BERT), "
        f"but {type(model).__name__} after {type(splitter).__name__}"
    )


def load_backend(path: Path) -> Loaded:
    """Read a tokenizer's files; see `load_tokenizer` for what `path` may be.

    Raises:
        TokenizerError: nothing there, not readable, of another kind, cut off, or files that contradict each other.
    """
    path = _vocabulary_file(Path(path))
    try:
        if path.suffix == ".txt":
            return _read_words(path)
        if merges := _merges_file(path):
            return _read_byte_pairs(path, merges)
        return _read_definition(path)
    except TokenizerError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{path}: not a tokenizer that can be read ({error})") from error


def tokenizer_files(path: Path) -> list[Path]:
    """Every file that a tokenizer is read from: its vocabulary, merges and what stands beside them.

    Raises:
        TokenizerError: nothing is there.
    """
    path = _vocabulary_file(Path(path))
    beside = [file for name in BESIDE_FILES if (file := _beside(path, name)) is not None]
    return [path, *filter(None, [_merges_file(path)]), *beside]


def _vocabulary_file(path: Path) -> Path:
    if path.is_dir():
        for name in _VOCABULARIES:
            if (path / name).exists():
                return path / name
        raise TokenizerError(
            f"{path}: holds neither {TOKENIZER_FILE}, vocab.json with merges.txt, encoder.json with vocab.bpe, nor "
            f"{_WORDS}"
        )
    if not path.exists():
        raise TokenizerError(f"{path}: no such tokenizer file or directory")
    for vocabulary, merges in _MERGES.items():  # the other one of the two was given
        if path.name.endswith(merges):
            return path.with_name(path.name.removesuffix(merges) + vocabulary)
    return path


def _merges_file(path: Path) -> Path | None:
    """The merges of a vocabulary of GPT-2; None for other files."""
    for vocabulary, name in _MERGES.items():
        if path.name.endswith(vocabulary):
            merges = path.with_name(path.name.removesuffix(vocabulary) + name)
            if not merges.exists():
                raise TokenizerError(f"{path}: its merges are missing, expected in {merges}")
            return merges
    return None


def _beside(path: Path, name: str) -> Path | None:
    """A file beside a vocabulary: with the prefix of its name (`bert-base-cased-vocab.txt`), or without."""
    usual = next((usual for usual in _VOCABULARIES if path.name.endswith(usual)), path.name)
    found = (path.with_name(path.name.removesuffix(usual) + name), path.with_name(name))
    return next((file for file in found if file.is_file()), None)


def _read_words(path: Path) -> Loaded:
    beside = read_beside(WORD_PIECE.name, lambda name: _beside(path, name))
    _check_class(beside, path, WORD_PIECE.name)
    vocabulary = models.WordPiece.read_file(str(path))
    if "do_lower_case" not in beside.stated:
        _refuse_cased(vocabulary, beside, path)
    backend = word_piece(vocabulary, **beside.settings(WORD_PIECE.name))
    return _with_added_tokens(backend, beside, path)


def _refuse_cased(vocabulary: dict[str, int], beside: Beside, path: Path) -> None:
    """Nobody says whether text is lower-cased: then it is, and that is wrong for a vocabulary with upper case."""
    named = {*beside.special, *(token.content for token in beside.added)}
    upper = [
        token
        for token in vocabulary
        if token != token.lower() and token not in named and not (token[0] == "[" and token[-1] == "]")
    ]
    if upper:
        shown = ", ".join(sorted(upper)[:_SHOWN])
        raise TokenizerError(
            f"{path}: {len(upper)} tokens have upper-case letters ({shown}), but nothing says how text is read: put "
            f'{{"do_lower_case": false}} into {path.with_name(CONFIG_FILE)}, or true where text is to be lower-cased '
            "all the same"
        )


def _read_byte_pairs(path: Path, merges: Path) -> Loaded:
    beside = read_beside(BYTE_LEVEL.name, lambda name: _beside(path, name))
    _check_class(beside, path, BYTE_LEVEL.name)
    backend = byte_level(models.BPE.from_file(str(path), str(merges)), **beside.settings(BYTE_LEVEL.name))
    loaded = _with_added_tokens(backend, beside, path)
    _warn_of_lost_bytes(backend, path)
    special = {*beside.special, *BYTE_LEVEL.special_tokens, *(token.content for token in beside.added)}
    if unmade := _unmade(json.loads(backend.to_str())["model"], special):
        raise TokenizerError(
            f"{merges}: no merge makes {len(unmade)} of the tokens in {path} ({', '.join(unmade[:_SHOWN])}): it is cut "
            "off or of another vocabulary; fetch both anew, or name them in "
            f"{path.with_name(CONFIG_FILE)} if they are special"
        )
    return loaded


def _unmade(model: dict[str, Any], special: set[str]) -> list[str]:
    """The tokens of a BPE model that no merge makes, though they are more than a byte and not special."""
    made = {left + right for left, right in model["merges"]}
    return [
        token for token in model["vocab"] if len(token) > 1 and token not in made and token not in special
    ]


def _check_class(beside: Beside, path: Path, kind: str) -> None:
    if beside.class_name and beside.class_name not in KINDS[kind].classes:
        raise TokenizerError(
            f"{beside.where}: tokenizer_class is {beside.class_name}, which reads {path.name} in its own way; here only "
            f"{', '.join(KINDS[kind].classes)} are known: give the {TOKENIZER_FILE} that its save_pretrained writes"
        )


def _with_added_tokens(backend: tokenizers.Tokenizer, beside: Beside, path: Path) -> Loaded:
    """Add the tokens that stand beside a vocabulary; their ids must come out as they are stated."""
    for token in beside.added:
        backend.add_tokens([token.of_library()])
        if (found := backend.token_to_id(token.content)) != token.id:
            raise TokenizerError(
                f"{beside.where}: the added token {token.content!r} has id {token.id}, but after the vocabulary of "
                f"{path} it gets {found}: one of the files is of another tokenizer"
            )
    _check_special(backend, beside, path)
    return Loaded(backend, path, beside.special | {token.content for token in beside.added if token.special})


def _check_special(backend: tokenizers.Tokenizer, beside: Beside, path: Path) -> None:
    for token in sorted(beside.special):
        if backend.token_to_id(token) is None:
            raise TokenizerError(
                f"{beside.where}: names the special token {token}, which has no id in {path} or {BESIDE_FILES[-1]}"
            )


def _read_definition(path: Path) -> Loaded:
    """A `tokenizer.json`, which says everything; what stands beside it must say the same."""
    backend = tokenizers.Tokenizer.from_file(str(path))
    kind = kind_of(backend, str(path))
    beside = read_beside(kind, lambda name: _beside(path, name))
    by_class = beside.class_name in KINDS[kind].classes
    found = _settings_found(backend)
    wanted = beside.settings(kind) if by_class else dict(beside.stated)
    if "strip_accents" in wanted and wanted["strip_accents"] is None:  # then as the lower-casing
        wanted["strip_accents"] = wanted.get("do_lower_case", found["do_lower_case"])
    for name, value in wanted.items():
        if value != found[name]:
            raise TokenizerError(
                f"{beside.where}: {name} is {json.dumps(value)}{'' if name in beside.stated else ' by its class'}, but "
                f"{path} reads text as if it were {json.dumps(found[name])}: state in {CONFIG_FILE} which is right, or "
                "give the other file alone"
            )
    _check_added(backend, beside, path)
    _check_special(backend, beside, path)
    if kind == BYTE_LEVEL.name:
        _warn_of_lost_bytes(backend, path)
        _warn_of_lost_merges(backend, path)
    return Loaded(backend, path, beside.special | {token.content for token in beside.added if token.special})


def _settings_found(backend: tokenizers.Tokenizer) -> dict[str, bool]:
    """How a tokenizer of the library reads text, in the words of `tokenizer_config.json`, found by trying."""
    splitter = backend.pre_tokenizer
    normal = backend.normalizer.normalize_str if backend.normalizer else str
    return {
        "add_prefix_space": bool(getattr(splitter, "add_prefix_space", False)),
        "do_lower_case": normal("A").strip() == "a",
        "strip_accents": normal("\u00e9").strip() == "e",
        "tokenize_chinese_chars": normal("a\u4e2da").split() == ["a", "\u4e2d", "a"],
    }


def _check_added(backend: tokenizers.Tokenizer, beside: Beside, path: Path) -> None:
    """The tokens said to be added are in a `tokenizer.json`, and those found in text are found there likewise."""
    in_file = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    for token in beside.added:
        same = backend.token_to_id(token.content) == token.id
        if same and not token.special:
            found = in_file.get(token.content)
            same = found is not None and (
                found.special or {name: getattr(found, name) for name in token.flags} == token.flags
            )
        if not same:
            raise TokenizerError(
                f"{beside.where}: the added token {token.content!r} with id {token.id} is not in {path} with that id and "
                "those flags: one of the files is of another tokenizer"
            )


def _warn_of_lost_bytes(backend: tokenizers.Tokenizer, path: Path) -> None:
    lost = [byte for byte in pre_tokenizers.ByteLevel.alphabet() if backend.token_to_id(byte) is None]
    if lost:
        _logger.warning("%s: %d of the 256 bytes have no token: text loses them", path, len(lost))


def _warn_of_lost_merges(backend: tokenizers.Tokenizer, path: Path) -> None:
    model = json.loads(backend.to_str())["model"]
    added = (token.content for token in backend.get_added_tokens_decoder().values())
    unmade = [] if model.get("ignore_merges") else _unmade(model, {*BYTE_LEVEL.special_tokens, *added})
    if unmade:
        shown = ", ".join(unmade[:_SHOWN])
        _logger.warning(
            "%s: no merge makes %d of its tokens (%s): were merges lost?", path, len(unmade), shown
        )
