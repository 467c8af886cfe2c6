"""Scoring on real processes, against a reference that predicts one token at a time, without batches or padding."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed

from core.config import ModelConfig
from core.errors import UserError
from core.evaluation import batches_by_length, exact_sum, ratio_standard_error, scores_of_items
from core.model_directory import build_model
from core.parallel.mesh import Mesh, initialize
from core.program.kept_scores import KeptScores, remove_kept
from evaluate.perplexity import overlapping_windows
from evaluate.scoring import Scorer
from evaluate.sequences import ScoredSequence

# 11 tokens padded to 16: at two tensor ranks the second holds 3 real columns and 5 of padding. Large initial
# weights make the logits differ enough for some first choices to be right.
CONFIG = ModelConfig(
    family="gpt2",
    layers=2,
    hidden=32,
    heads=4,
    sequence_length=8,
    vocabulary_size=11,
    vocabulary_multiple=16,
    initial_std=0.3,
)
STRIDE = 3
TEXT_LENGTHS = (2, 8, 9, 10, 60)  # within a window, exactly one (9 tokens are 8 targets), one more, many


def _text(count: int) -> np.ndarray:
    return np.random.RandomState(count).randint(0, CONFIG.vocabulary_size, count)


def _passages() -> list[ScoredSequence]:
    """Random contexts and targets of one or two tokens: a small share is right by chance."""
    random = np.random.RandomState(5)
    sequences = []
    for _ in range(200):
        tokens = random.randint(0, CONFIG.vocabulary_size, random.randint(3, CONFIG.sequence_length + 2))
        sequences.append(ScoredSequence(tokens, scored=random.randint(1, 3)))
    return sequences


def _sequences(tokens: int | None) -> list[ScoredSequence]:
    if tokens is None:
        return _passages()
    return overlapping_windows(_text(tokens), CONFIG.sequence_length, STRIDE)


def _score_everything(tensor_parallel: int) -> list[tuple[float, int, int]]:
    """Loss, targets and right sequences of each text and of the passages."""
    mesh = initialize(tensor_parallel)
    model = build_model(CONFIG, mesh)
    results = []
    for tokens in (*TEXT_LENGTHS, None):
        totals = Scorer(model, mesh, batch_size=3)(_sequences(tokens))
        results.append((totals.loss, totals.targets, totals.correct))
    return results


def _reference() -> tuple[list[float], int]:
    """Loss of each text, and right passages: the definitions, one forward pass a token."""
    mesh = initialize(1)
    model = build_model(CONFIG, mesh)

    @torch.inference_mode()
    def log_probabilities(context: np.ndarray) -> torch.Tensor:
        logits = model(torch.tensor(np.asarray(context))[None])[0, -1, : CONFIG.vocabulary_size]
        return logits.double().log_softmax(-1)

    losses = []
    for count in TEXT_LENGTHS:
        text = _text(count)
        loss = 0.0
        for place in range(1, count):
            window = math.ceil(max(place - CONFIG.sequence_length, 0) / STRIDE)
            loss -= log_probabilities(text[window * STRIDE : place])[text[place]].item()
        losses.append(loss)

    right = 0
    for passage in _passages():
        right += all(
            log_probabilities(passage.tokens[:place]).argmax().item() == passage.tokens[place]
            for place in range(len(passage.tokens) - passage.scored, len(passage.tokens))
        )
    return losses, right


@pytest.fixture(scope="module")
def alone() -> list[tuple[float, int, int]]:
    return run_distributed(_score_everything, 1, 1)[0]


def test_scores_are_those_of_one_token_at_a_time(alone: list[tuple[float, int, int]]) -> None:
    losses, right = run_distributed(_reference, 1)[0]
    assert [loss for loss, _, _ in alone[:-1]] == pytest.approx(losses, rel=1e-5)
    assert [targets for _, targets, _ in alone[:-1]] == [count - 1 for count in TEXT_LENGTHS]
    assert 0 < right < 200, "the test needs passages of both kinds"
    assert alone[-1][2] == right


@pytest.mark.parametrize("data_parallel", [2, 3])
def test_digits_do_not_depend_on_the_number_of_data_ranks(
    alone: list[tuple[float, int, int]], data_parallel: int
) -> None:
    for of_rank in run_distributed(_score_everything, data_parallel, 1):
        assert of_rank == alone


@pytest.mark.parametrize("world_size", [2, 4])
def test_tensor_ranks_agree_to_rounding(alone: list[tuple[float, int, int]], world_size: int) -> None:
    ranks = run_distributed(_score_everything, world_size, 2)
    for of_rank in ranks:
        assert of_rank == ranks[0]
        for (loss, targets, correct), (loss_alone, targets_alone, correct_alone) in zip(
            of_rank, alone, strict=True
        ):
            assert loss == pytest.approx(loss_alone, rel=1e-6)
            assert (targets, correct) == (targets_alone, correct_alone)


def _deal(count: int) -> tuple[list[float], list[int]]:
    mesh = initialize(1)
    seen: list[int] = []

    def score(items: Sequence[int]) -> np.ndarray:
        seen.append(items[0])
        return np.array([[0.1 * item, 1.0] for item in items])

    scores = scores_of_items([[item] for item in range(count)], score, 2, mesh)
    return [exact_sum(column) for column in scores.T], seen


@pytest.mark.parametrize("count", [1, 2, 7])
def test_batches_are_dealt_like_cards(count: int) -> None:
    """One batch for two ranks leaves one with nothing: it still takes part in the sum."""
    ranks = run_distributed(_deal, 2, count)
    for rank, (totals, seen) in enumerate(ranks):
        assert seen == list(range(rank, count, 2))
        assert totals == [math.fsum(0.1 * item for item in range(count)), count]


@pytest.mark.parametrize("grouped", [False, True])
def test_a_standard_error_is_the_jackknifes(grouped: bool) -> None:
    """A ratio's, over independent groups: leaving out one group at a time, which needs no formula."""
    random = np.random.RandomState(2)
    sizes = random.randint(50, 70, 400).astype(float)
    groups = np.arange(400) // 4 if grouped else np.arange(400)
    sums = sizes * (3 + random.randn(100)[np.arange(400) // 4] * 0.1 + random.randn(400) * 0.05)
    left_out = [
        sums[groups != group].sum() / sizes[groups != group].sum() for group in range(groups.max() + 1)
    ]
    count = len(left_out)
    jackknife = math.sqrt((count - 1) / count * np.square(left_out - np.mean(left_out)).sum())
    own = ratio_standard_error(sums, sizes, groups if grouped else None)
    assert own == pytest.approx(jackknife, rel=0.01)


def test_the_standard_error_of_a_share_is_the_deviation_over_the_root_of_the_number() -> None:
    right = np.array([1.0] * 30 + [0.0] * 70)
    assert ratio_standard_error(right, np.ones(100)) == pytest.approx(statistics.stdev(right) / 10)
    assert ratio_standard_error(right[:1], np.ones(1)) is None


def test_batches_fill_the_room_and_keep_long_items() -> None:
    lengths = [3, 9, 1, 5, 3, 12]
    batches = batches_by_length(lengths, tokens=10)
    assert batches == [[5], [1], [3, 0], [4, 2]]
    assert sorted(index for batch in batches for index in batch) == list(range(6))


def _not_finite() -> Any:
    mesh: Mesh = initialize(1)
    model = build_model(CONFIG, mesh)
    with torch.no_grad():
        model.token_embedding.weight.to_local().fill_(float("nan"))
    with pytest.raises(ValueError, match="not a finite number"):
        Scorer(model, mesh, batch_size=3)(_sequences(10))


def test_a_broken_model_is_an_error() -> None:
    run_distributed(_not_finite, 1)


def _no_token(wrong: int, scored: bool, tensor: int) -> str:
    mesh = initialize(tensor)
    sequences = _passages()[:4]
    tokens = sequences[2].tokens.copy()
    tokens[-1 if scored else 0] = wrong
    sequences[2] = ScoredSequence(tokens, sequences[2].scored)
    with pytest.raises(UserError) as error:
        Scorer(build_model(CONFIG, mesh), mesh, batch_size=3)(sequences)
    return str(error.value)


@pytest.mark.parametrize("tensor", [1, 2])
def test_an_id_that_is_no_token_is_an_error_on_any_layout(tensor: int) -> None:
    for scored in (False, True):
        for message in run_distributed(_no_token, tensor, CONFIG.vocabulary_size, scored, tensor):
            assert message.startswith(f"sequence 2 of 4: token id {CONFIG.vocabulary_size} is none of the")


@pytest.mark.parametrize("kind", ["cut off", "of another cut", "of another width"])
def test_kept_scores_that_do_not_fit_count_as_none(tmp_path: Path, kind: str) -> None:
    """Batches of 3, 2 and 4 items: the first stretch stays, what follows is scored again."""
    sizes, output = [3, 2, 4], tmp_path / "result.json"
    kept = KeptScores.beside(output, {"data": "a"})
    assert kept.read(sizes) is None
    scores = np.arange(18.0).reshape(9, 2)
    kept.write(0, scores[:3])
    kept.write(1, scores[3:])
    again = KeptScores.beside(output, {"data": "a"})
    assert np.array_equal(again.read(sizes), scores)  # type: ignore[arg-type]
    assert again.read(sizes) is None, "the next pass has none"
    path = tmp_path / "result.json.partial" / "00-000000001.npy"
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        np.save(path, scores[3:8] if kind == "of another cut" else scores[3:].ravel())
    assert np.array_equal(KeptScores.beside(output, {"data": "a"}).read(sizes), scores[:3])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"what was scored there was asked .*data was a, is b; remove it"):
        KeptScores.beside(output, {"data": "b"})
    (tmp_path / "result.json.partial" / "asked.json").unlink()
    assert KeptScores.beside(output, {"data": "b"}).read(sizes) is None, "nobody knows of what these are"
    remove_kept(output)
    assert not list(tmp_path.iterdir())
