"""LAMBADA's data: passages whose last word is to be predicted, one `{"text": …}` a line."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import atomic_write
from data_pipeline.benchmarks.benchmark import (
    Benchmark,
    BenchmarkText,
    Origin,
    Rows,
    Sample,
    add_benchmark,
    text_of,
)
from data_pipeline.sample.text import DECIDED_KINDS, Guard, Writer, scene, words_of
from data_pipeline.sample.vocabulary import TOPICS
from data_pipeline.sample.world import World
from data_pipeline.text_files import at_line, json_lines, read_text

_SAMPLE_ROWS = {"product": 110, "animal": 110, "workplace": 110, "food": 80, "tool": 90}  # by kind of answer
_FAR_SHARE = 0.4  # of rows, whose clues are far from the answer


@dataclass(frozen=True)
class Row:
    """One passage: all but its last word, and that word. `line` counts from 1 in the file."""

    line: int
    context: str
    target: str


def read_rows(path: Path) -> list[Row]:
    """Read `{"text": …}` lines.

    Raises:
        UserError: the file cannot be read, a line is no JSON object with a `text` of two words or more, or there
            is no line at all; the message names file and line.
    """
    where = f"{path}, "
    rows = []
    for number, record in json_lines(read_text(path), where):
        with at_line(number, where):
            rows.append(_row(record, number))
    if not rows:
        raise UserError(f'{path}: holds no rows; one JSON object {{"text": ...}} a line is expected')
    return rows


def _row(record: Any, number: int) -> Row:
    context, target = split_last_word(text_of(record, "text"))
    if not context:
        raise UserError('"text" needs two words or more, the last is predicted from the others')
    return Row(number, context, target)


def split_last_word(text: str) -> tuple[str, str]:
    """(context, last word), both without blanks around them; the context is empty for fewer than two words."""
    words = text.split()
    if not words:
        return "", ""
    return text[: text.rfind(words[-1])].strip(), words[-1]


def _row_texts(row: Any) -> Iterator[BenchmarkText]:
    yield BenchmarkText(text_of(row, "text"))


def _write_rows(rows: Rows, target: Path) -> None:
    with atomic_write(target) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows("test"):
            stream.write(json.dumps({"text": row["text"]}) + "\n")


def _count(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return {"passages": sum(1 for line in stream if line.strip())}


def _passage(draw: random.Random, world: World, kind: str, topic_index: int, *, far: bool) -> str:
    """A passage of 60 to 90 words whose last word its clues decide."""
    while True:
        setting = world.setting(draw, TOPICS[topic_index % len(TOPICS)])
        slots = world.slots(draw, setting)
        answer = world.answer(setting, kind)
        writer = Writer(draw, slots, Guard(), frozenset(words_of(answer)))
        sentences = scene(writer, setting, kind, far=far, clue_words=draw.randint(46, 60), answer=answer)
        text = " ".join(sentences)
        if 58 <= len(text.split()) <= 88:
            return text


def _write_sample(path: Path, world: World, guard: Guard, seed: int) -> list[str]:
    assert set(_SAMPLE_ROWS) == set(DECIDED_KINDS)
    draw = random.Random(f"lambada {seed}")
    passages = []
    for kind, rows in _SAMPLE_ROWS.items():
        start = draw.randrange(len(TOPICS))
        passages += [
            _passage(draw, world, kind, start + row, far=row < rows * _FAR_SHARE) for row in range(rows)
        ]
    draw.shuffle(passages)
    for passage in passages:
        guard.add(passage)
    _write_rows(lambda split: ({"text": passage} for passage in passages), path)
    return passages


LAMBADA = add_benchmark(
    Benchmark(
        name="lambada",
        title="LAMBADA",
        file="lambada_test.jsonl",
        suffix=".jsonl",
        row_texts=_row_texts,
        origin=Origin(
            "EleutherAI/lambada_openai",
            licence="MIT for the file; CC BY 4.0 for LAMBADA",
            write=_write_rows,
            count=_count,
            counts={"passages": 5153},
            file="data/lambada_test.jsonl",
            url="https://huggingface.co/datasets/EleutherAI/lambada_openai/resolve/main/data/lambada_test.jsonl",
            sha256="4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226",
        ),
        sample=Sample("lambada_test.jsonl", _write_sample, share=0.008),
    )
)
