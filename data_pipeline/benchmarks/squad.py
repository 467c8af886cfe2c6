"""SQuAD's data: questions about passages of Wikipedia, whose answers are spans of them; in 2.0 some have none.

A folder with one file for each of train and dev, {train,dev}-v1.1.json in the authors' format: {"data": [{"title",
"paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text", "answer_start"}], "is_impossible"}]}]}]}; or in
the hub's layout rows of id, context, question, answers: {"text": […], "answer_start": […]}, as .jsonl or .parquet.
"""

import json
import re
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
from data_pipeline.sample.questions import squad_rows
from data_pipeline.sample.text import Guard
from data_pipeline.sample.world import World
from data_pipeline.text_files import check_characters, files_below, json_lines, name_of, parse_json, read_text

SPLITS = ("train", "dev")
_SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
_NAMES = {
    "train": re.compile(r"train([-_.].*)?", re.IGNORECASE),
    "dev": re.compile(r"(dev|validation)([-_.].*)?", re.IGNORECASE),
}
_HUB_SPLITS = {"train": "train", "validation": "dev"}
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.)")
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


def read_split(directory: Path, name: str, *, unanswerable: bool) -> Split:
    """Read one split.

    Args:
        directory: the folder that holds the files of train and dev, at any depth.
        name: one of `SPLITS`.
        unanswerable: whether questions may have no answer, as SQuAD 2.0's.

    Raises:
        UserError: files are missing, damaged, hold no question, or too many answers elsewhere than they say; the message
            names each file, place and key.
    """
    reading = _Reading(unanswerable)
    for path in split_files(Path(directory), name):
        reading.read(path)
    split = reading.split
    if reading.errors:
        more = len(reading.errors) - _ERRORS_SHOWN
        raise UserError(
            "\n".join(reading.errors[:_ERRORS_SHOWN] + ([f"… and {more} more"] if more > 0 else []))
        )
    if not split.questions:
        raise UserError(f"{path}: holds no questions")
    answers = sum(len(question.answers) for question in split.questions)
    allowed = max(_ALLOWED_MISPLACED, answers * _ALLOWED_MISPLACED_PERCENT // 100)
    if len(split.misplaced) > allowed:
        raise UserError(
            f"{len(split.misplaced)} of {answers} answers do not stand where they say, more than {allowed}: "
            "answer_start counts characters (Unicode's, not bytes) of the context as it is. The first:\n"
            + "\n".join(split.misplaced[:_ERRORS_SHOWN])
        )
    return split


def split_files(directory: Path, name: str) -> list[Path]:
    """The file of a split, or its shards.

    Raises:
        UserError: there is none, or several that are no shards of one; the message names them.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; it must hold a file called train… and one called dev…")
    found = [
        path
        for path in files_below(directory)
        if name_of(path).suffix in _SUFFIXES and _NAMES[name].fullmatch(path.name)
    ]
    if not found:
        raise UserError(
            f"{directory}: no file of {name}; one is expected that is called "
            f"{name}{' or validation' if name == 'dev' else ''}…, and ends in {', '.join(_SUFFIXES)}"
        )
    if len(found) == 1 and not _SHARD.search(found[0].name):
        return found
    shards = {
        _SHARD.sub("", str(path)): int(match[2]) for path in found if (match := _SHARD.search(path.name))
    }
    whole = len(shards) == 1 and all(_SHARD.search(path.name) for path in found)
    if not whole or len(found) != next(iter(shards.values())):
        listed = ", ".join(str(path) for path in found[:_ERRORS_SHOWN])
        raise UserError(
            f"{directory}: {name} must be one file, or all shards of one (…-00000-of-00002.…), but there "
            f"{'is' if len(found) == 1 else 'are'} {listed}"
        )
    return found


class _Reading:
    """A split being read, and what is wrong with it."""

    def __init__(self, unanswerable: bool) -> None:
        self.split = Split()
        self.errors: list[str] = []
        self._unanswerable = unanswerable
        self._passages: dict[str, int] = {}
        self._ids: dict[str, str] = {}

    def read(self, path: Path) -> None:
        """Add a file's questions."""
        try:
            for place, context, question in _questions(path):
                where = f"{path}, {place}"
                found = [*_context_errors(context), *self._question_errors(question)]
                if found:
                    self.errors += [f"{where}: {error}" for error in found]
                else:
                    self._add(where, context, question)
        except UserError as error:
            message = str(error)
            self.errors.append(message if message.startswith(str(path)) else f"{path}: {message}")

    def _add(self, where: str, context: str, row: Mapping[str, Any]) -> None:
        before = self._ids.setdefault(row["id"], where)
        if before is not where:
            self.errors.append(f'{where}: the "id" {row["id"]!r} stands twice, first at {before}')
            return
        passage = self._passages.setdefault(context, len(self._passages))
        if passage == len(self.split.passages):
            self.split.passages.append(context)
        answers = tuple(Answer(answer["text"], answer["answer_start"]) for answer in _answers(row))
        self.split.questions.append(Question(row["id"], passage, row["question"], answers))
        for answer in answers:
            if not is_placed(answer, context):
                there = context[answer.start : answer.start + min(len(answer.text), _SHOWN_CHARACTERS)]
                self.split.misplaced.append(
                    f"{where}: at character {answer.start} stands {there!r}, not "
                    f"{answer.text[:_SHOWN_CHARACTERS]!r}"
                )

    def _question_errors(self, row: Any) -> list[str]:
        if not isinstance(row, Mapping):
            return ["must be an object"]
        errors = [*_text_errors(row, "id"), *_text_errors(row, "question")]
        if not errors and not row["id"].strip():
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
        elif not answers and not self._unanswerable:
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
    """(place in the file, context, question or row) of each question of a file.

    Raises:
        UserError: the file cannot be read, is damaged or of another layout.
    """
    suffix = name_of(path).suffix
    if suffix == ".parquet":
        yield from _parquet_questions(path)
    elif suffix == ".json":
        content = parse_json(read_text(path))
        data = content.get("data") if isinstance(content, dict) else content
        if not isinstance(data, list):
            raise UserError('must be an object with a list "data"')
        for number, record in enumerate(data, start=1):
            if isinstance(record, dict) and "paragraphs" in record:
                yield from _article_questions(f"article {number}", record)
            else:
                yield f"record {number}", _context(record), record
    else:
        for number, row in json_lines(read_text(path), f"{path}, "):
            yield f"line {number}", _context(row), row


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


def _parquet_questions(path: Path) -> Iterator[tuple[str, Any, Any]]:
    try:  # which is not needed where models run on files of JSON
        from data_pipeline.sources.formats import raw_records
    except ImportError as error:
        raise UserError(
            f"{path}: reading it needs pyarrow; install that, or write its rows as .jsonl"
        ) from error
    for record in raw_records(path):
        if record.problem:
            raise UserError(f"row {record.number}: {record.problem}")
        yield f"row {record.number}", _context(record.content), record.content


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


def _count(directory: Path, *, unanswerable: bool) -> dict[str, Any]:
    counts = {}
    for name in SPLITS:
        split = read_split(directory, name, unanswerable=unanswerable)
        counts[name] = {"questions": len(split.questions)}
    return counts


def _add(name: str, title: str, version: str, dataset: str, questions: tuple[int, int]) -> Benchmark:
    folder = title.removesuffix(" 1.1").replace(" 2.0", "2")
    return add_benchmark(
        Benchmark(
            name=name,
            title=title,
            file=folder,
            suffix=".json",
            row_texts=_row_texts,
            origin=Origin(
                dataset,
                split="validation",
                licence="CC BY-SA 4.0",
                terms="share alike; cite the authors",
                write=partial(write_rows, version=version),
                count=partial(_count, unanswerable=version != "1.1"),
                counts={split: {"questions": n} for split, n in zip(SPLITS, questions, strict=True)},
                measured="dev",
            ),
            sample=Sample(folder, partial(_write_sample, version), share=0.002, on_demand=True),
        )
    )


SQUAD = _add("squad", "SQuAD 1.1", "1.1", "rajpurkar/squad", (87_599, 10_570))
SQUAD_V2 = _add("squad_v2", "SQuAD 2.0", "2.0", "rajpurkar/squad_v2", (130_319, 11_873))
