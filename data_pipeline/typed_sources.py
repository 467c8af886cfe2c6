"""Sources as a command line names them: `--corpus NAME KEY=VALUE …` has the keys of a recipe's `[[corpora]]`, and
`--source KIND KEY=VALUE …` those of a plug-in's source; what options say for all corpora, each can say otherwise."""

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import ConfigurationError
from core.tables import from_table
from data_pipeline.sources.presets import CORPORA
from data_pipeline.sources.source import SOURCES, HubSource, LocalSource, Source, WebSource

# The key that a kind of source is known by, where `source` does not name it.
_TOLD_BY = {
    "paths": LocalSource.kind,
    "dataset": HubSource.kind,
    "preset": HubSource.kind,
    "urls": WebSource.kind,
}


def corpus_of(words: Sequence[str], given: Mapping[str, Any]) -> Source:
    """A corpus by its name and KEY=VALUE for each of its settings.

    Args:
        given: what options say of all corpora.

    Raises:
        ConfigurationError: what is wrong with the words.
    """
    name, *pairs = words
    where = f"--corpus {name}"
    texts = _pairs(pairs, where)
    preset = "".join(texts.pop("preset", []))
    if preset and preset not in CORPORA:
        raise ConfigurationError([f"{where}: preset: must be one of {', '.join(CORPORA)}, is {preset!r}"])
    told = [_TOLD_BY[key] for key in ("preset", *texts) if key in _TOLD_BY and (preset or key != "preset")]
    kind = "".join(texts.pop("source", told[:1]))
    if kind not in SOURCES:
        wanted = f"needs {', '.join(_TOLD_BY)} or source=KIND" if not kind else f"source: no kind {kind!r}"
        raise ConfigurationError([f"{where}: {wanted} (there are: {', '.join(SOURCES)})"])
    known = dataclasses.asdict(CORPORA[preset]) if preset else {}
    table = {**known, **given, **_values(SOURCES[kind], texts), "name": name, "families": []}
    if isinstance(folder := table.get("dataset"), str):
        table["dataset"] = dataset_name(folder)
    return _checked(kind, table, where)


def plugged_source(words: Sequence[str], given: Mapping[str, Any]) -> Source:
    """A source of a plug-in: its kind, and KEY=VALUE for each of its settings.

    Raises:
        ConfigurationError: what is wrong with the words.
    """
    kind, *pairs = words
    where = f"--source {kind}"
    return _checked(kind, {**given, **_values(SOURCES[kind], _pairs(pairs, where))}, where)


def hub_dataset(value: str) -> dict[str, str]:
    """NAME[:CONFIGURATION[:SPLIT]]."""
    name, _, rest = value.partition(":")
    configuration, _, split = rest.partition(":")
    return {"dataset": dataset_name(name), "configuration": configuration, "split": split or "train"}


def dataset_name(name: str) -> str:
    """A dataset's name on the hub as it is, a folder's path in full."""
    return str(Path(name).absolute()) if Path(name).is_dir() else name


def _pairs(pairs: Sequence[str], where: str) -> dict[str, list[str]]:
    """The values of each key as they were typed; a key may be repeated."""
    texts: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigurationError([f"{where}: {pair!r} is not KEY=VALUE"])
        texts.setdefault(key, []).append(text)
    return texts


def _values(cls: type[Source], texts: Mapping[str, list[str]]) -> dict[str, Any]:
    """What was typed as the values that a recipe would hold."""
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, typed in texts.items():
        hint = hints.get(key, str)
        if typing.get_origin(hint) in (list, tuple):
            values[key] = [item for text in typed for item in _items(text, typing.get_args(hint)[0])]
        else:
            values[key] = _value(typed[-1], hint)
    return values


def _items(text: str, hint: Any) -> list[Any]:
    """The elements of a list in JSON, or the one that a text is."""
    if text.startswith("["):
        try:
            found = json.loads(text)
            return found if isinstance(found, list) else [text]
        except ValueError:
            pass  # a pattern may begin so
    return [_value(text, hint)]


def _value(text: str, hint: Any) -> Any:
    """A number or truth value as JSON writes it; anything else is text."""
    if hint not in (int, float, bool):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _checked(kind: str, table: Mapping[str, Any], where: str) -> Source:
    errors: list[str] = []
    source = from_table(SOURCES[kind], table, where, errors)
    if source is None:
        raise ConfigurationError(errors)
    return source
