"""The stages from fetched to clean documents: each wraps one function of `data_pipeline` in an artifact.

Cleaning runs once a corpus; decontamination and deduplication see all corpora in the recipe's order, BERT-only ones
last. Fetching is in `fetching.py`; tokenizers and tokenized corpora are in `tokenization.py`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from workflows.fetching import (
    SHARD_SOURCES,
    FetchDocuments,
    PipelineStage,
    WriteSample,
    benchmark_files,
    benchmark_inputs,
    benchmark_paths,
)
from workflows.stage import Stage


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
        from data_pipeline.engine.documents import list_shards

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


class DecontaminateDocuments(PipelineStage):
    """All documents, without text that occurs in a benchmark."""

    stage = "decontaminate"
    sources = (
        "data_pipeline/decontamination/decontamination.py",
        "data_pipeline/decontamination/texts.py",
        "data_pipeline/decontamination/ngrams.py",
        *SHARD_SOURCES,
    )
    library_names = ("pyarrow",)

    def label(self) -> str:
        return "decontaminate"

    def inputs(self) -> dict[str, Stage]:
        stages: dict[str, Stage] = {
            f"{index:03d} {corpus.name}": self.clone(CleanDocuments, corpus=corpus.name)
            for index, corpus in enumerate(self.settings.ordered_corpora())
        }
        for name in self.settings.benchmarks:
            for made in benchmark_inputs(self, name).values():
                stages["sample" if isinstance(made, WriteSample) else f"benchmark {name}"] = made
        return stages

    def parameters(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self.settings.decontamination),
            "benchmarks": sorted(self.settings.benchmarks),
        }

    def external_files(self) -> dict[str, Path]:
        return {
            f"benchmark {name}": path
            for name in self.settings.benchmarks
            for path in benchmark_files(self, name).values()
        }

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.decontamination.decontamination import decontaminate
        from data_pipeline.engine.documents import list_shards

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
        "data_pipeline/deduplication/*.py",
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
        from data_pipeline.deduplication.deduplication import deduplicate
        from data_pipeline.engine.documents import list_shards

        return deduplicate(
            list_shards(self.inputs()["documents"].directory),
            directory,
            self.settings.deduplication,
            executor=self.executor(),
            title=self.title(),
        )

    def facts(self, summary: Mapping[str, Any]) -> str:
        return kept_facts(summary)
