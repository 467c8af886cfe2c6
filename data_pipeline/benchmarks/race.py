"""RACE's data: passages of school exams with four-option questions.

RACE/{train,dev,test}/{middle,high}/*.txt, each one JSON object: article, questions[], options[][4], answers[], id; or the
hub's files (`ehovy/race`), a row a question: example_id ("high1234.txt"), article, question, options[4], answer.
"""

import json
import random
import re
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
    text_of,
)
from data_pipeline.benchmarks.split_files import ROW_SUFFIXES, files_of_split, rows_of_files
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
LETTERS = "ABCD"
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
    """Passages and questions in the order of the sorted file names, middle school first.

    Attributes:
        ids: of the passages: "high1234.txt".
    """

    passages: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    @property
    def empty(self) -> list[str]:
        """Ids of passages without text, whose questions are asked all the same, as of the published data."""
        return [name for name, text in zip(self.ids, self.passages, strict=True) if not text.strip()]


def read_split(directory: Path, name: str) -> Split:
    """Read one split of the tree, or of the hub's files. Sorted, so that nothing depends on the file system's order.

    Args:
        directory: the folder that holds train, dev and test, or the hub's files below it.
        name: one of `SPLITS`.

    Raises:
        UserError: folders are missing or hold no question, files are damaged, or two passages have one id;
            the message names each file and key.
    """
    directory = Path(directory)
    if not (directory / name).is_dir() and (files := _hub_files(directory, name)):
        passages = _hub_passages(files)
    else:
        passages = _tree_passages(directory, name)
    split = Split()
    errors: list[str] = []
    places: dict[str, str] = {}  # by id
    for place, level, record in passages:
        if isinstance(record, str):
            errors.append(record)
            continue
        problems = _add_passage(record, level, split)
        if not problems and (first := places.setdefault(split.ids[-1], place)) != place:
            problems = [f'has the "id" of {first}']
        errors += [f"{place}: {problem}" for problem in problems]
    if errors:
        more = [f"… and {len(errors) - _ERRORS_SHOWN} more"] if len(errors) > _ERRORS_SHOWN else []
        raise UserError("\n".join(errors[:_ERRORS_SHOWN] + more))
    for level in LEVELS:
        if not any(question.level == level for question in split.questions):
            raise UserError(f"{directory / name / level}: holds no questions")
    return split


_Passages = Iterator[
    tuple[str, str, dict[str, Any] | str]
]  # place, level, the record or what is wrong with it


def _tree_passages(directory: Path, name: str) -> _Passages:
    """The files of the authors' tree."""
    for level in LEVELS:
        folder = directory / name / level
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; {directory} must hold {{train,dev,test}}/{{middle,high}}/*.txt, or the hub's "
                "files"
            )
        for path in _files(folder):
            yield str(path), level, _read_passage(path)


def _files(folder: Path) -> list[Path]:
    """The files of a level's folder but hidden ones and those that a Mac leaves."""
    return sorted(path for path in folder.iterdir() if not is_hidden(Path(path.name)))


def _read_passage(path: Path) -> dict[str, Any] | str:
    """What is in one file, with an id if it says none, or what is wrong with it."""
    if name_of(path).suffix != RACE.suffix:
        return f"{path}: no passage, whose names end in {RACE.suffix}; move it elsewhere"
    try:
        content = read_text(path)
    except UserError as error:
        return str(error)
    try:
        record = parse_json(content)
    except UserError as error:
        return f"{path}: {error}"
    if not isinstance(record, dict):
        return f"{path}: must be a JSON object"
    return {"id": f"{path.parent.name}{path.name.split('.')[0]}.txt", **record}


def _hub_files(directory: Path, name: str) -> list[Path]:
    """The hub's files of a split; a copy of the whole data set has every row twice, in `all` and in its levels."""
    hub_name = next(hub for hub, split in _HUB_SPLITS.items() if split == name)
    folders = [directory / "all"] if (directory / "all").is_dir() else [directory / level for level in LEVELS]
    folders = [folder for folder in folders if folder.is_dir()] or [directory]
    names = {hub_name, name}
    return [path for folder in folders for path in files_of_split(folder, names, ROW_SUFFIXES)]


def _hub_passages(files: list[Path]) -> _Passages:
    """The passages of the hub's rows, in the order of the tree's."""
    passages: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, row in rows_of_files(files):
        try:
            _add_row(passages, row, place)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
    found = [(*_level_and_number(name), place, record) for name, (place, record) in passages.items()]
    for level in LEVELS:
        for _, _, place, record in sorted((row for row in found if row[0] == level), key=lambda row: row[1]):
            yield place, level, record


def _add_row(passages: dict[str, tuple[str, dict[str, Any]]], row: Mapping[str, Any], place: str) -> None:
    """Put a row's question to its passage."""
    name, article = text_of(row, "example_id"), row.get("article")
    _level_and_number(name)
    empty: dict[str, Any] = {"answers": [], "options": [], "questions": [], "article": article, "id": name}
    _, passage = passages.setdefault(name, (place, empty))
    if passage["article"] != article:
        raise UserError(f"two different articles are called {name!r}")
    options = row.get("options")
    passage["questions"].append(row.get("question"))
    passage["options"].append(list(options) if isinstance(options, list | tuple) else options)
    passage["answers"].append(row.get("answer"))


def _level_and_number(name: str) -> tuple[str, str]:
    """Of "high1234.txt"."""
    found = _FILE_NAME.search(name)
    if found is None:
        raise UserError(f"{name!r} is no file name of RACE, such as high1234.txt")
    return found[1], found[2]


def _add_passage(record: Any, level: str, split: Split) -> list[str]:
    """Add a passage to the split, or say what is wrong with it."""
    if errors := _record_errors(record) or list(_character_errors(record)):
        return errors
    passage = len(split.passages)
    split.passages.append(record["article"])
    split.ids.append(record["id"])
    for question, options, answer in zip(
        record["questions"], record["options"], record["answers"], strict=True
    ):
        split.questions.append(Question(passage, question, tuple(options), LETTERS.index(answer), level))
    return []


def _record_errors(record: dict[str, Any]) -> list[str]:
    errors = []
    for key in ("article", "id"):
        if not isinstance(record.get(key), str):
            errors.append(f'"{key}": must be a string')
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
        if not (isinstance(answer, str) and len(answer) == 1 and answer in LETTERS):
            errors.append(f'"answers"[{index}]: must be one of "A", "B", "C", "D", is {answer!r}')
    return errors


def _character_errors(record: dict[str, Any]) -> Iterator[str]:
    """Half surrogate pairs in a record whose types are right."""
    texts = {f'"{key}"': record[key] for key in ("article", "id")}
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
        passages: dict[str, tuple[str, dict[str, Any]]] = {}
        for row in rows(hub_split):
            try:
                _add_row(passages, row, "")
            except UserError as error:
                raise UserError(f"{split}: {error}") from error
        for name, (_, passage) in passages.items():
            _write_passage(passage, target / split, *_level_and_number(name))


def _count(directory: Path) -> dict[str, Any]:
    counts = {}
    for name in SPLITS:
        split = read_split(directory, name)
        for level in LEVELS:
            asked = [question.passage for question in split.questions if question.level == level]
            counts[f"{name}/{level}"] = {"passages": len(set(asked)), "questions": len(asked)}
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
