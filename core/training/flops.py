"""Floating-point operations of training, by the paper's arithmetic. For GPT-2 and a batch of B sequences of length s:

    72 · B · s · l · h² · (1 + s / (6 h) + V / (12 l h))

Counted are the matrix products, a multiplication and an addition as two, the backward pass as two forward passes:

    a layer                  24 s h²   query, key, value; attention's output; the two of the feed-forward part
    attention's core         4 s² h    scores and their sum of values, causal or not: GPT-2's masked half counts too
    GPT-2's output layer     2 s h V   at every place
    BERT's output layer      2 p h V   at the p places of `masked_positions` only, and 2 p h² before it
    BERT's pooler            2 h²      at the first place

Not counted: everything elementwise, look-ups, the optimizer, heads of one or two outputs, and the scores that a fused
attention kernel computes again in its backward pass. Places of padding are computed, and so they count.

Importing this imports no torch: plans estimate with it, too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.config import ModelConfig
from core.families import FAMILIES

if TYPE_CHECKING:
    import torch
    from torch import nn

_PASSES = 3  # a forward pass, and a backward pass of twice its work


@dataclass(frozen=True)
class Flops:
    """Operations of a step or a part of it.

    Attributes:
        model: what the model needs, with the tokenizer's vocabulary; the same on every layout.
        hardware: what is computed: the vocabulary's padding too, and the recomputed passes. With dropout 0, "full"
            computes a little less than this: torch ends a layer's second pass at the last value that it needs.
    """

    model: float
    hardware: float


def sequence_flops(config: ModelConfig, length: int, predictions: int, recompute: str = "none") -> Flops:
    """Training on one sequence.

    Args:
        predictions: places whose tokens are predicted: all for GPT-2, the masked ones for BERT, 0 without that head.
        recompute: as in `TrainingConfig`.
    """
    hidden = config.hidden
    attention = config.layers * 4 * length**2 * hidden
    layers = config.layers * 24 * length * hidden**2 + attention
    logits = 2 * predictions * hidden
    heads = FAMILIES[config.family].head_flops(hidden, predictions)
    again = {"none": 0, "selective": attention, "full": layers}[recompute]
    return Flops(
        model=_PASSES * (layers + heads + logits * config.vocabulary_size),
        hardware=_PASSES * (layers + heads + logits * config.padded_vocabulary_size) + again,
    )


def batch_flops(model: "nn.Module", batch: "dict[str, torch.Tensor]", recompute: str = "none") -> Flops:
    """Training on one batch (`tokens` [sequences, length]) of any model around one of `core.models`."""
    from core.models.transformer import EmbeddedTransformer

    network = next(module for module in model.modules() if isinstance(module, EmbeddedTransformer))
    sequences, length = batch["tokens"].shape
    predictions = length if FAMILIES[network.config.family].causal else 0
    if "masked_positions" in batch:
        predictions = batch["masked_positions"].shape[1]
    one = sequence_flops(network.config, length, predictions, recompute)
    return Flops(sequences * one.model, sequences * one.hardware)
