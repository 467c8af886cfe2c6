"""Records by name: families of models, tasks, sources, filters; and the modules, ours and users', that add them.

Whatever can be added without touching anything else is one record in one of these registries. No torch.
"""

import argparse
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from core.errors import UserError
from core.imports import import_closure

Record = TypeVar("Record")


class Registry(Generic[Record]):
    """Records of one kind by name, in the order in which they were added.

    Args:
        what: a record is, for messages: "family".
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._records: dict[str, Record] = {}
        self._plugins: dict[str, str] = {}

    def add(self, name: str, record: Record) -> Record:
        """Add a record.

        Raises:
            UserError: another record has the name.
        """
        if name in self._records:
            raise UserError(f"two {self.what} records are called {name!r}: give the new one another name")
        self._records[name] = record
        if _loading:
            self._plugins[name] = _loading[-1]
        return record

    def plugin(self, name: str) -> str:
        """sha256 of the source of the plug-in that added a record; empty for our own."""
        return _digests.get(self._plugins.get(name, ""), "")

    def __getitem__(self, name: str) -> Record:
        """The record of this name.

        Raises:
            UserError: there is none; the message lists what there is.
        """
        if name not in self._records:
            raise UserError(f"no {self.what} is called {name!r} (there are {', '.join(self._records)})")
        return self._records[name]

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


_loading: list[str] = []  # names of the plug-ins that are being imported, the innermost last
_digests: dict[str, str] = {}  # of their sources, by name
_sources: dict[str, Path] = {}  # by name


def load_plugin(plugin: str) -> str:
    """Import a module by which a user adds records, once a process.

    Args:
        plugin: an importable name, or the path of a `.py` file, which may import modules beside it.

    Returns:
        sha256 over its source and that of the modules in its folder that it imports: part of the keys of what is made
        with it.

    Raises:
        UserError: no such module, another one of its name, or it fails when it is imported.
    """
    if plugin in _digests:
        return _digests[plugin]
    path = Path(plugin).absolute()
    _loading.append(plugin)
    try:
        if plugin.endswith(".py"):
            if not path.is_file():
                raise UserError(f"{plugin}: no such plug-in file")
            if str(path.parent) not in sys.path:
                sys.path.append(str(path.parent))
        module = importlib.import_module(path.stem if plugin.endswith(".py") else plugin)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{plugin}: the plug-in cannot be imported ({type(error).__name__}: {error})"
        ) from error
    finally:
        _loading.pop()
    source = Path(str(module.__file__))
    if plugin.endswith(".py") and source.resolve() != path.resolve():
        raise UserError(
            f"{plugin}: a module called {path.stem} is there already ({source}); rename the plug-in"
        )
    _sources[plugin], _digests[plugin] = source, _source_digest(source)
    return _digests[plugin]


def _source_digest(source: Path) -> str:
    digest = hashlib.sha256()
    for file in import_closure([source], source.parent):
        digest.update(
            file.relative_to(source.parent.resolve()).as_posix().encode() + b"\0" + file.read_bytes() + b"\0"
        )
    return digest.hexdigest()


def check_plugins() -> None:
    """Look whether the loaded plug-ins' files are what was loaded: other processes load them, too.

    Raises:
        UserError: one was edited.
    """
    for plugin, source in _sources.items():
        if _source_digest(source) != _digests[plugin]:
            raise UserError(
                f"{source}: the plug-in was changed since this command began; the same command again takes it as it is now"
            )


def load_plugins(plugins: Iterable[str]) -> None:
    """Import several, in order."""
    for plugin in plugins:
        load_plugin(plugin)


def import_records(package: str, names: Iterable[str]) -> None:
    """Import those modules of a package that are called by one of these names: each adds its record."""
    for name in names:
        if importlib.util.find_spec(f"{package}.{name}"):
            importlib.import_module(f"{package}.{name}")


def add_plugin_option(parser: argparse.ArgumentParser) -> None:
    """Every program of ours takes the option."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of yours that adds families, tasks, sources or filters: an importable name or a .py file; "
        "repeatable",
    )


def load_typed_plugins(arguments: Sequence[str] | None = None) -> None:
    """Import what `--plugin` names, before commands are made from the records; by default of this process."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_plugin_option(parser)
    load_plugins(parser.parse_known_args(arguments)[0].plugin)


def attribute(reference: str) -> Any:
    """What "module:name" stands for; the module is imported now."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
