"""A model's shape, in Hugging Face's `config.json` and in ours, as the records in `core.families` say."""

from collections.abc import Mapping
from typing import Any

from core.config import ModelConfig
from core.errors import UserError
from core.families import FAMILIES
from core.interop.correspondence import HuggingFaceModel
from core.tables import from_table

# Theirs, by the name of ours; a second name for the same function follows the one that is written.
_ACTIVATIONS = {
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh"),
    "gelu": ("gelu", "gelu_python"),
}


def importable() -> dict[str, tuple[str, HuggingFaceModel]]:
    """Every kind of model that has a counterpart here, with its family, by its `model_type`."""
    return {kind.model_type: (name, kind) for name in FAMILIES for kind in FAMILIES[name].hugging_face}


def kind_in(table: Mapping[str, Any], where: str) -> tuple[str, HuggingFaceModel]:
    """The family and the kind of model that a `config.json` of Hugging Face describes.

    Raises:
        UserError: another kind.
    """
    kind, known = table.get("model_type"), importable()
    if kind not in known:
        raise UserError(f"{where}: model_type is {kind!r}, what can be imported is {', '.join(known)}")
    return known[kind]


def kind_of(config: ModelConfig, where: str) -> HuggingFaceModel:
    """The kind of Hugging Face's models that a model of ours is.

    Raises:
        UserError: none has such models.
    """
    kinds = FAMILIES[config.family].hugging_face
    for kind in kinds:
        if kind.fits(config):
            return kind
    if not kinds:
        raise UserError(f"{where}: the family {config.family} has no counterpart in transformers")
    there_are = ", ".join(f"{kind.architecture} ({_in_words(kind.fixed)})" for kind in kinds)
    own = _in_words({name: getattr(config, name) for name in kinds[0].fixed})
    raise UserError(f"{where}: {own}: transformers has no such {config.family}; there are {there_are}")


def _in_words(settings: Mapping[str, Any]) -> str:
    return " with ".join(f"{name} {value!r}" for name, value in settings.items())


def to_ours(
    family: str,
    kind: HuggingFaceModel,
    table: Mapping[str, Any],
    vocabulary_multiple: int,
    where: str,
    errors: list[str],
) -> ModelConfig | None:
    """Our configuration; what it cannot express is appended to `errors`, a line each."""
    table = _without_aliases(kind, table, where, errors)
    values: dict[str, Any] = {
        ours: table.get(theirs, default) for ours, (theirs, default) in kind.fields.items()
    }
    for key, allowed in kind.only.items():
        if key in table and table[key] not in allowed:
            errors.append(f"{where}: {key} is {table[key]!r}, only {allowed[0]!r} is supported")
    width = table.get(kind.width)
    if width is not None and width != 4 * values["hidden"]:
        errors.append(f"{where}: {kind.width} is {width!r}, only 4 times the hidden size is supported")
    dropouts = {key: table.get(key, 0.1) for key in kind.dropouts}
    if len(set(dropouts.values())) > 1:
        differing = ", ".join(f"{key} {value!r}" for key, value in dropouts.items())
        errors.append(f"{where}: {differing} differ, only one dropout for both is supported")
    activation = table.get(*kind.activation)
    known = {theirs: ours for ours, names in _ACTIVATIONS.items() for theirs in names}
    if activation not in known:
        errors.append(f"{where}: {kind.activation[0]} is {activation!r}, supported are {', '.join(known)}")
    values |= kind.fixed
    values |= {
        "family": family,
        "vocabulary_multiple": vocabulary_multiple,
        "dropout": dropouts[kind.dropouts[0]],
        "activation": known.get(activation, "gelu"),
    }
    return from_table(ModelConfig, values, where, errors)


def _without_aliases(
    kind: HuggingFaceModel, table: Mapping[str, Any], where: str, errors: list[str]
) -> dict[str, Any]:
    """Each setting under its own name; two names with two values are an error."""
    plain = {key: value for key, value in table.items() if key not in kind.aliases}
    for alias, key in kind.aliases.items():
        if alias in table and plain.setdefault(key, table[alias]) != table[alias]:
            errors.append(
                f"{where}: {key} is {plain[key]!r}, but {alias}, which is the same, is {table[alias]!r}: "
                "remove the wrong one"
            )
    return plain


def to_theirs(kind: HuggingFaceModel, config: ModelConfig) -> dict[str, Any]:
    """The content of Hugging Face's `config.json`, every key that matters spelled out."""
    table: dict[str, Any] = {"architectures": [kind.architecture], "model_type": kind.model_type}
    table |= {theirs: getattr(config, ours) for ours, (theirs, _) in kind.fields.items()}
    table |= dict.fromkeys(kind.dropouts, config.dropout)
    table |= {kind.activation[0]: _ACTIVATIONS[config.activation][0], kind.width: 4 * config.hidden}
    return table | {"tie_word_embeddings": True} | kind.constants(config)
