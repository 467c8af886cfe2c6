"""What a recipe holds: one TOML file states a whole reproduction. Reading and checking it is `recipe_reader`'s.

The settings of models, training and the pipeline's stages have their dataclasses beside the code that obeys them.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from core.config import (
    ModelConfig,
    ParallelConfig,
    TrainingConfig,
)
from core.tables import not_positive, out_of_range
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings
from data_pipeline.sources.formats import MAXIMUM_RECORD_BYTES

FAMILIES = ("gpt2", "bert")
BENCHMARKS = ("wikitext103", "lambada", "race")
_LARGEST_SEED = 2**32 - 1
_LARGEST_RECORD_BYTES = 1 << 30  # a page of a document shard holds at most twice that
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def name_errors(name: str, where: str) -> list[str]:
    if _NAME.fullmatch(name):
        return []
    return [f"{where}: must be letters, digits, '.', '_' and '-' (it names a folder), is {name!r}"]


@dataclass(frozen=True)
class Identity:
    """What the recipe is called; `seed` is that of generated data."""

    name: str
    description: str = ""
    seed: int = 1

    def errors(self, where: str) -> list[str]:
        return name_errors(self.name, f"{where}.name")


@dataclass(frozen=True)
class SampleSettings:
    """The generated sample: how many documents its corpus has."""

    documents: int

    def errors(self, where: str) -> list[str]:
        return [f"{where}.documents: must be 1 or more"] if self.documents < 1 else []


# The keys of each kind of source; the first must be given.
_SOURCE_KEYS = {
    "sample": ("part",),
    "local": ("paths",),
    "huggingface": ("dataset", "configuration", "split", "revision", "streaming", "expected_rows"),
    "http": ("urls", "sha256"),
}


@dataclass(frozen=True)
class Corpus:
    """One source of documents.

    Attributes:
        source: "sample" (`part` names one of the sample's files), "local" (`paths` are files and globs), "huggingface"
            (`dataset` is a name on the hub or a folder in hub layout) or "http" (`urls` of files and archives).
        preset: one of `data_pipeline.sources.presets.CORPORA`, whose settings hold where the recipe says nothing.
        configuration, split, revision: of a hub's dataset. A revision that is no commit is pinned by the lock file.
        streaming: read a hub's rows without a copy on this disk.
        expected_rows: another number of rows is an error; 0 when it is not known.
        sha256: of each of `urls`, "" where it is not known; those are pinned by the lock file.
        families: which models learn from it, the key `for` of the recipe.
        join_lines: remove needless line breaks (the paper does so for CC-Stories).
        on_bad_file: "stop" at a truncated or corrupt file, or "keep" what could be read of it.
        maximum_record_bytes: a longer line, row or text file goes to quarantine.
    """

    name: str
    source: Literal["sample", "local", "huggingface", "http"]
    preset: str = ""
    part: str = ""
    paths: list[str] = field(default_factory=list)
    dataset: str = ""
    configuration: str = ""
    split: str = "train"
    revision: str = "main"
    streaming: bool = False
    expected_rows: int = 0
    urls: list[str] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    text_field: str = "text"
    join_lines: bool = False
    on_bad_file: Literal["stop", "keep"] = "stop"
    maximum_record_bytes: int = MAXIMUM_RECORD_BYTES
    families: tuple[str, ...] = FAMILIES

    def errors(self, where: str) -> list[str]:
        problems = name_errors(self.name, f"{where}.name")
        keys = _SOURCE_KEYS[self.source]
        if not getattr(self, keys[0]):
            problems.append(f'{where}: source = "{self.source}" needs {keys[0]}')
        defaults = Corpus("defaults", self.source)
        others = [key for kind in _SOURCE_KEYS.values() for key in kind if key not in keys]
        for key in others:
            if getattr(self, key) != getattr(defaults, key):
                problems.append(f'{where}.{key}: not a key of source = "{self.source}"')
        if self.expected_rows < 0:
            problems.append(f"{where}.expected_rows: must be 0 or more")
        if not 1 <= self.maximum_record_bytes <= _LARGEST_RECORD_BYTES:
            problems.append(f"{where}.maximum_record_bytes: must be from 1 to {_LARGEST_RECORD_BYTES:,}")
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                problems.append(f"{where}.urls: {url!r} is no http or https address")
        if self.sha256 and len(self.sha256) != len(self.urls):
            problems.append(f"{where}.sha256: {len(self.sha256)} of them for {len(self.urls)} urls")
        for digest in self.sha256:
            if digest and not _SHA256.fullmatch(digest):
                problems.append(f"{where}.sha256: {digest!r} is not 64 lower-case hexadecimal digits")
        return problems


@dataclass(frozen=True)
class TokenizerSettings:
    """Train one of `vocabulary_size` tokens, or take the one at `path`."""

    vocabulary_size: int = 0
    path: str = ""

    def errors(self, where: str) -> list[str]:
        if bool(self.vocabulary_size) == bool(self.path):
            return [f"{where}: give either vocabulary_size or path"]
        if self.vocabulary_size and self.vocabulary_size < 300:
            return [f"{where}.vocabulary_size: must be 300 or more (256 bytes and the special tokens)"]
        return []


@dataclass(frozen=True)
class BenchmarkSettings:
    """Where a benchmark's files are.

    Attributes:
        source: "sample" (generated with it), "local" (`path` is a file in the authors' format; RACE: a folder) or
            "huggingface" (from the hub; with `path`, from a local copy in hub layout).
        path: see there.
        revision: of the hub's dataset; one that is no commit is pinned by the lock file. Empty for the known one.
        check_counts: refuse a fetched benchmark of another size than the published one's.
    """

    source: Literal["sample", "local", "huggingface"] = "local"
    path: str = ""
    revision: str = ""
    check_counts: bool = True

    def errors(self, where: str) -> list[str]:
        if self.source != "huggingface":
            if (self.source == "sample") == bool(self.path):
                return [f'{where}: give path, or source = "sample" or "huggingface"']
            if self.revision or not self.check_counts:
                return [f'{where}: revision and check_counts are keys of source = "huggingface"']
        return []


@dataclass(frozen=True)
class EvaluationSettings:
    """How zero-shot tasks are scored.

    Attributes:
        batch_size: sequences of the model's full length in one forward pass, and as many more of shorter ones as take
            the same room.
        stride: targets that each window after the first scores, from 1 to the model's sequence length; larger is
            faster and gives a worse perplexity (the paper: 32).
    """

    batch_size: int = 8
    stride: int = 32

    def errors(self, where: str) -> list[str]:
        return out_of_range(self, where, batch_size=(1, math.inf), stride=(1, math.inf))


@dataclass(frozen=True)
class FinetuningSettings:
    """Fine-tuning on a task (paper section 5.3), each the paper's hyper-parameters by default.

    Attributes:
        epochs: passes over the training set.
        batch_size: examples a step.
        micro_batch: examples in one forward pass of one data rank: bounds its memory.
        learning_rate: the highest rate.
        warmup_fraction: share of all steps in which the rate rises (6.5 % in the reference's scripts).
        seeds: of the new head, the order and dropout; one run each.
        sequence_length: longest input in tokens; 0 takes the model's.
    """

    epochs: int = 3
    batch_size: int = 32
    micro_batch: int = 8
    learning_rate: float = 2e-5
    warmup_fraction: float = 0.065
    seeds: list[int] = field(default_factory=lambda: [1])
    sequence_length: int = 0

    def errors(self, where: str) -> list[str]:
        problems = out_of_range(
            self,
            where,
            epochs=(1, math.inf),
            batch_size=(1, math.inf),
            micro_batch=(1, math.inf),
            warmup_fraction=(0, 1),
            sequence_length=(0, math.inf),
        )
        problems += not_positive(self, where, "learning_rate")
        if 1 <= self.batch_size < self.micro_batch:
            problems.append(
                f"{where}.micro_batch: must be at most batch_size ({self.batch_size}), is {self.micro_batch}"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            problems.append(f"{where}.seeds: must be one or more different numbers, is {self.seeds}")
        elif not all(0 <= seed <= _LARGEST_SEED for seed in self.seeds):
            problems.append(f"{where}.seeds: must be from 0 to {_LARGEST_SEED}, is {self.seeds}")
        return problems


@dataclass(frozen=True)
class Model:
    """One model: its shape (the vocabulary's size is a stand-in until its tokenizer exists) and its training."""

    name: str
    config: ModelConfig
    training: TrainingConfig
    race: FinetuningSettings | None


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
