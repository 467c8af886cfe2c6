"""Data of dialogue: turns of two speakers in order, a JSON object a line or a table's row a dialogue.

{train,validation,test}.jsonl of {"turns": ["…", "…"]}, perhaps with "persona": ["…"], what the one who answers is told of
itself (PersonaChat); or the hub's tables of DailyDialog, where the turns are called "dialog" (or "utterances").
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from data_pipeline.benchmarks.benchmark import Benchmark, BenchmarkText, add_benchmark
from data_pipeline.benchmarks.split_files import ROW_SUFFIXES, files_of_split, rows_of_files
from data_pipeline.benchmarks.summaries import check_left_out
from data_pipeline.text_files import check_characters

SPLITS = ("train", "validation", "test")
_TURNS = ("turns", "dialog", "utterances")
_SHOWN = 10


@dataclass(frozen=True)
class Dialogue:
    """Two turns or more, without blanks around them; `persona` is what is known before the first."""

    id: str
    turns: tuple[str, ...]
    persona: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """The dialogues of a split, and the places of those that were left out, by reason."""

    dialogues: list[Dialogue] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """What was left out: how many dialogues, and the first of them, by reason."""
        return {
            reason: {"rows": len(places), "first": places[:_SHOWN]}
            for reason, places in self.left_out.items()
        }


def read_split(directory: Path, name: str) -> Split:
    """Read one split. A dialogue without an answer, with an empty turn, or with an id that was there before is left out.

    Args:
        directory: the folder with the splits.
        name: one of `SPLITS`.

    Raises:
        UserError: there is no such split or it holds no dialogue, a file is damaged, a row has no list of turns, or more
            than 100 rows and 1 of 100 would be left out; the message names file and line.
    """
    directory = Path(directory)
    files = files_of_split(directory, {name}, ROW_SUFFIXES)
    if not files:
        raise UserError(
            f'{directory}: holds no {name}.jsonl of {{"turns": [...]}}, nor the hub\'s tables of this split'
        )
    split = Split()
    seen: set[str] = set()
    for number, (where, row) in enumerate(rows_of_files(files)):
        try:
            dialogue = _dialogue(row, str(number))
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if reason := _unusable(dialogue, seen if row.get("id") is not None else set()):
            split.left_out.setdefault(reason, []).append(where.removeprefix(f"{directory}/"))
        else:
            split.dialogues.append(dialogue)
        if row.get("id") is not None:
            seen.add(dialogue.id)
    check_left_out(split.dialogues, split.left_out, files[0])
    return split


def _dialogue(row: Mapping[str, Any], number: str) -> Dialogue:
    identity = row.get("id")
    if identity is None:
        identity = number
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise UserError(f'"id" must be a string or a number, is {identity!r}')
    name = next((name for name in _TURNS if name in row), _TURNS[0])
    return Dialogue(str(identity), _strings(row, name), _strings(row, "persona") if "persona" in row else ())


def _strings(row: Any, name: str) -> tuple[str, ...]:
    if not isinstance(row, Mapping) or not isinstance(row.get(name), list):
        raise UserError(f'must be an object with a list of strings "{name}"')
    for place, text in enumerate(row[name]):
        if not isinstance(text, str):
            raise UserError(f'"{name}"[{place}] must be a string, is {text!r}')
        try:
            check_characters(text)
        except UserError as error:
            raise UserError(f'"{name}"[{place}]: {error}') from error
    return tuple(text.strip() for text in row[name])


def _unusable(dialogue: Dialogue, seen: set[str]) -> str:
    """Why a dialogue is left out, or nothing."""
    if dialogue.id in seen:
        return "an id that was there before"
    if not all((*dialogue.turns, *dialogue.persona)):
        return "an empty turn"
    if len(dialogue.turns) < 2:
        return "no turn that answers another"
    return ""


def _row_texts(row: Any) -> Iterator[BenchmarkText]:
    name = next((name for name in _TURNS if isinstance(row, Mapping) and name in row), _TURNS[0])
    yield BenchmarkText("\n".join(_strings(row, name)))


add_benchmark(
    Benchmark(
        name="dailydialog",
        title="DailyDialog",
        file="dailydialog",
        suffix=".jsonl",
        row_texts=_row_texts,
    )
)
