"""Settings from parsed tables (TOML, JSON): any flat dataclass, with all errors of a table collected. No torch.

A settings class states its ranges in a method `errors(where) -> list[str]`, one line each, every line beginning with
the key.
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

Configuration = TypeVar("Configuration")
_MOST = (1 << 63) - 1  # TOML's integers have 64 bits, and so have those of arrays


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The known name that a wrong one is closest to, as a question to put behind a message; nothing where none is close."""
    folded = {other.lower().replace("-", "_"): other for other in known}
    close = difflib.get_close_matches(str(name).lower().replace("-", "_"), folded, n=1)
    return f", did you mean {folded[close[0]]!r}?" if close else ""


def unknown_key(where: str, key: str, known: Iterable[str]) -> str:
    """The error of a key that is none."""
    names = list(known)
    place = f"{where}.{key}" if where else key
    return f"{place}: unknown key{did_you_mean(key, names)} (known: {', '.join(names)})"


def in_tables(cls: type) -> dict[str, "dataclasses.Field[Any]"]:
    """The fields of a settings class that a table or flags give; those with `metadata={"apart": True}` are given apart."""
    fields = dataclasses.fields(cls)
    return {field.name: field for field in fields if not field.metadata.get("apart")}


def from_table(
    cls: type[Configuration], table: Mapping[str, Any], where: str, errors: list[str], **given: Any
) -> Configuration | None:
    """Build a (flat) configuration dataclass from a parsed table.

    Every unknown key, missing key and wrong type is appended to `errors`, prefixed with `where`; if the class
    has a method `errors(where)`, what it reports is appended too. Returns None when anything is wrong.
    Field types may be int, float, str, bool, Literal[...] of strings, or list/tuple of one of those.

    Args:
        given: values of fields that are no keys of the table.
    """
    if not isinstance(table, Mapping):
        errors.append(f"{where}: must be a table, is {table!r}")
        return None
    before = len(errors)
    hints = typing.get_type_hints(cls)
    fields = in_tables(cls)
    for key in table:
        if key not in fields:
            errors.append(unknown_key(where, key, sorted(fields)))
    unknown = len(errors)
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _checked(table[name], hints[name], f"{where}.{name}", errors)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            errors.append(f"{where}.{name}: missing")
    if len(errors) > unknown:
        return None
    result = cls(**values, **given)
    if hasattr(result, "errors"):
        errors.extend(result.errors(where))
    return result if len(errors) == before else None


def _checked(value: Any, hint: Any, where: str, errors: list[str]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            hint = did_you_mean(value, [known for known in arguments if isinstance(known, str)])
            errors.append(f"{where}: must be one of {', '.join(map(repr, arguments))}, is {value!r}{hint}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            errors.append(f"{where}: must be a list, is {value!r}")
            return value
        return origin(_checked(item, arguments[0], f"{where}[{i}]", errors) for i, item in enumerate(value))
    if type(value) is int and abs(value) > _MOST:
        errors.append(f"{where}: must have at most 64 bits, is {value}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        errors.append(f"{where}: must be of type {_name(hint)}, is {value!r}")
    return value


def _name(hint: Any) -> str:
    """Of `X | None` that of X: to say nothing is to leave the field out."""
    return (
        next((kind.__name__ for kind in typing.get_args(hint) if kind is not type(None)), "") or hint.__name__
    )


def out_of_range(settings: Any, where: str, **ranges: tuple[float, float]) -> list[str]:
    """A line for each field that is not a finite number between two bounds, both included.

    Args:
        where: before the field's name.
        ranges: (smallest, largest) by field; an infinite one is no bound.
    """
    problems = []
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if type(value) is int and abs(value) > _MOST:
            problems.append(f"{where}.{name}: must have at most 64 bits, is {value}")
        elif not (math.isfinite(value) and least <= value <= most):
            allowed = f"{least:.15g} or more" if math.isinf(most) else f"from {least:.15g} to {most:.15g}"
            problems.append(f"{where}.{name}: must be {allowed}, is {value}")
    return problems


def no_shares(settings: Any, where: str, *names: str) -> list[str]:
    """A line for each field that is not in [0, 1)."""
    return [
        f"{where}.{name}: must be in [0, 1), is {getattr(settings, name)}"
        for name in names
        if not 0.0 <= getattr(settings, name) < 1.0
    ]


def not_positive(settings: Any, where: str, *names: str) -> list[str]:
    """A line for each field that is not a finite number above 0."""
    return [
        f"{where}.{name}: must be above 0, is {getattr(settings, name)}"
        for name in names
        if not 0.0 < getattr(settings, name) < math.inf
    ]
