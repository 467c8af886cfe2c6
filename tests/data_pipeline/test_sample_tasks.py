"""The sample world's tasks: no text of an example gives its answer away alone, and files are asked for or not there."""

import collections
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.sample import pairs, questions, tellings
from data_pipeline.sample.files import write_sample
from data_pipeline.sample.vocabulary import MONTHS, TOPICS, WORDS
from data_pipeline.sample.world import World
from data_pipeline.settings import BenchmarkSettings, SampleSettings
from data_pipeline.steps import write_sample as write_step

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def world() -> World:
    return World(1)


@pytest.fixture(scope="module")
def made(world: World) -> dict[str, Rows]:
    return {
        "mnli": pairs.mnli_rows(world, 1),
        "qqp": pairs.qqp_rows(world, 1),
        "squad": questions.squad_rows(world, 1, unanswerable=False),
        "squad_v2": questions.squad_rows(world, 1, unanswerable=True),
        "summaries": tellings.summary_rows(world, 1),
        "dialogues": tellings.dialogue_rows(world, 1),
    }


def best_guess(rows: Iterable[dict[str, Any]], seen: Callable[[dict[str, Any]], Any]) -> float:
    """The accuracy of whoever sees only that, and knows of each text how often it has which label."""
    labels: dict[Any, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for row in rows:
        labels[seen(row)][row["label"]] += 1
    counted = [max(counts.values()) for counts in labels.values()]
    return sum(counted) / sum(counts.total() for counts in labels.values())


@pytest.mark.parametrize(
    ("task", "columns", "chance"),
    [("mnli", ("hypothesis",), 1 / 3), ("qqp", ("question1", "question2"), 1 / 2)],
)
def test_one_text_of_a_pair_says_nothing(
    made: dict[str, Rows], task: str, columns: tuple[str, ...], chance: float
) -> None:
    """Exactly: even who knows all answers of the split by one text is right by chance."""
    for split, rows in made[task].items():
        for column in columns:
            assert best_guess(rows, lambda row: row[column]) == pytest.approx(chance), (split, column)  # noqa: B023
        assert best_guess(rows, lambda row: tuple(row.values())[:2]) > 0.95, split


def test_the_way_of_asking_says_nothing(made: dict[str, Rows]) -> None:
    """Without the words of a topic, a pair that asks for two things is like a pair that asks for one."""
    belonging = {word: "T" for topic in TOPICS for word in (topic.trade, topic.trades, topic.workplace)}

    def asked(row: dict[str, Any]) -> tuple[str, ...]:
        kinds = []
        for column in ("question1", "question2"):
            words = re.findall(r"\w+", row[column].lower())
            kinds.append("place" if any(word in {t.workplace for t in TOPICS} for word in words) else "trade")
            assert any(word in belonging for word in words), row
        return tuple(kinds)

    for rows in made["qqp"].values():
        assert best_guess(rows, asked) == pytest.approx(1 / 2)


OF_KIND = {
    "weekday": set(WORDS["weekdays"]) | {"Sunday"},
    "month": {month for months in MONTHS.values() for month in months},
    "number": set(WORDS["numbers"]),
    "year": {str(year) for year in range(1000, 2000)},
}


@pytest.mark.parametrize("task", ["squad", "squad_v2"])
def test_answers_stand_in_the_paragraph_once(made: dict[str, Rows], task: str) -> None:
    asked: collections.Counter[str] = collections.Counter()
    for rows in made[task].values():
        for row in rows:
            answers, context = row["answers"], row["context"]
            asked["answered" if answers["text"] else "not"] += 1
            for text, start in zip(answers["text"], answers["answer_start"], strict=True):
                assert context[start : start + len(text)] == text
            words = set(re.findall(r"\w+", context))
            for kind, known in OF_KIND.items():
                if answers["text"] and answers["text"][0] in known:
                    assert words & known == {answers["text"][0]}, (kind, row)
    assert asked["not"] == (asked["answered"] if task == "squad_v2" else 0)


def test_a_question_alone_does_not_tell_whether_it_has_an_answer(made: dict[str, Rows]) -> None:
    for split, rows in made["squad_v2"].items():
        labelled = [row | {"label": int(bool(row["answers"]["text"]))} for row in rows]
        assert best_guess(labelled, lambda row: row["context"]) == 0.5
        first_words = [row | {"asked": row["question"].split()[0]} for row in labelled]
        assert best_guess(first_words, lambda row: row["asked"]) < 0.58, split


def test_test_examples_are_not_among_those_of_training(made: dict[str, Rows]) -> None:
    """By what has to be read: the same two questions about other trades may well come again."""
    for task, column in {"mnli": "premise", "squad": "context", "summaries": "article"}.items():
        known = {row[column] for row in made[task]["train"]}
        others = [rows for split, rows in made[task].items() if split != "train"]
        assert not [row for rows in others for row in rows if row[column] in known], task


def test_files_are_written_where_asked_and_change_no_others(tmp_path: Path) -> None:
    asked = [name for name in BENCHMARKS if (sample := BENCHMARKS[name].sample) and sample.on_demand]
    assert sorted(asked) == ["cnn_dailymail", "dailydialog", "mnli", "qqp", "squad", "squad_v2", "xsum"]
    without = write_sample(tmp_path / "a", seed=3, documents=100)
    with_all = write_sample(tmp_path / "b", seed=3, documents=100, asked=asked)
    assert set(with_all["planted"]) - set(without["planted"]) == {f"contains_{name}" for name in asked}
    for name in asked:
        sample = BENCHMARKS[name].sample
        assert BENCHMARKS[name].origin.count(tmp_path / "b" / "benchmarks" / sample.path)
        assert not (tmp_path / "a" / "benchmarks" / sample.path).exists()
    for path in (tmp_path / "a" / "benchmarks").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_the_samples_key_names_only_what_is_asked() -> None:
    """Of a recipe without the new ones it is what it was before there were any."""
    settings = SampleSettings(documents=100)
    of_old = {name: BenchmarkSettings(source="sample") for name in ("race", "lambada")}
    assert write_step("s", 1, settings, of_old).parameters == {"seed": 1, "documents": 100}
    new = {"mnli": BenchmarkSettings(source="sample"), "qqp": BenchmarkSettings(path="mine")}
    assert write_step("s", 1, settings, of_old | new).parameters["benchmarks"] == ["mnli"]


def test_the_rows_are_the_same_in_every_version(made: dict[str, Rows], world: World) -> None:
    """Whoever changes the tasks on purpose changes this line, too."""
    content = json.dumps(made, sort_keys=True).encode()
    assert (
        hashlib.sha256(content).hexdigest()
        == "ab2ce6bc61bb049152a844dbc898ea4f571cfeedb1b98e86d01b4aa40d2755a4"
    )
    assert pairs.qqp_rows(world, 2) != made["qqp"]
