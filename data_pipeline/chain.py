"""The pipeline's stages as a chain of artifacts below one folder, for corpora of one's own.

Each stage's output is an artifact `stages/<stage>/corpus-<key>/`: killed at any moment, the same call goes on where it
was; with other settings only what they change is made anew. What is chained by which command is in
`data_pipeline.build`; reproductions of many corpora and models are chained by the workflows.
"""

import dataclasses
import importlib.metadata
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.files import atomic_write, exclusive
from data_pipeline.cleaning import clean
from data_pipeline.decontamination.decontamination import decontaminate
from data_pipeline.deduplication.deduplication import deduplicate
from data_pipeline.engine.artifacts import Artifact, HashCache, hash_file, hash_tree
from data_pipeline.engine.documents import list_shards
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.engine.resumable import sizes, speed
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings
from data_pipeline.sources.hub import HubDataset, fetch_hub, pinned
from data_pipeline.sources.local import fetch_local, find_files
from data_pipeline.sources.remote_files import RemoteFile, fetch_remote
from data_pipeline.tokenization.corpus import tokenize_corpus
from data_pipeline.tokenization.sentences import PUNKT_FILE, train_sentence_splitter
from data_pipeline.tokenization.tokenizers import TOKENIZER_FILE, Kind, load_tokenizer, train_tokenizer

STAGES_FOLDER = "stages"
LOCK_FILE = "sources.lock.json"
_SOURCE = "corpus"
_LIBRARIES = ("ftfy", "nltk", "numpy", "pyarrow", "pycld2", "scipy", "tiktoken", "tokenizers")
_logger = logging.getLogger("data_pipeline")


@dataclass(frozen=True)
class SourceSettings:
    """What to read: one of inputs, dataset and urls.

    Attributes:
        inputs: files and glob patterns, or one directory of document shards.
        dataset: a Hugging Face dataset, or a local folder in hub layout.
        urls: files or archives on the web.
        text_field: the field of a record that holds its text.
        on_bad_file: see `fetch_local`.
        streaming, expected_rows: see `fetch_hub`.
    """

    inputs: list[str] = dataclasses.field(default_factory=list)
    dataset: HubDataset | None = None
    urls: list[str] = dataclasses.field(default_factory=list)
    text_field: str = "text"
    on_bad_file: Literal["stop", "keep"] = "stop"
    streaming: bool = False
    expected_rows: int = 0


@dataclass(frozen=True)
class Documents:
    """Document shards, and the artifact that they are, or None when another command made them."""

    shards: list[Path]
    artifact: Artifact | None

    @property
    def inputs(self) -> dict[str, Artifact]:
        return {"documents": self.artifact} if self.artifact else {}

    @property
    def files(self) -> dict[str, Path]:
        return {} if self.artifact else {f"{index:05d}": path for index, path in enumerate(self.shards)}


class Chain:
    """Runs one stage after the other, each on the artifacts before it, and keeps their summaries.

    Args:
        output: the folder that the user gets.
        stages: how many there will be, for the titles.
        executor: where the work is done.
    """

    def __init__(self, output: Path, stages: int, executor: Executor) -> None:
        self.output = Path(output)
        self.stages = stages
        self.executor = executor
        self.summaries: dict[str, dict[str, Any]] = {}
        self._hashes = HashCache(self.output / ".hashes.json")
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
            root=self.output / STAGES_FOLDER,
            stage=stage,
            name=_SOURCE,
            version=1,
            parameters={**parameters, "code": self._code},
            inputs={role: artifact.key for role, artifact in inputs.items()},
            files={
                role: (hash_tree if path.is_dir() else hash_file)(path, self._hashes)
                for role, path in files.items()
            },
            libraries=self._versions,
        )
        title = f"[{len(self.summaries) + 1}/{self.stages}] {stage}"
        with exclusive(artifact.directory, _logger.warning):
            if artifact.is_complete():
                _logger.info("%s: there already", title)
            else:
                _logger.info("%s", title)
                started = time.monotonic()
                summary = function(artifact.start(), title)
                artifact.finish(summary, run_record={})
                seconds = time.monotonic() - started
                _logger.info("%s: %.1f s, %s", title, seconds, speed(sizes(dict(summary)), seconds))
        self.summaries[stage] = artifact.manifest()["summary"]
        return artifact

    def read(self, source: SourceSettings) -> Documents:
        """Take document shards as they are, or fetch files or rows into shards."""
        if source.dataset:
            return self._read_hub(source, source.dataset)
        if source.urls:
            return self._read_web(source)
        if len(source.inputs) == 1 and any(Path(source.inputs[0]).glob("documents-*.parquet")):
            return Documents(list_shards(Path(source.inputs[0])), None)
        files = find_files(source.inputs)
        return self._documents(
            "fetch",
            lambda directory, title: fetch_local(
                list(map(str, files)),
                directory,
                on_bad_file=source.on_bad_file,
                **self._fetching(source, title),
            ),
            {"text_field": source.text_field, "on_bad_file": source.on_bad_file},
            {},
            {f"{number:05d} {path.name}": path for number, path in enumerate(files)},
        )

    def _fetching(self, source: SourceSettings, title: str) -> dict[str, Any]:
        return {"source": _SOURCE, "text_field": source.text_field, "executor": self.executor, "title": title}

    def _lock(self) -> LockFile:
        """What remote sources were at the first fetch: the same afterwards."""
        return LockFile(self.output / LOCK_FILE)

    def _read_hub(self, source: SourceSettings, wanted: HubDataset) -> Documents:
        dataset = pinned(wanted, self._lock())
        return self._documents(
            "fetch",
            lambda directory, title: fetch_hub(
                dataset,
                directory,
                streaming=source.streaming,
                expected_rows=source.expected_rows,
                **self._fetching(source, title),
            ),
            {"text_field": source.text_field, "expected_rows": source.expected_rows, **dataset.facts()},
            {},
            {"dataset": Path(dataset.name)} if dataset.is_local else {},
        )

    def _read_web(self, source: SourceSettings) -> Documents:
        files = [RemoteFile(url) for url in source.urls]
        lock = self._lock()

        def fetch(directory: Path, title: str) -> dict[str, Any]:
            counts, _ = fetch_remote(
                files, directory, on_bad_file=source.on_bad_file, lock=lock, **self._fetching(source, title)
            )
            return counts

        parameters = {"text_field": source.text_field, "on_bad_file": source.on_bad_file, "urls": source.urls}
        return self._documents("fetch", fetch, parameters, {}, {})

    def _documents(
        self,
        stage: str,
        function: Callable[[Path, str], Mapping[str, Any]],
        parameters: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        files: Mapping[str, Path],
    ) -> Documents:
        artifact = self.run(stage, function, parameters, inputs, files)
        return Documents(list_shards(artifact.directory), artifact)

    def clean(
        self, documents: Documents, settings: CleaningSettings, length_tokenizer: Path | None
    ) -> Documents:
        fingerprint = load_tokenizer(length_tokenizer).fingerprint if length_tokenizer else None
        return self._documents(
            "clean",
            lambda directory, title: clean(
                documents.shards,
                directory,
                settings,
                length_tokenizer=length_tokenizer,
                executor=self.executor,
                title=title,
            ),
            {**dataclasses.asdict(settings), "length_tokenizer": fingerprint},
            documents.inputs,
            documents.files,
        )

    def decontaminate(
        self, documents: Documents, benchmarks: Mapping[str, Path], settings: DecontaminationSettings
    ) -> Documents:
        return self._documents(
            "decontaminate",
            lambda directory, title: decontaminate(
                documents.shards, directory, benchmarks, settings, executor=self.executor, title=title
            ),
            dataclasses.asdict(settings),
            documents.inputs,
            {**documents.files, **{f"benchmark {name}": path for name, path in benchmarks.items()}},
        )

    def deduplicate(self, documents: Documents, settings: DeduplicationSettings) -> Documents:
        return self._documents(
            "deduplicate",
            lambda directory, title: deduplicate(
                documents.shards, directory, settings, executor=self.executor, title=title
            ),
            dataclasses.asdict(settings),
            documents.inputs,
            documents.files,
        )

    def tokenizer(self, documents: Documents | None, given: Path | tuple[Kind, int]) -> Artifact:
        """Take over a tokenizer, or train one on the documents."""
        if isinstance(given, Path):
            tokenizer = load_tokenizer(given)

            def take_over(directory: Path, title: str) -> dict[str, Any]:
                tokenizer.save(directory / TOKENIZER_FILE)
                return {"kind": tokenizer.kind, "vocabulary_size": tokenizer.vocabulary_size}

            return self.run("tokenizer", take_over, {"fingerprint": tokenizer.fingerprint}, {}, {})
        assert documents is not None
        kind, size = given
        return self.run(
            "tokenizer",
            lambda directory, title: train_tokenizer(kind, documents.shards, directory, size, title=title),
            {"kind": kind, "vocabulary_size": size},
            documents.inputs,
            documents.files,
        )

    def tokenize(self, documents: Documents, tokenizer: Artifact) -> Artifact:
        """Encode the documents; for BERT a sentence splitter is trained first."""
        inputs = {**documents.inputs, "tokenizer": tokenizer}
        splitter: Path | None = None
        if load_tokenizer(tokenizer.directory).kind == "bert":
            inputs["sentences"] = self.run(
                "sentences",
                lambda directory, title: train_sentence_splitter(documents.shards, directory, title=title),
                {},
                documents.inputs,
                documents.files,
            )
            splitter = inputs["sentences"].directory / PUNKT_FILE
        return self.run(
            "tokenize",
            lambda directory, title: tokenize_corpus(
                documents.shards,
                tokenizer.directory,
                directory,
                sentence_splitter=splitter,
                executor=self.executor,
                title=title,
            ),
            {},
            inputs,
            documents.files,
        )

    def deliver(self, paths: Sequence[tuple[Path, str]]) -> None:
        """Give finished files their names in the output folder; document shards of earlier settings go."""
        wanted = {name for _, name in paths}
        for source, name in paths:
            _share(source, self.output / name)
        for old in self.output.glob("documents-*.parquet"):
            if old.name not in wanted:
                old.unlink()

    def deliver_documents(self, documents: Documents) -> None:
        """Deliver a stage's shards, its list of clusters or hits, what it dropped, and its quarantine."""
        if documents.artifact is None:
            return
        directory = documents.artifact.directory
        found = [
            path for path in directory.rglob("*") if path.is_file() and path.suffix in (".parquet", ".jsonl")
        ]
        self.deliver([(path, path.relative_to(directory).as_posix()) for path in sorted(found)])


def _source_files() -> list[Path]:
    """The code that decides what the chain writes: a change in it makes the stages anew."""
    package = Path(__file__).parent
    sources = [path for path in (package / "sources").glob("*.py") if not path.name.startswith("sample")]
    return sorted([*package.glob("*.py"), *sources])


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
