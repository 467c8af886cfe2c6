"""A model's shape, in Hugging Face's `config.json` and in ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.config import ModelConfig
from core.errors import UserError
from core.interop.correspondence import Kind
from core.tables import from_table

# Theirs, by the name of ours; a second name for the same function follows the one that is written.
_ACTIVATIONS = {
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh"),
    "gelu": ("gelu", "gelu_python"),
}


@dataclass(frozen=True)
class _Keys:
    """Hugging Face's key and default of each of our fields, and the values of other keys that change nothing."""

    architecture: str
    fields: dict[str, tuple[str, Any]]
    dropouts: tuple[str, ...]
    activation: tuple[str, str]
    width: str
    only: dict[str, tuple[Any, ...]]


_EVERYWHERE: dict[str, tuple[Any, ...]] = {
    "tie_word_embeddings": (True,),
    "add_cross_attention": (False,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
_GPT2 = _Keys(
    architecture="GPT2LMHeadModel",
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
    only=_EVERYWHERE
    | {
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
    },
)


def _bert(architecture: str, layers: int, hidden: int, vocabulary_size: int) -> _Keys:
    return _Keys(
        architecture=architecture,
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
        only=_EVERYWHERE
        | {
            "position_embedding_type": ("absolute", None),
            "type_vocab_size": (2,),
            "is_decoder": (False,),
        },
    )


_KEYS: dict[Kind, _Keys] = {
    "gpt2": _GPT2,
    "bert": _bert("BertForPreTraining", 12, 768, 30522),
    "megatron-bert": _bert("MegatronBertForPreTraining", 24, 1024, 29056),
}


def read_kind(table: Mapping[str, Any], where: str) -> Kind:
    """The kind of model that a `config.json` of Hugging Face describes.

    Raises:
        ValueError: another kind.
    """
    kind = table.get("model_type")
    for known in _KEYS:
        if kind == known:
            return known
    raise UserError(f"{where}: model_type is {kind!r}, what can be imported is {', '.join(_KEYS)}")


def to_ours(
    kind: Kind, table: Mapping[str, Any], vocabulary_multiple: int, where: str, errors: list[str]
) -> ModelConfig | None:
    """Our configuration; what it cannot express is appended to `errors`, a line each."""
    keys = _KEYS[kind]
    values: dict[str, Any] = {
        ours: table.get(theirs, default) for ours, (theirs, default) in keys.fields.items()
    }
    for key, allowed in keys.only.items():
        if key in table and table[key] not in allowed:
            errors.append(f"{where}: {key} is {table[key]!r}, only {allowed[0]!r} is supported")
    width = table.get(keys.width)
    if width is not None and width != 4 * values["hidden"]:
        errors.append(f"{where}: {keys.width} is {width!r}, only 4 times the hidden size is supported")
    dropouts = {key: table.get(key, 0.1) for key in keys.dropouts}
    if len(set(dropouts.values())) > 1:
        differing = ", ".join(f"{key} {value!r}" for key, value in dropouts.items())
        errors.append(f"{where}: {differing} differ, only one dropout for both is supported")
    activation = table.get(*keys.activation)
    known = {theirs: ours for ours, names in _ACTIVATIONS.items() for theirs in names}
    if activation not in known:
        errors.append(f"{where}: {keys.activation[0]} is {activation!r}, supported are {', '.join(known)}")
    values |= {
        "family": "gpt2" if kind == "gpt2" else "bert",
        "vocabulary_multiple": vocabulary_multiple,
        "dropout": dropouts[keys.dropouts[0]],
        "activation": known.get(activation, "gelu"),
        "norm_order": "post" if kind == "bert" else "pre",
        "embedding_norm": kind == "bert",
    }
    return from_table(ModelConfig, values, where, errors)


def kind_of(config: ModelConfig) -> Kind:
    """The kind of Hugging Face's models that has the order of layer norms of ours.

    Raises:
        ValueError: none has.
    """
    if config.family == "gpt2":
        return "gpt2"
    if config.embedding_norm != (config.norm_order == "post"):
        raise UserError(
            f"norm_order {config.norm_order!r} with embedding_norm {config.embedding_norm}: transformers has no "
            'such BERT; BertForPreTraining is "post" with, MegatronBertForPreTraining "pre" without it'
        )
    return "bert" if config.norm_order == "post" else "megatron-bert"


def to_theirs(config: ModelConfig) -> dict[str, Any]:
    """The content of Hugging Face's `config.json`, every key that matters spelled out."""
    kind = kind_of(config)
    keys = _KEYS[kind]
    table: dict[str, Any] = {"architectures": [keys.architecture], "model_type": kind}
    table |= {theirs: getattr(config, ours) for ours, (theirs, _) in keys.fields.items()}
    table |= dict.fromkeys(keys.dropouts, config.dropout)
    table |= {keys.activation[0]: _ACTIVATIONS[config.activation][0], keys.width: 4 * config.hidden}
    table |= {"tie_word_embeddings": True}
    if kind == "gpt2":
        # Where a document ends is the tokenizer's to say; 50256 is what transformers assumes.
        end = 50256 if config.vocabulary_size == 50257 else None
        return table | {"bos_token_id": end, "eos_token_id": end}
    return table | {"type_vocab_size": 2}
