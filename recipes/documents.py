"""Recipe files as tables: TOML (or JSON), what they extend, and values set on a command line; which file each value is
from. What the tables may hold is `recipes.reader`'s.

`extends = "other.toml"` takes over another recipe, by name or by a path relative to the file; of a list, later ones win,
and the file itself wins over all. Tables are merged by key, anything else is replaced.
"""

import copy
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import ConfigurationError, UserError
from core.tables import did_you_mean
from recipes.overrides import SET, apply_overrides, parse_overrides

RECIPES = Path(__file__).resolve().parent
EXTENDS = "extends"
_SUFFIXES = (".toml", ".json")


@dataclass(frozen=True)
class Document:
    """A recipe's tables, merged.

    Attributes:
        path: the recipe's own file.
        tables: what all files and the command line say together.
        files: all that were read, the recipe's own last.
        origins: the file in which a value stands, by its key as errors spell it: models.small.training.steps,
            corpora[0].paths[1]; None where it was set on the command line.
    """

    path: Path
    tables: dict[str, Any]
    files: tuple[Path, ...]
    origins: dict[str, Path | None] = field(default_factory=dict)

    def origin(self, where: str) -> Path | None:
        """The file in which what an error calls `where` stands; the recipe's own where several say something of it."""
        if where in self.origins:
            return self.origins[where]
        inside = {
            file for key, file in self.origins.items() if key.startswith(where) and key[len(where)] in ".["
        }
        if inside:
            return inside.pop() if len(inside) == 1 else self.path
        parent = where.rpartition("." if where.rfind(".") > where.rfind("[") else "[")[0]
        return self.origin(parent) if parent else self.path

    def folder(self, where: str) -> Path:
        """What relative paths in a value are relative to: the folder of its file; of one set on a command line, the
        working directory."""
        file = self.origin(where)
        return file.parent if file else Path.cwd()

    def located(self, error: str) -> str:
        """An error with the file that its key is from."""
        where, colon, _ = error.partition(": ")
        file = self.origin(where if colon else "")
        return f"{file or SET}: {error}"


def recipe_path(name_or_path: str, folder: Path | None = None) -> Path:
    """The file of a recipe given by name, or by path when it ends in `.toml` (or `.json`).

    Args:
        folder: that a relative path is relative to; the working directory without it.
    """
    if name_or_path.endswith(_SUFFIXES):
        path = ((folder or Path.cwd()) / Path(name_or_path).expanduser()).absolute()
        return path.parent.resolve() / path.name if ".." in path.parts else path
    return RECIPES / f"{name_or_path}.toml"


def read_document(name_or_path: str, overrides: str = "") -> Document:
    """A recipe's tables, with all that it extends and what a command line sets.

    Args:
        overrides: the text of `--set`, such as "models.small.training.steps=100,seed=7".

    Raises:
        ConfigurationError: no such file, one that is neither TOML nor JSON, a circle, or overrides that name nothing.
    """
    document = _read(recipe_path(name_or_path), ())
    if overrides:
        for where, value in apply_overrides(document.tables, parse_overrides(overrides)):
            _forget(document.origins, where)
            document.origins.update(dict.fromkeys(_keys(where, value), None))
    return document


def _read(path: Path, above: tuple[Path, ...]) -> Document:
    if path in above:
        circle = " → ".join(map(str, (*above[above.index(path) :], path)))
        raise ConfigurationError([f"{above[-1]}: {EXTENDS}: goes in a circle: {circle}"])
    tables = _parse(path, above)
    named = tables.pop(EXTENDS, [])
    bases = [named] if isinstance(named, str) else named
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        raise ConfigurationError(
            [
                f"{path}: {EXTENDS}: must be a recipe's name, a path ending in .toml, or a list of them, is {named!r}"
            ]
        )
    document = Document(path, {}, ())
    for base in bases:
        document = _merged(document, _read(recipe_path(base, path.parent), (*above, path)))
    own = Document(path, tables, (path,), dict.fromkeys(_keys("", tables), path))
    return _merged(document, own)


def _parse(path: Path, above: Sequence[Path]) -> dict[str, Any]:
    asked = f"{above[-1]}: {EXTENDS}: " if above else ""
    if not path.is_file():
        known = sorted(recipe.stem for recipe in RECIPES.glob("*.toml"))
        hint = did_you_mean(path.stem, known) if path.parent == RECIPES else ""
        raise ConfigurationError(
            [
                f"{asked}{path}: no such recipe{hint} (known names: {', '.join(known)}; or give a path ending in .toml)"
            ]
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        tables = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of either, and of UTF-8
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigurationError([f"{asked}{path}: not valid {kind} ({error})"]) from error
    except OSError as error:
        raise UserError(f"{asked}{path}: cannot be read ({error.strerror})") from error
    if not isinstance(tables, dict):
        raise ConfigurationError([f"{asked}{path}: must be an object of tables"])
    return tables


def _merged(base: Document, over: Document) -> Document:
    origins = dict(base.origins)
    tables = _merge(base.tables, over.tables, "", origins)
    files = tuple(dict.fromkeys((*base.files, *over.files)))
    return Document(over.path, tables, files, {**origins, **over.origins})


def _merge(
    base: Mapping[str, Any], over: Mapping[str, Any], where: str, origins: dict[str, Path | None]
) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        name = f"{where}.{key}" if where else key
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            result[key] = _merge(base[key], value, name, origins)
        else:
            _forget(origins, name)
            result[key] = copy.deepcopy(value)
    return result


def _forget(origins: dict[str, Path | None], where: str) -> None:
    """Drop what is known of a value that is replaced."""
    for key in [
        key
        for key in origins
        if key == where or (re.match(r"[.\[]", key.removeprefix(where)) and key.startswith(where))
    ]:
        del origins[key]


def _keys(where: str, value: Any) -> Iterator[str]:
    """The keys of all values in a table, and of empty tables and lists, as errors spell them."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _keys(f"{where}.{key}" if where else str(key), inner)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _keys(f"{where}[{index}]", inner)
    elif where:
        yield where
