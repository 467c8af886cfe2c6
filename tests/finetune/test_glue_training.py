"""A classification task from its files to its numbers, predictions and submission, on two data ranks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import run_distributed

from core.config import ModelConfig
from core.model_directory import build_model, read_config, save_model
from core.parallel.mesh import initialize
from core.registry import attribute
from data_pipeline.tokenization.tokenizers import load_tokenizer
from finetune.predictions import read_predictions
from finetune.tuner import Tuning
from recipes.records import FINE_TUNING
from recipes.schema import FinetuningSettings
from tests.finetune.race_tree import VOCABULARY, write_vocabulary

RECORD = FINE_TUNING["mnli"]
LABELS = RECORD.labels
ANIMALS = dict(zip(("cat", "dog", "fox"), LABELS, strict=True))  # the premise gives the label
ROWS = {"train": 90, "dev_matched": 30, "dev_mismatched": 21, "test_matched": 12, "test_mismatched": 9}


def _write_data(folder: Path) -> None:
    random = np.random.RandomState(0)
    for name, count in ROWS.items():
        test = name.startswith("test")
        lines = ["index\tsentence1\tsentence2" + ("" if test else "\tgold_label")]
        for index in range(count):
            animal = list(ANIMALS)[index % 3]
            premise = f"{animal} is here . " * random.randint(1, 4)
            hypothesis = " ".join(random.choice(VOCABULARY[10:], random.randint(1, 5)))
            lines.append(f"{index}\t{premise}\t{hypothesis}" + ("" if test else f"\t{ANIMALS[animal]}"))
        lines += [] if test else [f"{count}\thow\tnow\t-"]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


def _tune(folder: Path) -> None:
    mesh = initialize(1)
    config = ModelConfig(
        "bert", 1, 32, 4, 24, len(VOCABULARY), vocabulary_multiple=8, dropout=0.0, attention_dropout=0.0,
        initial_std=0.1,
    )  # fmt: skip
    save_model(build_model(config, mesh), folder / "bert", mesh)
    tokenizer = load_tokenizer(folder / "vocab.txt")
    settings = FinetuningSettings(epochs=4, batch_size=10, micro_batch=5, learning_rate=5e-3)
    Tuning(
        RECORD.name, attribute(RECORD.program), folder / "bert", tokenizer, folder / "MNLI", folder / "out",
        settings, seed=1, config=read_config(folder / "bert"),
    ).run(mesh, "test", True, "the model's", {})  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glue")
    write_vocabulary(folder / "vocab.txt")
    (folder / "MNLI").mkdir()
    _write_data(folder / "MNLI")
    run_distributed(_tune, 2, folder)
    return folder / "out"


def test_it_learns_what_the_first_sentence_says(tuned: Path) -> None:
    result: dict[str, Any] = json.loads((tuned / "result.json").read_text())
    for part, count in (("matched", 30), ("mismatched", 21)):
        assert result["total"][part] == count
        assert result["accuracy"][part] > 0.8 > 0.6 > result["majority"][part] == pytest.approx(1 / 3)
        assert result["second_text_only"]["accuracy"][part] < 0.6
        assert result["accuracy"][part] == result["correct"][part] / count
        assert sum(result["confusion"][part]["neutral"].values()) == count // 3
    reached = [found["dev"]["accuracy"]["matched"] for found in _epochs(tuned)]
    assert result["dev"]["accuracy"]["matched"] == max(reached) == result["accuracy"]["matched"]
    assert result["epoch"] == reached.index(max(reached)) + 1
    assert result["left_out"]["train"]["no agreed label"] == {"rows": 1, "first": ["train.tsv, line 92"]}


def _epochs(tuned: Path) -> list[dict[str, Any]]:
    found = json.loads((tuned / "epochs.json").read_text())["by_step"]
    return [found[step] for step in sorted(found, key=int)]


def test_predictions_and_submissions_are_those_of_every_row(tuned: Path) -> None:
    tables = read_predictions(tuned)
    assert {name: len(table["id"]) for name, table in tables.items()} == {
        name: count for name, count in ROWS.items() if name != "train"
    }
    table = tables["dev_matched"]
    predicted = [LABELS[int(np.argmax(row))] for row in table["probabilities"]]
    assert table["prediction"] == predicted
    assert RECORD.numbers and RECORD.numbers(tables)["accuracy"]["matched"] == np.mean(
        [a == p for a, p in zip(table["answer"], predicted, strict=True)]
    )
    assert set(tables["test_matched"]["answer"]) == {None}
    for name, split in (("MNLI-m.tsv", "test_matched"), ("MNLI-mm.tsv", "test_mismatched")):
        lines = (tuned / "submission" / name).read_text().split("\n")
        assert lines[0] == "index\tprediction" and lines[-1] == ""
        assert [line.split("\t") for line in lines[1:-1]] == [
            [str(index), label] for index, label in enumerate(tables[split]["prediction"])
        ]
