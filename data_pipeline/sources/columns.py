"""The names of a table's columns: that the text's is among them and no two are the same, and of CSV and TSV whether
the first row holds names at all, between the marks that its file's name promises.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.errors import UserError
from data_pipeline.sources.fields import Fields
from data_pipeline.text_files import UnreadableFileError

_SHOWN = 10
_SHOWN_CHARACTERS = 40
_LONGEST_NAME = 60  # characters
_MOST_WORDS = 8  # of a name
_SENTENCE_WORDS = 4  # of what ends like a sentence and is none of fewer: "No. of obs."
_SENTENCE_ENDS = (".", "!", "…")
_WIDE_ENDS = ("。", "！")
_QUOTED = re.compile(r'"(?:[^"]|"")*(?:"|\Z)')
# What else may separate the columns of a file that is read at this mark.
_OTHER_MARKS = {",": ";|\t", "\t": ";|,"}
_SUFFIXES = {",": ".csv", "\t": ".tsv"}


class ColumnError(UserError):
    """A table without the column of the texts; the message names the columns there are."""


def check_columns(path: Path, fields: Fields | None, names: Sequence[str], *, row: bool = False) -> None:
    """Refuse a table without the text's column, or where two columns that are used have one name.

    Args:
        fields: what of a record is used; None for all.
        row: whether the names are the first row of a file, which may have none.

    Raises:
        ColumnError: no such column.
        UnreadableFileError: a name twice, or no names but a first record.
    """
    text = fields.column(names) if fields is not None else ""
    if fields is not None and not text:
        if row and (value := not_a_name(names)):
            raise UnreadableFileError(f"{path}: no column {fields.text!r}: {no_names(value)}")
        raise ColumnError(f"no column {fields.text!r}, only {list(names[:_SHOWN])}")
    for name in dict.fromkeys(names):
        # Columns without names, as of indices, cannot be asked for.
        is_used = name == text or (bool(name.strip()) and (fields is None or fields.keeps(name)))
        if is_used and names.count(name) > 1:
            places = [str(place) for place, other in enumerate(names, start=1) if other == name]
            kept = "" if name == text or fields is None else ", or leave it out of the metadata that is kept"
            raise UnreadableFileError(
                f"{path}: columns {', '.join(places[:-1])} and {places[-1]} are called {shown(name)}, and only one "
                f"of them could be read: give each a name of its own{kept}"
            )


def not_a_name(names: Iterable[str]) -> str:
    """The first of a row's values that no column is called by: a number, a date, an address, a sentence; or ""."""
    return next((name for name in names if name.strip() and _is_value(name.strip())), "")


def _is_value(name: str) -> bool:
    words = len(name.split())
    return (
        (any(map(str.isdigit, name)) and not any(map(str.isalpha, name)))
        or "://" in name
        or len(name) > _LONGEST_NAME
        or words > _MOST_WORDS
        or (words >= _SENTENCE_WORDS and name.endswith(_SENTENCE_ENDS))
        or name.endswith(_WIDE_ENDS)
    )


def no_names(value: str) -> str:
    """What is wrong with a first row that holds such a value, and the remedy."""
    return (
        f"its first row does not look like the names of columns, it holds {shown(value)}: write a first line with the "
        "columns' names above it"
    )


def shown(name: str) -> str:
    """A name, or how a long one starts."""
    return repr(name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…")


def check_separator(path: Path, start: bytes, delimiter: str) -> None:
    """Refuse a table whose columns are separated by another mark than its name says.

    Args:
        start: of its first line.

    Raises:
        UnreadableFileError: it says which mark it is, and the remedy.
    """
    line = start.decode("utf-8-sig", "replace").rstrip("\r\n")
    bare = _QUOTED.sub('"', line)
    for mark in _OTHER_MARKS[delimiter]:
        if bare.count(mark) <= bare.count(delimiter):
            continue
        # Marks in a sentence have blanks behind them; those in a table only where it was typed.
        if f"{mark} " in bare and (mark == "," or not_a_name(bare.split(mark))):
            continue
        suffix = _SUFFIXES.get(mark)
        remedy = (
            f"let its name end in {suffix}"
            if suffix
            else "convert it to commas, with quotes around what holds one"
        )
        raise UnreadableFileError(
            f"{path}: its columns are separated by {mark!r}, and are read where commas (.csv) or tabs (.tsv) are: {remedy}"
        )
