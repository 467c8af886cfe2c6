"""Spans: the best ones against trying all, the head against `transformers`, answers exact at any layout and batch size."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed

from core.config import TrainingConfig
from core.errors import UserError
from core.interop.huggingface import import_model
from core.model_directory import load_parameters, read_config
from core.parallel.mesh import Mesh, initialize
from core.training.trainer import train
from data_pipeline.benchmarks.squad import read_split
from data_pipeline.tokenization.tokenizers import load_tokenizer
from finetune.heads import Scorer
from finetune.spans import SpanModel, Spans, best_spans, of_questions, predicted_spans
from finetune.squad import encode_split
from finetune.tuner import Epochs
from finetune.windows import WindowExamples
from tests.finetune.race_tree import write_vocabulary
from tests.finetune.squad_files import write_animals

LENGTH = 32
SIZES = {
    "vocab_size": 131, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "max_position_embeddings": LENGTH, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def _tried(
    scores: np.ndarray, firsts: np.ndarray, lasts: np.ndarray, longest: int
) -> list[tuple[float, int, int]]:
    """All spans there are, the best first; of equal ones the earlier, then the shorter."""
    places = range(len(scores))
    spans = [
        (float(scores[first, 0]) + float(scores[last, 1]), first, last)
        for first, last in itertools.product(places, places)
        if firsts[first] and lasts[last] and first <= last < first + longest
    ]
    return sorted(spans, key=lambda span: (-span[0], span[1], span[2]))


@pytest.mark.parametrize("equal", [False, True])
def test_the_best_spans_are_the_best_of_all(equal: bool) -> None:
    random = np.random.RandomState(4)
    for _ in range(60):
        windows, sequence = random.randint(1, 4), random.randint(1, 18)
        count, longest = random.randint(1, 9), random.randint(1, 7)
        scores = random.randn(windows, sequence, 2).astype(np.float32)
        scores = np.round(scores) if equal else scores  # many equal sums
        firsts, lasts = random.rand(2, windows, sequence) < 0.6
        found = best_spans(
            torch.from_numpy(scores),
            torch.from_numpy(firsts),
            torch.from_numpy(lasts),
            count=count,
            longest=longest,
        ).numpy()
        assert found.shape == (windows, 1 + 3 * count)
        for row in range(windows):
            assert found[row, 0] == float(scores[row, 0, 0]) + float(scores[row, 0, 1])
            expected = _tried(scores[row], firsts[row], lasts[row], longest)[:count]
            spans = found[row, 1:].reshape(count, 3)
            assert [tuple(span) for span in spans[: len(expected)]] == expected
            assert (spans[len(expected) :, 1:] == -1).all()


def _their(folder: Path) -> dict[str, np.ndarray]:
    """Write a pretrained model of theirs with weights far from their initial ones; its head's weights, and what it says."""
    import transformers

    config = transformers.BertConfig(**SIZES)
    pretrained = transformers.BertForPreTraining(config)
    model = transformers.BertForQuestionAnswering(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in (*pretrained.parameters(), *model.qa_outputs.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    pretrained.save_pretrained(folder / "theirs")
    model.bert.load_state_dict(pretrained.bert.state_dict(), strict=False)
    import_model(folder / "theirs", folder / "ours")
    random = np.random.RandomState(5)
    lengths = np.array([LENGTH, LENGTH, 5, 17])[:, None]
    mask = (np.arange(LENGTH) < lengths).astype(np.int64)
    batch = {
        "tokens": random.randint(0, SIZES["vocab_size"], (4, LENGTH)) * mask,
        "token_types": (np.arange(LENGTH) >= lengths // 2) * mask,
        "attention_mask": mask,
        "answers": np.array([[3, 9], [0, 0], [4, 4], [2, 16]]),
    }
    inputs = {
        theirs: torch.from_numpy(batch[ours])
        for ours, theirs in (
            ("tokens", "input_ids"),
            ("token_types", "token_type_ids"),
            ("attention_mask",) * 2,
        )
    }
    answers = torch.from_numpy(batch["answers"])
    with torch.inference_mode():
        found = model(**inputs)
        full = {name: values[:2] for name, values in inputs.items()}  # without padding, which theirs counts
        loss = model(**full, start_positions=answers[:2, 0], end_positions=answers[:2, 1]).loss
    weights = {name: value.detach().numpy() for name, value in model.qa_outputs.named_parameters()}
    logits = np.stack([found.start_logits.numpy(), found.end_logits.numpy()], axis=2)
    return {**weights, **batch, "logits": logits, "loss": loss.numpy()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("spans")
    return folder, _their(folder)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_vocabulary(folder / "vocab.txt")
    write_animals(folder / "SQuAD", {"train": 12, "dev": 14}, "1.1")
    return folder


def _examples(inputs: Path, split: str) -> WindowExamples:
    tokenizer = load_tokenizer(inputs / "vocab.txt")
    return encode_split(
        read_split(inputs / "SQuAD", split, "1.1"), tokenizer, LENGTH, training=split == "train"
    )


def _model(folder: Path, expected: dict[str, np.ndarray], mesh: Mesh) -> SpanModel:
    """Their weights."""
    model = SpanModel(read_config(folder / "ours"), mesh, "span")
    load_parameters(model.network, folder / "ours")
    with torch.no_grad():
        for name, parameter in model.span_head.named_parameters():
            parameter.to_local().copy_(torch.from_numpy(expected[name]))
    return model


def _as_theirs(model: SpanModel, expected: dict[str, np.ndarray]) -> dict[str, Any]:
    """What ours says of their batch."""
    names = ("tokens", "token_types", "attention_mask", "answers")
    batch = {name: torch.from_numpy(expected[name]) for name in names}
    answers = batch.pop("answers")

    def loss(rows: slice, columns: int = LENGTH) -> float:
        chosen = {name: values[rows, :columns] for name, values in batch.items()}
        return model(**chosen, answers=answers[rows])["span"].item()

    with torch.inference_mode():
        return {
            "logits": model.scores(**batch).numpy(),
            "full": loss(slice(0, 2)),
            "padded": loss(slice(2, 4)),
            "cut": loss(slice(2, 3), 5) + loss(slice(3, 4), 17),
            "names": [name for name, _ in model.named_parameters()],
        }


def _one_by_one(model: SpanModel, examples: WindowExamples) -> list[tuple[float, int, int, float]]:
    """Of each question score, first and last token of the best span, and the lowest no-answer score, by plain loops."""
    found: list[list[tuple[float, int, int]]] = [[] for _ in examples.questions]
    none = [np.inf] * len(found)
    for row in range(len(examples)):
        batch = {name: torch.from_numpy(values) for name, values in examples.batch(np.array([row])).items()}
        firsts, lasts = (batch.pop(name)[0].numpy() for name in ("firsts", "lasts"))
        with torch.inference_mode():
            scores = model.scores(**batch)[0].numpy()
        question = int(examples.windows.question[row])
        none[question] = min(none[question], float(scores[0, 0]) + float(scores[0, 1]))
        shift = int(examples.windows.start[row]) - len(examples.questions[question]) - 2
        found[question] += [
            (score, first + shift, last + shift) for score, first, last in _tried(scores, firsts, lasts, 30)
        ]
    best = [min(spans, key=lambda span: (-span[0], span[1], span[2])) for spans in found]
    return [(*span, lowest) for span, lowest in zip(best, none, strict=True)]


def _asked(
    folder: Path, expected: dict[str, np.ndarray], inputs: Path, output: Path, tensor: int
) -> dict[str, Any]:
    """All that is asked of one layout: their batch, answers at several batch sizes, the losses of a training."""
    mesh = initialize(tensor)
    model = _model(folder, expected, mesh).eval()
    examples = _examples(inputs, "dev")
    found = {
        "theirs": _as_theirs(model, expected),
        "answers": {size: predicted_spans(Scorer(model, mesh, size), examples, "dev") for size in (1, 3, 32)},
        "one by one": _one_by_one(model, examples),
    }
    config = TrainingConfig(steps=5, global_batch=8, micro_batch=2, learning_rate=1e-3, schedule="linear")
    task = Epochs(
        _model(folder, expected, mesh), _examples(inputs, "train"), mesh, epochs=4, seed=3, batch_size=8
    )
    train(task, mesh, config, output)
    records = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    found["losses"] = [record["loss"] for record in records]
    with torch.no_grad():
        model.span_head.bias.to_local().fill_(torch.nan)
    with pytest.raises(UserError) as error:
        predicted_spans(Scorer(model, mesh, 8), examples, "dev")
    return {**found, "message": str(error.value)}


@pytest.fixture(scope="module")
def ranks(
    theirs: Any, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    """What each rank says, by layout."""
    layouts = {
        "1 × 1": (1, 1),
        "2 × 1": (2, 1),
        "1 × 2": (2, 2),
    }  # data × tensor ranks: processes, tensor ranks
    output = tmp_path_factory.mktemp("trained")
    return {
        name: run_distributed(_asked, world, *theirs, inputs, output / str(place), tensor)
        for place, (name, (world, tensor)) in enumerate(layouts.items())
    }


@pytest.mark.parametrize("layout", ["1 × 1", "1 × 2"])
def test_the_logits_and_the_loss_are_those_of_transformers(theirs: Any, ranks: Any, layout: str) -> None:
    _, expected = theirs
    assert np.abs(expected["logits"]).max() > 0.5, "the test needs logits that differ"
    for rank in ranks[layout]:
        found = rank["theirs"]
        np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0, atol=1e-4)
        mask = expected["attention_mask"] > 0
        for ours, wanted, row in zip(found["logits"], expected["logits"], mask, strict=True):
            assert _tried(ours, row, row, 30)[0][1:] == _tried(wanted, row, row, 30)[0][1:]
        assert found["full"] / 2 == pytest.approx(float(expected["loss"]), abs=1e-4)
        assert found["padded"] == pytest.approx(found["cut"], abs=1e-4), "padding is no place of an answer"
        assert not [name for name in found["names"] if "pooler" in name], "no gradient would reach it"


def test_answers_are_the_same_at_any_layout_and_batch_size(ranks: Any) -> None:
    wanted: Spans = ranks["1 × 1"][0]["answers"][1]
    for layout, found in ranks.items():
        for rank in found:
            for size, spans in rank["answers"].items():
                where = f"{layout}, batches of {size}"
                for name in ("firsts", "lasts"):
                    assert (getattr(spans, name) == getattr(wanted, name)).all(), where
                np.testing.assert_allclose(spans.scores, wanted.scores, atol=1e-5)
                np.testing.assert_allclose(spans.no_answer, wanted.no_answer, atol=1e-5)
                for row, (score, first, last, none) in enumerate(rank["one by one"]):
                    assert (spans.firsts[row, 0], spans.lasts[row, 0]) == (first, last), where
                    assert spans.scores[row, 0] == pytest.approx(score, abs=1e-5)
                    assert spans.none[row] == pytest.approx(none, abs=1e-5)


def test_losses_agree_over_layouts(ranks: Any) -> None:
    losses = {layout: found[0]["losses"] for layout, found in ranks.items()}
    assert len(losses["1 × 1"]) == 5
    for layout in ("2 × 1", "1 × 2"):
        assert losses[layout] == pytest.approx(losses["1 × 1"], rel=1e-4)


def test_scores_that_are_no_numbers_are_named(ranks: Any) -> None:
    assert "are not finite numbers (dev)" in ranks["2 × 1"][0]["message"]


def test_the_best_of_several_windows_are_the_questions(inputs: Path) -> None:
    examples = _examples(inputs, "dev")
    windows = examples.windows
    several = next(question for question in windows.question if (windows.question == question).sum() > 1)
    rows = np.flatnonzero(windows.question == several)
    outputs = np.full((len(examples), 7), -1.0)
    outputs[:, 0] = 5.0
    outputs[rows[1], 0] = 2.0
    offset = len(examples.questions[several]) + 2
    outputs[rows[0], 1:] = [1.0, offset + 3, offset + 4, -9.0, -1, -1]
    outputs[rows[1], 1:] = [4.0, offset, offset, 1.0, offset + 1, offset + 1]
    spans = of_questions(outputs, examples)
    start = windows.start[rows[1]]
    assert spans.none[several] == 2.0 and spans.no_answer[several] == 2.0 - 4.0
    assert spans.firsts[several].tolist() == [start, 3] and spans.lasts[several].tolist() == [start, 4]
    assert spans.scores[several].tolist() == [4.0, 1.0]
    assert spans.no_answer[(several + 1) % len(spans.none)] == 0.0, "no span at all"
