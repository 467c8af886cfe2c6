"""How tensors and settings of Hugging Face's models correspond to ours: the parts that a family's record is made of.

What belongs to what for one family stands in its record, in `core.families`. Importing this module imports no torch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from core.config import ModelConfig

Values = tuple[Any, ...]

# Keys of Hugging Face's `config.json` whose other values none of our models has.
EVERYWHERE: dict[str, Values] = {
    "tie_word_embeddings": (True,),
    "add_cross_attention": (False,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}


@dataclass(frozen=True)
class Correspondence:
    """One of our tensors and the one (or the three: query, key, value) of Hugging Face's that hold its values.

    Attributes:
        ours: its name in the network.
        theirs: names without the prefix of their model.
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

    def to_ours(self, tensors: "list[torch.Tensor]", config: "ModelConfig") -> "torch.Tensor":
        """Their tensors as ours, fp32; rows of padding are zeros."""
        import torch
        import torch.nn.functional as F

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

    def to_theirs(self, values: "torch.Tensor", config: "ModelConfig") -> "tuple[torch.Tensor, ...]":
        """Our tensor as theirs, in the order of their names."""
        if self.vocabulary:
            values = values[: config.vocabulary_size]
        if self.fused:
            split = values.reshape(config.heads, 3, config.head_size, -1)
            values = split.transpose(0, 1).reshape(self.shape)
        if self.transposed:
            values = values.T
        return values.chunk(len(self.theirs))

    def their_shape(self, config: "ModelConfig") -> tuple[int, ...]:
        """The shape of each of their tensors."""
        import torch

        return tuple(self.to_theirs(torch.empty(self.shape, device="meta"), config)[0].shape)


def embedding(config: "ModelConfig", theirs: str) -> Correspondence:
    """The token embedding."""
    shape = (config.padded_vocabulary_size, config.hidden)
    return Correspondence("token_embedding.weight", (theirs,), shape, vocabulary=True)


def norm(ours: str, theirs: str, hidden: int) -> Iterator[Correspondence]:
    """A LayerNorm's weight and bias."""
    for part in ("weight", "bias"):
        yield Correspondence(f"{ours}.{part}", (f"{theirs}.{part}",), (hidden,))


def linear(
    ours: str,
    theirs: str | tuple[str, ...],
    outputs: int,
    inputs: int,
    transposed: bool = False,
    fused: bool = False,
) -> Iterator[Correspondence]:
    """A linear layer's weight and bias; `theirs` is one layer or the three that ours fuses."""
    layers = (theirs,) if isinstance(theirs, str) else theirs
    for part, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
        names = tuple(f"{name}.{part}" for name in layers)
        yield Correspondence(f"{ours}.{part}", names, shape, transposed and part == "weight", fused)


def no_constants(config: "ModelConfig") -> dict[str, Any]:
    """No keys besides the settings."""
    return {}


@dataclass(frozen=True)
class HuggingFaceModel:
    """One of Hugging Face's kinds of models that a family's models can be.

    Attributes:
        model_type: in its `config.json`.
        architecture: the class whose `from_pretrained` loads an export.
        tensors: every tensor of a model, whole, in the order of the forward pass.
        fields: its key and default of each of our fields that it has as it is.
        aliases: second names of keys, as transformers reads them (its `attribute_map`).
        dropouts: keys of what is one dropout of ours.
        activation: its key and default.
        width: its key of the feed-forward part's width.
        fixed: values that our other fields have in a model of this kind.
        only: values of its other keys that change nothing; other values are refused.
        constants: keys of an export besides those of the settings.
        prefix: before the names of most tensors, in files of the whole model.
        unprefixed: how the names begin that have no prefix there.
        buffers: how names end that hold no weights.
        tied: second names of weights, by name; their values are checked.
    """

    model_type: str
    architecture: str
    tensors: "Callable[[ModelConfig], Iterable[Correspondence]]"
    fields: Mapping[str, tuple[str, Any]]
    dropouts: tuple[str, ...]
    activation: tuple[str, str]
    width: str
    fixed: Mapping[str, Any]
    only: Mapping[str, Values] = field(default_factory=lambda: EVERYWHERE)
    constants: "Callable[[ModelConfig], dict[str, Any]]" = no_constants
    prefix: str = ""
    unprefixed: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def fits(self, config: "ModelConfig") -> bool:
        """Whether a model of ours of this shape is one of these."""
        return all(getattr(config, name) == value for name, value in self.fixed.items())
