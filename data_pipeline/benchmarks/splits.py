"""A split of a benchmark as it was read: its rows, and where those were that were left out, by reason."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from core.errors import UserError
from data_pipeline.benchmarks.split_files import rows_of_files

LARGEST_LEFT_OUT = 100  # rows, or 1 of 100
SHOWN = 10


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=_Identified)


@dataclass(frozen=True)
class Split(Generic[Row]):
    """The rows of a split, and the places of those that were left out, by reason: "train.tsv, line 3"."""

    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """Rows of the files, those included that cannot be used."""
        return len(self.rows) + sum(map(len, self.left_out.values()))

    def report(self) -> dict[str, Any]:
        """What was left out: how many rows, and the first of them, by reason."""
        return {
            reason: {"rows": len(places), "first": places[:SHOWN]} for reason, places in self.left_out.items()
        }


def read_rows(
    files: Iterable[Path],
    folder: Path,
    make: Callable[[Mapping[str, Any], str], Row],
    unusable: Callable[[Row], str],
) -> Split[Row]:
    """Read a split from tables or JSON lines. A row is left out whose id was there before, or which is unusable.

    Args:
        files: of `folder`, to which the places of what is left out are told.
        make: a row of a file and its id, which is its own or else its number.
        unusable: why a row is left out, or nothing.

    Raises:
        UserError: a file is damaged, a row is not as `make` wants it, none is left, or more than 100 rows and 1 of 100
            are left out; the message names file and line.
    """
    files = list(files)
    split: Split[Row] = Split()
    seen: set[str] = set()
    for number, (where, record) in enumerate(rows_of_files(files)):
        own = record.get("id")
        try:
            row = make(record, str(number) if own is None else _identity(own))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        again = own is not None and row.id in seen
        if reason := "an id that was there before" if again else unusable(row):
            split.left_out.setdefault(reason, []).append(where.removeprefix(f"{folder}/"))
        else:
            split.rows.append(row)
        if own is not None:
            seen.add(row.id)
    _check_left_out(split, files[0])
    return split


def _identity(own: Any) -> str:
    if isinstance(own, bool) or not isinstance(own, str | int):
        raise UserError(f'"id" must be a string or a number, is {own!r}')
    return str(own)


def _check_left_out(split: Split[Any], path: Path) -> None:
    reasons = "; ".join(f"{places[0]}: {reason}" for reason, places in split.left_out.items())
    if not split.rows:
        raise UserError(f"{path}: holds no row that can be used{f' ({reasons})' if reasons else ''}")
    left_out = split.read - len(split.rows)
    if left_out > max(LARGEST_LEFT_OUT, split.read // 100):
        raise UserError(f"{path}: {left_out} of {split.read} rows cannot be used, the first: {reasons}")
