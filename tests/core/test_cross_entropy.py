"""The vocabulary-parallel loss and argmax against torch's on whole logits, odd sizes included."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from distributed import run_distributed

from core.parallel.cross_entropy import IGNORED, vocabulary_parallel_argmax, vocabulary_parallel_cross_entropy
from core.parallel.layers import VocabularyParallelEmbedding, initialize_parameters
from core.parallel.mesh import initialize

PADDED = 160


def _inputs(vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = (
        torch.randn(3, 5, PADDED, generator=generator) * 30
    )  # far beyond what exp() of fp32 holds, summed
    logits[..., vocabulary:] = 1000.0  # what must take no part
    targets = torch.randint(0, vocabulary, (3, 5), generator=generator)
    targets[0, 0] = IGNORED
    targets[1, 1] = vocabulary - 1
    return logits, targets


def _parallel(vocabulary: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    group = initialize(torch.distributed.get_world_size()).tensor_group
    logits, targets = _inputs(vocabulary)
    local = logits.chunk(group.size(), -1)[group.rank()].clone().requires_grad_()
    best = vocabulary_parallel_argmax(local.detach(), group=group, vocabulary_size=vocabulary)
    with torch.no_grad():
        scored = vocabulary_parallel_cross_entropy(local, targets, group=group, vocabulary_size=vocabulary)
    losses = vocabulary_parallel_cross_entropy(local, targets, group=group, vocabulary_size=vocabulary)
    assert torch.equal(scored, losses), "without a gradient the logits stay as they are"
    total = (losses * torch.arange(15).view(3, 5)).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()
    return losses.detach().numpy(), local.grad.numpy(), best.numpy()


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("vocabulary", [131, 128, 37])  # at 37 three of four ranks hold only padding
def test_agrees_with_torch(ranks, vocabulary):
    logits, targets = _inputs(vocabulary)
    logits.requires_grad_()
    real = logits[..., :vocabulary]
    wanted = F.cross_entropy(real.flatten(0, 1), targets.flatten(), reduction="none").view(3, 5)
    (wanted * torch.arange(15).view(3, 5)).sum().backward()
    results = run_distributed(_parallel, ranks, vocabulary)
    for losses, _, best in results:
        np.testing.assert_allclose(losses, wanted.detach().numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(best, real.argmax(-1).numpy())
    gradient = np.concatenate([result[1] for result in results], axis=-1)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=1e-4, atol=1e-5)
    assert not gradient[..., vocabulary:].any()


def _ties() -> list[int]:
    group = initialize(2).tensor_group
    return vocabulary_parallel_argmax(torch.zeros(2, 8), group=group, vocabulary_size=16).tolist()


def test_of_equal_logits_the_lowest_id_wins():
    assert run_distributed(_ties, 2) == [[0, 0], [0, 0]]


def _no_tokens() -> list[float]:
    group = initialize(torch.distributed.get_world_size()).tensor_group
    logits, targets = _inputs(131)
    targets[0, 1:] = torch.tensor([131, PADDED - 1, PADDED, -1])  # in the padding, beyond it, and negative
    local = logits.chunk(group.size(), -1)[group.rank()].clone()
    return vocabulary_parallel_cross_entropy(local, targets, group=group, vocabulary_size=131).tolist()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_target_that_is_no_token_has_no_finite_loss(ranks):
    for losses in run_distributed(_no_tokens, ranks):
        assert losses[0][0] == 0.0, "ignored"
        assert np.isnan(losses[0][1:]).all() and np.isfinite(losses[1:]).all()


def _embedded(ids: list[int]) -> np.ndarray:
    mesh = initialize(2)
    embedding = VocabularyParallelEmbedding(PADDED, 4, mesh, 0.02)
    initialize_parameters(embedding, 1)
    return embedding(torch.tensor([ids])).detach().numpy()[0]


def test_an_id_without_a_row_on_any_rank_embeds_to_no_number():
    for embedded in run_distributed(_embedded, 2, [0, PADDED - 1, PADDED, -1, 80, 79]):
        assert np.isnan(embedded[[2, 3]]).all()
        assert np.isfinite(embedded[[0, 1, 4, 5]]).all() and embedded[[0, 1, 4, 5]].any(axis=1).all()
