"""Data of dialogue: turns of two speakers in order, a JSON object a line or a table's row a dialogue.

{train,validation,test}.jsonl of {"turns": ["…", "…"]}, perhaps with "persona": ["…"], what the one who answers is told of
itself (PersonaChat); or the hub's tables of DailyDialog, where the turns are called "dialog" (or "utterances").
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
    write_json_lines,
)
from data_pipeline.benchmarks.splits import Split, read_rows
from data_pipeline.sample.tellings import dialogue_rows
from data_pipeline.sample.text import Guard
from data_pipeline.sample.world import World
from data_pipeline.text_files import check_characters

SPLITS = ("train", "validation", "test")
_TURNS = ("turns", "dialog", "utterances")


@dataclass(frozen=True)
class Dialogue:
    """Two turns or more, without blanks around them; `persona` is what is known before the first."""

    id: str
    turns: tuple[str, ...]
    persona: tuple[str, ...] = ()


def read_split(directory: Path, name: str) -> Split[Dialogue]:
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
    return read_rows(files, directory, _dialogue, _unusable)


def _dialogue(row: Mapping[str, Any], identity: str) -> Dialogue:
    persona = _strings(row, "persona") if "persona" in row else ()
    return Dialogue(identity, _strings(row, _turns_of(row)), persona)


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


def _unusable(dialogue: Dialogue) -> str:
    """Why a dialogue is left out, or nothing."""
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
    return {name: {"dialogues": read_split(folder, name).read} for name in SPLITS}


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
