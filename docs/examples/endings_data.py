"""A benchmark's data: which of two endings goes on from a text.

train.jsonl, dev.jsonl and test.jsonl in one folder, a JSON object a line: {"text": …, "endings": [a, b], "answer": 0 or 1}
"""

from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from data_pipeline.benchmarks.benchmark import Benchmark, BenchmarkText, add_benchmark, text_of
from data_pipeline.text_files import json_lines, read_text

SPLITS = ("train", "dev", "test")
ENDINGS = 2


@dataclass(frozen=True)
class Row:
    """One text with its endings; `answer` is the right one's index."""

    text: str
    endings: tuple[str, ...]
    answer: int


def read_rows(path: Path) -> list[Row]:
    """The rows of one split; what is wrong with a line is said with file and line."""
    rows = []
    for number, record in json_lines(read_text(path), f"{path}, "):
        try:
            row = Row(text_of(record, "text"), tuple(record["endings"]), record["answer"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}, line {number}: is not text, endings and answer ({error!r})") from error
        if len(row.endings) != ENDINGS or row.answer not in range(ENDINGS):
            raise UserError(f"{path}, line {number}: needs {ENDINGS} endings, and the index of one as answer")
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: holds no rows")
    return rows


def _texts(row):
    """What training documents must not hold, for decontamination: called with each row."""
    yield BenchmarkText(text_of(row, "text"))


ENDINGS_DATA = add_benchmark(
    Benchmark(name="endings", title="Endings", file="endings", suffix=".jsonl", row_texts=_texts)
)
