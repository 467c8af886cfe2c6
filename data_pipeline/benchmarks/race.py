"""RACE's data: passages of school exams with four-option questions.

RACE/{train,dev,test}/{middle,high}/*.txt, each one JSON object: article, questions[], options[][4], answers[]
"""

import json
import random
import re
from collections.abc import Iterator
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
    text_of,
)
from data_pipeline.sample.text import (
    Guard,
    Writer,
    weighted,
    words_of,
)
from data_pipeline.sample.vocabulary import (
    INTRODUCTION_TEMPLATES,
    NEUTRAL_TEMPLATES,
    QUESTION_TEMPLATES,
    TOPICS,
    WORK_TEMPLATES,
    Topic,
)
from data_pipeline.sample.world import World
from data_pipeline.text_files import check_characters, is_hidden, name_of, parse_json, read_text

SPLITS = ("train", "dev", "test")
LEVELS = ("middle", "high")
OPTIONS = 4
_LETTERS = "ABCD"
_ERRORS_SHOWN = 10
_HUB_SPLITS = {"train": "train", "validation": "dev", "test": "test"}
_FILE_NAME = re.compile(r"(middle|high)/?(\w+)\.txt$")
_SAMPLE_PASSAGES = {"train": 800, "dev": 80, "test": 104}


@dataclass(frozen=True)
class Question:
    """One question with its four options; `passage` is an index into its split's passages."""

    passage: int
    question: str
    options: tuple[str, ...]
    answer: int
    level: str


@dataclass(frozen=True)
class Split:
    """Passages and questions in the order of the sorted file names, middle school first."""

    passages: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


def read_split(directory: Path, name: str) -> Split:
    """Read one split of the tree. Sorted, so that nothing depends on the file system's order.

    Args:
        directory: the folder that holds train, dev and test.
        name: one of `SPLITS`.

    Raises:
        UserError: folders are missing or hold no question, or files are damaged; the message names each file
            and key.
    """
    split = Split()
    errors: list[str] = []
    for level in LEVELS:
        folder = Path(directory) / name / level
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; {directory} must hold {{train,dev,test}}/{{middle,high}}/*.txt"
            )
        before = len(split.questions)
        for path in _files(folder):
            errors += _read_passage(path, level, split)
        if not errors and len(split.questions) == before:
            raise UserError(f"{folder}: holds no questions")
    if errors:
        more = [f"… and {len(errors) - _ERRORS_SHOWN} more"] if len(errors) > _ERRORS_SHOWN else []
        raise UserError("\n".join(errors[:_ERRORS_SHOWN] + more))
    return split


def _files(folder: Path) -> list[Path]:
    """The files of a level's folder but hidden ones and those that a Mac leaves."""
    return sorted(path for path in folder.iterdir() if not is_hidden(Path(path.name)))


def _read_passage(path: Path, level: str, split: Split) -> list[str]:
    """Add one file to the split, or say what is wrong with it."""
    if name_of(path).suffix != RACE.suffix:
        return [f"{path}: no passage, whose names end in {RACE.suffix}; move it elsewhere"]
    try:
        content = read_text(path)
    except UserError as error:
        return [str(error)]
    try:
        record = parse_json(content)
    except UserError as error:
        return [f"{path}: {error}"]
    if errors := _record_errors(record) or list(_character_errors(record)):
        return [f"{path}: {error}" for error in errors]
    passage = len(split.passages)
    split.passages.append(record["article"])
    for question, options, answer in zip(
        record["questions"], record["options"], record["answers"], strict=True
    ):
        split.questions.append(Question(passage, question, tuple(options), _LETTERS.index(answer), level))
    return []


def _record_errors(record: Any) -> list[str]:
    if not isinstance(record, dict):
        return ["must be a JSON object"]
    errors = []
    if not isinstance(record.get("article"), str):
        errors.append('"article": must be a string')
    for key in ("questions", "options", "answers"):
        if not isinstance(record.get(key), list):
            errors.append(f'"{key}": must be a list')
    if errors:
        return errors
    lengths = {key: len(record[key]) for key in ("questions", "options", "answers")}
    if len(set(lengths.values())) > 1:
        return [f'"questions", "options", "answers": lengths differ, {lengths}']
    for index, question in enumerate(record["questions"]):
        if not isinstance(question, str):
            errors.append(f'"questions"[{index}]: must be a string')
    for index, options in enumerate(record["options"]):
        whole = isinstance(options, list) and len(options) == OPTIONS
        if not whole or not all(isinstance(option, str) for option in options):
            errors.append(f'"options"[{index}]: must be a list of {OPTIONS} strings')
    for index, answer in enumerate(record["answers"]):
        if not (isinstance(answer, str) and len(answer) == 1 and answer in _LETTERS):
            errors.append(f'"answers"[{index}]: must be one of "A", "B", "C", "D", is {answer!r}')
    return errors


def _character_errors(record: dict[str, Any]) -> Iterator[str]:
    """Half surrogate pairs in a record whose types are right."""
    texts = {'"article"': record["article"]}
    texts |= {f'"questions"[{index}]': question for index, question in enumerate(record["questions"])}
    for index, options in enumerate(record["options"]):
        texts |= {f'"options"[{index}][{place}]': option for place, option in enumerate(options)}
    for place, text in texts.items():
        try:
            check_characters(text)
        except UserError as error:
            yield f"{place}: {error}"


def _texts(content: str) -> Iterator[BenchmarkText]:
    yield from _row_texts(parse_json(content))


def _row_texts(row: Any) -> Iterator[BenchmarkText]:
    yield BenchmarkText(text_of(row, "article"))


def _write_passage(record: dict[str, Any], folder: Path, level: str, number: str) -> None:
    path = (
        folder / level / f"{number}.txt"
    )  # 28,000 of them: not synced one by one, a killed stage starts anew
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record), encoding="utf-8")


def write_rows(rows: Rows, target: Path) -> None:
    """Write the hub's rows, one a question, as one file a passage with its questions in the rows' order.

    Raises:
        UserError: a row that names no file of RACE, or two articles under one name.
    """
    for hub_split, split in _HUB_SPLITS.items():
        passages: dict[str, dict[str, Any]] = {}
        for row in rows(hub_split):
            name = row["example_id"]
            empty = {"answers": [], "options": [], "questions": [], "article": row["article"], "id": name}
            passage = passages.setdefault(name, empty)
            if passage["article"] != row["article"]:
                raise UserError(f"{split}: two different articles are called {name!r}")
            passage["questions"].append(row["question"])
            passage["options"].append(list(row["options"]))
            passage["answers"].append(row["answer"])
        for name, passage in passages.items():
            found = _FILE_NAME.search(name)
            if found is None:
                raise UserError(f"{split}: {name!r} is no file name of RACE, such as high1234.txt")
            _write_passage(passage, target / split, *found.groups())


def _count(directory: Path) -> dict[str, Any]:
    counts = {}
    for split in SPLITS:
        for level in LEVELS:
            files = _files(directory / split / level)
            questions = sum(len(parse_json(read_text(path))["questions"]) for path in files)
            counts[f"{split}/{level}"] = {"passages": len(files), "questions": questions}
    return counts


def _belonging(draw: random.Random, topic: Topic, kind: str) -> str:
    """A word of the given kind that belongs to the topic."""
    return draw.choice(topic.tools) if kind == "tool" else getattr(topic, kind)


def _sample_passage(draw: random.Random, world: World, index: int, *, level: str) -> dict:
    """One RACE article with its questions; in `high` the passage does not contain the answers."""
    topic = TOPICS[index % len(TOPICS)]
    setting = world.setting(draw, topic)
    kinds = draw.sample(list(QUESTION_TEMPLATES), 4)
    answers = {kind: _belonging(draw, topic, kind) for kind in kinds}
    banned = frozenset(word for answer in answers.values() for word in words_of(answer))
    writer = Writer(draw, world.slots(draw, setting), Guard(), banned if level == "high" else frozenset())
    sentences = []
    if level == "middle":
        sentences.append(writer.sentence(INTRODUCTION_TEMPLATES))
    goal = draw.randint(58, 70)
    while len(writer.words) < goal:
        templates = weighted(draw, ((WORK_TEMPLATES, 5), (NEUTRAL_TEMPLATES, 1)))
        sentences.append(writer.sentence(templates))
    made: dict = {"article": " ".join(sentences), "questions": [], "options": [], "answers": []}
    for kind in kinds:
        options = [answers[kind]]
        others = draw.sample([other for other in TOPICS if other is not topic], 3)
        options += [_belonging(draw, other, kind) for other in others]
        place = draw.randrange(4)
        options[0], options[place] = options[place], options[0]
        made["questions"].append(writer.sentence(QUESTION_TEMPLATES[kind]))
        made["options"].append(options)
        made["answers"].append("ABCD"[place])
    return made


def _write_sample(folder: Path, world: World, guard: Guard, seed: int) -> list[str]:
    """Write the tree, half `middle` and half `high`; returns the test passages."""
    draw = random.Random(f"race {seed}")
    texts: list[str] = []
    for split, count in _SAMPLE_PASSAGES.items():
        texts = []
        for index in range(count):
            level = LEVELS[index * 2 >= count]
            made = _sample_passage(draw, world, index, level=level)
            _write_passage(made | {"id": f"{level}{index + 1}.txt"}, folder / split, level, str(index + 1))
            guard.add(made["article"])
            texts.append(made["article"])
    return texts


RACE = add_benchmark(
    Benchmark(
        name="race",
        title="RACE",
        file="RACE",
        suffix=".txt",
        texts=_texts,
        row_texts=_row_texts,
        origin=Origin(
            "ehovy/race",
            configuration="all",
            split="train",
            licence="for non-commercial research only",
            terms="no redistribution; cite the authors",
            write=write_rows,
            count=_count,
            counts={
                "train/middle": {"passages": 6409, "questions": 25_421},
                "train/high": {"passages": 18_728, "questions": 62_445},
                "dev/middle": {"passages": 368, "questions": 1436},
                "dev/high": {"passages": 1021, "questions": 3451},
                "test/middle": {"passages": 362, "questions": 1436},
                "test/high": {"passages": 1045, "questions": 3498},
            },
        ),
        sample=Sample("RACE", _write_sample, share=0.008),
    )
)
