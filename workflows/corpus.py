"""The stages from raw text to tokenized corpora: each wraps one function of `data_pipeline` in an artifact.

fetch and clean run once a corpus; decontamination and deduplication see all corpora in the recipe's order, BERT-only
ones last; then each model family gets its tokenizer and its tokenized corpus, from the sources meant for it.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import luigi

from data_pipeline.executors import LocalExecutor
from workflows import progress
from workflows.recipe import Corpus
from workflows.stage import Pipeline, Stage

# Where the generated sample keeps its benchmark files, in the formats of the real ones.
SAMPLE_BENCHMARKS = {
    "wikitext103": "benchmarks/wikitext103/wiki.test.tokens",
    "lambada": "benchmarks/lambada_test.jsonl",
    "race": "benchmarks/RACE",
}


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
    sources = ("data_pipeline/sources/local.py", "data_pipeline/documents.py")
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
    sources = ("data_pipeline/cleaning.py", "data_pipeline/documents.py")
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
    sources = ("data_pipeline/decontamination.py", "data_pipeline/documents.py")
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
    sources = ("data_pipeline/deduplication.py", "data_pipeline/documents.py")
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


class FamilyStage(PipelineStage):
    """A stage of one model family, on the deduplicated documents of its sources."""

    selectors = ("family",)
    family = luigi.Parameter(default="", description='"gpt2" or "bert" (default: those of the recipe)')

    def choices(self) -> list[dict[str, str]]:
        families = self.settings.families() or list(self.settings.tokenizers)  # a recipe may be a corpus only
        return [{"family": family} for family in families]

    def artifact_name(self) -> str:
        return f"{self.settings.name}-{self.family}"

    def sources_used(self) -> list[str]:
        return self.settings.sources_for(self.family)

    def shards(self) -> list[Path]:
        """The deduplicated shards of this family's sources (a shard holds documents of one source)."""
        from data_pipeline.documents import list_shards

        wanted = self.sources_used()
        directory = self.clone(DeduplicateDocuments).directory
        return [shard for shard in list_shards(directory) if _shard_source(shard) in wanted]


def _shard_source(shard: Path) -> str | None:
    """The source of a shard's documents; None when it holds none."""
    from data_pipeline.documents import read_shard

    first = next(read_shard(shard), None)
    return first.source if first is not None else None


class TrainTokenizer(FamilyStage):
    """A tokenizer trained on the family's documents, or the recipe's given one."""

    stage = "tokenizer"
    sources = ("data_pipeline/tokenizers.py",)
    library_names = ("tokenizers",)

    def label(self) -> str:
        verb = "take over" if self.given() else "train"
        return f"{verb} the tokenizer of {self.family}"

    def given(self) -> str:
        return self.settings.tokenizers[self.family].path

    def inputs(self) -> dict[str, Stage]:
        return {} if self.given() else {"documents": self.clone(DeduplicateDocuments)}

    def parameters(self) -> dict[str, Any]:
        if self.given():
            return {"kind": self.family}
        size = self.settings.tokenizers[self.family].vocabulary_size
        return {"kind": self.family, "vocabulary_size": size, "sources": self.sources_used()}

    def external_files(self) -> dict[str, Path]:
        return {"tokenizer": Path(self.given())} if self.given() else {}

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.tokenizers import load_tokenizer, train_tokenizer

        if self.given():
            tokenizer = load_tokenizer(Path(self.given()))
            if tokenizer.kind != self.family:
                raise ValueError(f"{self.given()}: a tokenizer of kind {tokenizer.kind}, not {self.family}")
            tokenizer.save(directory / "tokenizer.json")
            return {"vocabulary_size": tokenizer.vocabulary_size, "trained": False}
        size = self.settings.tokenizers[self.family].vocabulary_size
        kind: Literal["gpt2", "bert"] = "gpt2" if self.family == "gpt2" else "bert"
        return train_tokenizer(kind, self.shards(), directory, size, title=self.title())

    def facts(self, summary: Mapping[str, Any]) -> str:
        return f"{summary['vocabulary_size']} tokens"


class TrainSentenceSplitter(FamilyStage):
    """A Punkt model trained on BERT's documents."""

    stage = "sentences"
    sources = ("data_pipeline/sentences.py",)
    library_names = ("nltk",)

    def choices(self) -> list[dict[str, str]]:
        return [{"family": "bert"}]

    def label(self) -> str:
        return "train the sentence splitter"

    def inputs(self) -> dict[str, Stage]:
        return {"documents": self.clone(DeduplicateDocuments)}

    def parameters(self) -> dict[str, Any]:
        return {"sources": self.sources_used()}

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.sentences import train_sentence_splitter

        return train_sentence_splitter(self.shards(), directory, title=self.title())


class TokenizeCorpus(FamilyStage):
    """The family's documents as one indexed dataset."""

    stage = "tokenize"
    sources = ("data_pipeline/tokenization.py", "data_pipeline/tokenizers.py", "data_pipeline/indexed.py")
    library_names = ("tokenizers", "numpy")

    def label(self) -> str:
        return f"tokenize for {self.family}"

    def inputs(self) -> dict[str, Stage]:
        stages: dict[str, Stage] = {
            "documents": self.clone(DeduplicateDocuments),
            "tokenizer": self.clone(TrainTokenizer),
        }
        if self.family == "bert":
            stages["sentences"] = self.clone(TrainSentenceSplitter)
        return stages

    def parameters(self) -> dict[str, Any]:
        return {"sources": self.sources_used()}

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.tokenization import tokenize_corpus

        inputs = self.inputs()
        return tokenize_corpus(
            self.shards(),
            inputs["tokenizer"].directory,
            directory,
            sentence_splitter=inputs["sentences"].directory if "sentences" in inputs else None,
            executor=self.executor(),
            title=self.title(),
        )

    def facts(self, summary: Mapping[str, Any]) -> str:
        return f"{summary['documents']} documents, {summary['tokens']} tokens"


class BuildCorpus(Pipeline):
    """Raw text to the tokenized corpora of a recipe."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(TokenizeCorpus)]
