"""GPT-2 (paper tables 1 and 2): a causal transformer."""

from collections.abc import Iterator
from typing import Any

from core.families.family import Family, add_family
from core.interop.correspondence import EVERYWHERE, Correspondence, HuggingFaceModel, embedding, linear, norm


def _errors(config: Any, where: str) -> list[str]:
    if config.norm_order != "pre" or config.embedding_norm:
        return [f"{where}: {config.family} is pre-LN without embedding_norm"]
    return []


def _tensors(config: Any) -> Iterator[Correspondence]:
    """Hugging Face stores linear layers as [in, out]."""
    hidden = config.hidden
    yield embedding(config, "wte.weight")
    yield Correspondence("position_embedding.weight", ("wpe.weight",), (config.sequence_length, hidden))
    for index in range(config.layers):
        ours, theirs = f"transformer.layers.{index}", f"h.{index}"
        attention, wide = f"{ours}.attention", f"{ours}.feed_forward"
        yield from norm(f"{ours}.attention_norm", f"{theirs}.ln_1", hidden)
        yield from linear(
            f"{attention}.query_key_value",
            f"{theirs}.attn.c_attn",
            3 * hidden,
            hidden,
            transposed=True,
            fused=True,
        )
        yield from linear(f"{attention}.output", f"{theirs}.attn.c_proj", hidden, hidden, transposed=True)
        yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.ln_2", hidden)
        yield from linear(f"{wide}.expand", f"{theirs}.mlp.c_fc", 4 * hidden, hidden, transposed=True)
        yield from linear(f"{wide}.contract", f"{theirs}.mlp.c_proj", hidden, 4 * hidden, transposed=True)
    yield from norm("transformer.final_norm", "ln_f", hidden)


def _constants(config: Any) -> dict[str, Any]:
    """Where a document ends is the tokenizer's to say; 50256 is what transformers assumes."""
    end = 50256 if config.vocabulary_size == 50257 else None
    return {"bos_token_id": end, "eos_token_id": end}


_HUGGING_FACE = HuggingFaceModel(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    tensors=_tensors,
    fields={
        "layers": ("n_layer", 12),
        "hidden": ("n_embd", 768),
        "heads": ("n_head", 12),
        "sequence_length": ("n_positions", 1024),
        "vocabulary_size": ("vocab_size", 50257),
        "attention_dropout": ("attn_pdrop", 0.1),
        "layer_norm_eps": ("layer_norm_epsilon", 1e-5),
        "initial_std": ("initializer_range", 0.02),
    },
    dropouts=("resid_pdrop", "embd_pdrop"),
    activation=("activation_function", "gelu_new"),
    width="n_inner",
    fixed={"norm_order": "pre", "embedding_norm": False},
    only=EVERYWHERE | {"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)},
    constants=_constants,
    prefix="transformer.",
    buffers=(".attn.bias", ".attn.masked_bias"),
    tied={"lm_head.weight": "wte.weight"},
    aliases={
        "num_hidden_layers": "n_layer",
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
)

GPT2 = add_family(
    Family(
        name="gpt2",
        network="core.models.gpt2:GPT2Model",
        objective="core.models.gpt2:GPT2LanguageModeling",
        causal=True,
        tokenizer="gpt2",
        # GPT-2's released sizes first by the names they were announced with, then counted (Hugging Face's gpt2,
        # gpt2-medium, gpt2-large, gpt2-xl); the paper's; its scaling study.
        shapes={
            "gpt2-117m": (12, 768, 12),
            "gpt2-345m": (24, 1024, 16),
            "gpt2-762m": (36, 1280, 20),
            "gpt2-1542m": (48, 1600, 25),
            "gpt2-355m": (24, 1024, 16),
            "gpt2-774m": (36, 1280, 20),
            "gpt2-1.5b": (48, 1600, 25),
            "gpt2-2.5b": (54, 1920, 20),
            "gpt2-8.3b": (72, 3072, 24),
            "scaling-1.2b": (40, 1536, 16),
            "scaling-2.5b": (54, 1920, 20),
            "scaling-4.2b": (64, 2304, 24),
            "scaling-8.3b": (72, 3072, 32),
        },
        sequence_length=1024,
        vocabulary_size=50257,
        errors=_errors,
        hugging_face=(_HUGGING_FACE,),
    )
)
