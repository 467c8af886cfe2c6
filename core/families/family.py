"""What a family of models says of itself, in one record. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.interop.correspondence import HuggingFaceModel
from core.registry import Registry


def no_errors(config: Any, where: str) -> list[str]:
    """Nothing is wrong with any shape."""
    return []


def no_head(hidden: int, predictions: int) -> int:
    """No operations between the last layer and the output layer."""
    return 0


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: as in a recipe and in `config.json`.
        network: "module:class" of the network, which is imported when a model is built.
        objective: "module:class" of the pretraining objective around a network.
        causal: a token sees those before it only; the network predicts every next token, so it can be scored and can
            generate. Otherwise the network has `encode`, for tasks that read a whole text.
        tokenizer: the kind of tokenizer it reads: "gpt2" (byte-level BPE) or "bert" (WordPiece).
        shapes: its published sizes by name: (layers, hidden, heads).
        sequence_length, vocabulary_size: of the published sizes.
        errors: what is wrong with a shape (a `ModelConfig`), besides what is wrong for every family.
        head_flops: operations a sequence, forward, between the last layer and the output layer, for (hidden,
            predictions).
        hugging_face: what kinds of Hugging Face's models its models can be; none: no import and no export.
    """

    name: str
    network: str
    objective: str
    causal: bool
    tokenizer: str
    shapes: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    sequence_length: int = 0
    vocabulary_size: int = 0
    errors: Callable[[Any, str], list[str]] = no_errors
    head_flops: Callable[[int, int], int] = no_head
    hugging_face: tuple[HuggingFaceModel, ...] = ()


FAMILIES: Registry[Family] = Registry("family")


def add_family(family: Family) -> Family:
    """Make a family known, under its name."""
    return FAMILIES.add(family.name, family)
