"""Which files the inputs of a source stand for, and what they are called: ids of documents begin with those names.

A file is called by its path below the folder that all inputs have in common: the folder itself, the part of a pattern
before its first wildcard, a file's own folder. So what a file's documents are called does not change when others come
into a folder or begin to match a pattern, nor where the whole is moved; and no two files are called alike.
"""

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from data_pipeline.engine.documents import DOCUMENT_SHARDS
from data_pipeline.sources.formats import kind_of, known_suffixes
from data_pipeline.sources.records import SourceError
from data_pipeline.text_files import files_below, is_system_file, printable

# Texts about a corpus, which lie beside it.
_ABOUT = {"readme", "license", "licence", "copying", "changelog"}
_SHOWN = 20
_ERRORS_SHOWN = 20
_logger = logging.getLogger("data_pipeline")


def find_files(paths: Sequence[str]) -> dict[str, Path]:
    """The files that names, folders and glob patterns (`**` included) stand for, by what they are called here: each
    once, in the order of `paths`, those of a folder or pattern in the order of their paths.

    Of a folder or pattern all files of known kinds; what is left out is logged.

    Raises:
        SourceError: nothing is found, a file of a kind that is not read here, or a folder of another command's output.
    """
    found: dict[str, None] = {}
    roots: list[str] = []
    errors: list[str] = []
    for pattern in map(str, paths):
        if Path(pattern).is_dir():
            roots.append(_absolute(pattern))
            files = _chosen(files_below(Path(pattern)), pattern, errors, whole_folder=True)
        elif Path(pattern).is_file():
            files = [Path(pattern)]
            if not kind_of(files[0]) and _is_about(files[0]) and len(paths) > 1:  # the shell's pattern
                _logger.warning("%s: is not read", pattern)
                continue
            roots.append(os.path.dirname(_absolute(pattern)))
            errors += [] if kind_of(files[0]) else [f"{pattern}: unknown kind of file"]
        else:
            roots.append(_absolute(str(_folder_before_wildcards(pattern))))
            matches = (Path(match) for match in sorted(glob.glob(pattern, recursive=True)))
            matches = (path for path in matches if path.is_file() and not is_system_file(path))
            files = _chosen(list(matches), pattern, errors, whole_folder=False)
        found.update(dict.fromkeys(map(_absolute, files)))
    if not found and not errors:
        errors.append(f"{', '.join(map(str, paths[:_SHOWN]))}: nothing to read")
    if errors:
        more = f"; and {len(errors) - _ERRORS_SHOWN} more" if len(errors) > _ERRORS_SHOWN else ""
        raise SourceError(
            "; ".join(errors[:_ERRORS_SHOWN])
            + f"{more} (files are read whose names end in {known_suffixes()})"
        )
    return named(map(Path, found), Path(os.path.commonpath(roots)))


def named(paths: Iterable[Path], root: Path) -> dict[str, Path]:
    """Files by their paths below a folder; bytes in them that are no UTF-8 are spelled out."""
    result: dict[str, Path] = {}
    before = len(os.path.join(root, ""))
    for path in paths:
        name = printable(str(path)[before:].replace(os.sep, "/"))
        if name in result:
            raise SourceError(f"{path}: is called as {result[name]} is: rename one of them")
        result[name] = path
    return result


def matches(name: str, pattern: str) -> bool:
    """Whether a file's name, or its part after the last slash, fits a pattern, in which `*` stands for slashes, too."""
    pattern = pattern.replace("**/", "*").removeprefix("./")
    return fnmatchcase(name, pattern) or fnmatchcase(PurePosixPath(name).name, pattern)


def check_patterns(text_fields: Sequence[str], files: Iterable[str]) -> None:
    """Refuse a pattern that fits none of the files.

    Raises:
        SourceError: it names some of the files.
    """
    names = list(files)
    for pattern in (entry.rpartition("=")[0] for entry in text_fields):
        if not any(matches(name, pattern) for name in names):
            raise SourceError(
                f"text_fields: no file fits {pattern!r}; they are called {', '.join(names[:_SHOWN])}"
            )


def _absolute(path: str | Path) -> str:
    """An absolute path without `.` and `..`; what links lead to is named by the links, unless `..` follows one."""
    absolute = os.path.abspath(path)
    if ".." in str(path) and os.path.realpath(absolute) != os.path.realpath(path):
        return os.path.realpath(path)
    return absolute


def _folder_before_wildcards(pattern: str) -> Path:
    return next(folder for folder in Path(pattern).parents if not glob.has_magic(str(folder)))


def _chosen(files: list[Path], where: str, errors: list[str], *, whole_folder: bool) -> list[Path]:
    """Of the files of a folder or pattern those that are read; the names of the others are logged."""
    known = [path for path in files if kind_of(path)]
    texts = [path for path in known if not (_is_about(path) and kind_of(path) == "txt")] or known
    if not files and not whole_folder:
        errors.append(f"{where}: no such file")
    elif not texts:
        what = "in this folder" if whole_folder else f"among {_listed(files)}"
        errors.append(f"{where}: no file of a known kind {what}")
    if whole_folder and (
        shard := next((path for path in texts if fnmatchcase(path.name, DOCUMENT_SHARDS)), None)
    ):
        errors.append(f"{shard}: a document shard, as commands write them; give its folder alone as --input")
    read = set(texts)
    if texts and (others := [path for path in files if path not in read]):
        _logger.warning("%s: %d other files are not read (%s)", where, len(others), _listed(others))
    return texts


def _is_about(path: Path) -> bool:
    return path.name.split(".")[0].lower() in _ABOUT


def _listed(files: Sequence[Path]) -> str:
    def names() -> Iterator[str]:
        yield from (path.name for path in files[:_SHOWN])
        if len(files) > _SHOWN:
            yield f"and {len(files) - _SHOWN} more"

    return ", ".join(names())
