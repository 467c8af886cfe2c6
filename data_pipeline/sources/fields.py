"""What of a record becomes a document: where its text is, and which of its other fields are kept as metadata.

The text's place is a field's name, or a path: `article.text` goes into objects, `paragraphs[].text` into each element of
a list, whose texts are joined by blank lines. A field that is called so, dots included, comes first. Binary values are
never kept.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from core.errors import UserError

ALL = "*"
_EACH = "[]"
_BETWEEN = "\n\n"
_SHOWN = 10
_GONE = object()
_BINARY = (bytes, bytearray, memoryview)


class _BinaryError(Exception):
    """Something binary is among the metadata."""


class Fields(NamedTuple):
    """What of a record is used.

    Attributes:
        text: the name or path of the text.
        kept: names of other fields that are kept, or patterns of names.
    """

    text: str = "text"
    kept: tuple[str, ...] = (ALL,)

    def keeps(self, name: str) -> bool:
        """Whether a field is kept, if it is not the text."""
        return ALL in self.kept or any(fnmatchcase(name, pattern) for pattern in self.kept)

    def column(self, names: Sequence[str]) -> str:
        """The one of a table's columns that holds the text, or ""; its first step where the text's place is a path."""
        if self.text in names:
            return self.text
        first = _steps(self.text)[0]
        return first if first in names else ""


def path_problem(path: str) -> str:
    """What is wrong with a text's place; empty for nothing."""
    steps = _steps(path)
    if (
        not path
        or not all(steps)
        or steps[0] == _EACH
        or any(set(step) & set("[]") for step in steps if step != _EACH)
    ):
        return f"must be a field or a path such as article.text or paragraphs[].text, is {path!r}"
    return ""


def text_and_metadata(record: Mapping[str, Any], fields: Fields) -> tuple[str, str]:
    """The text, and the other fields of a record as JSON, where a number that is none or infinite is null.

    Raises:
        UserError: what is wrong with the record.
    """
    if fields.text in record:
        text = _string(record[fields.text], fields.text)
        kept = {name: value for name, value in record.items() if name != fields.text}
    else:
        steps = _steps(fields.text)
        text, kept = _text(record, steps, fields.text), _without(record, steps)
    if ALL not in fields.kept:
        kept = {name: value for name, value in kept.items() if fields.keeps(name)}
    try:
        try:
            metadata = json.dumps(kept, sort_keys=True, default=_spelled)
        except _BinaryError:
            metadata = json.dumps(_without_binary(kept), sort_keys=True, default=_spelled)
        if "NaN" in metadata or "Infinity" in metadata:  # Python writes such numbers, but they are no JSON
            metadata = json.dumps(json.loads(metadata, parse_constant=lambda _: None))
        return text, metadata
    except (TypeError, RecursionError) as error:
        raise UserError(f"its other fields cannot be kept as JSON: {error}") from error


def _spelled(value: Any) -> str:
    """A value that JSON has not (a date), as text."""
    if isinstance(value, _BINARY):
        raise _BinaryError
    return str(value)


@functools.cache
def _steps(path: str) -> tuple[str, ...]:
    """`paragraphs`, `[]` and `text` of `paragraphs[].text`."""
    steps: list[str] = []
    for part in path.split("."):
        name = part
        while name.endswith(_EACH):
            name = name.removesuffix(_EACH)
        steps += [name, *[_EACH] * ((len(part) - len(name)) // len(_EACH))]
    return tuple(steps)


def _text(record: Mapping[str, Any], steps: Sequence[str], path: str) -> str:
    if _EACH not in steps:
        value: Any = record
        for step in steps:
            if not isinstance(value, Mapping) or step not in value:
                raise _missing(record, path)
            value = value[step]
        return _string(value, path)
    listed = steps[: steps.index(_EACH)]
    value = record
    for step in listed:
        if not isinstance(value, Mapping) or value.get(step) is None:
            raise _missing(record, path)
        value = value[step]
    return _BETWEEN.join(_texts(value, steps[len(listed) :], path))


def _texts(value: Any, steps: Sequence[str], path: str) -> Iterator[str]:
    """The texts at a path in a list; elements without one have none."""
    if value is None:
        return
    if not steps:
        yield _string(value, path)
    elif steps[0] == _EACH:
        if not isinstance(value, list | tuple):
            raise UserError(f"field {path!r} is not a list there but of type {type(value).__name__}")
        for item in value:
            yield from _texts(item, steps[1:], path)
    elif isinstance(value, Mapping):
        yield from _texts(value.get(steps[0]), steps[1:], path)


def _string(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):  # as some writers of Parquet keep text
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"invalid UTF-8 at byte {error.start}") from error
    hint = f"; its elements are {path}[]" if isinstance(value, list) else ""
    hint = f"; its fields are {path}.…" if isinstance(value, dict) else hint
    raise UserError(f"field {path!r} is not a string but of type {type(value).__name__}{hint}")


def _missing(record: Mapping[str, Any], path: str) -> UserError:
    return UserError(f"no field {path!r}, only {sorted(_paths(record))[:_SHOWN]}")


def _paths(record: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a record, those of objects and of lists' first elements by their paths, two levels deep."""
    for name, value in record.items():
        inner, path = value, str(name)
        if isinstance(value, list) and value:
            inner, path = value[0], f"{name}{_EACH}"
        if isinstance(inner, Mapping) and inner:
            yield from (f"{path}.{field}" for field in inner)
        elif isinstance(inner, str):
            yield path
        else:
            yield str(name)


def _without(value: Any, steps: Sequence[str]) -> Any:
    """A record without what is at a path, and without what is empty thereby."""
    rest = _removed(value, steps)
    return {} if rest is _GONE else rest


def _removed(value: Any, steps: Sequence[str]) -> Any:
    if not steps:
        return _GONE
    if steps[0] == _EACH and isinstance(value, list | tuple):
        return [rest for item in value if (rest := _removed(item, steps[1:])) is not _GONE] or _GONE
    if not isinstance(value, Mapping) or steps[0] not in value:
        return value
    inner = _removed(value[steps[0]], steps[1:])
    others = {name: other for name, other in value.items() if name != steps[0]}
    return (others if inner is _GONE else {**others, steps[0]: inner}) or _GONE


def _without_binary(value: Any) -> Any:
    """A value without what is binary in it."""
    if isinstance(value, _BINARY):
        return _GONE
    if isinstance(value, Mapping):
        kept = {name: _without_binary(inner) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner is not _GONE}
    if isinstance(value, list | tuple):
        return [inner for item in value if (inner := _without_binary(item)) is not _GONE]
    return value
