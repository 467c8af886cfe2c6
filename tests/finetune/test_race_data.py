"""RACE files: reading in sorted order, errors by file and key, and token sequences."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_layout import write_hub_split

from core.config import ModelConfig
from core.errors import UserError
from data_pipeline.benchmarks.race import Question, Split, read_split
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from finetune.heads import batch_of
from finetune.pairs import PairExamples
from finetune.race import (
    LONGEST_QUESTION_TOKENS,
    RACE,
    encode_split,
    kind_of_question,
    numbers,
    question_with_option,
    submission,
)
from recipes.schema import FinetuningSettings
from tests.finetune.race_tree import VOCABULARY, write_tree, write_vocabulary

GOOD = {"article": "a", "questions": ["q"], "options": [["a", "b", "c", "d"]], "answers": ["A"]}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    write_vocabulary(tmp_path / "vocab.txt")
    return load_tokenizer(tmp_path / "vocab.txt")


def test_files_are_read_in_sorted_order_middle_first(tmp_path: Path) -> None:
    for name in ("high/2.txt", "middle/9.txt", "high/10.txt", "middle/1.txt"):
        path = tmp_path / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(GOOD | {"article": name, "answers": ["C"]}))
    split = read_split(tmp_path, "dev")
    assert split.passages == ["middle/1.txt", "middle/9.txt", "high/10.txt", "high/2.txt"]
    assert [question.level for question in split.questions] == ["middle", "middle", "high", "high"]
    assert split.questions[3] == Question(3, "q", ("a", "b", "c", "d"), 2, "high")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"7\.txt: not JSON"),
        ("[" * 5000, r"7\.txt: its fields are nested"),
        (
            json.dumps(GOOD | {"article": "half \ud83d"}),
            r'7\.txt: "article": half a surrogate pair at character 5',
        ),
        (json.dumps(GOOD | {"questions": ["\udc00"]}), r'7\.txt: "questions"\[0\]: half a surrogate pair'),
        (
            json.dumps(GOOD | {"options": [["a", "b", "c", "\ud83d"]]}),
            r'"options"\[0\]\[3\]: half a surrogate',
        ),
        ("[]", r"7\.txt: must be a JSON object"),
        (json.dumps(GOOD | {"article": 3}), r'7\.txt: "article": must be a string'),
        (json.dumps({"article": "a"}), r'7\.txt: "questions": must be a list'),
        (json.dumps(GOOD | {"answers": ["A", "B"]}), r"7\.txt: .*lengths differ"),
        (json.dumps(GOOD | {"options": [["a", "b", "c"]]}), r'"options"\[0\]: must be a list of 4 strings'),
        (json.dumps(GOOD | {"options": ["abcd"]}), r'"options"\[0\]: must be a list of 4 strings'),
        (json.dumps(GOOD | {"questions": [None]}), r'"questions"\[0\]: must be a string'),
        (json.dumps(GOOD | {"answers": ["E"]}), r'"answers"\[0\]: must be one of .* is \'E\''),
        (json.dumps(GOOD | {"answers": [""]}), r'"answers"\[0\]: must be one of'),
    ],
)
def test_damaged_files_are_named_with_the_key(tmp_path: Path, content: str, message: str) -> None:
    write_tree(tmp_path, {"test": 2})
    (tmp_path / "test" / "high" / "7.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path, "test")


def test_all_damaged_files_are_reported_at_once(tmp_path: Path) -> None:
    write_tree(tmp_path, {"test": 1})
    (tmp_path / "test" / "middle" / "8.txt").write_text("{")
    (tmp_path / "test" / "high" / "9.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"(?s)middle/8\.txt.*high/9\.txt"):
        read_split(tmp_path, "test")


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="middle: no such folder"):
        read_split(tmp_path, "train")
    for level in ("middle", "high"):
        (tmp_path / "train" / level).mkdir(parents=True)
    with pytest.raises(ValueError, match="middle: holds no questions"):
        read_split(tmp_path, "train")


def _hub_rows(tree: Path, split: str) -> list[dict[str, Any]]:
    """The tree's questions as the hub has them."""
    rows = []
    for path in sorted((tree / split).rglob("*.txt")):
        record = json.loads(path.read_text())
        for question, options, answer in zip(
            *(record[key] for key in ("questions", "options", "answers")), strict=True
        ):
            row = {"article": record["article"], "question": question, "options": options, "answer": answer}
            rows.append(row | {"example_id": f"{path.parent.name}{path.name}"})
    return rows


def test_the_hubs_rows_are_the_same_split(tmp_path: Path) -> None:
    write_tree(tmp_path / "RACE", {"test": 12})  # 10.txt is before 2.txt in a tree
    for path in (tmp_path / "RACE").rglob("*.txt"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"id": f"{path.parent.name}{path.name}"}))
    expected = read_split(tmp_path / "RACE", "test")
    rows = _hub_rows(tmp_path / "RACE", "test")
    random.Random(0).shuffle(rows)
    rows.sort(key=lambda row: row["question"] != "who is here ?")  # questions of a passage stay in order
    write_hub_split(tmp_path / "hub" / "all", "test", rows, files=2)
    write_hub_split(tmp_path / "hub" / "high", "test", rows)  # a copy of the whole repository
    assert read_split(tmp_path / "hub", "test") == expected
    for level in ("middle", "high"):
        own = [row for row in rows if row["example_id"].startswith(level)]
        write_hub_split(tmp_path / "levels" / level, "test", own)
    assert read_split(tmp_path / "levels", "test") == expected
    for change, message in (
        ({"answer": "E"}, r'"answers"\[1\]: must be one of'),
        ({"options": ["a"]}, "must be a list of 4 strings"),
        ({"article": "other"}, "two different articles are called"),
        ({"example_id": "1.txt"}, "no file name of RACE"),
        ({"question": None}, r'"questions"\[1\]: must be a string'),
    ):
        write_hub_split(tmp_path / "bad", "test", [*rows[:-1], rows[-1] | change])
        with pytest.raises(UserError, match=rf"test-00000-of-00001\.parquet, row \d+: .*{message}"):
            read_split(tmp_path / "bad", "test")


def test_two_passages_of_one_id_are_named_and_empty_ones_known(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_tree(tmp_path, {"test": 2})
    folder = tmp_path / "test"
    (folder / "high" / "7.txt").write_text(json.dumps(GOOD | {"article": " ", "id": "e"}))
    (folder / "middle" / "8.txt").write_text(json.dumps(GOOD | {"article": "dog " * 25_000, "id": "l"}))
    split = read_split(tmp_path, "test")
    assert split.empty == ["e"]
    assert encode_split(split, tokenizer, 64).batch(np.arange(len(split.questions)))["tokens"].shape[1] == 64
    (folder / "high" / "9.txt").write_text(json.dumps(GOOD | {"id": "l"}))
    with pytest.raises(UserError, match=r'high/9\.txt: has the "id" of .*middle/8\.txt'):
        read_split(tmp_path, "test")


def test_kinds_of_questions() -> None:
    kinds = {
        "He is a _ .": "cloze", "What _ ?": "cloze", "In which year, and why?": "which", "Whose is it": "who",
        "The author says that...": "other", "HOW?": "how", "somewhat of whatever": "other", "": "other",
    }  # fmt: skip
    assert {question: kind_of_question(question) for question in kinds} == kinds


def test_the_numbers_and_the_answers_file_of_predictions() -> None:
    table = {
        "id": ["b", "b", "a"],
        "question": ["why ?", "_", "why not"],
        "level": ["high", "high", "middle"],
        "answer": ["A", "B", "D"],
        "prediction": ["A", "C", "D"],
    }
    found = numbers({"test": table})
    assert found["accuracy"] == {"all": 2 / 3, "high": 0.5, "middle": 1.0}
    assert found["total"] == {"all": 3, "high": 2, "middle": 1}
    assert found["by_kind"]["why"] == {"correct": 2, "total": 2, "accuracy": 1.0}
    assert found["confusion"]["B"] == {"A": 0, "B": 0, "C": 1, "D": 0}
    assert json.loads(submission({"test": table})["answers.json"]) == {"b": ["A", "C"], "a": ["D"]}


def test_a_folder_is_read_whole_and_what_is_no_passage_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path, {"test": 2})
    folder = tmp_path / "test" / "high"
    for name in ("._0.txt", ".DS_Store", "__MACOSX/._0.txt"):  # what a Mac adds
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7")
    (folder / "8.TXT").write_text(json.dumps(GOOD), encoding="utf-8-sig")
    (folder / "9.txt.gz").write_bytes(gzip.compress(json.dumps(GOOD | {"article": "😀"}).encode()))
    assert read_split(tmp_path, "test").passages[4:] == ["a", "😀"]
    (folder / "notes.md").touch()
    (folder / "more").mkdir()
    with pytest.raises(
        ValueError, match=r"(?s)high/more: no passage.*high/notes\.md: no passage, .* end in \.txt"
    ):
        read_split(tmp_path, "test")


def test_gaps_are_filled_and_other_questions_followed() -> None:
    assert question_with_option("He is a _ , a _ .", "cook") == "He is a cook , a cook ."
    assert question_with_option("Who is he ?", "a cook") == "Who is he ? a cook"


def _split(
    article: str, question: str = "who ?", options: tuple[str, ...] = ("cat", "dog", "fox hen", "owl")
) -> Split:
    return Split([article], [Question(0, question, options, 2, "high")])


def _spelled(batch: dict[str, np.ndarray], row: int) -> list[str]:
    return [VOCABULARY[index] for index in batch["tokens"][row]]


def test_sequences_have_berts_form(tokenizer: Tokenizer) -> None:
    encoded = encode_split(_split("cat is here ."), tokenizer, sequence_length=64)
    batch = encoded.batch(np.array([0]))
    whole = ["[CLS]", "who", "?", "fox", "hen", "[SEP]", "cat", "is", "here", ".", "[SEP]"]
    assert _spelled(batch, 2) == whole
    assert batch["token_types"][2].tolist() == [0] * 6 + [1] * 5
    assert batch["attention_mask"][2].tolist() == [1] * 11
    assert _spelled(batch, 0) == ["[CLS]", "who", "?", "cat", *whole[5:], "[PAD]"]
    assert batch["token_types"][0].tolist() == [0] * 5 + [1] * 5 + [0]
    assert batch["attention_mask"][0].tolist() == [1] * 10 + [0]
    assert batch["answers"].tolist() == [2]


def test_the_passage_is_what_is_cut(tokenizer: Tokenizer) -> None:
    encoded = encode_split(_split("cat dog fox hen " * 20), tokenizer, sequence_length=40)
    batch = encoded.batch(np.array([0]))
    assert batch["tokens"].shape == (4, 40)
    assert _spelled(batch, 0)[:7] == ["[CLS]", "who", "?", "cat", "[SEP]", "cat", "dog"]
    assert all(_spelled(batch, row)[-1] == "[SEP]" for row in range(4))


def test_long_questions_keep_their_first_tokens(tokenizer: Tokenizer) -> None:
    encoded = encode_split(_split("cat", question="who " * 200), tokenizer, sequence_length=256)
    assert len(encoded.firsts[0]) == LONGEST_QUESTION_TOKENS == 128
    assert encoded.batch(np.array([0]))["tokens"].shape == (4, 128 + 1 + 3)


@pytest.mark.parametrize(
    ("length", "of_model", "wrong"),
    [
        (0, 64, ""),
        (64, 64, ""),
        (36, 64, ""),
        (35, 64, "36 or more"),
        (0, 35, "36 or more"),
        (65, 64, "at most"),
    ],
)
def test_sequence_lengths_must_have_room_and_fit_the_model(length: int, of_model: int, wrong: str) -> None:
    model = ModelConfig("bert", 1, 8, 1, of_model, 64)
    found = RACE.errors(FinetuningSettings(sequence_length=length), model, "race")
    assert len(found) == bool(wrong)
    assert all(line.startswith("race.sequence_length: must be ") and wrong in line for line in found)


def test_blank_passages_keep_questions_and_options(tokenizer: Tokenizer) -> None:
    encoded = encode_split(_split("cat is here ."), tokenizer, sequence_length=64).without_seconds()
    assert _spelled(encoded.batch(np.array([0])), 2) == ["[CLS]", "who", "?", "fox", "hen", "[SEP]", "[SEP]"]


def test_batches_of_several_questions_match_single_ones(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_tree(tmp_path / "RACE", {"train": 4})
    encoded: PairExamples = encode_split(read_split(tmp_path / "RACE", "train"), tokenizer, 64)
    together = encoded.batch(np.array([5, 0, 11]))
    assert together["tokens"].shape[1] == encoded.lengths[[5, 0, 11]].max()
    for place, question in enumerate((5, 0, 11)):
        single = encoded.batch(np.array([question]))
        width = single["tokens"].shape[1]
        assert width == encoded.lengths[question]
        rows = slice(4 * place, 4 * place + 4)
        for name in ("tokens", "token_types", "attention_mask"):
            assert (together[name][rows, :width] == single[name]).all()
            assert not together[name][rows, width:].any()  # [PAD] is 0 here
        assert together["answers"][place] == single["answers"][0]


class _Examples:
    """Two rows an example, as a task of a user's own may make them."""

    def __init__(self, token: int = 5, answer: int = 1) -> None:
        self.token, self.answer = token, answer

    def __len__(self) -> int:
        return 9

    def batch(self, examples: np.ndarray) -> dict[str, np.ndarray]:
        tokens = np.full((2 * len(examples), 4), 5)
        tokens[2 * list(examples).index(7) + 1, 3] = self.token
        answers = np.where(examples == 7, self.answer, 1)
        return {"tokens": tokens, "answers": answers}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (_Examples(token=20), "example 7: token id 20 is none of the 20 tokens"),
        (_Examples(token=-1), "example 7: token id -1 is none"),
        (_Examples(answer=-100), "example 7: its answer is -100, no number from 0"),
    ],
)
def test_an_example_that_no_model_can_read_or_answer_is_named(wrong: _Examples, said: str) -> None:
    chosen = np.array([2, 0, 7, 5])
    assert batch_of(_Examples(), chosen, 20)["tokens"].shape == (8, 4)
    with pytest.raises(UserError, match=said):
        batch_of(wrong, chosen, 20)
