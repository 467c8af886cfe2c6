"""Configuration of models, training and the parallel layout: plain dataclasses, no torch."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import ConfigurationError
from core.families import FAMILIES
from core.tables import did_you_mean, no_shares, not_positive, out_of_range

ZERO_LEVELS = (0, 1, 2, 3)
LARGEST_PIPELINE_ZERO = 1
DROPOUT_MASKS = "seeded by layer"  # what `core.parallel.random` does; another way is another training
LARGEST_SEED = 2**32 - 1  # what numpy takes


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer (paper section 3 and tables 1, 2 and 4).

    Attributes:
        family: the name of a record in `core.families`: "gpt2", "bert" or a user's.
        layers, hidden, heads: as in the paper's tables; the feed-forward width is 4 · hidden.
        sequence_length: learned positions, the longest input in tokens.
        vocabulary_size: tokens of the tokenizer; the embedding is padded, see `padded_vocabulary_size`.
        vocabulary_multiple: the embedding's rows are padded to a multiple of it. One fixed number, so that
            shapes, and so checkpoints and losses, do not depend on the parallel layout.
        dropout: on embeddings and residual branches.
        attention_dropout: on attention probabilities.
        activation: "gelu_tanh" (GPT-2, Megatron) or "gelu" (erf form, Google's BERT).
        norm_order: "pre" (GPT-2; the paper's Figure 7b for BERT) or "post" (original BERT, Figure 7a).
        embedding_norm: LayerNorm after the embeddings (original BERT).
        initial_std: standard deviation of the initial weights; the two output projections of a layer use
            initial_std / sqrt(2 · layers).
    """

    family: str
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

    def for_tokens(self, tokens: int) -> "ModelConfig":
        """The same shape for a tokenizer of fewer tokens: rows of the embedding beyond them count as padding, which
        takes no part in softmax, loss and choice."""
        assert tokens <= self.vocabulary_size
        return dataclasses.replace(
            self, vocabulary_size=tokens, vocabulary_multiple=self.padded_vocabulary_size
        )

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def drops(self) -> bool:
        """Whether training draws dropout masks."""
        return self.dropout > 0 or self.attention_dropout > 0

    def errors(self, where: str = "model") -> list[str]:
        """What is wrong with this shape, one line each, on any layout."""
        sizes = ("layers", "hidden", "heads", "sequence_length", "vocabulary_size", "vocabulary_multiple")
        problems = out_of_range(self, where, **dict.fromkeys(sizes, (1, math.inf)))
        if self.heads >= 1 and self.hidden % self.heads:
            problems.append(f"{where}: hidden {self.hidden} is not divisible by heads {self.heads}")
        problems += no_shares(self, where, "dropout", "attention_dropout")
        problems += not_positive(self, where, "initial_std", "layer_norm_eps")
        if self.family not in FAMILIES:
            known = ", ".join(FAMILIES)
            return [
                *problems,
                f"{where}.family: must be one of {known} or added by a plug-in, is {self.family!r}"
                f"{did_you_mean(self.family, FAMILIES)}",
            ]
        problems += FAMILIES[self.family].errors(self, where)
        return problems

    def sequence_parallel(self, layout: "ParallelConfig") -> bool | None:
        """As the layout has it; False where it leaves it open and the sequences do not divide evenly."""
        evenly = self.sequence_length % layout.tensor_parallel == 0
        return layout.sequence_parallel if evenly or layout.sequence_parallel is not None else False

    def layout_errors(
        self,
        tensor_parallel: int,
        where: str = "model",
        sequence_parallel: bool | None = False,
        stages: int = 1,
    ) -> list[str]:
        """Why this shape cannot be split over `tensor_parallel` ranks and `stages` of a pipeline, one line each."""
        problems = []
        if stages >= 1 and self.layers % stages:
            problems.append(
                f"{where}: layers {self.layers} is not divisible by the {stages} stages of the pipeline "
                f"(pipeline_parallel × pipeline_chunks), which are dealt equally many; its divisors are {_divisors(self.layers)}"
            )
        if tensor_parallel < 1:
            return [*problems, f"{where}: tensor_parallel must be 1 or more, is {tensor_parallel}"]
        sizes = {"heads": self.heads, "padded vocabulary": self.padded_vocabulary_size}
        if sequence_parallel:
            sizes["sequence_length"] = self.sequence_length
        for name, size in sizes.items():
            if size % tensor_parallel:
                problems.append(
                    f"{where}: {name} {size} is not divisible by tensor_parallel {tensor_parallel}"
                )
        return problems


def _divisors(number: int) -> str:
    return ", ".join(str(divisor) for divisor in range(1, number + 1) if number % divisor == 0)


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained (paper section 4.2).

    Attributes:
        steps: optimizer steps.
        global_batch: sequences a step, over all data ranks and micro-batches.
        micro_batch: sequences a forward pass of one data rank; where the model has dropout, it chooses the masks, too.
        learning_rate, minimum_learning_rate, warmup_steps, schedule: linear warm-up, then "cosine" (one cycle),
            "linear" decay or "constant", reaching minimum_learning_rate at `steps`.
        adam_beta1, adam_beta2, adam_eps: of Adam (Kingma and Ba 2015).
        weight_decay: on matrices and embeddings, not on biases and LayerNorm.
        clip_gradient_norm: global norm; 0 turns clipping off.
        precision: "fp32", or "bf16" or "fp16" compute with fp32 master weights and gradient reduction; "tf32" is fp32 with
            faster, coarser matrix products, on NVIDIA devices from Ampere on.
        initial_loss_scale, loss_scale_window: of fp16's dynamic loss scaling, see `core.training.loss_scale`.
        recompute: what the backward pass computes again instead of keeping it: "none", "selective" (the attention
            core) or "full" (every layer, from its input). No collective is repeated but by "full".
        compile: let `torch.compile` fuse each layer: seconds to minutes at the start, faster steps on a GPU. Where nothing
            is said: on CUDA devices, if every process has what it takes (a C compiler, and a release of torch that gets
            it right).
        deterministic: on a GPU, only operations that give the same bits each time, so that a resumed run ends with the bytes
            of one that was not stopped, as on a CPU; slower. The same layout, device and release of torch are needed for it.
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
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    initial_loss_scale: float = 2.0**32
    loss_scale_window: int = 1000
    recompute: Literal["none", "selective", "full"] = "none"
    compile: bool | None = None
    deterministic: bool = False
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
        least = dict.fromkeys(
            (
                "steps",
                "global_batch",
                "micro_batch",
                "log_interval",
                "checkpoint_interval",
                "keep_last",
                "initial_loss_scale",
                "loss_scale_window",
                "validation_batches",
            ),
            1,
        )
        least |= dict.fromkeys(("weight_decay", "clip_gradient_norm", "validation_interval"), 0)
        problems = out_of_range(self, where, **{name: (bound, math.inf) for name, bound in least.items()})
        problems += out_of_range(self, where, seed=(0, LARGEST_SEED))
        problems += not_positive(self, where, "learning_rate", "adam_eps")
        problems += no_shares(self, where, "adam_beta1", "adam_beta2")
        if not self.minimum_learning_rate >= 0 or 0 < self.learning_rate < self.minimum_learning_rate:
            problems.append(
                f"{where}.minimum_learning_rate: must be from 0 to learning_rate ({self.learning_rate}), "
                f"is {self.minimum_learning_rate}"
            )
        if self.micro_batch > self.global_batch >= 1:
            problems.append(
                f"{where}.micro_batch: must be at most global_batch ({self.global_batch}), is {self.micro_batch}"
            )
        if not 0 <= self.warmup_steps <= self.steps:
            problems.append(f"{where}.warmup_steps: must be between 0 and steps, is {self.warmup_steps}")
        interval = self.checkpoint_interval
        if self.keep_every < 0 or (interval > 0 and self.keep_every % interval):
            problems.append(
                f"{where}.keep_every: must be 0 or a multiple of checkpoint_interval ({interval}), is {self.keep_every}"
            )
        return problems

    def significant(self, drops: bool = False) -> dict[str, Any]:
        """The settings that set the course of a run; how its work is cut and kept changes no more than rounding.

        Args:
            drops: the model has dropout. Its masks are drawn a micro-batch at a time (see `core.parallel.random`), so
                that `micro_batch` and `compile` choose among them as a seed does, and are significant then.
        """
        free = {
            "recompute",
            "deterministic",
            "checkpoint_interval",
            "log_interval",
            "keep_last",
            "keep_every",
            "asynchronous_saving",
        }
        if not drops:
            free |= {"micro_batch", "compile"}
        if self.precision != "fp16":
            free |= {"initial_loss_scale", "loss_scale_window"}
        facts = {name: value for name, value in dataclasses.asdict(self).items() if name not in free}
        if "compile" in facts:  # left to the device, it counts as little as the device
            facts["compile"] = bool(self.compile)
        return facts | ({"dropout_masks": DROPOUT_MASKS} if drops else {})

    def layout_errors(
        self,
        data_parallel: int,
        where: str = "training",
        pipeline_parallel: int = 1,
        pipeline_chunks: int = 1,
    ) -> list[str]:
        """Why a global batch cannot be dealt to `data_parallel` ranks and fill a pipeline, one line each."""
        if self.global_batch % data_parallel:
            return [
                f"{where}: global_batch {self.global_batch} is not divisible by data_parallel {data_parallel}"
            ]
        if pipeline_parallel == 1:
            return []
        count = self.micro_batches(data_parallel)
        found = f"{where}: global_batch {self.global_batch} over data_parallel {data_parallel} is {count} micro-batches"
        remedy = "choose another micro_batch, global_batch or pipeline_parallel"
        if count < pipeline_parallel:
            return [
                f"{found} of {self.micro_batch}, fewer than pipeline_parallel {pipeline_parallel}; {remedy}"
            ]
        if pipeline_chunks > 1 and count % pipeline_parallel:
            return [
                f"{found}, and pipeline_chunks {pipeline_chunks} need a multiple of pipeline_parallel "
                f"{pipeline_parallel}; {remedy}"
            ]
        return []

    def micro_batches(self, data_parallel: int) -> int:
        """Of a step, on each data rank."""
        return math.ceil(math.ceil(self.global_batch / data_parallel) / self.micro_batch)


@dataclass(frozen=True)
class ParallelConfig:
    """pipeline_parallel × data_parallel × tensor_parallel processes; tensor ranks are neighbours, the stages of a pipeline
    are farthest apart (paper section 3 and appendix B).

    Attributes:
        tensor_parallel: processes that share one copy of the model; the others are data-parallel.
        data_parallel: copies of the model, each of which takes its share of every batch.
        pipeline_parallel: in pretraining, stages that the layers are dealt to in order, each on ranks of its own; the
            micro-batches of a step go through them one after the other (Huang et al. 2019). The same numbers.
        pipeline_schedule: what a stage does first: "1f1b", a backward pass as soon as there is one (Narayanan et al.
            2019), keeps the activations of as many micro-batches as there are stages; "gpipe", all forward passes, of
            all.
        pipeline_chunks: parts of the model a stage, of which consecutive layers lie on consecutive stages (Narayanan et
            al. 2021): more of them idle less and send more; with "1f1b".
        sequence_parallel: in pretraining, split what lies between tensor-parallel regions along the sequence: less
            memory for activations, the same numbers. Where nothing is said: on CUDA devices, if the model's sequences
            divide evenly.
        zero: in pretraining, what is split over the data ranks (Rajbhandari et al. 2020): 0 nothing (the paper's data
            parallelism), 1 optimizer state, 2 gradients too, 3 weights too. Less memory, more communication.
        device: where processes compute: "cuda", each on a device of its own, or "cpu"; "auto" takes CUDA where a host
            has a device for each of its processes, and else, on a single host, the CPU, and says so.
    """

    tensor_parallel: int = 1
    data_parallel: int = 1
    pipeline_parallel: int = 1
    pipeline_schedule: Literal["1f1b", "gpipe"] = "1f1b"
    pipeline_chunks: int = 1
    sequence_parallel: bool | None = None
    zero: int = 1
    device: Literal["auto", "cuda", "cpu"] = "auto"

    @property
    def world_size(self) -> int:
        return self.pipeline_parallel * self.data_parallel * self.tensor_parallel

    @property
    def task_data_parallel(self) -> int:
        """Data ranks of programs without a pipeline on as many processes."""
        return self.pipeline_parallel * self.data_parallel

    @property
    def stages(self) -> int:
        """Parts of the model that a micro-batch goes through in order."""
        return self.pipeline_parallel * self.pipeline_chunks

    def errors(self, where: str = "parallel") -> list[str]:
        sizes = ("tensor_parallel", "data_parallel", "pipeline_parallel", "pipeline_chunks")
        problems = out_of_range(self, where, **dict.fromkeys(sizes, (1, math.inf)))
        if self.zero not in ZERO_LEVELS:
            problems.append(f"{where}.zero: must be one of {ZERO_LEVELS}, is {self.zero}")
        if self.pipeline_parallel > 1 and self.zero > LARGEST_PIPELINE_ZERO:
            problems.append(
                f"{where}.zero: must be 0 or 1 with pipeline_parallel {self.pipeline_parallel}, is {self.zero}: a stage "
                "needs its gradients and weights whole until its last micro-batch"
            )
        if self.pipeline_chunks > 1:
            if self.pipeline_parallel == 1:
                problems.append(
                    f"{where}.pipeline_chunks: must be 1 without pipeline_parallel, is {self.pipeline_chunks}"
                )
            if self.pipeline_schedule != "1f1b":
                problems.append(
                    f"{where}.pipeline_schedule: must be '1f1b' with pipeline_chunks {self.pipeline_chunks}, is "
                    f"{self.pipeline_schedule!r}"
                )
        return problems


def preset(name: str) -> ModelConfig:
    """A model of the paper or a released size, by name.

    Raises:
        ConfigurationError: an unknown name; the message lists the known ones.
    """
    for family in map(FAMILIES.__getitem__, FAMILIES):
        if name in family.shapes:
            layers, hidden, heads = family.shapes[name]
            return ModelConfig(
                family=family.name,
                layers=layers,
                hidden=hidden,
                heads=heads,
                sequence_length=family.sequence_length,
                vocabulary_size=family.vocabulary_size,
            )
    known = [shape for family in FAMILIES for shape in FAMILIES[family].shapes]
    raise ConfigurationError(
        [f"no model is called {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}"]
    )
