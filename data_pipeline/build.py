"""The chain from local files to one indexed dataset, each stage an artifact below `OUTPUT/stages`.

This is the pipeline for one corpus of one's own; reproductions of many corpora and models are chained by the
workflows. Killed at any moment, the same call goes on where it was; with other settings only what they change is
made anew.
"""

import dataclasses
import importlib.metadata
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_pipeline.artifacts import Artifact, atomic_write, exclusive, hash_file, hash_tree, write_json
from data_pipeline.cleaning import CleaningSettings, clean
from data_pipeline.decontamination import DecontaminationSettings, decontaminate
from data_pipeline.deduplication import DeduplicationSettings, deduplicate
from data_pipeline.documents import list_shards
from data_pipeline.executors import Executor
from data_pipeline.sentences import PUNKT_FILE, train_sentence_splitter
from data_pipeline.sources.local import fetch_local, find_files
from data_pipeline.tokenization import tokenize_corpus
from data_pipeline.tokenizers import TOKENIZER_FILE, Kind, load_tokenizer, train_tokenizer

FUNNEL_FILE = "funnel.json"
_SOURCE = "corpus"
_LIBRARIES = ("ftfy", "nltk", "numpy", "pyarrow", "pycld2", "scipy", "tokenizers")
_logger = logging.getLogger("data_pipeline")


@dataclass(frozen=True)
class BuildSettings:
    """What to build.

    Attributes:
        inputs: files and glob patterns.
        tokenizer: an existing tokenizer, or (kind, vocabulary size) of one to train on the corpus.
        text_field: the field of a record that holds its text.
        on_bad_file: see `fetch_local`.
        cleaning: see `CleaningSettings`; an existing tokenizer counts the length.
        benchmarks: files or directories, by name, whose text the corpus must not hold.
    """

    inputs: list[str]
    tokenizer: Path | tuple[Kind, int]
    text_field: str = "text"
    on_bad_file: Literal["stop", "keep"] = "stop"
    cleaning: CleaningSettings = dataclasses.field(default_factory=CleaningSettings)
    benchmarks: Mapping[str, Path] = dataclasses.field(default_factory=dict)


class _Chain:
    """Runs one stage after the other, each on the artifacts before it, and keeps their summaries."""

    def __init__(self, root: Path, stages: int) -> None:
        self.root = root
        self.stages = stages
        self.summaries: dict[str, dict[str, Any]] = {}
        self._code = {path.name: hash_file(path) for path in _source_files()}
        self._versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}

    def run(
        self,
        stage: str,
        function: Callable[[Path, str], Mapping[str, Any]],
        parameters: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        files: Mapping[str, Path],
    ) -> Artifact:
        """Make the artifact of a stage unless it is there; the function gets its directory and a title."""
        artifact = Artifact(
            root=self.root,
            stage=stage,
            name=_SOURCE,
            version=1,
            parameters={**parameters, "code": self._code},
            inputs={role: artifact.key for role, artifact in inputs.items()},
            files={
                role: hash_tree(path) if path.is_dir() else hash_file(path) for role, path in files.items()
            },
            libraries=self._versions,
        )
        title = f"[{len(self.summaries) + 1}/{self.stages}] {stage}"
        with exclusive(artifact.directory, _logger.warning):
            if artifact.is_complete():
                _logger.info("%s: there already", title)
            else:
                _logger.info("%s", title)
                artifact.finish(function(artifact.start(), title), run_record={})
        self.summaries[stage] = artifact.manifest()["summary"]
        return artifact


def _source_files() -> list[Path]:
    """The code that decides what the chain writes: a change in it makes the stages anew."""
    package = Path(__file__).parent
    return [*sorted(package.glob("*.py")), package / "sources" / "local.py"]


def build(settings: BuildSettings, output: Path, executor: Executor) -> dict[str, Any]:
    """Build `output/corpus.bin`, `.idx`, `.json` and `output/tokenizer.json` from local files.

    Returns:
        The summary of each stage in order, also written to `output/funnel.json`.

    Raises:
        ValueError, OSError: bad input; the message names the file and the remedy.
    """
    output = Path(output)
    kind = (
        load_tokenizer(settings.tokenizer).kind
        if isinstance(settings.tokenizer, Path)
        else settings.tokenizer[0]
    )
    chain = _Chain(output / "stages", 5 + bool(settings.benchmarks) + (kind == "bert"))
    documents = _documents(chain, settings, executor)
    if not chain.summaries["deduplicate"]["documents"]:
        dropped = {stage: summary.get("dropped", {}) for stage, summary in chain.summaries.items()}
        raise ValueError(f"{output}: no documents are left; dropped were {dropped}")
    tokenizer = _tokenizer(chain, settings, documents)
    shards = list_shards(documents.directory)
    inputs = {"documents": documents, "tokenizer": tokenizer}
    splitter: Path | None = None
    if kind == "bert":
        inputs["sentences"] = chain.run(
            "sentences",
            lambda directory, title: train_sentence_splitter(shards, directory, title=title),
            {},
            {"documents": documents},
            {},
        )
        splitter = inputs["sentences"].directory / PUNKT_FILE
    tokens = chain.run(
        "tokenize",
        lambda directory, title: tokenize_corpus(
            shards, tokenizer.directory, directory, sentence_splitter=splitter, executor=executor, title=title
        ),
        {},
        inputs,
        {},
    )
    for path in (*sorted(tokens.directory.glob("corpus.*")), tokenizer.directory / TOKENIZER_FILE):
        _share(path, output / path.name)
    write_json(output / FUNNEL_FILE, chain.summaries)
    return chain.summaries


def _documents(chain: _Chain, settings: BuildSettings, executor: Executor) -> Artifact:
    """Fetch, clean, decontaminate and deduplicate."""
    documents = _clean_documents(chain, settings, executor)
    if settings.benchmarks:
        cleaned, rules = documents, DecontaminationSettings()
        documents = chain.run(
            "decontaminate",
            lambda directory, title: decontaminate(
                list_shards(cleaned.directory),
                directory,
                settings.benchmarks,
                rules,
                executor=executor,
                title=title,
            ),
            dataclasses.asdict(rules),
            {"documents": cleaned},
            settings.benchmarks,
        )
    before, similar = documents, DeduplicationSettings()
    return chain.run(
        "deduplicate",
        lambda directory, title: deduplicate(
            list_shards(before.directory), directory, similar, executor=executor, title=title
        ),
        dataclasses.asdict(similar),
        {"documents": before},
        {},
    )


def _clean_documents(chain: _Chain, settings: BuildSettings, executor: Executor) -> Artifact:
    """Fetch and clean."""
    files = find_files(settings.inputs)
    fetched = chain.run(
        "fetch",
        lambda directory, title: fetch_local(
            list(map(str, files)),
            directory,
            source=_SOURCE,
            text_field=settings.text_field,
            on_bad_file=settings.on_bad_file,
            executor=executor,
            title=title,
        ),
        {"text_field": settings.text_field, "on_bad_file": settings.on_bad_file},
        {},
        {f"{number:05d} {path.name}": path for number, path in enumerate(files)},
    )
    length_tokenizer = settings.tokenizer if isinstance(settings.tokenizer, Path) else None
    fingerprint = load_tokenizer(length_tokenizer).fingerprint if length_tokenizer else None
    return chain.run(
        "clean",
        lambda directory, title: clean(
            list_shards(fetched.directory),
            directory,
            settings.cleaning,
            length_tokenizer=length_tokenizer,
            executor=executor,
            title=title,
        ),
        {**dataclasses.asdict(settings.cleaning), "length_tokenizer": fingerprint},
        {"documents": fetched},
        {},
    )


def _tokenizer(chain: _Chain, settings: BuildSettings, documents: Artifact) -> Artifact:
    """Train a tokenizer on the documents, or take over the given one."""
    given = settings.tokenizer
    if isinstance(given, Path):
        tokenizer = load_tokenizer(given)

        def take_over(directory: Path, title: str) -> dict[str, Any]:
            tokenizer.save(directory / TOKENIZER_FILE)
            return {"kind": tokenizer.kind, "vocabulary_size": tokenizer.vocabulary_size}

        return chain.run("tokenizer", take_over, {"fingerprint": tokenizer.fingerprint}, {}, {})
    kind, size = given
    return chain.run(
        "tokenizer",
        lambda directory, title: train_tokenizer(
            kind, list_shards(documents.directory), directory, size, title=title
        ),
        {"kind": kind, "vocabulary_size": size},
        {"documents": documents},
        {},
    )


def _share(source: Path, target: Path) -> None:
    """Give a finished file a second name, without a copy where the file system can."""
    if target.exists() and target.samefile(source):
        return
    with atomic_write(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def funnel_table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Documents and megabytes after each stage, and the reasons for what is gone, as a table."""
    rows = [("stage", "documents", "MB", "dropped")]
    for stage, summary in summaries.items():
        if "documents_in" not in summary and stage != "fetch":
            continue
        reasons = dict(summary.get("dropped", {}))
        reasons["quarantined"] = summary.get("quarantined", 0)
        reasons["cut (not dropped)"] = summary.get("cut", 0)
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        rows.append((stage, f"{summary['documents']:,}", f"{summary['bytes'] / 1e6:,.1f}", why))
    tokens = summaries["tokenize"]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{stage:<{widths[0]}}  {documents:>{widths[1]}}  {size:>{widths[2]}}  {why}".rstrip()
        for stage, documents, size, why in rows
    ]
    lines.append(
        f"tokens: {tokens['tokens']:,} in {tokens['documents']:,} documents and {tokens['sequences']:,} sequences, "
        f"vocabulary {tokens['vocabulary_size']:,}"
    )
    return "\n".join(lines)
