"""What a recipe holds: one TOML file states a whole reproduction. Reading and checking it is `recipe_reader`'s.

The settings of models, training and the pipeline's stages have their dataclasses beside the code that obeys them.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from core.config import (
    ModelConfig,
    ParallelConfig,
    TrainingConfig,
)
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings
from data_pipeline.sources.formats import MAXIMUM_RECORD_BYTES

FAMILIES = ("gpt2", "bert")
BENCHMARKS = ("wikitext103", "lambada", "race")


@dataclass(frozen=True)
class Identity:
    """What the recipe is called; `seed` is that of generated data."""

    name: str
    description: str = ""
    seed: int = 1

    def errors(self, where: str) -> list[str]:
        return name_errors(self.name, f"{where}.name")


@dataclass(frozen=True)
class EvaluationSettings:
    """Windows a forward pass, and targets a window scores anew (the paper's overlapping evaluation)."""

    batch_size: int = 8
    stride: int = 32

    def errors(self, where: str) -> list[str]:
        return [
            f"{where}.{name}: must be 1 or more"
            for name in ("batch_size", "stride")
            if getattr(self, name) < 1
        ]


@dataclass(frozen=True)
class RaceSettings:
    """Fine-tuning on RACE (paper section 5.3): one run a seed, each the paper's hyper-parameters by default."""

    epochs: int = 3
    batch_size: int = 32
    micro_batch: int = 8
    learning_rate: float = 2e-5
    warmup_fraction: float = 0.1
    seeds: list[int] = field(default_factory=lambda: [1])
    sequence_length: int = 0

    def errors(self, where: str) -> list[str]:
        problems = [
            f"{where}.{name}: must be 1 or more"
            for name in ("epochs", "batch_size", "micro_batch")
            if getattr(self, name) < 1
        ]
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            problems.append(f"{where}.seeds: one or more different numbers, is {self.seeds}")
        return problems


@dataclass(frozen=True)
class Model:
    """One model: its shape (the vocabulary's size is a stand-in until its tokenizer exists) and its training."""

    name: str
    config: ModelConfig
    training: TrainingConfig
    race: RaceSettings | None


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; paths in it are absolute."""

    path: Path
    identity: Identity
    sample: SampleSettings | None
    corpora: tuple[Corpus, ...]
    cleaning: CleaningSettings
    length_tokenizer: Path | None
    decontamination: DecontaminationSettings
    deduplication: DeduplicationSettings
    tokenizers: dict[str, TokenizerSettings]
    parallel: ParallelConfig
    models: dict[str, Model]
    benchmarks: dict[str, BenchmarkSettings]
    evaluation: EvaluationSettings

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def lock_path(self) -> Path:
        """The file beside the recipe that pins its remote sources."""
        return self.path.with_suffix(".lock.json")

    def ordered_corpora(self) -> list[Corpus]:
        """Corpora in the order that decides which of two duplicates stays: BERT-only sources last."""
        return sorted(self.corpora, key=lambda corpus: "gpt2" not in corpus.families)

    def corpus(self, name: str) -> Corpus:
        return next(corpus for corpus in self.corpora if corpus.name == name)

    def sources_for(self, family: str) -> list[str]:
        """Names of the corpora that models of `family` learn from, in recipe order."""
        return [corpus.name for corpus in self.ordered_corpora() if family in corpus.families]

    def families(self) -> list[str]:
        """The model families of this recipe."""
        used = {model.config.family for model in self.models.values()}
        return [family for family in FAMILIES if family in used]

    def models_of(self, family: str) -> list[str]:
        return [name for name, model in self.models.items() if model.config.family == family]
