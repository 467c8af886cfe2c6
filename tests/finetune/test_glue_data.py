"""GLUE's files: GLUE's own and the hub's, what is left out and what is refused, and the examples that become of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hub_layout import write_hub_split

from core.errors import UserError
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.benchmarks.glue import NO_LABEL, Row, read_split, read_splits
from data_pipeline.benchmarks.glue_origins import write_rows
from data_pipeline.benchmarks.glue_tasks import TASKS
from data_pipeline.benchmarks.splits import Split
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from finetune import metrics
from finetune.glue import encode_split, submission
from finetune.pairs import cut_pairs
from tests.finetune.race_tree import VOCABULARY, write_vocabulary

MNLI, QQP, COLA = TASKS["mnli"], TASKS["qqp"], TASKS["cola"]
MNLI_HEADER = "index\tpromptID\tpairID\tgenre\ts1_binary\ts2_binary\ts1_parse\ts2_parse\tsentence1\tsentence2\tlabel1\tgold_label"
QQP_HEADER = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"


def _mnli(index: int, premise: str, hypothesis: str, label: str) -> str:
    return "\t".join(
        [str(index), "1", f"{index}e", "fiction", *["( )"] * 4, premise, hypothesis, label, label]
    )


def _write(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}{end}" for line in lines), encoding="utf-8", newline="")
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    write_vocabulary(tmp_path / "vocab.txt")
    return load_tokenizer(tmp_path / "vocab.txt")


def test_fields_are_between_tabs_and_nothing_quotes(tmp_path: Path) -> None:
    lines = (
        MNLI_HEADER,
        _mnli(0, 'He said "no', "One line\u2028only.", "neutral"),
        _mnli(1, 'and "yes" .', "Two", "-"),
        _mnli(2, "’tis", "three\u0085", "contradiction"),
    )
    for end in ("\n", "\r\n"):
        _write(tmp_path / "dev_matched.tsv", *lines, end=end)
        split = read_split(tmp_path, MNLI, "dev_matched")
        assert split.rows == [
            Row("0", ('He said "no', "One line\u2028only."), 1),
            Row("2", ("’tis", "three\u0085"), 2),
        ]
        assert split.left_out == {"no agreed label": ["dev_matched.tsv, line 3"]}
    content = (tmp_path / "dev_matched.tsv").read_bytes()
    (tmp_path / "dev_matched.tsv").write_bytes(b"\xef\xbb\xbf" + content)
    (tmp_path / "._dev_matched.tsv").write_bytes(b"\0\5\x16\7")
    assert read_split(tmp_path, MNLI, "dev_matched") == split, "a byte order mark, and what a Mac leaves"


def test_a_test_set_has_no_labels_and_may_be_absent(tmp_path: Path) -> None:
    header = MNLI_HEADER.removesuffix("\tlabel1\tgold_label")
    for name in ("train", "dev_matched", "dev_mismatched"):
        _write(tmp_path / f"{name}.tsv", MNLI_HEADER, _mnli(4, "a", "b", "entailment"))
    _write(tmp_path / "test_mismatched.tsv", header, _mnli(7, "a", "b", "").removesuffix("\t\t"))
    splits = read_splits(tmp_path, MNLI)
    assert list(splits) == ["train", "dev_matched", "dev_mismatched", "test_mismatched"]
    assert splits["test_mismatched"].rows == [Row("7", ("a", "b"), NO_LABEL)]
    assert splits["train"].rows == [Row("4", ("a", "b"), 0)]
    table = {"id": ["7", "9"], "prediction": ["neutral", "entailment"]}
    assert submission(MNLI, {"test_mismatched": table}) == {
        "MNLI-mm.tsv": "index\tprediction\n7\tneutral\n9\tentailment\n"
    }


def test_broken_rows_of_qqp_are_left_out_and_counted(tmp_path: Path) -> None:
    good = [f"{n}\t1\t2\tWhy {n} ?\tHow ?\t{n % 2}" for n in range(20)]
    path = _write(tmp_path / "train.tsv", QQP_HEADER, *good[:5], "5\tonly", "6\t1\t2\t\tHow ?\t1", *good[5:])
    split = read_split(tmp_path, QQP, "train")
    assert [row.id for row in split.rows] == [str(n) for n in range(20)]
    assert split.left_out == {
        "a text is empty": ["train.tsv, line 8"],
        "broken": ["train.tsv, line 7: 2 fields where 6 are named"],
    }
    assert split.report()["a text is empty"] == {"rows": 1, "first": ["train.tsv, line 8"]}
    _write(path, QQP_HEADER, *["1\tonly"] * 101, good[0])
    with pytest.raises(UserError, match=r"(?s)train\.tsv, line 2: 2 fields .*and 91 more"):
        read_split(tmp_path, QQP, "train")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [MNLI_HEADER, "0\tone"],
            r"line 2: the file is cut off, 2 fields where 12 are named; fetch it again",
        ),
        ([MNLI_HEADER, "0\tone", _mnli(1, "a", "b", "neutral")], r"line 2: 2 fields where 12 are named"),
        ([MNLI_HEADER, _mnli(0, "a", "b", "E")], r"line 2: the label must be one of entailment, .* is 'E'"),
        ([MNLI_HEADER, _mnli(0, " ", "b", "neutral")], "line 2: a text is empty"),
        ([MNLI_HEADER, *[_mnli(3, "a", "b", "neutral")] * 2], "two rows have the id 3"),
        ([MNLI_HEADER], "holds no examples"),
        ([], "is empty"),
        ([QQP_HEADER, "1"], r"has no column sentence1, sentence2, gold_label, only id, .*; is it MNLI's\?"),
    ],
)
def test_what_is_no_mnli_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    _write(tmp_path / "dev_matched.tsv", *lines)
    with pytest.raises(UserError, match=rf"dev_matched\.tsv.*{message}"):
        read_split(tmp_path, MNLI, "dev_matched")


def test_bytes_that_are_no_text_and_splits_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such folder"):
        read_split(tmp_path / "absent", QQP, "dev")
    with pytest.raises(UserError, match=r"holds no dev\.tsv, nor the hub's tables"):
        read_split(tmp_path, QQP, "dev")
    (tmp_path / "dev.tsv").write_bytes(b"id\tquestion1\n0\t\xff\n")
    with pytest.raises(UserError, match=r"dev\.tsv: is not UTF-8 text, in line 2"):
        read_split(tmp_path, QQP, "dev")
    _write(tmp_path / "hub" / "validation.jsonl", "{}")
    with pytest.raises(UserError, match=r"more than once: .*dev\.tsv, .*validation\.jsonl"):
        read_split(tmp_path, QQP, "dev")


def test_the_hubs_rows_are_the_same_examples(tmp_path: Path) -> None:
    rows = [
        {"premise": "a \t tab", "hypothesis": "b", "label": 2, "idx": 40},
        {"premise": "c", "hypothesis": "d", "label": -1, "idx": 41},
        {"premise": "e", "hypothesis": "f", "label": 0, "idx": 42},
    ]
    write_hub_split(tmp_path / "table" / "mnli", "validation_matched", rows, files=2)
    _write(tmp_path / "lines" / "validation_matched.jsonl", *map(json.dumps, rows))
    for folder in ("table", "lines"):
        split = read_split(tmp_path / folder, MNLI, "dev_matched")
        assert split.rows == [Row("0", ("a \t tab", "b"), 2), Row("2", ("e", "f"), 0)]
        assert [len(places) for places in split.left_out.values()] == [1]
    other = [{"question1": "q", "question2": "r", "label": 1}]
    write_hub_split(tmp_path / "table" / "qqp", "validation", other)  # a copy of the whole repository
    assert len(read_split(tmp_path / "table", MNLI, "dev_matched").rows) == 2
    assert read_split(tmp_path / "table", QQP, "dev").rows == [Row("0", ("q", "r"), 1)]
    (tmp_path / "table" / "mnli" / "validation_matched-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match="one of 2 parts, of which 1 are here"):
        read_split(tmp_path / "table", MNLI, "dev_matched")
    for row, message in (
        ({"premise": "a", "hypothesis": None, "label": 0}, 'must have a string "hypothesis"'),
        ({"premise": "a", "hypothesis": "b", "label": 3}, '"label" must be a number from 0 to 2, is 3'),
        ({"premise": "a", "hypothesis": "b", "label": True}, '"label" must be a number'),
        ({"premise": "\ud800", "hypothesis": "b", "label": 0}, "'premise': half a surrogate pair"),
        ([1], "must be a JSON object"),
    ):
        path = _write(tmp_path / "bad" / "validation_matched.jsonl", json.dumps(row))
        with pytest.raises(UserError, match=rf"{path.name}, line 1: {message}"):
            read_split(tmp_path / "bad", MNLI, "dev_matched")


def test_every_task_of_the_table_reads_what_its_row_says(tmp_path: Path) -> None:
    for task in TASKS.values():
        folder = tmp_path / task.name
        columns = list(task.columns) or [*task.ids, *task.texts, task.label]
        values = dict.fromkeys(columns, "x") | {task.label: task.labels[-1], task.ids[0]: "3"}
        line = "\t".join(values[name] for name in columns)
        header = [] if task.columns else ["\t".join(columns)]
        for name in ("train", *task.splits("dev").values()):
            _write(folder / f"{name}.tsv", *header, line)
        expected = "0" if task.columns else "3"
        row = Row(expected, ("x",) * len(task.texts), len(task.labels) - 1)
        assert read_splits(folder, task)["train"].rows == [row], task.name
        assert len(task.submissions) == len(task.parts)
        content = (folder / "train.tsv").read_text()
        texts = BENCHMARKS[task.name].texts
        assert texts and [text.text for text in texts(content)] == ["x"] * len(task.texts)
        hub = dict(zip(task.hub_texts or task.texts, "ab", strict=False)) | {"label": 0}
        rows = BENCHMARKS[task.name].row_texts
        assert rows and [text.text for text in rows(hub)] == ["a", "b"][: len(task.texts)]


def test_files_made_of_the_hubs_rows_have_their_columns_where_others_count_them(tmp_path: Path) -> None:
    hub_texts = {"premise": "a", "hypothesis": "b", "question1": "a", "question2": "b"}
    for task, test_split, places, test_places in (
        (MNLI, "test_matched", (8, 9, -1), (8, 9)),
        (QQP, "test", (3, 4, 5), (1, 2)),
    ):
        write_rows(task, lambda split: [{**hub_texts, "label": 1}], tmp_path)
        for name, wanted in (("train", places), (test_split, test_places)):
            header, line = (tmp_path / f"{name}.tsv").read_text().splitlines()
            fields = line.split("\t")
            assert len(fields) == len(header.split("\t"))
            assert [fields[place] for place in wanted] == ["a", "b", task.labels[1]][: len(wanted)]


def _spelled(batch: dict[str, np.ndarray], row: int) -> list[str]:
    return [VOCABULARY[index] for index in batch["tokens"][row]]


def test_sequences_of_pairs_and_of_single_sentences_have_berts_form(tokenizer: Tokenizer) -> None:
    pairs = Split([Row("0", ("cat is", "dog"), 2), Row("1", ("fox", "hen is here"), NO_LABEL)])
    encoded = encode_split(MNLI, pairs, tokenizer, 16)
    batch = encoded.batch(np.array([0, 1]))
    assert _spelled(batch, 0) == ["[CLS]", "cat", "is", "[SEP]", "dog", "[SEP]", "[PAD]"]
    assert batch["token_types"].tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1] * 6 + [0], [1] * 7]
    assert batch["answers"].tolist() == [2, 0]
    assert _spelled(encoded.without_firsts().batch(np.array([0])), 0) == ["[CLS]", "[SEP]", "dog", "[SEP]"]
    single = encode_split(COLA, Split([Row("0", ("cat is",), 1), Row("1", ("dog",), 0)]), tokenizer, 16)
    batch = single.batch(np.array([1, 0]))
    assert _spelled(batch, 1) == ["[CLS]", "cat", "is", "[SEP]"]
    assert _spelled(batch, 0) == ["[CLS]", "dog", "[SEP]", "[PAD]"]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1] * 4]
    assert not batch["token_types"].any()
    assert single.lengths.tolist() == [4, 3]
    long = encode_split(COLA, Split([Row("0", ("cat " * 100,), 1)]), tokenizer, 16)
    assert long.batch(np.array([0]))["tokens"].shape == (1, 16)


def test_of_pairs_that_are_too_long_the_longer_text_is_cut() -> None:
    """The rule as Devlin et al. give it: a token at a time from the end of the longer text, of the second if both are as
    long."""
    random = np.random.RandomState(0)
    for _ in range(300):
        sizes, room = random.randint(0, 12, 2), random.randint(2, 16)
        first, second = (np.arange(size) for size in sizes)
        a, b = first.tolist(), second.tolist()
        while len(a) + len(b) > room:
            (a if len(a) > len(b) else b).pop()
        (cut_first,), (cut_second,) = cut_pairs([first], [second], int(room))
        assert (cut_first.tolist(), cut_second.tolist()) == (a, b), (sizes, room)


def test_metrics_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef

    random = np.random.RandomState(1)
    for labels in (2, 3):
        for skew in (0.0, 0.6, 1.0):
            answers = random.randint(0, labels, 200)
            predicted = np.where(random.rand(200) < 0.5, answers, random.randint(0, labels, 200))
            predicted = np.where(random.rand(200) < skew, 0, predicted)
            counts = metrics.confusion(answers, predicted, labels)
            assert (counts == confusion_matrix(answers, predicted)).all()
            assert metrics.accuracy(counts) == pytest.approx(accuracy_score(answers, predicted), abs=1e-12)
            assert metrics.matthews(counts) == pytest.approx(matthews_corrcoef(answers, predicted), abs=1e-12)
            if labels == 2:
                f1 = f1_score(answers, predicted, zero_division=0)
                assert metrics.f1(counts) == pytest.approx(f1, abs=1e-12)
    named = metrics.named_confusion(np.array([[1, 2], [3, 4]]), ("no", "yes"))
    assert named == {"no": {"no": 1, "yes": 2}, "yes": {"no": 3, "yes": 4}}
    shares = metrics.shares(np.array([True, False, True]), ["b", "a", "b"])
    assert shares["b"] == {"correct": 2, "total": 2, "accuracy": 1.0} and list(shares) == ["a", "b"]
