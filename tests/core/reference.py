"""GPT-2 and BERT in plain torch, one process, from whole weights by name: what the core's layers must agree with.

Written from the papers' equations without the core's layers, collectives or DTensors.
"""

import math

import torch
import torch.nn.functional as F

Weights = dict[str, torch.Tensor]


def _linear(weights: Weights, name: str, values: torch.Tensor) -> torch.Tensor:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(weights: Weights, name: str, values: torch.Tensor, eps: float) -> torch.Tensor:
    mean = values.mean(-1, keepdim=True)
    variance = values.var(-1, unbiased=False, keepdim=True)
    return (values - mean) / torch.sqrt(variance + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _attention(weights: Weights, name: str, values: torch.Tensor, heads: int, mask: torch.Tensor):
    batch, sequence, hidden = values.shape
    size = hidden // heads
    fused = _linear(weights, f"{name}.query_key_value", values).reshape(batch, sequence, heads, 3, size)
    query, key, value = (fused[:, :, :, i].transpose(1, 2) for i in range(3))
    scores = query @ key.transpose(-1, -2) / math.sqrt(size)
    probabilities = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    context = (probabilities @ value).transpose(1, 2).reshape(batch, sequence, hidden)
    return _linear(weights, f"{name}.output", context)


def _stack(weights: Weights, config, values: torch.Tensor, mask: torch.Tensor, prefix: str) -> torch.Tensor:
    form = "tanh" if config.activation == "gelu_tanh" else "none"

    def feed_forward(name: str, inputs: torch.Tensor) -> torch.Tensor:
        return _linear(
            weights,
            f"{name}.contract",
            F.gelu(_linear(weights, f"{name}.expand", inputs), approximate=form),
        )

    for index in range(config.layers):
        layer = f"{prefix}transformer.layers.{index}"
        norms = (f"{layer}.attention_norm", f"{layer}.feed_forward_norm")
        eps = config.layer_norm_eps
        if config.norm_order == "pre":
            normed = _norm(weights, norms[0], values, eps)
            values = values + _attention(weights, f"{layer}.attention", normed, config.heads, mask)
            values = values + feed_forward(f"{layer}.feed_forward", _norm(weights, norms[1], values, eps))
        else:
            attended = values + _attention(weights, f"{layer}.attention", values, config.heads, mask)
            values = _norm(weights, norms[0], attended, eps)
            values = _norm(weights, norms[1], values + feed_forward(f"{layer}.feed_forward", values), eps)
    if config.norm_order == "pre":
        values = _norm(weights, f"{prefix}transformer.final_norm", values, config.layer_norm_eps)
    return values


def gpt2_logits(weights: Weights, config, tokens: torch.Tensor, prefix: str = "network.") -> torch.Tensor:
    """[batch, sequence] → [batch, sequence, vocabulary], padding cut off."""
    sequence = tokens.shape[1]
    embedding = weights[f"{prefix}token_embedding.weight"]
    values = embedding[tokens] + weights[f"{prefix}position_embedding.weight"][:sequence]
    mask = torch.ones(sequence, sequence, dtype=torch.bool).tril()
    hidden = _stack(weights, config, values, mask, prefix)
    return (hidden @ embedding.T)[..., : config.vocabulary_size]


def gpt2_loss(weights: Weights, config, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean next-token loss."""
    logits = gpt2_logits(weights, config, batch["tokens"])
    return F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())


def bert_loss(weights: Weights, config, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean masked-token loss plus mean sentence-order loss."""
    prefix = "network."
    embedding = weights[f"{prefix}token_embedding.weight"]
    tokens = batch["tokens"]
    values = embedding[tokens] + weights[f"{prefix}position_embedding.weight"][: tokens.shape[1]]
    values = values + weights[f"{prefix}token_type_embedding.weight"][batch["token_types"]]
    if config.embedding_norm:
        values = _norm(weights, f"{prefix}embedding_norm", values, config.layer_norm_eps)
    mask = batch["attention_mask"].bool()[:, None, None, :]
    hidden = _stack(weights, config, values, mask, prefix)
    form = "tanh" if config.activation == "gelu_tanh" else "none"
    head = f"{prefix}masked_token_head"
    masked = F.gelu(_linear(weights, f"{head}.dense", hidden), approximate=form)
    masked = _norm(weights, f"{head}.norm", masked, config.layer_norm_eps)
    logits = (masked @ embedding.T + weights[f"{head}.bias"])[..., : config.vocabulary_size]
    total, count = torch.zeros(()), 0
    for row, (positions, targets) in enumerate(
        zip(batch["masked_positions"], batch["masked_targets"], strict=True)
    ):
        for position, target in zip(positions.tolist(), targets.tolist(), strict=True):
            if target >= 0:
                total = total - logits[row, position].log_softmax(-1)[target]
                count += 1
    pooled = torch.tanh(_linear(weights, f"{prefix}pooler", hidden[:, 0]))
    order = F.cross_entropy(_linear(weights, f"{prefix}sentence_order_head", pooled), batch["order_labels"])
    return total / count + order
