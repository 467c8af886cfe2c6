"""BERT (paper section 5.3, table 4): an encoder with heads for masked tokens and sentence order."""

from collections.abc import Iterator
from typing import Any

from core.families.family import Family, add_family
from core.interop.correspondence import EVERYWHERE, Correspondence, HuggingFaceModel, embedding, linear, norm


def _head_flops(hidden: int, predictions: int) -> int:
    return 2 * hidden**2 * (predictions + 1)  # the dense layer before the output layer, and the pooler


def _original(config: Any) -> Iterator[Correspondence]:
    """Figure 7(a), the norm after a sublayer: `output.LayerNorm`, one on the embeddings, none at the end."""
    yield from _embeddings(config)
    yield from norm("embedding_norm", "embeddings.LayerNorm", config.hidden)
    yield from _layers(config, "attention.output.LayerNorm", "output.LayerNorm")
    yield from _heads(config)


def _megatron(config: Any) -> Iterator[Correspondence]:
    """Figure 7(b), the norm before a sublayer: `ln`, none on the embeddings, one at the end."""
    yield from _embeddings(config)
    yield from _layers(config, "attention.ln", "ln")
    yield from norm("transformer.final_norm", "encoder.ln", config.hidden)
    yield from _heads(config)


def _embeddings(config: Any) -> Iterator[Correspondence]:
    theirs = "embeddings.{}_embeddings.weight"
    yield embedding(config, theirs.format("word"))
    for ours, rows in (("position", config.sequence_length), ("token_type", 2)):
        yield Correspondence(f"{ours}_embedding.weight", (theirs.format(ours),), (rows, config.hidden))


def _layers(config: Any, attention_norm: str, feed_forward_norm: str) -> Iterator[Correspondence]:
    hidden = config.hidden
    for index in range(config.layers):
        ours, theirs = f"transformer.layers.{index}", f"encoder.layer.{index}"
        attention, wide = f"{ours}.attention", f"{ours}.feed_forward"
        parts = tuple(f"{theirs}.attention.self.{part}" for part in ("query", "key", "value"))
        yield from norm(f"{ours}.attention_norm", f"{theirs}.{attention_norm}", hidden)
        yield from linear(f"{attention}.query_key_value", parts, 3 * hidden, hidden, fused=True)
        yield from linear(f"{attention}.output", f"{theirs}.attention.output.dense", hidden, hidden)
        yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.{feed_forward_norm}", hidden)
        yield from linear(f"{wide}.expand", f"{theirs}.intermediate.dense", 4 * hidden, hidden)
        yield from linear(f"{wide}.contract", f"{theirs}.output.dense", hidden, 4 * hidden)


def _heads(config: Any) -> Iterator[Correspondence]:
    hidden, ours, theirs = config.hidden, "masked_token_head", "cls.predictions"
    yield from linear("pooler", "pooler.dense", hidden, hidden)
    yield from linear(f"{ours}.dense", f"{theirs}.transform.dense", hidden, hidden)
    yield from norm(f"{ours}.norm", f"{theirs}.transform.LayerNorm", hidden)
    vocabulary = (config.padded_vocabulary_size,)
    yield Correspondence(f"{ours}.bias", (f"{theirs}.bias",), vocabulary, vocabulary=True)
    yield from linear("sentence_order_head", "cls.seq_relationship", 2, hidden)


def _hugging_face(layers: int, hidden: int, vocabulary_size: int, **settings: Any) -> HuggingFaceModel:
    """A kind of model with these defaults."""
    return HuggingFaceModel(
        fields={
            "layers": ("num_hidden_layers", layers),
            "hidden": ("hidden_size", hidden),
            "heads": ("num_attention_heads", hidden // 64),
            "sequence_length": ("max_position_embeddings", 512),
            "vocabulary_size": ("vocab_size", vocabulary_size),
            "attention_dropout": ("attention_probs_dropout_prob", 0.1),
            "layer_norm_eps": ("layer_norm_eps", 1e-12),
            "initial_std": ("initializer_range", 0.02),
        },
        dropouts=("hidden_dropout_prob",),
        activation=("hidden_act", "gelu"),
        width="intermediate_size",
        only=EVERYWHERE
        | {
            "position_embedding_type": ("absolute", None),
            "type_vocab_size": (2,),
            "is_decoder": (False,),
        },
        constants=lambda config: {"type_vocab_size": 2},
        prefix="bert.",
        unprefixed=("cls.",),
        buffers=("embeddings.position_ids", "embeddings.token_type_ids"),
        tied={
            "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
        **settings,
    )


BERT = add_family(
    Family(
        name="bert",
        network="core.models.bert:BertModel",
        objective="core.models.bert:BertPretraining",
        causal=False,
        tokenizer="bert",
        shapes={
            "bert-336m": (24, 1024, 16),
            "bert-1.3b": (24, 2048, 32),
            "bert-3.9b": (48, 2560, 40),
        },
        sequence_length=512,
        vocabulary_size=30522,
        head_flops=_head_flops,
        hugging_face=(
            _hugging_face(
                *(12, 768, 30522),
                model_type="bert",
                architecture="BertForPreTraining",
                tensors=_original,
                fixed={"norm_order": "post", "embedding_norm": True},
            ),
            _hugging_face(
                *(24, 1024, 29056),
                model_type="megatron-bert",
                architecture="MegatronBertForPreTraining",
                tensors=_megatron,
                fixed={"norm_order": "pre", "embedding_norm": False},
            ),
        ),
    )
)
