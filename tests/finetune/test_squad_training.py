"""SQuAD by the command: both versions learn what blind models cannot, and what is written is what was scored."""

import contextlib
import io
import json
import re
import string
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import run_distributed

from core.config import ModelConfig
from core.errors import ConfigurationError, UserError
from core.model_directory import build_model, save_model
from core.parallel.mesh import initialize
from data_pipeline.benchmarks.squad import read_split
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from finetune.__main__ import build_parser
from finetune.predictions import read_predictions
from finetune.squad import encode_split, squad
from recipes.records import FINE_TUNING, value_at
from recipes.schema import FinetuningSettings
from tests.finetune.race_tree import VOCABULARY, write_vocabulary
from tests.finetune.squad_files import question, write_animals, write_squad

VERSIONS = {"squad": "1.1", "squad_v2": "2.0"}
LENGTH = 32  # passages are longer: windows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squad")
    write_vocabulary(folder / "vocab.txt")
    for task, version in VERSIONS.items():
        write_animals(folder / task, {"train": 60, "dev": 24}, version)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, dict[str, Any]]:
    return run_distributed(_finetune, 1, folder)[0]


def _command(folder: Path, task: str, *options: str) -> None:
    paths = {"checkpoint": "bert", "tokenizer": "vocab.txt", "data": task, "output": f"{task}-out"}
    line = [task, *(word for name, path in paths.items() for word in (f"--{name}", str(folder / path)))]
    arguments = build_parser().parse_args([*line, *options])
    arguments.run(arguments)


def _finetune(folder: Path) -> dict[str, dict[str, Any]]:
    mesh = initialize(1)
    shape = {"layers": 1, "hidden": 32, "heads": 4, "sequence_length": LENGTH}
    vocabulary = {"vocabulary_size": len(VOCABULARY), "vocabulary_multiple": 64}
    config = ModelConfig(
        family="bert", **shape, **vocabulary, dropout=0.0, attention_dropout=0.0, initial_std=0.1
    )
    save_model(build_model(config, mesh), folder / "bert", mesh)
    settings = ("--batch-size", "12", "--micro-batch", "12", "--learning-rate", "3e-3", "--epochs", "6")
    found = {}
    for task in VERSIONS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            _command(folder, task, *settings, "--controls")
        found[task] = json.loads(printed.getvalue())
    return found


def _official(prediction: str, answers: list[str]) -> tuple[int, float]:
    """Exact match and F1 of the official rule for answers that have words, from its definition."""

    def words(text: str) -> list[str]:
        kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    best = 0.0
    for answer in answers or [""]:
        got, right = words(prediction), words(answer)
        shared = sum(min(count, Counter(right)[word]) for word, count in Counter(got).items())
        f1 = 2 * shared / (len(got) + len(right)) if got and right else float(got == right)
        best = max(best, f1)
    return int(any(words(prediction) == words(answer) for answer in answers or [""])), best


@pytest.mark.parametrize("task", VERSIONS)
def test_it_learns_what_blind_models_cannot(folder: Path, results: dict[str, Any], task: str) -> None:
    result = results[task]
    assert result == json.loads((folder / f"{task}-out" / "result.json").read_text())
    assert result["f1"] > 0.85 > result["passage_left_out"]["f1"] + 0.3
    assert result["question_left_out"]["f1"] > 0.5, "these questions are all the same"
    assert result["total"] == 24 and result["by_question_word"]["who"]["total"] == 24
    assert result["dev"]["f1"] == result["f1"] and 1 <= result["epoch"] <= 6
    assert result["data"]["counts"]["dev"] == {"questions": 24}
    assert 0 <= result["standard_error"]["f1"] < 0.1 and "passages" in result["standard_error_over"]
    for column in FINE_TUNING[task].columns:
        if column.path != "dev_median":  # of several seeds
            assert isinstance(value_at(result, column.path), float), column.path


@pytest.mark.parametrize("task", VERSIONS)
def test_the_official_files_have_the_official_scores(
    folder: Path, results: dict[str, Any], task: str
) -> None:
    output = folder / f"{task}-out"
    predictions = json.loads((output / "submission" / "predictions.json").read_text())
    questions = read_split(folder / task, "dev", VERSIONS[task]).questions
    answers = {row.id: [answer.text for answer in row.answers] for row in questions}
    scores = np.array([_official(predictions[name], right) for name, right in answers.items()])
    assert scores.mean(axis=0) == pytest.approx([results[task]["exact"], results[task]["f1"]], abs=1e-12)
    table = read_predictions(output)["dev"]
    assert dict(zip(table["id"], table["prediction"], strict=True)) == predictions
    assert table["exact"] == scores[:, 0].tolist()
    assert table["best_span"] == [spans[0] for spans in table["spans"]]
    assert all(
        len(spans) == 20 and found == sorted(found, reverse=True)
        for spans, found in zip(table["spans"], table["span_scores"], strict=True)
    )
    if task == "squad":
        assert set(table["prediction"]) == set(table["prediction"]) - {""}
        assert not (output / "submission" / "null_odds.json").exists()
        return
    odds = json.loads((output / "submission" / "null_odds.json").read_text())
    assert odds == dict(zip(table["id"], table["no_answer"], strict=True))
    threshold = results[task]["threshold"]
    assert {name for name, text in predictions.items() if not text} == {
        name for name, value in odds.items() if value > threshold
    }
    kinds = results[task]["by_kind"]
    assert kinds["answerable"]["total"] + kinds["unanswerable"]["total"] == 24
    both = sum(kind["f1"] * kind["total"] for kind in kinds.values()) / 24
    assert both == pytest.approx(results[task]["f1"])
    assert results[task]["unanswered_always"] == pytest.approx(8 / 24)
    assert results[task]["best_f1"] == results[task]["f1"]
    assert results[task]["best_exact"] >= results[task]["exact"]


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder / "vocab.txt")


def test_training_takes_answers_by_their_characters(tmp_path: Path, tokenizer: Tokenizer) -> None:
    context = "Cat, cat  is\u200b here. Dog"
    answers = {
        "second": [("cat", 5), ("Cat", 0)],
        "blanks": [("  is\u200b ", 8)],
        "within": [("a", 6)],
        "all": [(context, 0)],
        "misplaced": [("Dog", 3)],
        "blank": [(" ", 4)],
        "nothing": [("", 4)],
        "last": [("Dog", context.index("Dog"))],
    }
    rows = [question(name, "who is here ?", found) for name, found in answers.items()]
    write_squad(tmp_path / "train-v1.1.json", [(context, rows)])
    split = read_split(tmp_path, "train", "1.1")
    assert len(split.misplaced) == 1
    examples = encode_split(split, tokenizer, LENGTH, training=True)
    # The tokens: cat [UNK] cat is here . dog
    assert examples.answers.tolist() == [[2, 2], [3, 3], [2, 2], [0, 6], [6, 6]]
    asked = encode_split(split, tokenizer, LENGTH, training=False)
    assert len(asked.questions) == len(answers) and (asked.answers == -1).all()
    written = tmp_path / "other"
    write_squad(written / "train-v1.1.json", [(context, rows[4:7])])
    write_squad(written / "dev-v1.1.json", [(context, rows[:1])])
    with pytest.raises(UserError, match="no question of train has an answer where it says"):
        squad(written, tokenizer, LENGTH, FinetuningSettings())


def test_questions_are_cut_to_64_tokens_and_leave_half_of_a_short_sequence(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    write_squad(tmp_path / "dev-v1.1.json", [("cat is here .", [question("a", "who " * 200, [("cat", 0)])])])
    split = read_split(tmp_path, "dev", "1.1")
    for length, kept in ((512, 64), (384, 64), (100, 48), (32, 14)):
        examples = encode_split(split, tokenizer, length, training=False)
        assert len(examples.questions[0]) == kept and examples.room(0) == length - kept - 3


def test_the_papers_numbers_and_settings(folder: Path, results: dict[str, Any]) -> None:
    published = {name: dict(FINE_TUNING[name].published.rows) for name in VERSIONS}  # type: ignore[union-attr]
    assert published["squad"]["BERT 3.9B"] == (95.5, 90.0)
    assert published["squad_v2"] == {
        "BERT 336M": (88.1, 84.8), "BERT 1.3B": (90.2, 87.1), "BERT 3.9B": (91.2, 88.5),
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"--sequence-length: must be 32 or more"):
        _command(folder, "squad", "--sequence-length", "31")
