"""Configuration of models, training and the parallel layout: plain dataclasses, no torch.

`from_table` turns parsed TOML or JSON into any of them and collects *all* errors, each with its place, so
that a user mends a file in one round.
"""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

ZERO_LEVELS = (0, 1, 2, 3)

Configuration = TypeVar("Configuration")


class ConfigurationError(ValueError):
    """One or more errors in a configuration; the message lists them all, a line each."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(self.errors))


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer (paper section 3 and tables 1, 2 and 5).

    Attributes:
        family: "gpt2" (causal, pre-LN) or "bert".
        layers, hidden, heads: as in the paper's tables; the feed-forward width is 4 · hidden.
        sequence_length: learned positions, the longest input in tokens.
        vocabulary_size: tokens of the tokenizer; the embedding is padded, see `padded_vocabulary_size`.
        vocabulary_multiple: the embedding's rows are padded to a multiple of it. One fixed number, so that
            shapes, and so checkpoints and losses, do not depend on the parallel layout.
        dropout: on embeddings and residual branches; attention_dropout: on attention probabilities.
        activation: "gelu_tanh" (GPT-2, Megatron) or "gelu" (erf form, Google's BERT).
        norm_order: "pre" (GPT-2; the paper's Figure 7b for BERT) or "post" (original BERT, Figure 7a).
        embedding_norm: LayerNorm after the embeddings (original BERT).
        initial_std: standard deviation of the initial weights; the two output projections of a layer use
            initial_std / sqrt(2 · layers).
    """

    family: Literal["gpt2", "bert"]
    layers: int
    hidden: int
    heads: int
    sequence_length: int
    vocabulary_size: int
    vocabulary_multiple: int = 1024
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: Literal["gelu_tanh", "gelu"] = "gelu_tanh"
    layer_norm_eps: float = 1e-5
    norm_order: Literal["pre", "post"] = "pre"
    embedding_norm: bool = False
    initial_std: float = 0.02

    @property
    def padded_vocabulary_size(self) -> int:
        multiple = self.vocabulary_multiple
        return (self.vocabulary_size + multiple - 1) // multiple * multiple

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    def errors(self, where: str = "model") -> list[str]:
        """What is wrong with this shape, one line each, on any layout."""
        problems = []
        for name in (
            "layers",
            "hidden",
            "heads",
            "sequence_length",
            "vocabulary_size",
            "vocabulary_multiple",
        ):
            if getattr(self, name) < 1:
                problems.append(f"{where}.{name}: must be 1 or more, is {getattr(self, name)}")
        if self.heads >= 1 and self.hidden % self.heads:
            problems.append(f"{where}: hidden {self.hidden} is not divisible by heads {self.heads}")
        for name in ("dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                problems.append(f"{where}.{name}: must be in [0, 1), is {getattr(self, name)}")
        if self.family == "gpt2" and (self.norm_order != "pre" or self.embedding_norm):
            problems.append(f"{where}: gpt2 is pre-LN without embedding_norm")
        return problems

    def layout_errors(
        self, tensor_parallel: int, where: str = "model", sequence_parallel: bool = False
    ) -> list[str]:
        """Why this shape cannot be split over `tensor_parallel` ranks, one line each."""
        problems = []
        if tensor_parallel < 1:
            return [f"{where}: tensor_parallel must be 1 or more, is {tensor_parallel}"]
        sizes = {"heads": self.heads, "padded vocabulary": self.padded_vocabulary_size}
        if sequence_parallel:
            sizes["sequence_length"] = self.sequence_length
        for name, size in sizes.items():
            if size % tensor_parallel:
                problems.append(
                    f"{where}: {name} {size} is not divisible by tensor_parallel {tensor_parallel}"
                )
        return problems


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained (paper section 4 and appendix A.2).

    Attributes:
        steps: optimizer steps.
        global_batch: sequences a step, over all data ranks and micro-batches.
        micro_batch: sequences a forward pass of one data rank.
        learning_rate, minimum_learning_rate, warmup_steps, schedule: linear warm-up, then "cosine" (one cycle),
            "linear" decay or "constant", reaching minimum_learning_rate at `steps`.
        weight_decay: on matrices and embeddings, not on biases and LayerNorm.
        clip_gradient_norm: global norm; 0 turns clipping off.
        precision: "fp32", or "bf16" or "fp16" compute with fp32 master weights and gradient reduction.
        initial_loss_scale, loss_scale_window: of fp16's dynamic loss scaling, see `core.training.loss_scale`.
        recompute: what the backward pass computes again instead of keeping it: "none", "selective" (the attention
            core) or "full" (every layer, from its input). No collective is repeated but by "full".
        compile: let `torch.compile` fuse each layer: seconds to minutes at the start, faster steps on a GPU.
        seed: of initial weights, data order and dropout.
        checkpoint_interval, log_interval, validation_interval: in steps; 0 turns validation off.
        validation_batches: global batches a validation.
        keep_last, keep_every: the last so many resume checkpoints stay, and those of steps that are a multiple of
            keep_every (0: of none).
        asynchronous_saving: training waits for a checkpoint only while the state is copied; costs host memory of
            the size of the state.
    """

    steps: int
    global_batch: int
    micro_batch: int
    learning_rate: float
    minimum_learning_rate: float = 0.0
    warmup_steps: int = 0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_eps: float = 1e-8
    weight_decay: float = 0.01
    clip_gradient_norm: float = 1.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    initial_loss_scale: float = 2.0**32
    loss_scale_window: int = 1000
    recompute: Literal["none", "selective", "full"] = "none"
    compile: bool = False
    seed: int = 1234
    checkpoint_interval: int = 500
    log_interval: int = 10
    validation_interval: int = 0
    validation_batches: int = 4
    keep_last: int = 2
    keep_every: int = 0
    asynchronous_saving: bool = True

    def errors(self, where: str = "training") -> list[str]:
        """What is wrong with these values, one line each, on any layout."""
        problems = []
        for name in (
            "steps",
            "global_batch",
            "micro_batch",
            "log_interval",
            "checkpoint_interval",
            "keep_last",
            "initial_loss_scale",
            "loss_scale_window",
        ):
            if getattr(self, name) < 1:
                problems.append(f"{where}.{name}: must be 1 or more, is {getattr(self, name)}")
        if not self.learning_rate > 0:
            problems.append(f"{where}.learning_rate: must be above 0, is {self.learning_rate}")
        if not 0 <= self.warmup_steps <= self.steps:
            problems.append(f"{where}.warmup_steps: must be between 0 and steps, is {self.warmup_steps}")
        interval = self.checkpoint_interval
        if self.keep_every < 0 or (interval > 0 and self.keep_every % interval):
            problems.append(
                f"{where}.keep_every: must be 0 or a multiple of checkpoint_interval ({interval}), is {self.keep_every}"
            )
        return problems

    def significant(self) -> dict[str, Any]:
        """The settings that set the course of a run; how its work is cut and kept changes no more than rounding."""
        free = {
            "micro_batch",
            "recompute",
            "compile",
            "checkpoint_interval",
            "log_interval",
            "keep_last",
            "keep_every",
            "asynchronous_saving",
        }
        if self.precision != "fp16":
            free |= {"initial_loss_scale", "loss_scale_window"}
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in free}

    def layout_errors(self, data_parallel: int, where: str = "training") -> list[str]:
        """Why a global batch cannot be dealt to `data_parallel` ranks, one line each."""
        if self.global_batch % data_parallel:
            return [
                f"{where}: global_batch {self.global_batch} is not divisible by data_parallel {data_parallel}"
            ]
        return []


@dataclass(frozen=True)
class ParallelConfig:
    """data_parallel × tensor_parallel processes; tensor ranks are neighbours (paper section 3).

    Attributes:
        sequence_parallel: in pretraining, split what lies between tensor-parallel regions along the sequence: less
            memory for activations, the same numbers.
        zero: in pretraining, what is split over the data ranks (Rajbhandari et al. 2020): 0 nothing (the paper's data
            parallelism), 1 optimizer state, 2 gradients too, 3 weights too. Less memory, more communication.
    """

    tensor_parallel: int = 1
    data_parallel: int = 1
    sequence_parallel: bool = False
    zero: int = 1

    @property
    def world_size(self) -> int:
        return self.tensor_parallel * self.data_parallel

    def errors(self, where: str = "parallel") -> list[str]:
        problems = [
            f"{where}.{name}: must be 1 or more, is {getattr(self, name)}"
            for name in ("tensor_parallel", "data_parallel")
            if getattr(self, name) < 1
        ]
        if self.zero not in ZERO_LEVELS:
            problems.append(f"{where}.zero: must be one of {ZERO_LEVELS}, is {self.zero}")
        return problems


def from_table(
    cls: type[Configuration], table: Mapping[str, Any], where: str, errors: list[str]
) -> Configuration | None:
    """Build a (flat) configuration dataclass from a parsed table.

    Every unknown key, missing key and wrong type is appended to `errors`, prefixed with `where`; if the class
    has a method `errors(where)`, what it reports is appended too. Returns None when anything is wrong.
    Field types may be int, float, str, bool, Literal[...] of strings, or list/tuple of one of those.
    """
    before = len(errors)
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            close = ", ".join(sorted(fields))
            errors.append(f"{where}.{key}: unknown key (known: {close})")
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _checked(table[name], hints[name], f"{where}.{name}", errors)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            errors.append(f"{where}.{name}: missing")
    if len(errors) > before:
        return None
    result = cls(**values)
    if hasattr(result, "errors"):
        errors.extend(result.errors(where))
    return result if len(errors) == before else None


def _checked(value: Any, hint: Any, where: str, errors: list[str]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            errors.append(f"{where}: must be one of {', '.join(map(repr, arguments))}, is {value!r}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            errors.append(f"{where}: must be a list, is {value!r}")
            return value
        return origin(_checked(item, arguments[0], f"{where}[{i}]", errors) for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        errors.append(f"{where}: must be of type {hint.__name__}, is {value!r}")
    return value


# The paper's models (tables 2 and 5, the scaling study of table 1), and GPT-2's released sizes, first by the names
# they were announced with, then counted (Hugging Face's gpt2, gpt2-medium, gpt2-large, gpt2-xl).
_GPT2_VOCABULARY, _BERT_VOCABULARY = 50257, 30522
_SHAPES: dict[str, tuple[Literal["gpt2", "bert"], int, int, int]] = {
    "gpt2-117m": ("gpt2", 12, 768, 12),
    "gpt2-345m": ("gpt2", 24, 1024, 16),
    "gpt2-762m": ("gpt2", 36, 1280, 20),
    "gpt2-1542m": ("gpt2", 48, 1600, 25),
    "gpt2-355m": ("gpt2", 24, 1024, 16),
    "gpt2-774m": ("gpt2", 36, 1280, 20),
    "gpt2-1.5b": ("gpt2", 48, 1600, 25),
    "gpt2-2.5b": ("gpt2", 54, 1920, 20),
    "gpt2-8.3b": ("gpt2", 72, 3072, 24),
    "scaling-1.2b": ("gpt2", 40, 1536, 16),
    "scaling-2.5b": ("gpt2", 54, 1920, 20),
    "scaling-4.2b": ("gpt2", 64, 2304, 24),
    "scaling-8.3b": ("gpt2", 72, 3072, 32),
    "bert-336m": ("bert", 24, 1024, 16),
    "bert-1.3b": ("bert", 24, 2048, 32),
    "bert-3.9b": ("bert", 48, 2560, 40),
}


def preset(name: str) -> ModelConfig:
    """A model of the paper or a released GPT-2 size, by name.

    Raises:
        ConfigurationError: an unknown name; the message lists the known ones.
    """
    if name not in _SHAPES:
        raise ConfigurationError([f"no model is called {name!r}; known: {', '.join(_SHAPES)}"])
    family, layers, hidden, heads = _SHAPES[name]
    return ModelConfig(
        family=family,
        layers=layers,
        hidden=hidden,
        heads=heads,
        sequence_length=1024 if family == "gpt2" else 512,
        vocabulary_size=_GPT2_VOCABULARY if family == "gpt2" else _BERT_VOCABULARY,
    )
