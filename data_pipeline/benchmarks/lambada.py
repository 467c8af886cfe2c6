"""LAMBADA's data: passages whose last word is to be predicted, one `{"text": …}` a line, or in the authors' own format:
one passage a line, plain (`lambada_test_plain_text.txt`).

Which of the two a file has is told by its content: where the first line that is not blank begins as JSON does, all are
JSON; else none is. No passage of LAMBADA's begins with a bracket or brace.
"""

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
from data_pipeline.text_files import at_line, json_lines, name_of, read_text

_SAMPLE_ROWS = {"product": 110, "animal": 110, "workplace": 110, "food": 80, "tool": 90}  # by kind of answer
_FAR_SHARE = 0.4  # of rows, whose clues are far from the answer


@dataclass(frozen=True)
class Row:
    """One passage: all but its last word, and that word. `line` counts from 1 in the file."""

    line: int
    context: str
    target: str


def read_rows(path: Path) -> list[Row]:
    """Read a file in either format.

    Raises:
        UserError: the file cannot be read, a line is no passage of two words or more, or there is no line at all; the
            message names file and line.
    """
    return rows_in(read_text(path), path)


def rows_in(content: str, path: Path) -> list[Row]:
    """The rows in a file's content, see `read_rows`."""
    where = f"{path}, "
    plain = is_plain(content, path)
    rows = []
    for number, text in _passages(content, plain, where):
        with at_line(number, where):
            rows.append(_row(text, number, "a passage" if plain else '"text"'))
    if not rows:
        raise UserError(
            f'{path}: holds no rows; one JSON object {{"text": ...}} a line is expected, or one passage a line'
        )
    return rows


def is_plain(content: str, path: Path | None = None) -> bool:
    """Whether a file's content is in the authors' own format: never where its name says that it is JSON, or damage in its
    first character would make passages of code."""
    if path is not None and name_of(path).suffix in (".jsonl", ".ndjson", ".json"):
        return False
    return not content.lstrip().startswith(("{", "["))


def _passages(content: str, plain: bool, where: str = "") -> Iterator[tuple[int, str]]:
    """The passages with the numbers of their lines."""
    if plain:
        for number, line in enumerate(content.split("\n"), start=1):
            if line.strip():
                with at_line(number, where):
                    if line.lstrip().startswith('{"'):
                        raise UserError(
                            "is JSON, but the first line of the file is not: give a file of one format"
                        )
                yield number, line
        return
    for number, record in json_lines(content, where):
        with at_line(number, where):
            text = text_of(record, "text")
        yield number, text


def _row(text: str, number: int, what: str) -> Row:
    context, target = split_last_word(text)
    if not context:
        raise UserError(f"{what} needs two words or more, the last is predicted from the others")
    return Row(number, context, target)


def split_last_word(text: str) -> tuple[str, str]:
    """(context, last word), both without blanks around them; the context is empty for fewer than two words."""
    words = text.split()
    if not words:
        return "", ""
    return text[: text.rfind(words[-1])].strip(), words[-1]


def _texts(content: str) -> Iterator[BenchmarkText]:
    for _, text in _passages(content, is_plain(content)):
        yield BenchmarkText(text)


def _row_texts(row: Any) -> Iterator[BenchmarkText]:
    yield BenchmarkText(text_of(row, "text"))


def _write_rows(rows: Rows, target: Path) -> None:
    with atomic_write(target) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows("test"):
            stream.write(json.dumps({"text": row["text"]}) + "\n")


def _count(path: Path) -> dict[str, Any]:
    return {"passages": sum(1 for line in read_text(path).split("\n") if line.strip())}


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
        texts=_texts,
        row_texts=_row_texts,
        other_suffixes=(".txt",),
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
