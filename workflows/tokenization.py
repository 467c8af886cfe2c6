"""The stages from clean documents to tokenized corpora: each model family gets a tokenizer and an indexed dataset of
its own, from the sources that the recipe means for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import luigi

from core.errors import UserError
from workflows.corpus import DeduplicateDocuments, PipelineStage
from workflows.stage import Stage


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
        from data_pipeline.engine.documents import list_shards

        wanted = self.sources_used()
        directory = self.clone(DeduplicateDocuments).directory
        return [shard for shard in list_shards(directory) if _shard_source(shard) in wanted]


def _shard_source(shard: Path) -> str | None:
    """The source of a shard's documents; None when it holds none."""
    from data_pipeline.engine.documents import read_shard

    first = next(read_shard(shard), None)
    return first.source if first is not None else None


class TrainTokenizer(FamilyStage):
    """A tokenizer trained on the family's documents, or the recipe's given one."""

    stage = "tokenizer"
    sources = ("data_pipeline/tokenization/tokenizers.py", "data_pipeline/engine/documents.py")
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
        from data_pipeline.tokenization.tokenizers import load_tokenizer, train_tokenizer

        if self.given():
            tokenizer = load_tokenizer(Path(self.given()))
            if tokenizer.kind != self.family:
                raise UserError(f"{self.given()}: a tokenizer of kind {tokenizer.kind}, not {self.family}")
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
    sources = ("data_pipeline/tokenization/sentences.py", "data_pipeline/engine/documents.py")
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
        from data_pipeline.tokenization.sentences import train_sentence_splitter

        return train_sentence_splitter(self.shards(), directory, title=self.title())


class TokenizeCorpus(FamilyStage):
    """The family's documents as one indexed dataset."""

    stage = "tokenize"
    sources = (
        "data_pipeline/tokenization/corpus.py",
        "data_pipeline/tokenization/tokenizers.py",
        "data_pipeline/tokenization/byte_pairs.py",
        "data_pipeline/tokenization/word_pieces.py",
        "data_pipeline/tokenization/sample_check.py",
        "data_pipeline/indexed/dataset.py",
        "data_pipeline/tokenization/sentences.py",
        "data_pipeline/engine/documents.py",
    )
    library_names = ("tokenizers", "numpy")  # tiktoken's ids are held to those of tokenizers

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
        from data_pipeline.tokenization.corpus import tokenize_corpus

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
