"""The steps of some corpora, chained: cleaned each, decontaminated and deduplicated together, tokenized by family."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline import steps
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.engine.steps import Step
from data_pipeline.settings import (
    BenchmarkSettings,
    CleaningSettings,
    DecontaminationSettings,
    DeduplicationSettings,
    SampleSettings,
    TokenizerSettings,
)
from data_pipeline.sources.source import Source
from data_pipeline.step_inputs import BenchmarkFile, Documents, documents_of
from data_pipeline.tokenization.kinds import KINDS


def once(method: Callable[..., Any]) -> Any:
    """A method whose result for the same arguments is made once an object: a step is one object."""
    name = f"_{method.__name__}_made"

    @functools.wraps(method)
    def remembered(self: Any, *arguments: str) -> Any:
        made = self.__dict__.setdefault(name, {})
        if arguments not in made:
            made[arguments] = method(self, *arguments)
        return made[arguments]

    return remembered


@dataclass(frozen=True)
class CorpusSettings:
    """Corpora that are cleaned, decontaminated and deduplicated together, and what becomes of them.

    Attributes:
        name: of what is made of all, for people.
        sources: in the order that decides which of two duplicates stays.
        lock: pins of remote sources.
        length_tokenizer: counts a document's tokens; words × 4/3 without it.
        benchmarks: what the corpora must not hold.
        tokenizers: by family; `kinds` says of which kind each family's is.
        sample, seed: of generated text.
    """

    name: str
    sources: Sequence[Source]
    lock: LockFile | None = None
    cleaning: CleaningSettings = field(default_factory=CleaningSettings)
    length_tokenizer: Path | None = None
    decontamination: DecontaminationSettings = field(default_factory=DecontaminationSettings)
    deduplication: DeduplicationSettings = field(default_factory=DeduplicationSettings)
    benchmarks: Mapping[str, BenchmarkSettings] = field(default_factory=dict)
    tokenizers: Mapping[str, TokenizerSettings] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    sample: SampleSettings | None = None
    seed: int = 1


class Corpus:
    """The steps of some corpora: the same settings give steps with the same keys, whoever asks."""

    def __init__(self, settings: CorpusSettings) -> None:
        self.settings = settings

    def source(self, name: str) -> Source:
        return next(source for source in self.settings.sources if source.name == name)

    @once
    def sample(self) -> Step | None:
        settings = self.settings
        if settings.sample is None:
            return None
        return steps.write_sample(settings.name, settings.seed, settings.sample, settings.benchmarks)

    @once
    def fetch(self, name: str) -> Step:
        return steps.fetch(self.source(name), self.settings.lock, self.sample())

    @once
    def clean(self, name: str) -> Step:
        settings = self.settings
        join_lines = self.source(name).join_lines or settings.cleaning.join_lines
        return steps.clean(
            name,
            documents_of(self.fetch(name)),
            dataclasses.replace(settings.cleaning, join_lines=join_lines),
            settings.length_tokenizer,
        )

    @once
    def benchmark(self, name: str) -> BenchmarkFile:
        settings = self.settings
        return steps.benchmark(name, settings.benchmarks[name], settings.lock, self.sample())

    @once
    def cleaned(self) -> Documents:
        names = [source.name for source in self.settings.sources]
        return Documents({f"{index:03d} {name}": self.clean(name) for index, name in enumerate(names)})

    @once
    def decontaminate(self) -> Step:
        settings = self.settings
        benchmarks = {name: self.benchmark(name) for name in settings.benchmarks}
        return steps.decontaminate(settings.name, self.cleaned(), benchmarks, settings.decontamination)

    @once
    def deduplicate(self) -> Step:
        documents = documents_of(self.decontaminate()) if self.settings.benchmarks else self.cleaned()
        return steps.deduplicate(self.settings.name, documents, self.settings.deduplication)

    @once
    def documents(self, family: str) -> Documents:
        """What the models of a family learn from."""
        names = [
            source.name
            for source in self.settings.sources
            if not source.families or family in source.families
        ]
        return Documents({"documents": self.deduplicate()}, sources=tuple(names))

    @once
    def tokenizer(self, family: str) -> Step:
        settings = self.settings
        name, kind = f"{settings.name}-{family}", settings.kinds[family]
        return steps.tokenizer(name, family, kind, settings.tokenizers[family], self.documents(family))

    @once
    def sentences(self, family: str) -> Step | None:
        if not KINDS[self.settings.kinds[family]].sentences:
            return None
        return steps.sentences(f"{self.settings.name}-{family}", family, self.documents(family))

    @once
    def tokenize(self, family: str) -> Step:
        name = f"{self.settings.name}-{family}"
        return steps.tokenize(
            name, family, self.documents(family), self.tokenizer(family), self.sentences(family)
        )
