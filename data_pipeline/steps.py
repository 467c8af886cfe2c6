"""The pipeline's steps: from raw text to indexed datasets, each described once, for the command line and for Luigi.

Each function says what one step is made of and what it does; the work itself is in the stage's own module, imported
when it is done. `data_pipeline.corpora` chains them for the corpora of a recipe or of a command.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.registry import Registry
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.benchmarks.benchmark import samples
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.engine.steps import Pins, StageKind, Step, Summary, Workplace
from data_pipeline.settings import (
    BenchmarkSettings,
    CleaningSettings,
    DecontaminationSettings,
    DeduplicationSettings,
    SampleSettings,
    TokenizerSettings,
)
from data_pipeline.sources.source import SampleSource, Source
from data_pipeline.step_inputs import BenchmarkFile, Documents, tokenizer_files
from data_pipeline.tokenization.kinds import KINDS

_SOURCES = tuple(f"data_pipeline.sources.{name}" for name in ("local", "hub", "remote_files", "source"))
SAMPLE = StageKind("sample", 1, ("data_pipeline.sample.files",))
FETCH = StageKind("fetch", 3, _SOURCES, ("pyarrow",))
BENCHMARK = StageKind("benchmark", 1, ("data_pipeline.sources.benchmarks",), ("pyarrow",))
CLEAN = StageKind("clean", 3, ("data_pipeline.cleaning",), ("pyarrow", "ftfy", "pycld2"))
DECONTAMINATE = StageKind(
    "decontaminate", 2, ("data_pipeline.decontamination.decontamination",), ("pyarrow", "ftfy")
)
DEDUPLICATE = StageKind(
    "deduplicate", 5, ("data_pipeline.deduplication.deduplication",), ("pyarrow", "numpy", "scipy")
)
TOKENIZER = StageKind("tokenizer", 3, ("data_pipeline.tokenization.tokenizers",), ("tokenizers",))
SENTENCES = StageKind("sentences", 2, ("data_pipeline.tokenization.sentences",), ("nltk",))
# the ids of gigatoken and tiktoken are held to those of tokenizers, sentences to those of nltk
TOKENIZE = StageKind("tokenize", 3, ("data_pipeline.tokenization.corpus",), ("tokenizers", "numpy"))
KINDS_OF_STEPS = (
    SAMPLE,
    FETCH,
    BENCHMARK,
    CLEAN,
    DECONTAMINATE,
    DEDUPLICATE,
    TOKENIZER,
    SENTENCES,
    TOKENIZE,
)


def plugin_sources(registry: Registry[Any], names: Iterable[str]) -> dict[str, Any]:
    """What a key says of records that a user's plug-ins added: the plug-ins' source; nothing where there are none."""
    found = {name: registry.plugin(name) for name in names if registry.plugin(name)}
    return {f"{registry.what} plug-ins": found} if found else {}


def write_sample(
    name: str, seed: int, settings: SampleSettings, benchmarks: Mapping[str, BenchmarkSettings]
) -> Step:
    """The generated corpus and benchmark files; of those that are written on demand the given ones."""
    asked = sorted(
        name
        for name, benchmark in benchmarks.items()
        if benchmark.source == "sample" and (sample := BENCHMARKS[name].sample) and sample.on_demand
    )

    def work(directory: Path, place: Workplace) -> Summary:
        from data_pipeline.sample import files

        return files.write_sample(
            directory, seed=seed, documents=settings.documents, asked=asked, title=place.title
        )

    return Step(
        SAMPLE,
        name,
        work,
        label="write the sample's text",
        parameters={
            "seed": seed,
            "documents": settings.documents,
            **({"benchmarks": asked} if asked else {}),
            **plugin_sources(BENCHMARKS, samples(asked)),
        },
        layout={"processes": 1},
    )


def fetch(source: Source, lock: LockFile | None, sample: Step | None) -> Step:
    """One corpus, wherever it comes from, as document shards."""
    inputs = {"sample": sample} if sample is not None and isinstance(source, SampleSource) else {}

    def work(directory: Path, place: Workplace) -> Summary:
        where = place.directory(sample) if inputs and sample is not None else None
        return source.fetch(directory, executor=place.executor, title=place.title, lock=lock, sample=where)

    def facts(summary: Summary) -> str:
        bad = summary["quarantined"]
        return f"{summary['documents']} documents" + (f", {bad} bad records quarantined" if bad else "")

    return Step(
        FETCH,
        source.name,
        work,
        label=f"fetch {source.name}",
        parameters=source.key(),
        inputs=inputs,
        files=source.files(),
        selectors={"corpus": source.name},
        facts=facts,
        pins=lambda folder: source.pins(lock, folder),
    )


def clean(name: str, documents: Documents, settings: CleaningSettings, length_tokenizer: Path | None) -> Step:
    """Repaired documents of one language, long enough, of one corpus."""

    def work(directory: Path, place: Workplace) -> Summary:
        from data_pipeline import cleaning

        return cleaning.clean(
            documents.shards(place),
            directory,
            settings,
            length_tokenizer=length_tokenizer,
            executor=place.executor,
            title=place.title,
        )

    return Step(
        CLEAN,
        name,
        work,
        label=f"clean {name}",
        parameters=settings.key(),
        inputs=documents.steps,
        files={
            **documents.files,
            **tokenizer_files("length_tokenizer", length_tokenizer),
            **settings.files(),
        },
        selectors={"corpus": name},
        facts=kept_facts,
    )


def kept_facts(summary: Summary) -> str:
    """ "6120 of 7000 documents kept", of a stage that drops some."""
    return f"{summary['documents']} of {summary['documents_in']} documents kept"


def benchmark(
    name: str, settings: BenchmarkSettings, lock: LockFile | None, sample: Step | None
) -> BenchmarkFile:
    """Where a benchmark's files will be."""
    if settings.source == "local":
        return BenchmarkFile(name, Path(settings.path))
    record = BENCHMARKS[name]
    if settings.source == "sample":
        assert record.sample is not None  # the settings were checked
        return BenchmarkFile(name, Path("benchmarks") / record.sample.path, sample)
    folder = Path(settings.path) if settings.path else None

    def work(directory: Path, place: Workplace) -> Summary:
        from data_pipeline.sources.benchmarks import fetch_benchmark

        return fetch_benchmark(
            name,
            directory,
            folder=folder,
            revision=settings.revision,
            check_counts=settings.check_counts,
            lock=lock,
        )

    def pins(downloads: Path | None) -> Pins:
        from data_pipeline.sources.benchmarks import pin_benchmark

        asks = downloads is not None
        return pin_benchmark(name, folder=folder, revision=settings.revision, lock=lock, asks=asks)

    where = {}
    if folder is None and (origin := record.origin):
        where["dataset"] = origin.dataset
        if origin.url:  # of others the commit is among the pins
            where["revision"] = settings.revision or origin.revision
    step = Step(
        BENCHMARK,
        name,
        work,
        label=f"fetch {name}",
        parameters={
            "benchmark": name,
            "check_counts": settings.check_counts,
            **where,
            **plugin_sources(BENCHMARKS, [name]),
        },
        files={"dataset": folder} if folder else {},
        selectors={"benchmark": name},
        facts=lambda summary: str(summary["origin"]["dataset"]),
        layout={"processes": 1},
        pins=pins,
    )
    return BenchmarkFile(name, Path(record.file), step)


def decontaminate(
    name: str,
    documents: Documents,
    benchmarks: Mapping[str, BenchmarkFile],
    settings: DecontaminationSettings,
) -> Step:
    """All documents, without text that occurs in a benchmark."""

    def work(directory: Path, place: Workplace) -> Summary:
        from data_pipeline.decontamination import decontamination

        return decontamination.decontaminate(
            documents.shards(place),
            directory,
            {name: file.at(place) for name, file in benchmarks.items()},
            settings,
            executor=place.executor,
            title=place.title,
        )

    def facts(summary: Summary) -> str:
        dropped = sum(summary["dropped"].values())
        return f"{summary['documents_in']} documents: {summary['cut']} cut, {dropped} dropped"

    inputs, files = dict(documents.steps), documents.files
    for benchmark_name, file in benchmarks.items():
        from_sample = file.step is not None and file.step.kind is SAMPLE
        inputs |= file.inputs("sample" if from_sample else f"benchmark {benchmark_name}")
        files |= file.files(f"benchmark {benchmark_name}")
    return Step(
        DECONTAMINATE,
        name,
        work,
        label="decontaminate",
        parameters={
            **dataclasses.asdict(settings),
            "benchmarks": sorted(benchmarks),
            **plugin_sources(BENCHMARKS, benchmarks),
        },
        inputs=inputs,
        files=files,
        facts=facts,
    )


def deduplicate(name: str, documents: Documents, settings: DeduplicationSettings) -> Step:
    """All documents, one of each group of duplicates."""

    def work(directory: Path, place: Workplace) -> Summary:
        from data_pipeline.deduplication import deduplication

        return deduplication.deduplicate(
            documents.shards(place), directory, settings, executor=place.executor, title=place.title
        )

    return Step(
        DEDUPLICATE,
        name,
        work,
        label="deduplicate",
        parameters=dataclasses.asdict(settings),
        inputs=documents.steps,
        files=documents.files,
        facts=kept_facts,
    )


def tokenizer(name: str, family: str, kind: str, settings: TokenizerSettings, documents: Documents) -> Step:
    """A tokenizer trained on documents, or a given one.

    Args:
        family: of the models that will read it, for people.
        kind: of `data_pipeline.tokenization.kinds`.
    """
    if settings.path:
        return _given_tokenizer(name, family, kind, Path(settings.path))

    def work(directory: Path, place: Workplace) -> Summary:
        from data_pipeline.tokenization.tokenizers import train_tokenizer

        shards = documents.shards(place)
        return train_tokenizer(
            kind,
            shards,
            directory,
            settings.vocabulary_size,
            sample_bytes=settings.sample_megabytes * 1_000_000,
            title=place.title,
        )

    return Step(
        TOKENIZER,
        name,
        work,
        label=f"train the tokenizer of {family}",
        parameters={
            "kind": kind,
            "vocabulary_size": settings.vocabulary_size,
            "sample_megabytes": settings.sample_megabytes,
            "sources": list(documents.sources),
            **plugin_sources(KINDS, [kind]),
        },
        inputs=documents.steps,
        files=documents.files,
        selectors={"family": family},
        facts=_tokens,
    )


def _given_tokenizer(name: str, family: str, kind: str, path: Path) -> Step:
    def work(directory: Path, place: Workplace) -> Summary:
        from data_pipeline.tokenization.tokenizers import TOKENIZER_FILE, load_tokenizer

        given = load_tokenizer(path)
        if given.kind != kind:
            raise UserError(f"{path}: a tokenizer of kind {given.kind}, not {kind}")
        given.save(directory / TOKENIZER_FILE)
        return {"vocabulary_size": given.vocabulary_size, "trained": False}

    return Step(
        TOKENIZER,
        name,
        work,
        label=f"take over the tokenizer of {family}",
        parameters={"kind": kind, **plugin_sources(KINDS, [kind])},
        files=tokenizer_files("tokenizer", path),
        selectors={"family": family},
        facts=_tokens,
    )


def _tokens(summary: Summary) -> str:
    return f"{summary['vocabulary_size']} tokens"


def sentences(name: str, family: str, documents: Documents) -> Step:
    """A model of where sentences end, trained on documents."""

    def work(directory: Path, place: Workplace) -> Summary:
        from data_pipeline.tokenization.sentences import train_sentence_splitter

        return train_sentence_splitter(documents.shards(place), directory, title=place.title)

    return Step(
        SENTENCES,
        name,
        work,
        label="train the sentence splitter",
        parameters={"sources": list(documents.sources)},
        inputs=documents.steps,
        files=documents.files,
        selectors={"family": family},
    )


def tokenize(name: str, family: str, documents: Documents, tokenizer: Step, splitter: Step | None) -> Step:
    """Documents as one indexed dataset."""

    def work(directory: Path, place: Workplace) -> Summary:
        from data_pipeline.tokenization.corpus import tokenize_corpus

        return tokenize_corpus(
            documents.shards(place),
            place.directory(tokenizer),
            directory,
            sentence_splitter=None if splitter is None else place.directory(splitter),
            executor=place.executor,
            title=place.title,
        )

    return Step(
        TOKENIZE,
        name,
        work,
        label=f"tokenize for {family}",
        parameters={"sources": list(documents.sources)},
        inputs={
            **documents.steps,
            "tokenizer": tokenizer,
            **({} if splitter is None else {"sentences": splitter}),
        },
        files=documents.files,
        selectors={"family": family},
        facts=lambda summary: f"{summary['documents']} documents, {summary['tokens']} tokens",
    )
