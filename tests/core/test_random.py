"""Dropout's two streams: what must agree across ranks does, what must differ does, recomputation included."""

import traceback

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from distributed import run_distributed
from objectives import GPT2, RandomTask, random_batch, whole

from core.config import ModelConfig
from core.parallel.mesh import initialize
from core.parallel.random import RandomStreams, derived_seed
from core.training.preparation import set_recompute

DROPPING = ModelConfig("gpt2", 2, 32, 4, 16, 131, vocabulary_multiple=8, dropout=0.3, attention_dropout=0.3)


def _masks(
    tensor: int, recompute: str = "none", sequence_parallel: bool = False
) -> tuple[list[list[float]], list[list[float]], dict]:
    """What the residual and the attention dropouts drew (by hashable samples), and the gradients."""
    mesh = initialize(tensor, sequence_parallel)
    residual, attention = [], []
    original_dropout, original_attend = functional.dropout, functional.scaled_dot_product_attention

    def dropout(values, probability, training):
        residual.append((original_dropout(torch.ones(64), probability, training) > 0).tolist())
        return original_dropout(values, probability, training)

    def attend(*arguments, **settings):
        attention.append(torch.rand(8).tolist())
        return original_attend(*arguments, **settings)

    functional.dropout, functional.scaled_dot_product_attention = dropout, attend
    task = RandomTask(DROPPING, mesh)
    task.model.train()
    set_recompute(task.model, recompute)
    mesh.streams.start_micro_batch(seed=3, step=5, micro_batch=1)
    task.model(**random_batch(DROPPING, np.arange(2)))["language_model"].backward()
    return residual, attention, {n: whole(p.grad) for n, p in task.model.named_parameters()}


def test_residual_masks_agree_and_attention_masks_differ_across_tensor_ranks():
    first, second = run_distributed(_masks, 2, 2)
    assert first[0] == second[0]
    assert all(a != b for a, b in zip(first[1], second[1], strict=True))
    assert len({str(draw) for draw in first[1]}) == DROPPING.layers, "each layer draws anew"


def test_both_differ_across_data_ranks():
    first, second = run_distributed(_masks, 2, 1)
    assert all(a != b for a, b in zip(first[0], second[0], strict=True))
    assert all(a != b for a, b in zip(first[1], second[1], strict=True))


def test_under_sequence_parallelism_both_differ_across_tensor_ranks():
    first, second = run_distributed(_masks, 2, 2, "none", True)
    assert all(a != b for a, b in zip(first[0], second[0], strict=True))
    assert all(a != b for a, b in zip(first[1], second[1], strict=True))


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputation_draws_the_same_masks(recompute):
    for ranks, sequence_parallel in ((1, False), (2, False), (2, True)):
        plain = run_distributed(_masks, ranks, ranks, "none", sequence_parallel)
        recomputed = run_distributed(_masks, ranks, ranks, recompute, sequence_parallel)
        for (_, attention, gradients), (_, again, gradients_again) in zip(plain, recomputed, strict=True):
            assert again[: DROPPING.layers] == attention
            assert sorted(again[DROPPING.layers :]) == sorted(attention), (
                "backward recomputes with the same draws"
            )
            for name in gradients:
                np.testing.assert_array_equal(gradients[name], gradients_again[name])


def _initial(tensor: int) -> dict:
    task = RandomTask(GPT2, initialize(tensor))
    return {name: whole(p) for name, p in task.model.named_parameters()}


def test_initial_weights_do_not_depend_on_the_layout_and_have_the_stated_spread():
    single, four = run_distributed(_initial, 1, 1)[0], run_distributed(_initial, 4, 4)[0]
    for name, values in single.items():
        np.testing.assert_array_equal(values, four[name])
    expand = single["network.transformer.layers.0.feed_forward.expand.weight"]
    contract = single["network.transformer.layers.0.feed_forward.contract.weight"]
    assert abs(expand.std() / 0.02 - 1) < 0.05
    assert abs(contract.std() / (0.02 / np.sqrt(2 * GPT2.layers)) - 1) < 0.05
    assert not single["network.transformer.layers.0.feed_forward.expand.bias"].any()
    assert (single["network.transformer.final_norm.weight"] == 1).all()


def test_streams_start_as_torch_seeds_and_keep_nothing_of_absent_devices(monkeypatch):
    """torch.manual_seed notes a seed, and who gave it, for each kind of device that is not there: for every layer."""

    def refuse(*_, **__):
        raise AssertionError("a traceback is made")

    streams = RandomStreams(torch.device("cpu"), data_rank=1, tensor_rank=2, tensor_size=4)
    monkeypatch.setattr(traceback, "format_stack", refuse)
    streams.start_micro_batch(seed=3, step=5, micro_batch=1)
    streams.start_layer(7)
    drawn = torch.rand(4)
    with streams.attention():
        attention = torch.rand(4)
    monkeypatch.undo()
    place = (3, "dropout", 5, 1, 1, "layer", 7)
    for values, seed in ((drawn, derived_seed(*place)), (attention, derived_seed(*place, "attention", 2))):
        torch.manual_seed(seed)
        assert torch.equal(values, torch.rand(4))
