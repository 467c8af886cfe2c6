"""What a filter is: it is asked of each repaired document, long enough and of the right language, and answers.

    True, or any other true value       the document is kept as it is
    False, or any other false value     it is dropped; the reason is the filter's name
    "few_words"                         it is dropped; the reason is "name.few_words"
    a document                          it is kept with this text and metadata
    Edited(document, {"email": 2})      the same, and the counts stand in the manifest as "name.email"

A record is a function, or a subclass of `Filter` whose fields are settings. No pyarrow: recipes read these records.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from core.errors import UserError
from core.registry import Registry
from core.tables import from_table

if TYPE_CHECKING:
    from data_pipeline.engine.documents import Document


class Edited(NamedTuple):
    """A document that a filter changed, or counted something in.

    Attributes:
        document: as it is kept; id and source stay.
        counts: what was changed how often, by name.
    """

    document: "Document"
    counts: Mapping[str, int]


Question = Callable[["Document"], Any]
_COMMENT = re.compile(r"(?:^|\s)#.*")
_SHOWN_LINES = 5


@dataclass(frozen=True)
class Filter:
    """A filter with settings: each field is a key of the recipe's `[clean.NAME]`, and the flag `--NAME-FIELD`."""

    own_paths: ClassVar[tuple[str, ...]] = ()  # fields that are paths: in a recipe, relative to it

    def errors(self, where: str) -> list[str]:
        """What is wrong with the settings, a line each."""
        return []

    def files(self) -> dict[str, Path]:
        """Files that it reads, by role: their content is part of the key."""
        found: dict[str, Path] = {}
        for name in self.own_paths:
            value = getattr(self, name)
            paths = value if isinstance(value, list) else [value]
            found |= {f"{name} {index}": Path(path) for index, path in enumerate(paths) if path}
        return found

    def key(self) -> dict[str, Any]:
        """What determines its answers, besides its code and its files."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in self.own_paths}

    def keep(self, document: "Document") -> Any:
        """Its answer."""
        raise NotImplementedError


FILTERS: Registry[Question | type[Filter]] = Registry("filter")


def filter_class(name: str) -> type[Filter] | None:
    """The settings class of a filter; None of one that has no settings, or is not there."""
    if name not in FILTERS:
        return None
    record = FILTERS[name]
    return record if isinstance(record, type) and issubclass(record, Filter) else None


def filter_tables(
    table: dict[str, Any], where: str, expand: Callable[[str, str], str], errors: list[str]
) -> dict[str, Filter]:
    """Take the filters' settings, which are sub-tables, out of a table of cleaning.

    Args:
        table: loses them, and where one is wrong its filter's name in `filters`.
        expand: makes a path that stands in a recipe absolute.
        errors: gets a line for each thing that is wrong.
    """
    found = {}
    for name in [name for name, value in table.items() if isinstance(value, dict)]:
        if (cls := filter_class(name)) is None:
            continue  # an unknown key, like any other
        settings, place = dict(table.pop(name)), f"{where}.{name}"
        for field in cls.own_paths:
            value, at = settings.get(field), f"{place}.{field}"
            if isinstance(value, str) and value:
                settings[field] = expand(value, at)
            elif isinstance(value, list):
                settings[field] = [expand(path, at) if isinstance(path, str) else path for path in value]
        result = from_table(cls, settings, place, errors)
        if result is not None:
            found[name] = result
        elif isinstance(table.get("filters"), list):
            table["filters"] = [other for other in table["filters"] if other != name]
    return found


def ask(
    questions: Sequence[tuple[str, Question]], document: "Document"
) -> tuple["Document", str | None, Counter[str]]:
    """Ask filters of a document, in order, until one drops it.

    Args:
        questions: filters by name.

    Returns:
        the document as they left it, the reason to drop it or None, and counts of what was changed.

    Raises:
        UserError: a filter failed, or made another document of it.
    """
    counts: Counter[str] = Counter()
    for name, keep in questions:
        try:
            answer = keep(document)
            edited = answer if isinstance(answer, Edited) else Edited(answer, {})
            if hasattr(edited.document, "text"):
                document = _replaced(document, edited.document)
                counts.update({f"{name}.{what}": count for what, count in edited.counts.items() if count})
            elif isinstance(answer, str) and answer:
                return document, f"{name}.{answer}", counts
            elif not answer:
                return document, name, counts
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"filter {name}: failed on document {document.id!r} ({type(error).__name__}: {error})"
            ) from error
    return document, None, counts


def _replaced(before: "Document", after: "Document") -> "Document":
    """A document with what a filter may change of it."""
    if (after.id, after.source) != (before.id, before.source):
        raise ValueError("a document's id and source must stay")
    after.text.encode()  # no half of a pair
    return before._replace(text=after.text, metadata=after.metadata)


def entries_of(path: Path, text: str, entry: Callable[[str], str]) -> list[str]:
    """The entries of a user's list, one a line; blank lines and what follows `#` are nothing.

    Args:
        entry: reads one, and raises a ValueError where it is none.

    Raises:
        UserError: lines that are none, with their numbers.
    """
    found, problems = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        line = (_COMMENT.sub("", line) if "#" in line else line).strip()
        try:
            if line:
                found.append(entry(line))
        except ValueError as error:
            problems.append(f"line {number}: {line[:80]!r}: {error}")
    if problems:
        more = len(problems) - _SHOWN_LINES
        shown = "; ".join(problems[:_SHOWN_LINES]) + (f"; and {more} more" if more > 0 else "")
        raise UserError(f"{path}: {shown}: mend or remove these lines")
    return found
