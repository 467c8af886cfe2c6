"""Which source files a module stands on: found by reading its imports, those inside functions included. No torch."""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path


def import_closure(files: Iterable[Path], root: Path, leave_out: Iterable[Path] = ()) -> list[Path]:
    """These files and every file below `root` that they import, directly or not, sorted.

    Args:
        leave_out: files that are not followed, and not among the result.
    """
    passed_over = {path.resolve() for path in leave_out}
    found: set[Path] = set()
    pending = [Path(path).resolve() for path in files]
    while pending:
        path = pending.pop()
        if path in found or path in passed_over:
            continue
        found.add(path)
        pending += direct_imports(path, Path(root).resolve())
    return sorted(found)


@functools.cache
def direct_imports(path: Path, root: Path) -> tuple[Path, ...]:
    """The files below `root` that one file imports, packages' own files on the way to them included."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return tuple(dict.fromkeys(file for name in imported_names(tree) for file in _files(name, root)))


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports; of `from a import b` both a and a.b, for b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str, root: Path) -> Iterator[Path]:
    place = root
    for part in name.split("."):
        place = place / part
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                yield file
