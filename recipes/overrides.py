"""What `--set` says: values of a recipe from the command line, "models.small.training.steps=100,recipe.seed=7".

A key is a path through the recipe's tables, with quotes as in TOML around names that have dots (needed only where it is
not clear without), a corpus by its name or its number. A value is one of TOML; a word that is none is a text. One flag
holds all, separated by commas: Luigi keeps the last of a repeated flag only.
"""

import re
import tomllib
from collections.abc import Sequence
from typing import Any

from core.errors import ConfigurationError
from core.tables import did_you_mean

SET = "--set"
SET_HELP = (
    'values instead of the recipe\'s: "models.gpt2-small.training.steps=100,seed=7"; keys as in TOML, a corpus by name or '
    "number; values as in TOML, words need no quotes"
)
_OF_RECIPE = (
    "name",
    "description",
    "seed",
    "corpus",
)  # keys of the table [recipe] that may be written without it
_BEFORE_A_QUOTE = "=,[{."  # what a text or a quoted name stands behind; elsewhere a quote is a character
_CLOSING = {"[": "]", "{": "}"}
_SEGMENT = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^.="']+?))\s*(\.|$)""")

Override = tuple[tuple[str, ...], Any]


def parse_overrides(text: str) -> list[Override]:
    """Paths of keys and their values, in order.

    Raises:
        ConfigurationError: every part that is no KEY=VALUE.
    """
    errors: list[str] = []
    result: list[Override] = []
    parts = _parts(text, ",", errors)
    if errors:
        raise ConfigurationError(errors)
    for part in parts:
        if not part.strip():
            if text.strip():
                errors.append(f"{SET}: nothing between two commas, or at an end, of {text!r}")
            continue
        key, *value = _parts(part, "=", errors, once=True)
        path = _path(key)
        if not value or path is None:
            errors.append(
                f"{SET}: {part.strip()!r} must be KEY=VALUE, such as models.small.training.steps=100"
            )
        else:
            if path in dict(result):
                errors.append(f"{SET}: {key.strip()}: given twice")
            result.append((path, _value(key.strip(), value[0].strip(), errors)))
    if errors:
        raise ConfigurationError(errors)
    return result


def of_models(text: str) -> str:
    """Those parts of a text for `--set` that programs on ranks need."""
    parts = [
        part
        for part in _parts(text, ",", [])
        if (_path(_parts(part, "=", [], once=True)[0]) or ("",))[0] == "models"
    ]
    return ",".join(parts)


def _parts(text: str, separator: str, errors: list[str], once: bool = False) -> list[str]:
    """A text split where a separator stands outside of quotes and brackets."""
    parts: list[str] = []
    open_brackets: list[str] = []
    start, quote = 0, ""
    before = "="  # the last character that is no blank
    escaped = False
    for index, character in enumerate(text):
        if quote:
            closes = character == quote and not escaped
            escaped = character == "\\" and quote == '"' and not escaped
            quote = "" if closes else quote
        elif character in "\"'" and before in _BEFORE_A_QUOTE:
            quote = character
        elif character in _CLOSING:
            open_brackets.append(_CLOSING[character])
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
        elif character == separator and not open_brackets and not (once and parts):
            parts.append(text[start:index])
            start = index + 1
        before = before if character.isspace() else character
    if (quote or open_brackets) and not once:
        missing = quote or open_brackets[-1]
        errors.append(f"{SET}: {text[start:].strip()!r}: a {missing} is missing")
    return [*parts, text[start:]]


def _path(text: str) -> tuple[str, ...] | None:
    """The names of a key; None where it is none."""
    names, position = [], 0
    while match := _SEGMENT.match(text, position):
        quoted, literal, bare = match[1], match[2], match[3]
        if quoted is not None:
            try:
                quoted = tomllib.loads(f'v = "{quoted}"')["v"]
            except tomllib.TOMLDecodeError:
                return None
        names.append(next(name for name in (quoted, literal, bare) if name is not None))
        position = match.end()
        if not match[4]:
            return tuple(names) if position == len(text) else None
    return None


def _value(key: str, text: str, errors: list[str]) -> Any:
    if not text:
        errors.append(f'{SET}: {key}: no value; an empty text is ""')
        return None
    try:
        parsed = tomllib.loads(f"v = {text}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if text[0] in "\"'[{":
            hint = "; texts in a list or table need quotes" if text[0] in _CLOSING else ""
            errors.append(f"{SET}: {key}: {text} is no value of TOML ({error}){hint}")
        return text
    return parsed["v"] if list(parsed) == ["v"] else text


def apply_overrides(tables: dict[str, Any], overrides: Sequence[Override]) -> list[tuple[str, Any]]:
    """Put values into a recipe's tables, in place.

    Returns:
        each value's key, as errors spell it, and the value.

    Raises:
        ConfigurationError: every path that leads nowhere.
    """
    errors: list[str] = []
    done = []
    for path, value in overrides:
        if len(path) == 1 and path[0] in _OF_RECIPE:
            path = ("recipe", *path)
        try:
            done.append((_put(tables, path, value), value))
        except LookupError as error:
            errors.append(f"{SET}: {'.'.join(path)}: {error.args[0]}")
    if errors:
        raise ConfigurationError(errors)
    return done


def _put(tables: dict[str, Any], path: tuple[str, ...], value: Any) -> str:
    """Set one value; returns its key as errors spell it."""
    place: Any = tables
    where, rest = "", path
    key: Any = ""
    while True:
        if isinstance(place, list):
            name, rest = rest[0], rest[1:]
            index = _index(place, name, where)
            where, key = f"{where}[{index}]", index
        elif isinstance(place, dict):
            name, rest = _name(place, rest)
            if where == "models" and name not in place and (rest or not isinstance(value, dict)):
                hint = did_you_mean(name, place)
                raise LookupError(f"the recipe has no model {name!r}{hint} (models: {', '.join(place)})")
            where, key = f"{where}.{name}" if where else name, name
            if rest and name not in place:
                place[name] = {}
        else:
            raise LookupError(f"{where} is no table, but {place!r}")
        if not rest:
            place[key] = value
            return where
        place = place[key]


def _name(table: dict[str, Any], path: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The first name of a path, and the rest: a name of the table may have dots, with or without quotes."""
    for length in range(len(path), 0, -1):
        if (name := ".".join(path[:length])) in table:
            return name, path[length:]
    return path[0], path[1:]


def _index(entries: list[Any], name: str, where: str) -> int:
    """The place in a list that a number or an entry's name means."""
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    if name in names:
        return names.index(name)
    if re.fullmatch(r"[0-9]{1,9}", name) and int(name) < len(entries):
        return int(name)
    known = [known for known in names if isinstance(known, str)]
    named = f", called {', '.join(known)}" if known else ""
    raise LookupError(
        f"{where} has no {name!r}{did_you_mean(name, known)}: it has {len(entries)} entries, counted from 0{named}"
    )
