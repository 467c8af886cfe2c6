"""What stands beside a vocabulary, in the files that hubs hand out with it: all of it is obeyed or refused.

`tokenizer_config.json` says how text is read (`do_lower_case`, `add_prefix_space`, …) and which tokens are special,
`special_tokens_map.json` the latter again, `added_tokens.json` (or `added_tokens_decoder` in the first) which tokens
were added to the vocabulary. Here they are read and checked against each other; what is made of them lives in
`data_pipeline.tokenization.loading`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from core.errors import UserError
from core.files import read_json
from data_pipeline.tokenization.kinds import KINDS, TokenizerError

CONFIG_FILE = "tokenizer_config.json"
ROLES_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
BESIDE_FILES = (CONFIG_FILE, ROLES_FILE, ADDED_FILE)

_LISTS_OF_SPECIAL = ("additional_special_tokens", "extra_special_tokens")
_ROLES = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
# Settings that would give other ids, with the values that do not.
_ONLY: dict[str, tuple[Any, ...]] = {
    "do_basic_tokenize": (True, None),
    "clean_text": (True, None),
    "wordpieces_prefix": ("##", None),
    "max_input_chars_per_word": (100, None),
    "use_regex": (True, None),
    "dropout": (0, None),
    "ignore_merges": (False, None),
    "fuse_unk": (False, None),
    "byte_fallback": (False, None),
    "end_of_word_suffix": ("", None),
}


@dataclass(frozen=True)
class AddedToken:
    """A token that was added to a vocabulary.

    Attributes:
        flags: `lstrip`, `rstrip`, `single_word`, `normalized`: how it is found in text, unless it is special.
        special: whether it controls the model; text never becomes it.
    """

    content: str
    id: int
    flags: Mapping[str, bool]
    special: bool

    def of_library(self) -> tokenizers.AddedToken:
        return tokenizers.AddedToken(self.content, special=self.special, **self.flags)


@dataclass(frozen=True)
class Beside:
    """What the files beside a vocabulary say.

    Attributes:
        where: the files that are there, for messages.
        stated: settings in words that a kind has, only those that are stated.
        class_name: of transformers, without "Fast"; empty if none is named.
        special: the tokens that control the model, by name or role.
        added: in the order of their ids.
    """

    where: str
    stated: Mapping[str, Any]
    class_name: str
    special: frozenset[str]
    added: tuple[AddedToken, ...]

    def settings(self, kind: str) -> dict[str, Any]:
        """How text is read: what is stated, else as transformers' classes do without a word."""
        return {**KINDS[kind].settings, **self.stated}


def read_beside(kind: str, find: Callable[[str], Path | None]) -> Beside:
    """Read the files beside a vocabulary of this kind.

    Args:
        find: where a file of this name stands, if it does.

    Raises:
        TokenizerError: one of them is malformed, contradicts another, or asks for what is not done here.
    """
    config, roles, added = (_read(find(name)) for name in BESIDE_FILES)
    config_path, roles_path = find(CONFIG_FILE), find(ROLES_FILE)
    where = " and ".join(str(path) for name in BESIDE_FILES if (path := find(name)) is not None)
    class_name = _class_name(kind, config, str(config_path))
    special = set[str]()
    for table, path in ((config, config_path), (roles, roles_path)):
        special |= _special_tokens(kind, table, str(path))
    _check_roles(config, roles, where)
    stated = _stated(kind, config, special, str(config_path))
    tokens = _added_tokens(config, added, special | set(KINDS[kind].special_tokens), where)
    return Beside(where, stated, class_name, frozenset(special), tokens)


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        table = read_json(path)
    except UserError as error:
        raise TokenizerError(str(error)) from error
    if not isinstance(table, dict):
        raise TokenizerError(f"{path}: must be a JSON object")
    return table


def _class_name(kind: str, config: Mapping[str, Any], where: str) -> str:
    name = config.get("tokenizer_class")
    if name is not None and not isinstance(name, str):
        raise TokenizerError(f"{where}: tokenizer_class is {name!r}, must be the name of a class")
    name = (name or "").removesuffix("Fast")
    for other in KINDS:
        if other != kind and name in KINDS[other].classes:
            raise TokenizerError(
                f"{where}: tokenizer_class is {name}, but the vocabulary beside it is of kind {kind}: "
                "each tokenizer needs a folder of its own"
            )
    return name


def _token_name(value: Any, role: str, where: str) -> str:
    """The token of an entry, which may be spelled out with flags."""
    name = value.get("content") if isinstance(value, dict) else value
    if not isinstance(name, str) or not name:
        raise TokenizerError(f"{where}: {role} is {value!r}, must be a token")
    return name


def _roles(table: Mapping[str, Any], where: str) -> dict[str, str]:
    """Token of each role, `eos_token` and the like."""
    return {
        role: _token_name(value, role, where)
        for role, value in table.items()
        if (role in _ROLES and value is not None)
        or (role.endswith("_token") and isinstance(value, str | dict))
    }


def _special_tokens(kind: str, table: Mapping[str, Any], where: str) -> set[str]:
    roles = _roles(table, where)
    for role, token in KINDS[kind].roles.items():
        if roles.get(role, token) != token:
            raise TokenizerError(
                f"{where}: {role} is {roles[role]}; of tokenizers of kind {kind} only those are read whose "
                f"{role} is {token}"
            )
    special = set(roles.values())
    for key in _LISTS_OF_SPECIAL:
        entries = table.get(key) or ()
        if isinstance(entries, dict):
            entries = list(entries.values())
        if not isinstance(entries, list | tuple):
            raise TokenizerError(f"{where}: {key} is {entries!r}, must be a list of tokens")
        special |= {_token_name(entry, key, where) for entry in entries}
    return special


def _check_roles(config: Mapping[str, Any], roles: Mapping[str, Any], where: str) -> None:
    first, second = _roles(config, where), _roles(roles, where)
    for role in first.keys() & second.keys():
        if first[role] != second[role]:
            raise TokenizerError(
                f"{where}: {role} is {first[role]} in the one and {second[role]} in the other: mend one of them"
            )


def _stated(kind: str, config: Mapping[str, Any], special: set[str], where: str) -> dict[str, Any]:
    known = KINDS[kind].settings
    stated = {name: config[name] for name in known if name in config}
    for name, value in stated.items():
        if not isinstance(value, bool) and not (value is None and known[name] is None):
            words = "true, false or null" if known[name] is None else "true or false"
            raise TokenizerError(f"{where}: {name} is {value!r}, must be {words}")
    for name, values in _ONLY.items():
        if name in config and config[name] not in values:
            raise TokenizerError(f"{where}: {name} is {config[name]!r}, only {values[0]!r} is supported")
    for other in KINDS:
        for name in KINDS[other].settings:
            if name not in known and config.get(name):
                raise TokenizerError(f"{where}: {name} is not supported for tokenizers of kind {kind}")
    kept = config.get("never_split") or []
    if not isinstance(kept, list) or not all(
        token in {*special, *KINDS[kind].special_tokens} for token in kept
    ):
        raise TokenizerError(
            f"{where}: never_split is {kept!r}, which is not supported but for special tokens"
        )
    return stated


def _added_tokens(
    config: Mapping[str, Any], added: Mapping[str, Any], special: set[str], where: str
) -> tuple[AddedToken, ...]:
    decoder = config.get("added_tokens_decoder")
    if decoder is None:
        tokens = [
            _added_token(content, number, {"content": content}, special) for content, number in added.items()
        ]
    elif not isinstance(decoder, dict) or not all(isinstance(entry, dict) for entry in decoder.values()):
        raise TokenizerError(
            f"{where}: added_tokens_decoder must give each id an object with content and flags"
        )
    else:
        tokens = [
            _added_token(entry.get("content"), int(number) if number.isdecimal() else number, entry, special)
            for number, entry in decoder.items()
        ]
        ids = {token.content: token.id for token in tokens}
        for content, number in added.items():
            if ids.get(content) != number:
                raise TokenizerError(
                    f"{where}: {content!r} has id {number!r} in {ADDED_FILE}, but {ids.get(content, 'none')} in "
                    "added_tokens_decoder: mend one of them"
                )
    for token in tokens:
        right = isinstance(token.content, str) and token.content and isinstance(token.id, int)
        if (
            not right
            or token.id < 0
            or {type(flag) for flag in (*token.flags.values(), token.special)} != {bool}
        ):
            raise TokenizerError(f"{where}: malformed added token: {token}")
    return tuple(sorted(tokens, key=lambda token: token.id))


def _added_token(content: Any, number: Any, entry: Mapping[str, Any], special: set[str]) -> AddedToken:
    is_special = entry.get("special", False) or content in special
    defaults = dict.fromkeys(_FLAGS, False) | {"normalized": not is_special}
    return AddedToken(content, number, {name: entry.get(name, defaults[name]) for name in _FLAGS}, is_special)
