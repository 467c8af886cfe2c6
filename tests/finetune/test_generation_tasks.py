"""Summaries and dialogues from their files to numbers and texts, on any layout, against `transformers` with the same
weights and rules written from their definitions."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed

from core.config import ModelConfig
from core.interop.huggingface import export_model
from core.model_directory import build_model, load_model, read_config, save_model
from core.parallel.mesh import Mesh, initialize
from core.registry import attribute
from data_pipeline.tokenization.tokenizers import load_tokenizer
from evaluate.scoring import Scorer
from evaluate.summaries import Xsum
from finetune.predictions import read_predictions
from finetune.tuner import Tuning
from recipes.records import FINE_TUNING
from recipes.schema import EvaluationSettings, FinetuningSettings
from tests.finetune.generation_world import (
    END,
    answers_by_hand,
    losses_by_transformers,
    mean,
    rows,
    write_articles,
    write_dialogues,
    write_tokenizer,
)

LENGTH, ZERO_SHOT_LENGTH = 64, 128
DIALOGUES = FinetuningSettings(
    epochs=12, batch_size=36, micro_batch=18, learning_rate=1e-2, warmup_fraction=0.1
)
SUMMARIES = FinetuningSettings(epochs=2, batch_size=12, micro_batch=6, learning_rate=5e-3)
LAYOUTS = {"1x1": (1, 1), "2x1": (2, 1), "1x2": (1, 2)}  # data × tensor


def _tune(folder: Path, task: str, mesh: Mesh, output: str, settings: FinetuningSettings) -> None:
    record = FINE_TUNING[task]
    Tuning(
        task, attribute(record.program), folder / "gpt2", load_tokenizer(folder / "tokenizer.json"), folder / task,
        folder / output, settings, seed=1, config=read_config(folder / "gpt2"),
    ).run(mesh, "test", True, "the model's", {})  # fmt: skip


def _make(folder: Path) -> None:
    mesh = initialize(1)
    for name, length in (("gpt2", LENGTH), ("long", ZERO_SHOT_LENGTH)):
        config = ModelConfig(
            "gpt2", 1, 32, 4, length, END + 1, vocabulary_multiple=32, dropout=0.0, attention_dropout=0.0,
            initial_std=0.1,
        )  # fmt: skip
        save_model(build_model(config, mesh), folder / name, mesh)
    _tune(folder, "dailydialog", mesh, "1x1", DIALOGUES)
    _tune(folder, "xsum", mesh, "summaries", SUMMARIES)
    result = _zero_shot(folder, mesh)
    (folder / "zero_shot.json").write_text(json.dumps(result))


def _zero_shot(folder: Path, mesh: Mesh) -> dict[str, Any]:
    """The result, and the same with another batch size."""
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    model = load_model(folder / "long", mesh)
    found = []
    for batch_size in (3, 8):
        task = Xsum(folder / "xsum", tokenizer, ZERO_SHOT_LENGTH, EvaluationSettings())
        score = Scorer(model, mesh, batch_size)
        found.append(task.evaluate(score) | {"texts": task.predictions()["prediction"]})
    assert found[0] == found[1]
    return found[0] | task.controls(score, score)


def _on_layout(folder: Path, layout: str) -> None:
    _tune(folder, "dailydialog", initialize(LAYOUTS[layout][1]), layout, DIALOGUES)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generation")
    write_tokenizer(folder / "tokenizer.json")
    write_dialogues(folder / "dailydialog")
    write_articles(folder / "xsum")
    run_distributed(_make, 1, folder)
    for layout in ("2x1", "1x2"):
        run_distributed(_on_layout, 2, folder, layout)
    for output in ("1x1", "summaries"):
        export_model(folder / output / "model", folder / output / "theirs")
    return folder


def _result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def _losses(folder: Path) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def _transformers(path: Path) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers.GPT2LMHeadModel.from_pretrained(path).eval()


def test_answers_and_their_perplexity_are_those_of_transformers(world: Path) -> None:
    result, table = _result(world / "1x1"), read_predictions(world / "1x1")["test"]
    pairs = answers_by_hand(world / "dailydialog", "test", world / "tokenizer.json")
    model = _transformers(world / "1x1" / "theirs")
    losses = losses_by_transformers(model, pairs)
    assert result["loss"] == pytest.approx(mean(losses, pairs), abs=1e-5)
    assert result["perplexity"] == pytest.approx(math.exp(mean(losses, pairs)), rel=1e-5)
    words = sum(len(reference.split()) + 1 for reference in table["reference"])
    assert result["word_perplexity"] == pytest.approx(math.exp(math.fsum(losses) / words), rel=1e-5)
    blind = [([END], answer) for _, answer in pairs]
    assert result["without_context"]["loss"] == pytest.approx(
        mean(losses_by_transformers(model, blind), blind), abs=1e-5
    )
    expected = []
    for context, _ in pairs:
        found = model.generate(
            torch.tensor([context]), attention_mask=torch.ones(1, len(context), dtype=torch.int64),
            max_new_tokens=LENGTH // 2, do_sample=False, eos_token_id=END, pad_token_id=END,
        )[0, len(context) :].tolist()  # fmt: skip
        expected.append(found[: found.index(END)] if END in found else found)
    decode = load_tokenizer(world / "tokenizer.json").decode
    assert table["prediction"] == [decode(ids).strip() for ids in expected]
    assert table["reference"] == [decode(answer[:-1]) for _, answer in pairs]
    assert result["distinct1"] == pytest.approx(_distinct(table["prediction"]))


def _distinct(texts: list[str]) -> float:
    counts = Counter(word for text in texts for word in text.split())
    return len(counts) / sum(counts.values())


def test_dialogue_is_learned_from_its_context(world: Path) -> None:
    result = _result(world / "1x1")
    assert result["perplexity"] < 0.7 * result["without_context"]["perplexity"]
    assert result["dev"]["perplexity"] == min(
        found["dev"]["perplexity"]
        for found in json.loads((world / "1x1" / "epochs.json").read_text())["by_step"].values()
    )
    assert result["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")


@pytest.mark.parametrize("layout", ["2x1", "1x2"])
def test_a_layout_changes_nothing(world: Path, layout: str) -> None:
    first, other = _losses(world / "1x1"), _losses(world / layout)
    assert len(first) >= 20
    assert other[:20] == pytest.approx(first[:20], abs=1e-5)
    expected, found = _result(world / "1x1"), _result(world / layout)
    assert found["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-3)
    texts = [read_predictions(world / name)["test"]["prediction"] for name in ("1x1", layout)]
    assert sum(a == b for a, b in zip(*texts, strict=True)) >= len(texts[0]) - 1


def test_the_first_loss_is_over_the_answers_tokens_only(world: Path) -> None:
    export_model(world / "gpt2", world / "theirs")
    pairs = answers_by_hand(world / "dailydialog", "train", world / "tokenizer.json")
    losses = losses_by_transformers(_transformers(world / "theirs"), pairs)
    by_example = [(loss, len(answer)) for loss, (_, answer) in zip(losses, pairs, strict=True)]
    assert len(by_example) > DIALOGUES.batch_size
    first = _losses(world / "1x1")[0]
    chosen = np.random.RandomState([1, 0]).permutation(len(by_example))[: DIALOGUES.batch_size]
    expected = sum(by_example[i][0] for i in chosen) / sum(by_example[i][1] for i in chosen)
    assert first == pytest.approx(expected, abs=1e-5)


def test_summaries_are_those_that_transformers_finds_by_beams(world: Path) -> None:
    result, table = _result(world / "summaries"), read_predictions(world / "summaries")["test"]
    tokenizer = load_tokenizer(world / "tokenizer.json")
    model = _transformers(world / "summaries" / "theirs")
    test = rows(world / "xsum" / "test.jsonl")
    hint, tokens = tokenizer.encode("\nTL;DR:"), LENGTH // 2
    cut = 0
    for number, row in enumerate(test):
        article = tokenizer.encode(row["document"])
        room = LENGTH + 1 - tokens - len(hint)
        cut += len(article) > room
        prompt = article[:room] + hint
        found = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=tokens, num_beams=4, do_sample=False, eos_token_id=END, pad_token_id=END,
        )[0, len(prompt) :].tolist()  # fmt: skip
        ids = found[: found.index(END)] if END in found else found
        assert table["prediction"][number] == tokenizer.decode(ids).strip()
    assert result["cut"]["test"]["articles_cut"] == cut == len(test)
    assert table["reference"] == [row["summary"] for row in test]
    assert table["id"] == [row["id"] for row in test]
    assert set(result["without_article"]) >= {"rouge1", "perplexity"}
    assert result["first_sentences"]["rouge1"] == pytest.approx(
        sum(
            _rouge1(" ".join(row["document"].split("Both ate.")[0:1]) + " Both ate.", row["summary"])
            for row in test
        )
        / len(test)
    )


def _rouge1(text: str, reference: str) -> float:
    """By its definition; no word here has a stem of its own."""
    first, second = (Counter(part.lower().replace(".", " ").split()) for part in (text, reference))
    overlap = sum((first & second).values())
    precision, recall = overlap / sum(first.values()), overlap / sum(second.values())
    return 2 * precision * recall / (precision + recall) if overlap else 0.0


def test_zero_shot_summaries_say_how_they_were_asked_for_and_what_was_cut(world: Path) -> None:
    result = json.loads((world / "zero_shot.json").read_text())
    assert result["articles"] == len(result["texts"]) == 7 == result["articles_cut"]
    assert all(text.count("\n") < 3 for text in result["texts"])
    assert result["way"] == "article, 'TL;DR:', 100 tokens, top-k 2, the first 3 sentences"
    for name in ("without_hint", "untrained", "beside_another_article", "first_sentences", "another_summary"):
        assert set(result[name]) == {"rouge1", "rouge2", "rougeL", "rougeLsum"}
    assert result["untrained"] == {name: result[name] for name in result["untrained"]}
