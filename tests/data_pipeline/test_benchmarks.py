"""Benchmarks from hub rows: back in the authors' formats, with the counts of the published ones."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from corpus_files import real_data
from hub_layout import stay_offline, write_hub_split
from unreliable_server import Remote, serve

from core.errors import UserError
from data_pipeline.benchmarks import BENCHMARKS, wikitext103
from data_pipeline.benchmarks.identity import identified
from data_pipeline.benchmarks.race import read_split, write_rows
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.sources import presets
from data_pipeline.sources.benchmarks import fetch_benchmark, pin_benchmark
from data_pipeline.sources.download import DownloadError
from data_pipeline.sources.records import SourceError

# As the hub's rows are: content with its newline, blank lines as nothing.
WIKITEXT = [
    "",
    " = Robert Boulter = \n",
    "",
    " Robert Boulter is an <unk> actor . \n",
    " He @-@ ran . \n",
    "",
]
ORIGINAL = " \n = Robert Boulter = \n \n Robert Boulter is an <unk> actor . \n He @-@ ran . \n \n"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    stay_offline(monkeypatch, tmp_path_factory.getbasetemp() / "hub-cache")


def hub_rows_of(original: str) -> list[dict[str, str]]:
    lines = original.split("\n")[:-1]
    return [{"text": "" if line == " " else line + "\n"} for line in lines]


def test_wikitext_gets_its_blank_lines_back(tmp_path: Path) -> None:
    write_hub_split(tmp_path / "hub" / "wikitext-103-v1", "test", [{"text": row} for row in WIKITEXT])
    summary = fetch_benchmark("wikitext103", tmp_path / "out", folder=tmp_path / "hub", check_counts=False)
    assert (tmp_path / "out" / BENCHMARKS["wikitext103"].file).read_bytes() == ORIGINAL.encode()
    assert summary["words"] == len(ORIGINAL.strip().split(" "))
    assert summary["origin"]["dataset"] == "hub"
    with pytest.raises(
        SourceError, match=r"\{'words': \d+.*\}, expected \{'words': 245566\}: not the published"
    ):
        fetch_benchmark("wikitext103", tmp_path / "checked", folder=tmp_path / "hub")


def test_the_real_validation_set_survives_the_way_through_rows(tmp_path: Path) -> None:
    original = real_data("wikitext103.valid.tokens")
    rows = hub_rows_of(original.read_text(encoding="utf-8"))
    target = tmp_path / "wiki.valid.tokens"
    wikitext103.write_rows(lambda split: rows, target)
    assert wikitext103.count(target) == {"words": 217_642}
    assert target.read_bytes() == original.read_bytes()


def race_row(name: str, article: str, question: str, answer: str) -> dict[str, Any]:
    options = [f"{question} {letter}" for letter in "abcd"]
    return {
        "example_id": name,
        "article": article,
        "question": question,
        "options": options,
        "answer": answer,
    }


def test_race_becomes_the_original_tree(tmp_path: Path) -> None:
    rows = [
        race_row("high12.txt", "An article.", "Why?", "A"),
        race_row("high3.txt", "Another ü.", "How _ ?", "D"),
        race_row("high12.txt", "An article.", "When?", "B"),
        race_row("middle3.txt", "Short.", "Who?", "C"),
    ]
    for split in ("train", "validation", "test"):
        write_hub_split(tmp_path / "hub" / "all", split, rows)
    summary = fetch_benchmark("race", tmp_path / "out", folder=tmp_path / "hub", check_counts=False)
    assert summary["dev/high"] == {"passages": 2, "questions": 3}
    split = read_split(tmp_path / "out" / "RACE", "dev")
    assert split.passages == ["Short.", "An article.", "Another ü."]  # middle first, then by file name
    assert [(question.question, question.answer) for question in split.questions] == [
        ("Who?", 2),
        ("Why?", 0),
        ("When?", 1),
        ("How _ ?", 3),
    ]
    path = tmp_path / "out" / "RACE" / "test" / "high" / "12.txt"
    assert json.loads(path.read_text())["id"] == "high12.txt"
    with pytest.raises(SourceError, match=r"'train/high': {'passages': 18728, 'questions': 62445}"):
        fetch_benchmark("race", tmp_path / "checked", folder=tmp_path / "hub")


def test_rows_that_are_not_race_are_named(tmp_path: Path) -> None:
    def write(*rows: dict[str, Any]) -> None:
        write_rows(lambda split: rows if split == "validation" else (), tmp_path)

    with pytest.raises(UserError, match=r"dev: 'college1\.txt' is no file name of RACE"):
        write(race_row("college1.txt", "A", "Q?", "A"))
    with pytest.raises(UserError, match=r"dev: two different articles are called 'high1\.txt'"):
        write(*(race_row("high1.txt", article, "Q?", "A") for article in ("one", "two")))


def test_lambada_is_the_published_file_or_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"some words that end in number {n}"} for n in range(5153)]
    write_hub_split(tmp_path / "rows", "test", rows)
    assert fetch_benchmark("lambada", tmp_path / "a", folder=tmp_path / "rows")["passages"] == 5153
    lines = (tmp_path / "a" / "lambada_test.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    published = tmp_path / "copy" / "data" / "lambada_test.jsonl"
    published.parent.mkdir(parents=True)
    published.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SourceError, match=r"lambada_test\.jsonl: got sha256 .*, expected 4aa8d02c"):
        fetch_benchmark("lambada", tmp_path / "b", folder=tmp_path / "copy")
    fetch_benchmark("lambada", tmp_path / "b", folder=tmp_path / "copy", check_counts=False)
    assert (tmp_path / "b" / "lambada_test.jsonl").read_bytes() == published.read_bytes()


def test_lambada_is_downloaded_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b'{"text": "the last word"}\n' * 5153
    digest = hashlib.sha256(content).hexdigest()
    lock = LockFile(tmp_path / "lock.json")
    lambada = BENCHMARKS["lambada"]

    def publish(**changes: str) -> None:
        origin = dataclasses.replace(lambada.origin, **changes)
        monkeypatch.setitem(BENCHMARKS._records, "lambada", dataclasses.replace(lambada, origin=origin))

    with serve(Remote(content, troubles=["break"]), "lambada_test.jsonl") as remote:
        publish(url=remote.url)
        with pytest.raises(DownloadError, match=f"got sha256 {digest}, expected 4aa8d02c"):
            fetch_benchmark("lambada", tmp_path / "out", lock=lock)
        publish(url=remote.url, sha256=digest)
        summary = fetch_benchmark("lambada", tmp_path / "out", lock=lock)
        pins = pin_benchmark("lambada", folder=None, revision="", lock=lock, asks=False)
    assert summary["passages"] == 5153
    assert summary["pins"] == pins == {remote.url: {"sha256": digest}}
    assert lock.entries() == {}  # the record says what it is


def test_records_and_presets_say_what_a_report_must() -> None:
    table = presets.CORPORA
    assert set(table) == {"wikipedia", "openwebtext", "cc-stories", "realnews", "bookscorpus"}
    assert all(preset.licence for preset in table.values())
    origins = {name: BENCHMARKS[name].origin for name in BENCHMARKS}
    assert [name for name, origin in origins.items() if not origin] == ["text"]  # anybody's own
    assert all(origin.notes()["licence"] for origin in origins.values() if origin)
    for name in ("wikipedia", "cc-stories", "realnews", "bookscorpus"):
        assert table[name].stand_in
    assert table["openwebtext"].expected_rows == 8_013_769
    assert table["cc-stories"].join_lines
    assert table["bookscorpus"].families == ("bert",)


def test_wikitexts_parts_are_told_by_their_words(tmp_path: Path) -> None:
    """245,566 and 217,642 are the published counts; the hub's rows joined without their blank lines give 244,101."""
    found = {}
    for words in (245_566, 217_642, 244_101):
        (tmp_path / "wiki").write_text(" ".join(["w"] * words) + "\n")
        found[words] = identified(BENCHMARKS["wikitext103"], tmp_path / "wiki", "00")
    assert {words: (what["description"], what["official"]) for words, what in found.items()} == {
        245_566: ("the official WikiText-103 test set", True),
        217_642: ("the official WikiText-103 validation set", False),
        244_101: ("another file, 244,101 words", False),
    }
    assert found[217_642]["split"] == "validation set" and found[217_642]["file"] == "wiki"
    real = identified(BENCHMARKS["wikitext103"], real_data("wikitext103.valid.tokens"), "00")
    assert real["description"] == "the official WikiText-103 validation set" and not real["official"]


def test_lambada_is_told_by_its_hash_or_its_number_of_passages(tmp_path: Path) -> None:
    published = BENCHMARKS["lambada"].origin.sha256
    rows = ['{"text": "the last word"}\n'] * 5153
    for count, digest, expected in (
        (5153, published, ("the official LAMBADA test set", True, "sha256")),
        (
            5153,
            "00",
            (
                "the official LAMBADA test set by its count (5,153 passages), in another spelling",
                True,
                "counts",
            ),
        ),
        (500, "00", ("another file, 500 passages", False, None)),
    ):
        (tmp_path / "l.jsonl").write_text("".join(rows[:count]) + "\n")  # an empty line is no passage
        what = identified(BENCHMARKS["lambada"], tmp_path / "l.jsonl", digest)
        assert (what["description"], what["official"], what["recognized_by"]) == expected


def test_race_is_told_by_all_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        race_row("high12.txt", "An article.", "Why?", "A"),
        race_row("middle3.txt", "Short.", "Who?", "C"),
    ]
    write_rows(lambda split: rows, tmp_path / "RACE")
    race = BENCHMARKS["race"]
    what = identified(race, tmp_path / "RACE", "00")
    assert what["description"] == "the test part of another folder, 2 passages, 2 questions"
    assert not what["official"]
    published = dataclasses.replace(race.origin, counts=race.origin.count(tmp_path / "RACE"))
    what = identified(dataclasses.replace(race, origin=published), tmp_path / "RACE", "00")
    assert what["description"] == "the official RACE test set" and what["official"]


def test_a_users_own_benchmark_is_told_by_its_size(tmp_path: Path) -> None:
    own = dataclasses.replace(BENCHMARKS["race"], origin=None)
    (tmp_path / "a").write_text("12345")
    assert identified(own, tmp_path, "ab")["description"] == "another folder, 5 bytes"
    assert identified(own, tmp_path / "a", "ab") == {
        "file": "a", "sha256": "ab", "counts": {}, "official": False, "recognized_by": None, "split": None,
        "description": "another file, 5 bytes",
    }  # fmt: skip


def test_a_benchmark_from_nowhere_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = dataclasses.replace(BENCHMARKS["race"], title="My questions", origin=None)
    monkeypatch.setitem(BENCHMARKS._records, "race", own)
    with pytest.raises(SourceError, match="My questions cannot be fetched; give the path of its files"):
        fetch_benchmark("race", tmp_path)


MNLI_ROWS = [
    {"premise": "A cat\tsat.", "hypothesis": 'It "sat".', "label": 0, "idx": 0},
    {"premise": "Café\nclosed.", "hypothesis": "Open.", "label": 2, "idx": 1},
]


def test_glue_from_the_hub_has_its_authors_columns(tmp_path: Path) -> None:
    """Premise and hypothesis in columns 8 and 9 from 0, the label last: what other readers of MNLI rely on."""
    folder, dev = tmp_path / "hub", ("validation_matched", "validation_mismatched")
    for split in ("train", *dev, "test_matched", "test_mismatched"):
        unlabelled = [row | {"label": -1} for row in MNLI_ROWS]
        write_hub_split(folder / "mnli", split, unlabelled if split.startswith("test") else MNLI_ROWS)
    with pytest.raises(
        SourceError, match=r"Bad split: validation_matched.*copy the dataset's README\.md into"
    ):
        fetch_benchmark("mnli", tmp_path / "out", folder=folder, check_counts=False)
    splits = [
        f"  - {{split: {s}, path: mnli/{s}-*}}\n" for s in ("train", *dev, "test_matched", "test_mismatched")
    ]
    config = "---\nconfigs:\n- config_name: mnli\n  data_files:\n" + "".join(splits) + "---\n"
    (folder / "README.md").write_text(config)
    summary = fetch_benchmark("mnli", tmp_path / "out", folder=folder, check_counts=False)
    assert summary["dev_mismatched"] == {"examples": 2}
    lines = (tmp_path / "out" / "MNLI" / "dev_matched.tsv").read_text(encoding="utf-8").split("\n")
    rows = [line.split("\t") for line in lines]
    assert [(len(row), row[8:10], row[-1]) for row in rows[:3]] == [
        (12, ["sentence1", "sentence2"], "gold_label"),
        (12, ["A cat sat.", 'It "sat".'], "entailment"),
        (12, ["Café closed.", "Open."], "contradiction"),
    ]
    assert lines[3:] == [""]
    test = (tmp_path / "out" / "MNLI" / "test_mismatched.tsv").read_text(encoding="utf-8").split("\n")
    assert test[1].split("\t")[8:] == ["A cat sat.", 'It "sat".']
    with pytest.raises(
        SourceError, match=r"'train': {'examples': 2}.*expected {'train': {'examples': 392702}"
    ):
        fetch_benchmark("mnli", tmp_path / "checked", folder=folder)


def test_a_row_of_glue_without_label_or_text_is_named(tmp_path: Path) -> None:
    qqp = BENCHMARKS["qqp"].origin
    for broken, message in (
        ({"label": -1}, '"label" must be a number from 0 to 1, is -1'),
        ({"question1": None}, 'must be an object with a string "question1"'),
        ({"question2": "half \ud800"}, "surrogate"),
    ):
        row = {"question1": "a?", "question2": "b?", "label": 1, "idx": 0} | broken
        with pytest.raises(UserError, match=rf"validation, row 0: .*{message}"):
            qqp.write(lambda split: [row], tmp_path)  # noqa: B023


def test_every_part_of_the_paper_can_be_fetched_and_says_what_it_is() -> None:
    """Facts of the data sets: names, configurations, counts. The tables' numbers are about dev where test is not public."""
    found = {name: BENCHMARKS[name].origin for name in BENCHMARKS}
    expected = {
        "mnli": ("nyu-mll/glue", "mnli", "dev", [392_702, 9815, 9832]),
        "qqp": ("nyu-mll/glue", "qqp", "dev", [363_846, 40_430]),
        "squad": ("rajpurkar/squad", "", "dev", [87_599, 10_570]),
        "squad_v2": ("rajpurkar/squad_v2", "", "dev", [130_319, 11_873]),
        "cnn_dailymail": ("abisee/cnn_dailymail", "3.0.0", "test", [287_113, 13_368, 11_490]),
        "xsum": ("EdinburghNLP/xsum", "", "test", [204_045, 11_332, 11_334]),
        "dailydialog": ("li2017dailydialog/daily_dialog", "", "test", [11_118, 1000, 1000]),
    }
    for name, facts in expected.items():
        origin = found[name]
        counts = [count for part in origin.counts.values() for count in part.values()]
        assert (origin.dataset, origin.configuration, origin.measured, counts) == facts
    of_test = {name for name, origin in found.items() if origin and origin.measured == "test"}
    assert of_test >= {"race", "lambada", "wikitext103"}


def test_summaries_and_dialogues_become_json_lines(tmp_path: Path) -> None:
    rows = {
        "cnn_dailymail": {"article": "A\u2028b.", "highlights": "One.\nTwo.", "id": "x1"},
        "dailydialog": {"dialog": [" Hello ? ", "Bye ."], "act": [1, 2], "emotion": [0, 0]},
    }
    for name, configuration in (("cnn_dailymail", "3.0.0"), ("dailydialog", "")):
        for split in ("train", "validation", "test"):
            write_hub_split(tmp_path / name / configuration, split, [rows[name]])
        fetch_benchmark(name, tmp_path / "out", folder=tmp_path / name, check_counts=False)
    lines = (tmp_path / "out" / "cnn_dailymail" / "validation.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [rows["cnn_dailymail"]]
    lines = (tmp_path / "out" / "dailydialog" / "test.jsonl").read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[0]) == {"turns": ["Hello ?", "Bye ."]}
    with pytest.raises(SourceError, match=r"holds .*'train': {'dialogues': 1}.*expected .*11118"):
        fetch_benchmark("dailydialog", tmp_path / "checked", folder=tmp_path / "dailydialog")


def test_the_development_set_is_what_some_numbers_are_about(tmp_path: Path) -> None:
    qqp = BENCHMARKS["qqp"]
    rows = [{"question1": "a?", "question2": "b?", "label": 1}]
    qqp.origin.write(lambda split: rows, tmp_path)
    what = identified(qqp, tmp_path, "00")
    assert what["description"] == "the dev part of another folder, 1 examples" and not what["official"]
    own = dataclasses.replace(qqp, origin=dataclasses.replace(qqp.origin, counts=what["counts"]))
    what = identified(own, tmp_path, "00")
    assert what["description"] == "the official QQP development set" and what["official"]
