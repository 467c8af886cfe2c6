"""The stages from raw text to clean documents: each wraps one function of `data_pipeline` in an artifact.

fetch and clean run once a corpus; decontamination and deduplication see all corpora in the recipe's order, BERT-only
ones last. Tokenizers and tokenized corpora are in `tokenization.py`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from data_pipeline.executors import LocalExecutor
from workflows import progress
from workflows.recipe import Corpus
from workflows.stage import Stage

# Where the generated sample keeps its benchmark files, in the formats of the real ones.
SAMPLE_BENCHMARKS = {
    "wikitext103": "benchmarks/wikitext103/wiki.test.tokens",
    "lambada": "benchmarks/lambada_test.jsonl",
    "race": "benchmarks/RACE",
}


# What every stage that reads and writes document shards depends on.
SHARD_SOURCES = ("data_pipeline/documents.py", "data_pipeline/resumable.py")


class PipelineStage(Stage):
    """A stage of shard-parallel work on this machine's cores."""

    def executor(self) -> LocalExecutor:
        return LocalExecutor(self.processes())

    def title(self) -> str:
        return progress.stage_title(self)


class WriteSample(Stage):
    """The generated corpus and benchmark files."""

    stage = "sample"
    sources = ("data_pipeline/sources/sample*.py",)

    def label(self) -> str:
        return "write the sample's text"

    def parameters(self) -> dict[str, Any]:
        assert self.settings.sample is not None  # the recipe's check guarantees it
        return {"seed": self.settings.identity.seed, "documents": self.settings.sample.documents}

    def layout(self) -> dict[str, int]:
        return {"processes": 1}

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.sources.sample import write_sample

        return write_sample(directory, **self.parameters(), title=progress.stage_title(self))


class FetchDocuments(PipelineStage):
    """Raw files of one corpus into document shards."""

    stage = "fetch"
    sources = ("data_pipeline/sources/local.py", *SHARD_SOURCES)
    library_names = ("pyarrow",)
    selectors = ("corpus",)
    corpus = luigi.Parameter(default="", description="one corpus of the recipe (default: all)")

    def choices(self) -> list[dict[str, str]]:
        return [{"corpus": corpus.name} for corpus in self.settings.corpora]

    def label(self) -> str:
        return f"fetch {self.corpus}"

    @property
    def source(self) -> Corpus:
        return self.settings.corpus(self.corpus)

    def inputs(self) -> dict[str, Stage]:
        return {"sample": sample_of(self)} if self.source.part else {}

    def parameters(self) -> dict[str, Any]:
        source = self.source
        return {
            "source": source.name,
            "part": source.part,
            "text_field": source.text_field,
            "on_bad_file": source.on_bad_file,
        }

    def files(self) -> list[Path]:
        """The raw files, in the order that document ids follow."""
        if self.source.part:
            return sorted((self.inputs()["sample"].directory / "corpus").glob(f"{self.source.part}.jsonl*"))
        from data_pipeline.sources.local import find_files

        return find_files(self.source.paths)

    def external_files(self) -> dict[str, Path]:
        if self.source.part:
            return {}
        return {f"{index:05d} {path.name}": path for index, path in enumerate(self.files())}

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.sources.local import fetch_local

        return fetch_local(
            [str(path) for path in self.files()],
            directory,
            source=self.corpus,
            text_field=self.source.text_field,
            on_bad_file=self.source.on_bad_file,
            executor=self.executor(),
            title=self.title(),
        )

    def facts(self, summary: Mapping[str, Any]) -> str:
        bad = summary["quarantined"]
        return f"{summary['documents']} documents" + (f", {bad} bad records quarantined" if bad else "")


class CleanDocuments(PipelineStage):
    """Repaired, English, long enough documents of one corpus."""

    stage = "clean"
    sources = ("data_pipeline/cleaning.py", *SHARD_SOURCES)
    library_names = ("pyarrow", "ftfy", "pycld2")
    selectors = ("corpus",)
    corpus = luigi.Parameter(default="", description="one corpus of the recipe (default: all)")

    def choices(self) -> list[dict[str, str]]:
        return [{"corpus": corpus.name} for corpus in self.settings.corpora]

    def label(self) -> str:
        return f"clean {self.corpus}"

    def inputs(self) -> dict[str, Stage]:
        return {"documents": self.clone(FetchDocuments)}

    def cleaning(self) -> Any:
        join_lines = self.settings.corpus(self.corpus).join_lines or self.settings.cleaning.join_lines
        return dataclasses.replace(self.settings.cleaning, join_lines=join_lines)

    def parameters(self) -> dict[str, Any]:
        return dataclasses.asdict(self.cleaning())

    def external_files(self) -> dict[str, Path]:
        tokenizer = self.settings.length_tokenizer
        return {"length_tokenizer": tokenizer} if tokenizer is not None else {}

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.cleaning import clean
        from data_pipeline.documents import list_shards

        return clean(
            list_shards(self.inputs()["documents"].directory),
            directory,
            self.cleaning(),
            length_tokenizer=self.settings.length_tokenizer,
            executor=self.executor(),
            title=self.title(),
        )

    def facts(self, summary: Mapping[str, Any]) -> str:
        return kept_facts(summary)


def kept_facts(summary: Mapping[str, Any]) -> str:
    """ "6120 of 7000 documents kept", of a stage that drops some."""
    return f"{summary['documents']} of {summary['documents_in']} documents kept"


def benchmark_paths(stage: Stage) -> dict[str, Path]:
    """File or folder of each benchmark of the recipe."""
    result = {}
    for name, benchmark in stage.settings.benchmarks.items():
        if benchmark.source == "sample":
            result[name] = sample_of(stage).directory / SAMPLE_BENCHMARKS[name]
        else:
            result[name] = Path(benchmark.path)
    return result


def sample_of(stage: Stage) -> Stage:
    return stage.clone(WriteSample)


class DecontaminateDocuments(PipelineStage):
    """All documents, without text that occurs in a benchmark."""

    stage = "decontaminate"
    sources = ("data_pipeline/decontamination.py", "data_pipeline/benchmark_texts.py", *SHARD_SOURCES)
    library_names = ("pyarrow",)

    def label(self) -> str:
        return "decontaminate"

    def inputs(self) -> dict[str, Stage]:
        stages: dict[str, Stage] = {
            f"{index:03d} {corpus.name}": self.clone(CleanDocuments, corpus=corpus.name)
            for index, corpus in enumerate(self.settings.ordered_corpora())
        }
        if any(benchmark.source == "sample" for benchmark in self.settings.benchmarks.values()):
            stages["sample"] = sample_of(self)
        return stages

    def parameters(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self.settings.decontamination),
            "benchmarks": sorted(self.settings.benchmarks),
        }

    def external_files(self) -> dict[str, Path]:
        return {
            f"benchmark {name}": Path(benchmark.path)
            for name, benchmark in self.settings.benchmarks.items()
            if benchmark.path
        }

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.decontamination import decontaminate
        from data_pipeline.documents import list_shards

        stages = [stage for stage in self.inputs().values() if isinstance(stage, CleanDocuments)]
        return decontaminate(
            [shard for stage in stages for shard in list_shards(stage.directory)],
            directory,
            benchmark_paths(self),
            self.settings.decontamination,
            executor=self.executor(),
            title=self.title(),
        )

    def facts(self, summary: Mapping[str, Any]) -> str:
        dropped = sum(summary["dropped"].values())
        return f"{summary['documents_in']} documents: {summary['cut']} cut, {dropped} dropped"


class DeduplicateDocuments(PipelineStage):
    """All documents, one of each group of duplicates."""

    stage = "deduplicate"
    version = 2
    sources = (
        "data_pipeline/deduplication*.py",
        "data_pipeline/minhash.py",
        "data_pipeline/similar_pairs.py",
        "data_pipeline/comparison.py",
        "data_pipeline/long_texts.py",
        *SHARD_SOURCES,
    )
    library_names = ("pyarrow", "numpy", "scipy")

    def label(self) -> str:
        return "deduplicate"

    def inputs(self) -> dict[str, Stage]:
        return {"documents": self.clone(DecontaminateDocuments)}

    def parameters(self) -> dict[str, Any]:
        return dataclasses.asdict(self.settings.deduplication)

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.deduplication import deduplicate
        from data_pipeline.documents import list_shards

        return deduplicate(
            list_shards(self.inputs()["documents"].directory),
            directory,
            self.settings.deduplication,
            executor=self.executor(),
            title=self.title(),
        )

    def facts(self, summary: Mapping[str, Any]) -> str:
        return kept_facts(summary)
