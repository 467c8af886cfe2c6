"""SQuAD's files: the authors' format and the hub's rows are read as one, what is wrong is named, misplaced answers counted."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hub_layout import stay_offline, write_hub_split

from core.errors import UserError
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.benchmarks.identity import identified
from data_pipeline.benchmarks.squad import Answer, Question, Split, read_split
from data_pipeline.decontamination.texts import benchmark_texts
from data_pipeline.sources.benchmarks import fetch_benchmark
from data_pipeline.sources.records import SourceError

# An accent of its own, a character beyond 16 bits, a line separator and a byte order mark that are text.
CONTEXT = "Cafe\u0301 \U0001d54f\u2028\ufeffopened in 1999."
OTHER = "Another passage, of nobody."
EXPECTED = Split(
    [CONTEXT, OTHER],
    [
        Question("a", 0, "When?", (Answer("1999", CONTEXT.index("1999")), Answer("in 1999", 16))),
        Question("b", 0, "What\u2028?", (Answer("Cafe\u0301 \U0001d54f", 0),)),
        Question("c", 1, "Who?", ()),
    ],
)


def rows() -> list[dict[str, Any]]:
    """As the hub has them."""
    found = []
    for question in EXPECTED.questions:
        answers = {
            "text": [answer.text for answer in question.answers],
            "answer_start": [answer.start for answer in question.answers],
        }
        row = {"id": question.id, "title": "T", "context": EXPECTED.passages[question.passage]}
        found.append({**row, "question": question.question, "answers": answers})
    return found


def official(version: str = "2.0") -> dict[str, Any]:
    paragraphs = []
    for number, context in enumerate(EXPECTED.passages):
        questions = []
        for question in EXPECTED.questions:
            if question.passage == number:
                answers = [{"text": text, "answer_start": start} for text, start in question.answers]
                questions.append({"id": question.id, "question": question.question, "answers": answers})
                if version != "1.1":
                    plausible = (
                        {"plausible_answers": [{"text": "x", "answer_start": 0}]} if not answers else {}
                    )
                    questions[-1] |= {"is_impossible": not answers, **plausible}
        paragraphs.append({"context": context, "qas": questions})
    return {
        "version": version,
        "data": [{"title": "T", "paragraphs": [paragraph]} for paragraph in paragraphs],
    }


def lines(records: list[dict[str, Any]], **options: Any) -> str:
    return "".join(json.dumps(row, **options) + "\n" for row in records)


def write_layout(folder: Path, layout: str) -> None:
    folder.mkdir()
    if layout == "parquet":
        write_hub_split(folder / "squad_v2", "validation", rows(), files=2)
    elif layout == "jsonl":
        (folder / "validation.jsonl").write_text(
            "\ufeff" + lines(rows(), ensure_ascii=False), encoding="utf-8"
        )
    elif layout == "gzip":
        (folder / "dev-v2.0.json.gz").write_bytes(gzip.compress(json.dumps(official()).encode()))
    else:
        content = {"official": official(), "list": rows(), "data": {"data": rows()}}[layout]
        (folder / "dev-v2.0.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("layout", ["official", "gzip", "list", "data", "jsonl", "parquet"])
def test_every_layout_says_the_same(tmp_path: Path, layout: str) -> None:
    write_layout(tmp_path / "data", layout)
    (tmp_path / "data" / "._dev-v2.0.json").write_bytes(b"\x00 of a Mac")
    (tmp_path / "data" / "README.md").write_text("notes")
    (tmp_path / "data" / "dev-v1.1.json").write_text("{another version is not looked at")
    assert read_split(tmp_path / "data", "dev", "2.0") == EXPECTED


def broken(change: Any) -> dict[str, Any]:
    content = copy.deepcopy(official())
    change(content["data"][0]["paragraphs"][0])
    return content


def _first(**values: Any) -> Any:
    return lambda paragraph: paragraph["qas"][0].update(values)


PLACE = r"article 1, paragraph 1, question 1"
HOSTILE: dict[str, tuple[Any, str]] = {
    "empty context": (lambda p: p.update(context=" \n"), PLACE + ': "context": is empty'),
    "no context": (lambda p: p.pop("context"), PLACE + ': "context": must be a string'),
    "half a pair": (lambda p: p.update(context="a\ud83d"), '"context": half a surrogate pair at character 1'),
    "half a pair asked": (_first(question="\udc00?"), '"question": half a surrogate pair'),
    "half a pair answered": (
        _first(answers=[{"text": "\ud800", "answer_start": 0}]),
        r'"answers"\[0\]: "text": half a surrogate pair',
    ),
    "no id": (_first(id=None), '"id": must be a string'),
    "blank id": (_first(id=" "), '"id": is empty'),
    "an id twice": (_first(id="b"), "question 2: the \"id\" 'b' stands twice, first at .*question 1"),
    "no answers": (lambda p: p["qas"][0].pop("answers"), '"answers": must be a list'),
    "answers are texts": (_first(answers=["1999"]), r'"answers"\[0\]: must be \{"text", "answer_start"\}'),
    "columns of two lengths": (
        _first(answers={"text": ["a"], "answer_start": []}),
        '"answers": must be a list',
    ),
    "no place": (_first(answers=[{"text": "1999"}]), r'"answer_start": must be a number from 0, is None'),
    "a place before": (_first(answers=[{"text": "1999", "answer_start": -1}]), "from 0, is -1"),
    "a place that is none": (_first(answers=[{"text": "1999", "answer_start": True}]), "from 0, is True"),
    "a place that is a text": (_first(answers=[{"text": "1999", "answer_start": "4"}]), "from 0, is '4'"),
    "unanswerable with answers": (
        _first(is_impossible=True),
        '"is_impossible": is true, but there are answers',
    ),
    "answerable without": (_first(answers=[]), '"is_impossible": is false, but there are no answers'),
    "impossible by a word": (_first(is_impossible="no"), '"is_impossible": must be true or false'),
    "questions are none": (lambda p: p.update(qas={}), 'paragraph 1: must be an object with .* a list "qas"'),
    "a question is none": (lambda p: p.update(qas=["Who?"]), PLACE + ": must be an object"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, case: str) -> None:
    change, message = HOSTILE[case]
    (tmp_path / "dev-v2.0.json").write_text(json.dumps(broken(change)))
    with pytest.raises(UserError, match=rf"dev-v2\.0\.json, (.*: )?.*{message}"):
        read_split(tmp_path, "dev", "2.0")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dev-v2.0.json", "{", r"dev-v2\.0\.json: not JSON"),
        ("dev-v2.0.json", "[" * 5000, "nested more than"),
        ("dev-v2.0.json", '{"data": {}}', 'must be an object with a list "data"'),
        ("dev-v2.0.json", "7", 'must be an object with a list "data"'),
        ("dev-v2.0.json", '{"data": []}', "holds no questions"),
        ("dev-v2.0.json", '{"data": [{"paragraphs": {}}]}', 'article 1: "paragraphs": must be a list'),
        ("dev-v2.0.json", '{"data": [3]}', 'record 1: "context": must be a string'),
        ("dev.jsonl", '{"id": "a"}\n', r'dev\.jsonl, line 1: "context": must be a string'),
        ("dev.jsonl", "[]\n", r"dev\.jsonl, line 1: must be a JSON object"),
        ("dev-v2.0.json.gz", "no gzip", r"dev-v2\.0\.json\.gz: cut off or corrupt"),
        ("dev.parquet", "no table", r"dev\.parquet"),
        ("validation-00000-of-00002.jsonl", "", "one of 2 parts, of which 1 are here"),
        ("test-v2.0.json", "{}", r"holds no file of dev; it must be called dev-v2\.0\.json"),
        ("dev-v1.1.json", "{}", r"holds no file of dev; it must be called dev-v2\.0\.json"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_split(tmp_path, "dev", "2.0")


def test_no_folder_and_a_split_twice_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: holds no file of train"):
        read_split(tmp_path / "nowhere", "train", "1.1")
    for name in ("dev.jsonl", "validation.parquet"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"more than once: .*dev\.jsonl, .*validation\.parquet"):
        read_split(tmp_path, "dev", "1.1")


def test_all_that_is_wrong_is_said_at_once_and_the_first_version_has_answers(tmp_path: Path) -> None:
    many = [row | {"id": "", "question": 3} for row in rows() * 9]
    (tmp_path / "dev.jsonl").write_text(lines(many))
    with pytest.raises(UserError) as error:
        read_split(tmp_path, "dev", "2.0")
    assert str(error.value).count("line") == 10 and str(error.value).endswith("… and 44 more")
    (tmp_path / "dev.jsonl").write_text(lines(rows()))
    with pytest.raises(UserError, match=r'line 3: "answers": none, .* SQuAD 2\.0 is the task squad_v2'):
        read_split(tmp_path, "dev", "1.1")


def test_answers_elsewhere_than_they_say_are_kept_apart_and_too_many_are_refused(tmp_path: Path) -> None:
    first = rows()[0]
    moved = {"text": ["1999"], "answer_start": [first["answers"]["answer_start"][0] + 1]}
    beyond = {"text": ["1999"], "answer_start": [10_000]}
    (tmp_path / "train.jsonl").write_text(
        lines([first, first | {"id": "x", "answers": moved}, first | {"id": "y", "answers": beyond}])
    )
    split = read_split(tmp_path, "train", "1.1")
    assert [question.id for question in split.questions] == ["a", "x", "y"]
    assert split.misplaced == [
        f"train.jsonl, line 2: at character {moved['answer_start'][0]} stands '999.', not '1999'",
        "train.jsonl, line 3: at character 10000 stands '', not '1999'",
    ]
    # In bytes, as some tools count, every answer is elsewhere.
    start = len(CONTEXT[: CONTEXT.index("1999")].encode())
    shifted = [
        first | {"id": str(n), "answers": {"text": ["1999"], "answer_start": [start]}} for n in range(101)
    ]
    (tmp_path / "train.jsonl").write_text(lines(shifted[:100]))
    assert len(read_split(tmp_path, "train", "1.1").misplaced) == 100
    (tmp_path / "train.jsonl").write_text(lines(shifted))
    with pytest.raises(UserError, match=r": 101 of 101 answers do not stand where they say, more than 100"):
        read_split(tmp_path, "train", "1.1")


def test_a_passage_of_100_000_characters_is_one(tmp_path: Path) -> None:
    context = "word " * 20_000 + "end"
    row = {
        "id": "a",
        "context": context,
        "question": "?",
        "answers": {"text": ["end"], "answer_start": [100_000]},
    }
    (tmp_path / "dev.jsonl").write_text(lines([row]))
    split = read_split(tmp_path, "dev", "1.1")
    assert split.passages == [context] and not split.misplaced


@pytest.mark.parametrize(("name", "version"), [("squad", "1.1"), ("squad_v2", "2.0")])
def test_the_hubs_rows_become_the_authors_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str
) -> None:
    stay_offline(monkeypatch, tmp_path / "cache")
    found = rows()[: 2 if version == "1.1" else 3]
    for split in ("train", "validation"):
        write_hub_split(tmp_path / "hub", split, found)
    summary = fetch_benchmark(name, tmp_path / "out", folder=tmp_path / "hub", check_counts=False)
    assert summary["train"] == summary["dev"] == {"questions": len(found)}
    folder = tmp_path / "out" / BENCHMARKS[name].file
    assert read_split(folder, "train", version).questions == EXPECTED.questions[: len(found)]
    content = json.loads((folder / f"dev-v{version}.json").read_text())
    expected = official(version)
    paragraphs = [article["paragraphs"][0] for article in expected["data"]][: len(found) - 1]
    for paragraph in paragraphs:
        for question in paragraph["qas"]:
            question.pop("plausible_answers", None)  # which the hub has not
    assert content == {"version": version, "data": [{"title": "T", "paragraphs": paragraphs}]}
    with pytest.raises(SourceError, match=r"expected \{'train': \{'questions': (87599|130319)\}, 'dev'"):
        fetch_benchmark(name, tmp_path / "checked", folder=tmp_path / "hub")
    what = identified(BENCHMARKS[name], folder, "0")
    assert not what["official"] and what["counts"]["dev"] == {"questions": len(found)}


def test_passages_of_what_models_are_tested_on_are_protected(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        content = official()
        content["data"][0]["paragraphs"][0]["context"] = f"of {split}"
        (tmp_path / f"{split}-v2.0.json").write_text(json.dumps(content))
    assert [text.text for text in benchmark_texts(tmp_path, "squad_v2")] == ["of dev", OTHER]
    write_hub_split(tmp_path / "hub", "validation", rows())
    (tmp_path / "hub" / "rows.json").write_text(json.dumps(rows()))
    texts = [text.text for text in benchmark_texts(tmp_path / "hub", "squad_v2")]
    assert texts == [CONTEXT, CONTEXT, OTHER] * 2
