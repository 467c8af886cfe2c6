"""Command-line flags made from settings classes, so that a setting, its default, its range and its help stand once.

A field's help is its text under "Attributes:" in the class's docstring. No torch.
"""

import argparse
import dataclasses
import re
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from core.errors import ConfigurationError
from core.tables import in_tables

Settings = TypeVar("Settings")
_ENTRY = re.compile(r"^(\w+(?:, \w+)*): ")


def descriptions(cls: type) -> dict[str, str]:
    """The text of each field under "Attributes:" in a class's docstring, by field."""
    _, _, section = textwrap.dedent("    " + (cls.__doc__ or "")).partition("Attributes:\n")
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in textwrap.dedent(section).splitlines():
        if entry := _ENTRY.match(line):
            names = entry[1].split(", ")
            texts |= dict.fromkeys(names, line[entry.end() :].strip())
        elif names and line.startswith(" "):
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return texts


def add_flags(
    parser: argparse._ActionsContainer,
    cls: type,
    *,
    leave_out: Collection[str] = (),
    texts: Mapping[str, str] | None = None,
    prefix: str = "",
) -> None:
    """Add a flag for each field of a settings class: `learning_rate` is `--learning-rate`.

    Args:
        parser: or a group of one.
        leave_out: fields that are not asked for.
        texts: other help than the docstring's, by field.
        prefix: before the fields' names, with a dot: "c4." makes `--c4-bad-words` of `bad_words`.
    """
    hints = typing.get_type_hints(cls)
    known = {**descriptions(cls), **(texts or {})}
    for name, field in in_tables(cls).items():
        if name not in leave_out:
            _add_flag(parser, prefix + name, field, hints[name], known.get(name, ""))


def _add_flag(
    parser: argparse._ActionsContainer, name: str, field: "dataclasses.Field[Any]", hint: Any, text: str
) -> None:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    required = default is dataclasses.MISSING
    given: dict[str, Any] = {"dest": name, "required": required}
    if not required:
        given["default"] = default
    if hint in (bool, bool | None):
        action = "store_true" if default is False else argparse.BooleanOptionalAction
        parser.add_argument(flag(name), action=action, help=_escaped(text), **given)
        return
    if default not in (dataclasses.MISSING, None, "", []):
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
        text += f" (default: {shown})"
    kind, several = _kind(hint)
    if typing.get_origin(kind) is Literal:
        given |= {"choices": typing.get_args(kind), "type": type(typing.get_args(kind)[0])}
    else:
        given |= {"type": kind, "metavar": {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")}
    if several:
        given["nargs"] = "+"
    parser.add_argument(flag(name), help=_escaped(text), **given)


def _kind(hint: Any) -> tuple[Any, bool]:
    """What one value is, and whether there may be several."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, tuple):
        return arguments[0], True
    if origin in (typing.Union, types.UnionType):  # X | None
        return next(argument for argument in arguments if argument is not type(None)), False
    return hint, False


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def flag(name: str) -> str:
    """The flag of a field, or of one with a prefix."""
    return "--" + name.replace("_", "-").replace(".", "-")


def from_flags(
    cls: type[Settings], arguments: argparse.Namespace, *, prefix: str = "", **given: Any
) -> Settings:
    """The settings that the flags give, checked.

    Args:
        prefix: of the flags, as they were added.
        given: values of fields that had no flag.

    Raises:
        ConfigurationError: values out of range, all at once, each by its flag.
    """
    names = [name for name in in_tables(cls) if hasattr(arguments, prefix + name)]
    settings = cls(**{**{name: getattr(arguments, prefix + name) for name in names}, **given})
    if errors := flag_errors(settings, prefix):
        raise ConfigurationError(errors)
    return settings


def all_of(*makers: Callable[[], Any]) -> list[Any]:
    """What each gives.

    Raises:
        ConfigurationError: what is wrong in all of them, at once.
    """
    made: list[Any] = []
    errors: list[str] = []
    for make in makers:
        try:
            made.append(make())
        except ConfigurationError as error:
            errors += error.errors
    if errors:
        raise ConfigurationError(errors)
    return made


def flag_errors(settings: Any, prefix: str = "") -> list[str]:
    """What a settings object says is wrong with it, with flags for keys."""
    return [by_flag(problem) for problem in settings.errors(f".{prefix}"[:-1])]


def by_flag(problem: str) -> str:
    """A line about a field of settings that have no place (`where` is empty), about its flag."""
    return re.sub(r"^\.([\w.]+)", lambda match: flag(match[1]), problem.removeprefix(": "))


def to_flags(settings: Any, *, leave_out: Iterable[str] = ()) -> list[str]:
    """The command line that `from_flags` reads the same settings from: only what differs from the defaults."""
    line: list[str] = []
    for field in in_tables(type(settings)).values():
        value = getattr(settings, field.name)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if field.name in leave_out or value == default:
            continue
        if isinstance(value, bool):
            line.append(flag(field.name) if value else f"--no-{flag(field.name)[2:]}")
        else:
            values = value if isinstance(value, list | tuple) else [value]
            line += [flag(field.name), *map(str, values)]
    return line
