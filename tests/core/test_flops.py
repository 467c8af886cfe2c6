"""Counted operations against the paper's formula and against what torch counts while the real models train."""

from dataclasses import replace

import pytest
import torch
from distributed import run_distributed
from objectives import BERT, GPT2, POST_NORM_BERT, random_batch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from core.config import preset
from core.model_directory import build_model
from core.models.bert import BertPretraining
from core.models.gpt2 import GPT2LanguageModeling
from core.parallel.mesh import initialize
from core.training.flops import batch_flops, sequence_flops
from core.training.preparation import set_recompute


@pytest.mark.parametrize("name", ["gpt2-355m", "gpt2-8.3b"])
def test_gpt2_follows_the_papers_formula(name):
    config = preset(name)
    s, h, layers, vocabulary = 1024, config.hidden, config.layers, config.vocabulary_size
    expected = 72 * s * layers * h**2 * (1 + s / (6 * h) + vocabulary / (12 * layers * h))
    assert sequence_flops(config, s, s).model == pytest.approx(expected, rel=1e-12)


def test_recomputation_counts_as_hardware_flops_only():
    config = replace(preset("gpt2-355m"), vocabulary_size=50176)  # a multiple of 1024: no padding
    none, selective, full = (sequence_flops(config, 1024, 1024, r) for r in ("none", "selective", "full"))
    assert none.model == none.hardware == selective.model == full.model
    layer_terms = none.model - 6 * 1024 * 1024 * 50176
    assert full.hardware - full.model == pytest.approx(layer_terms / 3)
    assert selective.hardware - selective.model == 4 * 24 * 1024**2 * 1024


def _counted(config, recompute: str) -> tuple[float, float, float]:
    """(counted by torch, hardware, model) of a training pass on 3 sequences."""
    network = build_model(config, initialize(1), seed=1)
    model = GPT2LanguageModeling(network) if config.family == "gpt2" else BertPretraining(network)
    set_recompute(model.train(), recompute)
    batch = random_batch(config, [0, 1, 2])
    # The plain kernel: torch cannot count the fused one of CPUs.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.stack(list(model(**batch).values())).sum().backward()
    flops = batch_flops(model, batch, recompute)
    return counter.get_total_flops(), flops.hardware, flops.model


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("config", [GPT2, BERT, POST_NORM_BERT], ids=["gpt2", "bert", "post-norm"])
def test_hardware_flops_are_what_torch_counts(config, recompute):
    # With dropout: without it torch leaves out the last product of a layer's second pass.
    config = replace(config, dropout=0.1, attention_dropout=0.1, vocabulary_multiple=64)
    ((counted, hardware, model),) = run_distributed(_counted, 1, config, recompute)
    if (
        recompute == "selective"
    ):  # a fused kernel would be run again as a whole, of the plain one only the scores
        hardware -= 3 * config.layers * 2 * config.sequence_length**2 * config.hidden
    # Only the head of two outputs is left out.
    assert counted == pytest.approx(hardware, rel=2e-3)
    assert model < hardware, "131 tokens are padded to 192"
