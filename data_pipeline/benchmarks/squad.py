"""SQuAD's data: questions about passages of Wikipedia, whose answers are spans of them; in 2.0 some have none.

A folder with one file for each of train and dev, {train,dev}-v1.1.json in the authors' format: {"data": [{"title",
"paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text", "answer_start"}], "is_impossible"}]}]}]}; or in
the hub's layout rows of id, context, question, answers: {"text": […], "answer_start": […]}, as .jsonl or .parquet.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from data_pipeline.benchmarks.split_files import ROW_SUFFIXES, files_of_split, rows_of_files
from data_pipeline.sample.questions import squad_rows
from data_pipeline.sample.text import Guard
from data_pipeline.sample.world import World
from data_pipeline.text_files import check_characters, name_of, parse_json, read_text

SPLITS = ("train", "dev")
_FILES = (".json",)
_NAMES = {"train": ("train",), "dev": ("dev", "validation")}
_HUB_SPLITS = {"train": "train", "validation": "dev"}
_ERRORS_SHOWN = 10
_SHOWN_CHARACTERS = 40
_ALLOWED_MISPLACED = 100
_ALLOWED_MISPLACED_PERCENT = 1


class Answer(NamedTuple):
    """An answer and the character of the passage where it begins."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """One question; `passage` is an index into its split's passages. Without answers it has none there."""

    id: str
    passage: int
    question: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Split:
    """Passages and questions in the file's order.

    Attributes:
        passages: each different one once.
        misplaced: answers that do not stand at their character of the passage, in words. The characters are what
            counts, so that nobody knows what such an answer means: training leaves its question out. The official
            scores compare texts alone.
    """

    passages: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)


def is_placed(answer: Answer, passage: str) -> bool:
    """Whether the passage holds the answer at its character."""
    return passage.startswith(answer.text, answer.start)


def read_split(directory: Path, name: str, version: str) -> Split:
    """Read one split.

    Args:
        directory: the folder that holds the files of train and dev, at any depth.
        name: one of `SPLITS`.
        version: "1.1" or "2.0", where questions may have no answer.

    Raises:
        UserError: files are missing, damaged, hold no question, or too many answers elsewhere than they say; the message
            names each file, place and key.
    """
    names = [*_NAMES[name], f"{name}-v{version.split('.')[0]}"]
    directory = Path(directory)
    files = files_of_split(directory, names, (*_FILES, *ROW_SUFFIXES)) if directory.is_dir() else []
    if not files:
        raise UserError(
            f"{directory}: holds no file of {name}; it must be called {name}-v{version}.json, or as the hub's rows "
            f"{' or '.join(_NAMES[name])} with {' or '.join(ROW_SUFFIXES)}, plain or compressed"
        )
    reading = _Reading(version)
    for path in files:
        reading.read(path)
    split = reading.split
    if reading.errors:
        more = len(reading.errors) - _ERRORS_SHOWN
        raise UserError(
            "\n".join(reading.errors[:_ERRORS_SHOWN] + ([f"… and {more} more"] if more > 0 else []))
        )
    if not split.questions:
        raise UserError(f"{files[0]}: holds no questions")
    answers = sum(len(question.answers) for question in split.questions)
    allowed = max(_ALLOWED_MISPLACED, answers * _ALLOWED_MISPLACED_PERCENT // 100)
    if len(split.misplaced) > allowed:
        raise UserError(
            f"{directory}: {len(split.misplaced)} of {answers} answers do not stand where they say, more than {allowed}: "
            "answer_start counts the characters of the context as it is (Unicode's, not bytes). The first:\n"
            + "\n".join(split.misplaced[:_ERRORS_SHOWN])
        )
    return split


class _Reading:
    """A split being read, and what is wrong with it."""

    def __init__(self, version: str) -> None:
        self.split = Split()
        self.errors: list[str] = []
        self._all_have_answers = version == "1.1"
        self._passages: dict[str, int] = {}
        self._ids: dict[str, str] = {}

    def read(self, path: Path) -> None:
        """Add a file's questions."""
        try:
            for where, context, question in _questions(path):
                found = [*_context_errors(context), *self._question_errors(question)]
                if found:
                    self.errors += [f"{where}: {error}" for error in found]
                else:
                    self._add(where, context, question, str(path.parent))
        except UserError as error:
            self.errors.append(str(error))

    def _add(self, where: str, context: str, row: Mapping[str, Any], folder: str) -> None:
        before = self._ids.setdefault(row["id"], where)
        if before is not where:
            self.errors.append(f'{where}: the "id" {row["id"]!r} stands twice, first at {before}')
            return
        passage = self._passages.setdefault(context, len(self._passages))
        if passage == len(self.split.passages):
            self.split.passages.append(context)
        answers = tuple(Answer(answer["text"], answer["answer_start"]) for answer in _answers(row) or ())
        self.split.questions.append(Question(row["id"], passage, row["question"], answers))
        for answer in answers:
            if not is_placed(answer, context):
                there = context[answer.start : answer.start + min(len(answer.text), _SHOWN_CHARACTERS)]
                self.split.misplaced.append(
                    f"{where.removeprefix(folder).lstrip('/')}: at character {answer.start} stands {there!r}, not "
                    f"{answer.text[:_SHOWN_CHARACTERS]!r}"
                )

    def _question_errors(self, row: Any) -> list[str]:
        if not isinstance(row, Mapping):
            return ["must be an object"]
        errors = [*_text_errors(row, "id"), *_text_errors(row, "question")]
        if row.get("id") is not None and not str(row["id"]).strip():
            errors.append('"id": is empty')
        answers = _answers(row)
        if answers is None:
            return [*errors, '"answers": must be a list of {"text", "answer_start"}, or lists of both']
        for index, answer in enumerate(answers):
            errors += [f'"answers"[{index}]: {error}' for error in _answer_errors(answer)]
        impossible = row.get("is_impossible")
        if impossible is not None and not isinstance(impossible, bool):
            errors.append('"is_impossible": must be true or false')
        elif impossible and answers:
            errors.append('"is_impossible": is true, but there are answers')
        elif impossible is False and not answers:
            errors.append('"is_impossible": is false, but there are no answers')
        elif not answers and self._all_have_answers:
            errors.append('"answers": none, which SQuAD 1.1 does not allow; SQuAD 2.0 is the task squad_v2')
        return errors


def _context_errors(context: Any) -> list[str]:
    if not isinstance(context, str):
        return ['"context": must be a string']
    return list(_text_errors({"context": context}, "context")) or (
        [] if context.strip() else ['"context": is empty']
    )


def _text_errors(row: Mapping[str, Any], key: str) -> Iterator[str]:
    if not isinstance(row.get(key), str):
        yield f'"{key}": must be a string'
        return
    try:
        check_characters(row[key])
    except UserError as error:
        yield f'"{key}": {error}'


def _answers(row: Mapping[str, Any]) -> list[Any] | None:
    """A question's answers as the authors' list, also where they are the hub's two lists; None for neither."""
    answers = row.get("answers")
    if isinstance(answers, Mapping):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            return None
        return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    return answers if isinstance(answers, list) else None


def _answer_errors(answer: Any) -> Iterator[str]:
    if not isinstance(answer, Mapping):
        yield 'must be {"text", "answer_start"}'
        return
    yield from _text_errors(answer, "text")
    start = answer.get("answer_start")
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        yield f'"answer_start": must be a number from 0, is {start!r}'


def _questions(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """(place, context, question or row) of each question of a file.

    Raises:
        UserError: the file cannot be read, is damaged or of another layout; the message names it.
    """
    if name_of(path).suffix in ROW_SUFFIXES:
        for where, row in rows_of_files([path]):
            yield where, _context(row), row
        return
    text = read_text(path)
    try:
        content = parse_json(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    data = content.get("data") if isinstance(content, dict) else content
    if not isinstance(data, list):
        raise UserError(f'{path}: must be an object with a list "data"')
    for number, record in enumerate(data, start=1):
        if isinstance(record, dict) and "paragraphs" in record:
            yield from _article_questions(f"{path}, article {number}", record)
        else:
            yield f"{path}, record {number}", _context(record), record


def _article_questions(where: str, article: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    paragraphs = article["paragraphs"]
    if not isinstance(paragraphs, list):
        raise UserError(f'{where}: "paragraphs": must be a list')
    for number, paragraph in enumerate(paragraphs, start=1):
        place = f"{where}, paragraph {number}"
        if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
            raise UserError(f'{place}: must be an object with a "context" and a list "qas"')
        for index, question in enumerate(paragraph["qas"], start=1):
            yield f"{place}, question {index}", paragraph.get("context"), question


def _context(row: Any) -> Any:
    return row.get("context") if isinstance(row, Mapping) else None


def _row_texts(row: Mapping[str, Any]) -> Iterator[BenchmarkText]:
    """The passages of a row, or of a whole file in the authors' format."""
    if isinstance(row, Mapping) and isinstance(row.get("data"), list):
        for record in row["data"]:
            paragraphs = record.get("paragraphs", [record]) if isinstance(record, Mapping) else [record]
            for paragraph in paragraphs:
                yield BenchmarkText(text_of(paragraph, "context"))
    elif isinstance(row, Mapping) and isinstance(row.get("paragraphs"), list):
        for paragraph in row["paragraphs"]:
            yield BenchmarkText(text_of(paragraph, "context"))
    else:
        yield BenchmarkText(text_of(row, "context"))


def write_rows(rows: Rows, target: Path, *, version: str) -> None:
    """Write the hub's rows as the authors' two files; neighbours of one title, and of one context, stand together."""
    for hub_split, split in _HUB_SPLITS.items():
        articles: list[dict[str, Any]] = []
        for row in rows(hub_split):
            if not articles or articles[-1]["title"] != row["title"]:
                articles.append({"title": row["title"], "paragraphs": []})
            paragraphs = articles[-1]["paragraphs"]
            if not paragraphs or paragraphs[-1]["context"] != row["context"]:
                paragraphs.append({"context": row["context"], "qas": []})
            answers = _answers({"answers": dict(row["answers"])})
            question = {"id": row["id"], "question": row["question"], "answers": answers}
            if version != "1.1":
                question["is_impossible"] = not answers
            paragraphs[-1]["qas"].append(question)
        target.mkdir(parents=True, exist_ok=True)
        with atomic_write(target / f"{split}-v{version}.json") as temporary:
            temporary.write_text(json.dumps({"version": version, "data": articles}), encoding="utf-8")


def _write_sample(version: str, folder: Path, world: World, guard: Guard, seed: int) -> list[str]:
    """Write the two files; returns the paragraphs of dev."""
    made = squad_rows(world, seed, unanswerable=version != "1.1")
    write_rows(made.__getitem__, folder, version=version)
    texts = list(dict.fromkeys(row["context"] for row in made["validation"]))
    for text in texts:
        guard.add(text)
    return texts


def _count(directory: Path, *, version: str) -> dict[str, Any]:
    return {name: {"questions": len(read_split(directory, name, version).questions)} for name in SPLITS}


def _record(name: str, version: str, folder: str, dataset: str, counts: tuple[int, int]) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"SQuAD {version}",
        file=folder,
        suffix=_FILES[0],
        row_texts=_row_texts,
        origin=Origin(
            dataset,
            split="validation",
            licence="CC BY-SA 4.0",
            terms="share alike; cite the authors",
            write=partial(write_rows, version=version),
            count=partial(_count, version=version),
            counts={split: {"questions": count} for split, count in zip(SPLITS, counts, strict=True)},
            measured="dev",
        ),
        sample=Sample(folder, partial(_write_sample, version), share=0.002, on_demand=True),
    )


SQUAD = add_benchmark(_record("squad", "1.1", "SQuAD", "rajpurkar/squad", (87_599, 10_570)))
SQUAD_V2 = add_benchmark(_record("squad_v2", "2.0", "SQuAD2", "rajpurkar/squad_v2", (130_319, 11_873)))
