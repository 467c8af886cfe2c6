"""Which of our tensors are which of Hugging Face's, and how their layouts differ.

Three kinds of models: GPT-2 (`GPT2LMHeadModel`), BERT in the original order (`BertForPreTraining`, figure 7a) and in
the paper's (`MegatronBertForPreTraining`, figure 7b). Names here are without the prefix "transformer." or "bert.".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from core.config import ModelConfig

Kind = Literal["gpt2", "bert", "megatron-bert"]

# What models were saved with beside their weights: buffers, and second names of tied weights (checked apart).
PREFIX: dict[Kind, str] = {"gpt2": "transformer.", "bert": "bert.", "megatron-bert": "bert."}
BUFFERS: dict[Kind, tuple[str, ...]] = {
    "gpt2": (".attn.bias", ".attn.masked_bias"),
    "bert": ("embeddings.position_ids", "embeddings.token_type_ids"),
    "megatron-bert": ("embeddings.position_ids", "embeddings.token_type_ids"),
}
TIED: dict[Kind, dict[str, str]] = {
    "gpt2": {"lm_head.weight": "wte.weight"},
    "bert": {
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
}
TIED["megatron-bert"] = TIED["bert"]


@dataclass(frozen=True)
class Correspondence:
    """One of our tensors and the one (or the three: query, key, value) of Hugging Face's that hold its values.

    Attributes:
        shape: of ours, whole: with the padded vocabulary.
        transposed: theirs is [in, out] (GPT-2's Conv1D), ours [out, in].
        fused: ours has rows (head, query/key/value, head size), theirs (query/key/value, head, head size).
        vocabulary: ours has rows of padding after the vocabulary, theirs has none.
    """

    ours: str
    theirs: tuple[str, ...]
    shape: tuple[int, ...]
    transposed: bool = False
    fused: bool = False
    vocabulary: bool = False

    def to_ours(self, tensors: list[torch.Tensor], config: ModelConfig) -> torch.Tensor:
        """Their tensors as ours, fp32; rows of padding are zeros."""
        values = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        values = values.float()
        if self.transposed:
            values = values.T
        if self.fused:
            split = values.reshape(3, config.heads, config.head_size, -1)
            values = split.transpose(0, 1).reshape(self.shape)
        if self.vocabulary:
            missing = self.shape[0] - values.shape[0]
            values = F.pad(values, (0, 0) * (values.dim() - 1) + (0, missing))
        return values.contiguous()

    def to_theirs(self, values: torch.Tensor, config: ModelConfig) -> tuple[torch.Tensor, ...]:
        """Our tensor as theirs, in the order of their names."""
        if self.vocabulary:
            values = values[: config.vocabulary_size]
        if self.fused:
            split = values.reshape(config.heads, 3, config.head_size, -1)
            values = split.transpose(0, 1).reshape(self.shape)
        if self.transposed:
            values = values.T
        return values.chunk(len(self.theirs))

    def their_shape(self, config: ModelConfig) -> tuple[int, ...]:
        """The shape of each of their tensors."""
        return tuple(self.to_theirs(torch.empty(self.shape, device="meta"), config)[0].shape)


def correspondences(kind: Kind, config: ModelConfig) -> list[Correspondence]:
    """Every tensor of a model, whole, in the order of the forward pass."""
    return list(_gpt2(config) if kind == "gpt2" else _bert(config, megatron=kind == "megatron-bert"))


def _gpt2(config: ModelConfig) -> Iterator[Correspondence]:
    hidden = config.hidden
    yield _embedding(config, "wte.weight")
    yield Correspondence("position_embedding.weight", ("wpe.weight",), (config.sequence_length, hidden))
    for index in range(config.layers):
        ours, theirs = f"transformer.layers.{index}", f"h.{index}"
        yield from _norm(f"{ours}.attention_norm", f"{theirs}.ln_1", hidden)
        yield from _linear(
            f"{ours}.attention.query_key_value",
            (f"{theirs}.attn.c_attn",),
            3 * hidden,
            hidden,
            transposed=True,
            fused=True,
        )
        yield from _linear(
            f"{ours}.attention.output", (f"{theirs}.attn.c_proj",), hidden, hidden, transposed=True
        )
        yield from _norm(f"{ours}.feed_forward_norm", f"{theirs}.ln_2", hidden)
        yield from _linear(
            f"{ours}.feed_forward.expand", (f"{theirs}.mlp.c_fc",), 4 * hidden, hidden, transposed=True
        )
        yield from _linear(
            f"{ours}.feed_forward.contract", (f"{theirs}.mlp.c_proj",), hidden, 4 * hidden, transposed=True
        )
    yield from _norm("transformer.final_norm", "ln_f", hidden)


def _bert(config: ModelConfig, megatron: bool) -> Iterator[Correspondence]:
    """Megatron's order names the norm before a sublayer `ln`, and has one after the last layer and none on the
    embeddings; the original order names the norm after it `output.LayerNorm`."""
    hidden = config.hidden
    yield _embedding(config, "embeddings.word_embeddings.weight")
    yield Correspondence(
        "position_embedding.weight",
        ("embeddings.position_embeddings.weight",),
        (config.sequence_length, hidden),
    )
    yield Correspondence(
        "token_type_embedding.weight", ("embeddings.token_type_embeddings.weight",), (2, hidden)
    )
    if not megatron:
        yield from _norm("embedding_norm", "embeddings.LayerNorm", hidden)
    for index in range(config.layers):
        ours, theirs = f"transformer.layers.{index}", f"encoder.layer.{index}"
        norms = ("attention.ln", "ln") if megatron else ("attention.output.LayerNorm", "output.LayerNorm")
        parts = tuple(f"{theirs}.attention.self.{part}" for part in ("query", "key", "value"))
        yield from _norm(f"{ours}.attention_norm", f"{theirs}.{norms[0]}", hidden)
        yield from _linear(f"{ours}.attention.query_key_value", parts, 3 * hidden, hidden, fused=True)
        yield from _linear(f"{ours}.attention.output", (f"{theirs}.attention.output.dense",), hidden, hidden)
        yield from _norm(f"{ours}.feed_forward_norm", f"{theirs}.{norms[1]}", hidden)
        yield from _linear(
            f"{ours}.feed_forward.expand", (f"{theirs}.intermediate.dense",), 4 * hidden, hidden
        )
        yield from _linear(f"{ours}.feed_forward.contract", (f"{theirs}.output.dense",), hidden, 4 * hidden)
    if megatron:
        yield from _norm("transformer.final_norm", "encoder.ln", hidden)
    yield from _bert_heads(config)


def _bert_heads(config: ModelConfig) -> Iterator[Correspondence]:
    hidden = config.hidden
    yield from _linear("pooler", ("pooler.dense",), hidden, hidden)
    yield from _linear("masked_token_head.dense", ("cls.predictions.transform.dense",), hidden, hidden)
    yield from _norm("masked_token_head.norm", "cls.predictions.transform.LayerNorm", hidden)
    yield Correspondence(
        "masked_token_head.bias",
        ("cls.predictions.bias",),
        (config.padded_vocabulary_size,),
        vocabulary=True,
    )
    yield from _linear("sentence_order_head", ("cls.seq_relationship",), 2, hidden)


def _embedding(config: ModelConfig, theirs: str) -> Correspondence:
    shape = (config.padded_vocabulary_size, config.hidden)
    return Correspondence("token_embedding.weight", (theirs,), shape, vocabulary=True)


def _norm(ours: str, theirs: str, hidden: int) -> Iterator[Correspondence]:
    for part in ("weight", "bias"):
        yield Correspondence(f"{ours}.{part}", (f"{theirs}.{part}",), (hidden,))


def _linear(
    ours: str,
    theirs: tuple[str, ...],
    outputs: int,
    inputs: int,
    transposed: bool = False,
    fused: bool = False,
) -> Iterator[Correspondence]:
    for part, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
        names = tuple(f"{name}.{part}" for name in theirs)
        yield Correspondence(f"{ours}.{part}", names, shape, transposed and part == "weight", fused)
