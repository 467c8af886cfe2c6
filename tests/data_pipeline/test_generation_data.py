"""Summaries and dialogues as they lie on disks, whole and damaged; ROUGE, BLEU and sentences by their definitions."""

import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import UserError
from data_pipeline.benchmarks import BENCHMARKS, dialogues, summaries
from data_pipeline.benchmarks.text_metrics import (
    another_of,
    bleu,
    distinct,
    rouge,
    sentences,
    standard_errors,
)

XSUM, CNN = summaries.TASKS["xsum"], summaries.TASKS["cnn_dailymail"]
GOOD = {"document": "A b.", "summary": "C d.", "id": "1"}


def _lines(path: Path, *values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path.parent


def test_both_layouts_give_the_same_pairs(tmp_path: Path) -> None:
    records = [
        {"article": f"Story {n}.\u2028More \x85 of it.", "highlights": f"It is {n}.\nSo.", "id": f"i{n}"}
        for n in range(5)
    ]
    _lines(tmp_path / "lines" / "test.jsonl", *records)
    (tmp_path / "lines" / "._test.jsonl").write_bytes(b"\x00\x05")
    marked = tmp_path / "marked" / "test.jsonl"
    marked.parent.mkdir()
    marked.write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join(json.dumps(r, ensure_ascii=False) for r in records).encode()
    )
    hub = tmp_path / "hub" / "3.0.0"
    hub.mkdir(parents=True)
    for part, chosen in enumerate((records[:2], records[2:])):
        pq.write_table(pa.Table.from_pylist(chosen), hub / f"test-{part:05}-of-00002.parquet")
    expected = [summaries.Row(r["id"], r["article"], r["highlights"]) for r in records]
    for name in ("lines", "marked", "hub"):
        assert summaries.read_split(tmp_path / name, CNN, "test").rows == expected
    texts = [text.text for text in BENCHMARKS["cnn_dailymail"].row_texts(records[0])]  # type: ignore[misc]
    assert texts == [records[0]["article"], records[0]["highlights"]]


def test_without_arrow_a_table_is_told_and_lines_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({name: [value] for name, value in GOOD.items()}), tmp_path / "test.parquet")
    monkeypatch.delitem(sys.modules, "data_pipeline.sources.formats", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"test.parquet: reading it needs the package pyarrow: pip install"):
        summaries.read_split(tmp_path, XSUM, "test")
    (tmp_path / "test.parquet").unlink()
    assert len(summaries.read_split(_lines(tmp_path / "test.jsonl", GOOD), XSUM, "test").rows) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"document": "x"}, 'test.jsonl, line 2: must be an object with a string "summary"'),
        ({"document": ["x"], "summary": "y"}, 'line 2: must be an object with a string "document"'),
        ({"document": "x", "summary": None}, 'line 2: must be an object with a string "summary"'),
        ({"document": "x", "summary": "y", "id": {}}, 'line 2: "id" must be a string or a number, is {}'),
        ({"document": "x \ud800", "summary": "y"}, "line 2: .*half a surrogate pair at character 2"),
        (["x"], "line 2: must be a JSON object"),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, bad: Any, message: str) -> None:
    folder = _lines(tmp_path / "xsum" / "test.jsonl", GOOD, bad)
    with pytest.raises(UserError, match=message):
        summaries.read_split(folder, XSUM, "test")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"document": " \n", "summary": "y", "id": 2}, "an empty article"),
        ({"document": "x", "summary": "\u2003", "id": 2}, "an empty summary"),
        ({"document": "x", "summary": "y", "id": "1"}, "an id that was there before"),
        ({"document": "x", "summary": "y" * 10_001}, "a summary of more than 10,000 characters"),
    ],
)
def test_what_cannot_be_scored_is_left_out_and_told(tmp_path: Path, bad: Any, reason: str) -> None:
    long = {"document": "word " * 20_000, "summary": "Long."}
    folder = _lines(tmp_path / "xsum" / "test.jsonl", GOOD, bad, long)
    split = summaries.read_split(folder, XSUM, "test")
    assert [row.summary for row in split.rows] == ["C d.", "Long."]
    assert split.report() == {reason: {"rows": 1, "first": ["test.jsonl, line 2"]}}


def test_a_split_that_is_not_there_or_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no test\.jsonl"):
        summaries.read_split(tmp_path, XSUM, "test")
    folder = _lines(tmp_path / "test.jsonl", {"document": "", "summary": ""})
    with pytest.raises(
        UserError, match=r"holds no row that can be used \(test.jsonl, line 1: an empty article\)"
    ):
        summaries.read_split(folder, XSUM, "test")
    _lines(tmp_path / "test.jsonl", *[{**GOOD, "id": n} for n in range(50)], *[{**GOOD, "id": 1}] * 101)
    with pytest.raises(
        UserError, match=r"101 of 151 rows cannot be used, the first: test\.jsonl, line 51: an id"
    ):
        summaries.read_split(folder, XSUM, "test")
    (tmp_path / "test.jsonl").write_text('{"document": "x", "summ')
    with pytest.raises(UserError, match=r"test.jsonl, line 1: not JSON"):
        summaries.read_split(folder, XSUM, "test")


def test_a_test_set_alone_is_counted(tmp_path: Path) -> None:
    """Zero-shot evaluation needs no other."""
    folder = _lines(tmp_path / "test.jsonl", GOOD, {**GOOD, "id": 2, "summary": ""})
    origin = BENCHMARKS["xsum"].origin
    assert origin and origin.count(folder) == {"test": {"articles": 2}}


def test_dialogues_of_every_layout(tmp_path: Path) -> None:
    turns = ["Hi\u2028there ?", " How are you ? ", "Fine ."]
    _lines(
        tmp_path / "own" / "test.jsonl",
        {"turns": turns},
        {"turns": ["a", "b"], "persona": ["I like cats."], "id": "p"},
        {"turns": []}, {"turns": ["alone"]}, {"turns": ["x", " "]}, {"turns": ["x", "y"], "id": "p"},
    )  # fmt: skip
    split = dialogues.read_split(tmp_path / "own", "test")
    assert split.rows == [
        dialogues.Dialogue("0", ("Hi\u2028there ?", "How are you ?", "Fine .")),
        dialogues.Dialogue("p", ("a", "b"), ("I like cats.",)),
    ]
    assert split.report() == {
        "no turn that answers another": {"rows": 2, "first": ["test.jsonl, line 3", "test.jsonl, line 4"]},
        "an empty turn": {"rows": 1, "first": ["test.jsonl, line 5"]},
        "an id that was there before": {"rows": 1, "first": ["test.jsonl, line 6"]},
    }
    (tmp_path / "hub" / "data").mkdir(parents=True)
    table = pa.Table.from_pylist([{"dialog": turns, "act": [1, 2, 3]}])
    pq.write_table(table, tmp_path / "hub" / "data" / "test-00000-of-00001.parquet")
    assert dialogues.read_split(tmp_path / "hub", "test").rows == split.rows[:1]
    (text,) = BENCHMARKS["dailydialog"].row_texts({"dialog": turns})  # type: ignore[misc]
    assert text.text == "Hi\u2028there ?\nHow are you ?\nFine ."


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"text": "x"}, 'line 2: must be an object with a list of strings "turns"'),
        ({"turns": "x"}, 'line 2: must be an object with a list of strings "turns"'),
        ({"turns": ["x", 3]}, r'line 2: "turns"\[1\] must be a string, is 3'),
        ({"turns": ["x", "a\udfff"]}, r'line 2: "turns"\[1\]: half a surrogate pair at character 1'),
        ({"turns": ["x", "y"], "persona": "z"}, 'line 2: must be an object with a list of strings "persona"'),
    ],
)
def test_a_row_that_is_no_dialogue_is_named(tmp_path: Path, bad: Any, message: str) -> None:
    folder = _lines(tmp_path / "test.jsonl", {"turns": ["a", "b"]}, bad)
    with pytest.raises(UserError, match=message):
        dialogues.read_split(folder, "test")


def test_sentences() -> None:
    text = 'Mr. Ng met J. R. Tolkien at St. Ives.  "Well!" he said. It cost 3.5 pounds? No. 7 won.\nNo end\n\n(So it is.) ...'
    assert sentences(text) == [
        "Mr. Ng met J. R. Tolkien at St. Ives.", '"Well!"', "he said.", "It cost 3.5 pounds?", "No. 7 won.", "No end",
        "(So it is.)", "...",
    ]  # fmt: skip
    assert sentences(" \n ") == []


def test_rouge_is_its_definition() -> None:
    reference, text = "the cat sat on the mat", "the cat ran"
    # Words: 2 of 3 and 2 of 6. Pairs: 1 of 2 and 1 of 5. The longest common subsequence: 2 words.
    assert rouge(text, reference) == pytest.approx([4 / 9, 2 / 7, 4 / 9, 4 / 9])
    # Over lines: the union of what lines have in common, 4 of 4 and 4 of 4; in one line only 2 in order.
    assert rouge("x y\na b", "a b\nx y")[2:] == pytest.approx([0.5, 1.0])
    assert rouge("", "a") == rouge("!", "?") == [0.0] * 4
    scores = np.array([[0.0, 0, 0, 0], [1.0, 1, 1, 1], [1.0, 1, 1, 1]])
    assert standard_errors(scores)["rouge1"] == pytest.approx(1 / 3)
    assert standard_errors(scores[:1])["rouge1"] is None


def test_bleu_is_its_definition() -> None:
    texts = ["the cat sat on the mat", "a dog ran to the barn now", "we met an owl here"]
    references = ["the cat sat on a mat", "a dog ran to the barn", "we met an old owl in here"]
    matched, total = [0] * 4, [0] * 4
    for text, reference in zip(texts, references, strict=True):
        first, second = text.split(), reference.split()
        for n in range(4):
            ours, theirs = (
                Counter(tuple(words[i : i + n + 1]) for i in range(len(words) - n))
                for words in (first, second)
            )
            matched[n] += sum((ours & theirs).values())
            total[n] += sum(ours.values())
    length, wanted = (sum(len(text.split()) for text in part) for part in (texts, references))
    brevity = min(1.0, math.exp(1 - wanted / length))
    expected = 100 * brevity * math.exp(sum(math.log(m / t) for m, t in zip(matched, total, strict=True)) / 4)
    found = bleu(texts, references)
    assert found["bleu"] == pytest.approx(expected)
    assert "tok:13a" in found["bleu_signature"] and "version:" in found["bleu_signature"]


def test_distinct_words_and_another_one() -> None:
    assert distinct(["a b a", "b c"], 1) == 3 / 5
    assert distinct(["a b a", "b c"], 2) == 3 / 3
    assert distinct(["a b a b", "c"], 2) == 2 / 3
    assert distinct(["a", ""], 2) is None
    for count in (2, 3, 50):
        others = another_of(count)
        assert sorted(others) == list(range(count))
        assert all(other != own for own, other in enumerate(others))
