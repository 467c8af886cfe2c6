"""What the command line does to corpora: the whole chain, or one stage of it.

The stages as artifacts are in `data_pipeline.chain`, the commands' options in `data_pipeline.__main__`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import write_json
from data_pipeline.chain import Chain, Documents, SourceSettings
from data_pipeline.engine.executors import Executor
from data_pipeline.indexed.blends import check_alike, corpus_facts
from data_pipeline.indexed.dataset import IndexedDataset, merge
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings
from data_pipeline.tokenization.corpus import CORPUS, CORPUS_FILE
from data_pipeline.tokenization.tokenizers import TOKENIZER_FILE, Kind, load_tokenizer

FUNNEL_FILE = "funnel.json"
Summaries = dict[str, dict[str, Any]]
DocumentStage = Callable[[Chain, Documents], Documents]


@dataclass(frozen=True)
class BuildSettings:
    """What to build.

    Attributes:
        source: what to read.
        tokenizer: an existing tokenizer, or (kind, vocabulary size) of one to train on the corpus.
        cleaning: see `CleaningSettings`; an existing tokenizer counts the length.
        deduplication: see `DeduplicationSettings`.
        benchmarks: files or directories, by name, whose text the corpus must not hold.
    """

    source: SourceSettings
    tokenizer: Path | tuple[Kind, int]
    cleaning: CleaningSettings = dataclasses.field(default_factory=CleaningSettings)
    deduplication: DeduplicationSettings = dataclasses.field(default_factory=DeduplicationSettings)
    benchmarks: Mapping[str, Path] = dataclasses.field(default_factory=dict)


def build(settings: BuildSettings, output: Path, executor: Executor) -> Summaries:
    """Build `output/corpus.bin`, `.idx`, `.json` and `output/tokenizer.json` from files.

    Returns:
        The summary of each stage in order, also written to `output/funnel.json`.

    Raises:
        ValueError, OSError: bad input; the message names the file and the remedy.
    """
    given = settings.tokenizer
    kind = load_tokenizer(given).kind if isinstance(given, Path) else given[0]
    chain = Chain(output, 5 + bool(settings.benchmarks) + (kind == "bert"), executor)
    documents = chain.clean(
        chain.read(settings.source), settings.cleaning, given if isinstance(given, Path) else None
    )
    if settings.benchmarks:
        documents = chain.decontaminate(documents, settings.benchmarks, DecontaminationSettings())
    documents = chain.deduplicate(documents, settings.deduplication)
    if not chain.summaries["deduplicate"]["documents"]:
        dropped = {stage: summary.get("dropped", {}) for stage, summary in chain.summaries.items()}
        raise UserError(f"{output}: no documents are left; dropped were {dropped}")
    _tokenize(chain, documents, given)
    write_json(Path(output) / FUNNEL_FILE, chain.summaries)
    return chain.summaries


def tokenize(
    source: SourceSettings, tokenizer: Path | tuple[Kind, int], output: Path, executor: Executor
) -> Summaries:
    """Tokenize documents as they are."""
    kind = load_tokenizer(tokenizer).kind if isinstance(tokenizer, Path) else tokenizer[0]
    chain = Chain(output, 3 + (kind == "bert"), executor)
    _tokenize(chain, chain.read(source), tokenizer)
    return chain.summaries


def _tokenize(chain: Chain, documents: Documents, given: Path | tuple[Kind, int]) -> None:
    tokenizer = chain.tokenizer(documents, given)
    tokens = chain.tokenize(documents, tokenizer)
    corpus = [(path, path.name) for path in sorted(tokens.directory.glob("corpus.*"))]
    chain.deliver([*corpus, (tokenizer.directory / TOKENIZER_FILE, TOKENIZER_FILE)])


def train(
    source: SourceSettings, kind_and_size: tuple[Kind, int], output: Path, executor: Executor
) -> Summaries:
    """Train a tokenizer: `output/tokenizer.json`."""
    chain = Chain(output, 2, executor)
    tokenizer = chain.tokenizer(chain.read(source), kind_and_size)
    chain.deliver([(tokenizer.directory / TOKENIZER_FILE, TOKENIZER_FILE)])
    return chain.summaries


def run_stage(source: SourceSettings, stage: DocumentStage, output: Path, executor: Executor) -> Summaries:
    """One stage that turns documents into documents: `output/documents-*.parquet`, and `output/funnel.json`."""
    chain = Chain(output, 2, executor)
    chain.deliver_documents(stage(chain, chain.read(source)))
    write_json(Path(output) / FUNNEL_FILE, chain.summaries)
    return chain.summaries


def merge_corpora(prefixes: Sequence[Path], output: Path) -> dict[str, Any]:
    """Join indexed datasets of one tokenizer: `output/corpus.bin`, `.idx` and, where each has one, `corpus.json`.

    Returns:
        documents, sequences and tokens of the joined dataset.

    Raises:
        BlendError: they were made with different tokenizers.
        IndexedDatasetError: one of them is missing or damaged.
    """
    prefix = Path(output) / CORPUS
    check_alike(prefix, prefixes)
    merge(prefixes, prefix)
    facts = [corpus_facts(part) for part in prefixes]
    dataset = IndexedDataset(prefix)
    counts = {"documents": dataset.documents, "sequences": len(dataset), "tokens": dataset.tokens}
    if all(facts):
        empty = sum(fact.get("empty_documents", 0) for fact in facts)
        write_json(Path(output) / CORPUS_FILE, {**facts[0], **counts, "empty_documents": empty})
    return counts


def funnel_table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Documents and megabytes in and out of each stage, and the reasons for what is gone, as a table."""
    rows = [("stage", "documents in", "out", "MB in", "out", "dropped")]
    for stage, summary in summaries.items():
        if "documents_in" not in summary and "records" not in summary:
            continue
        reasons = dict(summary.get("dropped", {}))
        reasons["quarantined"] = summary.get("quarantined", 0)
        reasons["cut (not dropped)"] = summary.get("cut", 0)
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        size_in = f"{summary['bytes_in'] / 1e6:,.1f}" if "bytes_in" in summary else ""
        documents_in = f"{summary.get('documents_in', summary.get('records')):,}"
        rows.append(
            (stage, documents_in, f"{summary['documents']:,}", size_in, f"{summary['bytes'] / 1e6:,.1f}", why)
        )
    lines = []
    if len(rows) > 1:
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for row in rows:
            cells = [f"{cell:>{width}}" for cell, width in zip(row[1:5], widths[1:], strict=True)]
            lines.append("  ".join([f"{row[0]:<{widths[0]}}", *cells, row[5]]).rstrip())
    for stage, tokens in summaries.items():
        if "sequences" not in tokens:
            continue
        lines.append(
            f"{stage}: {tokens['tokens']:,} tokens in {tokens['documents']:,} documents and {tokens['sequences']:,} "
            f"sequences, vocabulary {tokens['vocabulary_size']:,}"
        )
    return "\n".join(lines)
