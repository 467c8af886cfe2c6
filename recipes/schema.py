"""What a recipe holds: one TOML file states a whole reproduction. Reading and checking it is `recipes.reader`'s.

The settings of models, training and the pipeline's stages have their dataclasses beside the code that obeys them.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from core.config import DROPOUT_MASKS, LARGEST_SEED, ModelConfig, ParallelConfig, TrainingConfig
from core.families import FAMILIES
from core.tables import not_positive, out_of_range
from data_pipeline.settings import (
    BenchmarkSettings,
    CleaningSettings,
    DecontaminationSettings,
    DeduplicationSettings,
    SampleSettings,
    TokenizerSettings,
)
from data_pipeline.sources.source import Source, name_errors
from recipes.records import FINE_TUNING, ZERO_SHOT, Task, ZeroShot

_MOST_TEXTS = 1000
_CHECKPOINTS_A_RUN = 10
_LARGEST_CHECKPOINT_INTERVAL_STEPS = 500


@dataclass(frozen=True)
class Identity:
    """What the recipe is called.

    Attributes:
        name: of its artifacts and report.
        description: for its report.
        seed: of generated data.
        corpus: of several recipes with the same corpora, what they call them: then they share the artifacts, and, in one
            folder, the lock file; the recipe's name without it.
    """

    name: str
    description: str = ""
    seed: int = 1
    corpus: str = ""

    def errors(self, where: str) -> list[str]:
        names = {"name": self.name, **({"corpus": self.corpus} if self.corpus else {})}
        problems = [error for key, name in names.items() for error in name_errors(name, f"{where}.{key}")]
        return problems + out_of_range(self, where, seed=(0, LARGEST_SEED))


@dataclass(frozen=True)
class EvaluationSettings:
    """How models are scored.

    Attributes:
        batch_size: sequences of the model's full length, or as many shorter ones as take the same room, that a process
            works through before it looks at its answers. Results do not depend on it: what a forward pass reads at
            once is fixed.
        stride: targets that each window after the first scores, from 1 to the model's sequence length; larger is
            faster and gives a worse perplexity (the paper's overlapping evaluation: 32).
        precision: what models compute in. "bf16" is faster on processors that have it, and its numbers differ in the
            third digit; "tf32" is fp32 with faster, coarser matrix products, on NVIDIA devices from Ampere on.
        last_token: LAMBADA by the looser rule of the last token, not of the last word.
    """

    batch_size: int = 8
    stride: int = 32
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    last_token: bool = False

    def errors(self, where: str) -> list[str]:
        return out_of_range(self, where, batch_size=(1, math.inf), stride=(1, math.inf))


@dataclass(frozen=True)
class TextSettings:
    """What trained causal models write, for people to read in the report; drawn from streams of the recipe's seed.

    Attributes:
        count: texts a model, of each prompt where there are any; 0 for none.
        prompts: what texts go on from; without any they begin where a document does.
        tokens: longest text; it ends before at the end of a document.
        temperature: 0 takes the likeliest token, always the same text; 1 draws as the model believes.
        top_k: draw among the k likeliest tokens; 0 among all.
    """

    count: int = 3
    prompts: list[str] = field(default_factory=list)
    tokens: int = 100
    temperature: float = 0.8
    top_k: int = 40

    def errors(self, where: str) -> list[str]:
        return out_of_range(
            self,
            where,
            count=(0, _MOST_TEXTS),
            tokens=(1, math.inf),
            temperature=(0, math.inf),
            top_k=(0, math.inf),
        )

    @property
    def begun_by(self) -> list[str]:
        """The beginning of each text, in order."""
        return [prompt for prompt in self.prompts or [""] for _ in range(self.count)]

    def described(self) -> str:
        """How the texts were drawn, for people."""
        begun = "Going on from the prompts" if self.prompts else "Begun where a document of the corpus begins"
        if self.temperature == 0:
            return f"{begun}, each token the likeliest."
        among = f"among the {self.top_k} likeliest" if self.top_k else "among all"
        return f"{begun}, each token drawn {among} at temperature {self.temperature:g}."


@dataclass(frozen=True)
class FinetuningSettings:
    """How a model is fine-tuned on a task (paper appendix A and section 5.3), with linear warm-up and decay.

    Attributes:
        epochs: passes over the training examples.
        batch_size: examples a step.
        micro_batch: examples in a forward pass of one data rank, at most: bounds its memory (of long examples fewer keep
            the device busy), and with dropout chooses the masks.
        learning_rate: the highest rate.
        warmup_fraction: share of all steps (the reference's scripts: 6.5 %).
        weight_decay: on matrices and embeddings (the reference's scripts: 0.1).
        precision: "fp32", "tf32" as in pretraining, or "bf16" compute with fp32 master weights; what is trained is scored
            in fp32.
        sequence_length: longest input in tokens; the model's for 0.
        seeds: of the new head, the order and dropout: one run each.
        data_parallel: copies of the model, where its layout has more than the batch has examples for; the layout's for 0.
    """

    epochs: int = 3
    batch_size: int = 32
    micro_batch: int = 8
    learning_rate: float = 2e-5
    warmup_fraction: float = 0.065
    weight_decay: float = 0.1
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    sequence_length: int = 0
    seeds: list[int] = field(default_factory=lambda: [1])
    data_parallel: int = 0

    def errors(self, where: str) -> list[str]:
        at_least_one = dict.fromkeys(("epochs", "batch_size", "micro_batch"), (1, math.inf))
        at_least_zero = dict.fromkeys(("sequence_length", "data_parallel"), (0, math.inf))
        problems = out_of_range(self, where, **at_least_one, **at_least_zero)
        problems += not_positive(self, where, "learning_rate")
        problems += out_of_range(self, where, warmup_fraction=(0, 1), weight_decay=(0, math.inf))
        if self.micro_batch > self.batch_size >= 1:
            problems.append(
                f"{where}.micro_batch: must be at most batch_size ({self.batch_size}), is {self.micro_batch}"
            )
        if (
            not self.seeds
            or len(set(self.seeds)) < len(self.seeds)
            or not all(0 <= seed <= LARGEST_SEED for seed in self.seeds)
        ):
            problems.append(
                f"{where}.seeds: must be one or more different numbers from 0 to {LARGEST_SEED}, is {self.seeds}"
            )
        return problems

    def significant(self, drops: bool) -> dict[str, Any]:
        """What a run's numbers depend on, besides its seed; `drops` as in `TrainingConfig.significant`."""
        facts = asdict(self)
        del facts["seeds"], facts["data_parallel"]
        if not drops:
            del facts["micro_batch"]
        return facts | ({"dropout_masks": DROPOUT_MASKS} if drops else {})

    def layout(self, model: ParallelConfig) -> ParallelConfig:
        """The layout of a fine-tuning of a model that is laid out so: no pipeline."""
        copies = self.data_parallel or model.task_data_parallel
        return replace(model, data_parallel=copies, pipeline_parallel=1, pipeline_chunks=1)

    def layout_errors(self, data_parallel: int, where: str) -> list[str]:
        """Why a batch cannot be dealt to `data_parallel` ranks, one line each; those of `data_parallel` of its own, to
        these."""
        if self.data_parallel:
            data_parallel = self.data_parallel
        if self.batch_size % data_parallel:
            return [
                f"{where}: batch_size {self.batch_size} is not divisible by the {data_parallel} processes beyond "
                "tensor_parallel, which are all data-parallel in fine-tuning"
            ]
        return []

    def training_config(self, examples: int, seed: int) -> TrainingConfig:
        """The trainer's settings for all epochs of `examples` examples."""
        steps = math.ceil(self.epochs * examples / self.batch_size)
        interval = max(1, steps // _CHECKPOINTS_A_RUN)
        return TrainingConfig(
            steps=steps,
            global_batch=self.batch_size,
            micro_batch=min(self.micro_batch, self.batch_size),
            learning_rate=self.learning_rate,
            warmup_steps=int(self.warmup_fraction * steps),
            schedule="linear",
            weight_decay=self.weight_decay,
            precision=self.precision,
            seed=seed,
            checkpoint_interval=min(_LARGEST_CHECKPOINT_INTERVAL_STEPS, interval),
        )

    def ends_of_epochs(self, examples: int) -> dict[int, int]:
        """Which epoch is over after a step, by the step; the last of those that end in one step."""
        return {math.ceil(epoch * examples / self.batch_size): epoch for epoch in range(1, self.epochs + 1)}


@dataclass(frozen=True)
class LaunchSettings:
    """How stages are started; no result depends on it.

    Attributes:
        kind: of programs on ranks: "local", on this machine; "slurm", by `srun`, one agent a node, in the allocation that
            the command runs in, or each stage in one of its own that is waited for. "ray": they are local, and pipeline
            stages work on a Ray cluster.
        nodes: of a cluster, at most; as many as a stage's processes need for 0.
        processes_per_node: on each, its devices.
        grace_seconds: how long processes that are asked to end have to finish a step and save.
        arguments: more of `srun`: partition, time limit, devices.
        ray_address: of the Ray cluster.
        share_devices: start on CUDA devices of this machine that other programs use, too.
    """

    kind: Literal["local", "slurm", "ray"] = "local"
    nodes: int = 0
    processes_per_node: int = 8
    grace_seconds: int = 600
    arguments: list[str] = field(default_factory=list)
    ray_address: str = "auto"
    share_devices: bool = False

    def errors(self, where: str) -> list[str]:
        problems = out_of_range(
            self, where, nodes=(0, math.inf), processes_per_node=(1, math.inf), grace_seconds=(1, math.inf)
        )
        if self.arguments and self.kind != "slurm":
            problems.append(f'{where}.arguments: are for kind "slurm", which is {self.kind!r}')
        return problems

    def nodes_for(self, ranks: int) -> tuple[int, int]:
        """(nodes, processes on each) for so many ranks."""
        nodes = math.ceil(ranks / self.processes_per_node)
        return nodes, ranks // nodes

    def layout_errors(self, ranks: int, where: str) -> list[str]:
        """Why so many processes cannot be started, one line each."""
        if self.kind != "slurm":
            return []
        nodes, processes = self.nodes_for(ranks)
        if nodes * processes != ranks:
            return [
                f"{where}: its {ranks} processes cannot be dealt evenly to nodes of {self.processes_per_node} "
                "(launch.processes_per_node)"
            ]
        if self.nodes and nodes > self.nodes:
            return [
                f"{where}: its {ranks} processes need {nodes} nodes of {processes}, launch.nodes is {self.nodes}"
            ]
        return []


@dataclass(frozen=True)
class Model:
    """One model.

    Attributes:
        config: its shape; the vocabulary's size is a stand-in until its tokenizer exists.
        finetuning: by task.
        parallel: its layout: the recipe's, and what its own table says.
    """

    name: str
    config: ModelConfig
    training: TrainingConfig
    finetuning: dict[str, FinetuningSettings]
    parallel: ParallelConfig

    def layout_errors(self, layout: ParallelConfig) -> list[str]:
        """Why it cannot be trained on a layout, one line each."""
        where = f"models.{self.name}"
        return self.config.layout_errors(
            layout.tensor_parallel, where, layout.sequence_parallel, layout.stages
        ) + self.training.layout_errors(
            layout.data_parallel, f"{where}.training", layout.pipeline_parallel, layout.pipeline_chunks
        )

    def fits(self, task: Task) -> bool:
        """Whether a task is for models of this one's family."""
        return FAMILIES[self.config.family].causal == task.causal


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; paths in it are absolute.

    Attributes:
        files: all files that it was read from, its own last: what it extends comes first.
        overrides: what the command line set, as the text of `--set`.
        plugins: modules of the user's own, already imported.
        corpora: as the recipe lists them.
        parallel: the layout of models that have none of their own.
    """

    path: Path
    files: tuple[Path, ...]
    overrides: str
    plugins: tuple[str, ...]
    identity: Identity
    sample: SampleSettings | None
    corpora: tuple[Source, ...]
    cleaning: CleaningSettings
    length_tokenizer: Path | None
    decontamination: DecontaminationSettings
    deduplication: DeduplicationSettings
    tokenizers: dict[str, TokenizerSettings]
    parallel: ParallelConfig
    models: dict[str, Model]
    benchmarks: dict[str, BenchmarkSettings]
    evaluation: EvaluationSettings
    texts: TextSettings
    launch: LaunchSettings = field(default_factory=LaunchSettings)

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def corpus_name(self) -> str:
        return self.identity.corpus or self.name

    @property
    def lock_path(self) -> Path:
        """The file beside the recipe that pins its remote sources."""
        if self.identity.corpus:
            return self.path.with_name(f"{self.identity.corpus}.lock.json")
        return self.path.with_suffix(".lock.json")

    def ordered_corpora(self) -> list[Source]:
        """Corpora in the order that decides which of two duplicates stays: those last that no causal family reads
        (the paper's books are for BERT only)."""

        def is_read_by_causal(source: Source) -> bool:
            return not source.families or any(FAMILIES[family].causal for family in source.families)

        return sorted(self.corpora, key=lambda source: not is_read_by_causal(source))

    def sources_for(self, family: str) -> list[str]:
        """Names of the corpora that models of `family` learn from, in order."""
        return [
            source.name
            for source in self.ordered_corpora()
            if not source.families or family in source.families
        ]

    def families(self) -> list[str]:
        """The model families of this recipe, in the order of their first models."""
        return list(dict.fromkeys(model.config.family for model in self.models.values()))

    def models_of(self, *, causal: bool) -> list[str]:
        """The models of causal families, or of the others."""
        return [name for name, model in self.models.items() if FAMILIES[model.config.family].causal == causal]

    def zero_shot_tasks(self) -> list[ZeroShot]:
        """The zero-shot evaluations whose data the recipe has."""
        return [ZERO_SHOT[name] for name in ZERO_SHOT if ZERO_SHOT[name].benchmark in self.benchmarks]

    def measured_tasks(self) -> list[Task]:
        """The tasks that some model of the recipe is measured on."""
        models = self.models.values()
        scored = [task for task in self.zero_shot_tasks() if any(model.fits(task) for model in models)]
        tuned = [name for name in FINE_TUNING if any(name in model.finetuning for model in models)]
        return [*scored, *(FINE_TUNING[name] for name in tuned)]
