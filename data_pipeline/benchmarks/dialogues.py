"""Data of dialogue: turns of two speakers in order, a JSON object a line or a table's row a dialogue.

{train,validation,test}.jsonl of {"turns": ["…", "…"]}, perhaps with "persona": ["…"], what the one who answers is told of
itself (PersonaChat); or the hub's tables of DailyDialog, where the turns are called "dialog" (or "utterances").
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from data_pipeline.benchmarks.benchmark import (
    Benchmark,
    BenchmarkText,
    Origin,
    Rows,
    Sample,
    add_benchmark,
)
from data_pipeline.benchmarks.split_files import (
    ROW_SUFFIXES,
    files_of_split,
    rows_of_files,
    write_json_lines,
)
from data_pipeline.benchmarks.summaries import check_left_out
from data_pipeline.sample.tellings import dialogue_rows
from data_pipeline.sample.text import Guard
from data_pipeline.sample.world import World
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
    return Dialogue(
        str(identity), _strings(row, _turns_of(row)), _strings(row, "persona") if "persona" in row else ()
    )


def _turns_of(row: Any) -> str:
    """What a row calls its turns."""
    return next((name for name in _TURNS if isinstance(row, Mapping) and name in row), _TURNS[0])


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
    yield BenchmarkText("\n".join(_strings(row, _turns_of(row))))


def write_rows(rows: Rows, folder: Path) -> None:
    """Write the hub's rows as JSON lines."""
    write_json_lines(rows, folder, SPLITS, lambda row: {"turns": list(_strings(row, _turns_of(row)))})


def _count(folder: Path) -> dict[str, Any]:
    """Dialogues, those included that cannot be used."""
    splits = {name: read_split(folder, name) for name in SPLITS}
    return {
        name: {"dialogues": len(split.dialogues) + sum(map(len, split.left_out.values()))}
        for name, split in splits.items()
    }


def _write_sample(folder: Path, world: World, guard: Guard, seed: int) -> list[str]:
    """Write the three files; returns the dialogues of all but train."""
    made = dialogue_rows(world, seed)
    write_rows(made.__getitem__, folder)
    texts = ["\n".join(row["dialog"]) for split in SPLITS[1:] for row in made[split]]
    for text in texts:
        guard.add(text)
    return texts


add_benchmark(
    Benchmark(
        name="dailydialog",
        title="DailyDialog",
        file="dailydialog",
        suffix=".jsonl",
        row_texts=_row_texts,
        origin=Origin(
            "li2017dailydialog/daily_dialog",
            revision="refs/convert/parquet",  # its main branch has held a script
            licence="CC BY-NC-SA 4.0",
            terms="non-commercial, share alike; cite the authors",
            write=write_rows,
            count=_count,
            counts={
                "train": {"dialogues": 11_118},
                "validation": {"dialogues": 1000},
                "test": {"dialogues": 1000},
            },
        ),
        sample=Sample("dailydialog", _write_sample, share=0.002, on_demand=True),
    )
)
