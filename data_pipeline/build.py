"""What the command line does to corpora: the whole chain, or one stage of it.

A command is a loop over steps: each is made unless it is there, and what was asked for gets its name in the output
folder. The steps are in `data_pipeline.steps`, the commands' options in `data_pipeline.__main__`.
"""

import contextlib
import json
import logging
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import MANIFEST, atomic_write, exclusive, write_json
from data_pipeline import cleanup, steps
from data_pipeline.corpora import Corpus, CorpusSettings
from data_pipeline.engine.documents import DOCUMENT_SHARDS, list_shards
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.engine.resumable import sizes, speed
from data_pipeline.engine.steps import Step, Store, Workplace, make, walk
from data_pipeline.indexed.blends import check_alike, corpus_facts
from data_pipeline.indexed.dataset import IndexedDataset, merge
from data_pipeline.settings import (
    BenchmarkSettings,
    CleaningSettings,
    DecontaminationSettings,
    DeduplicationSettings,
    TokenizerSettings,
)
from data_pipeline.sources.formats import kind_of
from data_pipeline.sources.source import LocalSource, Source
from data_pipeline.step_inputs import Documents, documents_of
from data_pipeline.summary import write_summary
from data_pipeline.tokenization.corpus import CORPUS, CORPUS_FILE
from data_pipeline.tokenization.kinds import KINDS
from data_pipeline.tokenization.tokenizers import TOKENIZER_FILE, load_tokenizer

STAGES_FOLDER = "stages"
LOCK_FILE = "sources.lock.json"
FUNNEL_FILE = "funnel.json"
_DELIVERED = ".delivered.json"
Summaries = dict[str, dict[str, Any]]
_logger = logging.getLogger("data_pipeline")


@dataclass(frozen=True)
class Command:
    """One command's output folder, and where and with what it works.

    Attributes:
        output: the folder that the user gets.
        source: what to read.
        executor: where the work is done.
        store: where the steps' artifacts go; those of a workflow's can be the same.
        beside: more corpora, which are deduplicated with it.
        name: of what is made of all; by default the source's.
    """

    output: Path
    source: Source
    executor: Executor
    store: Store
    beside: tuple[Source, ...] = ()
    name: str = ""

    @property
    def lock(self) -> LockFile:
        """What remote sources were at the first fetch: the same afterwards."""
        return LockFile(self.output / LOCK_FILE)

    def documents(self) -> Documents:
        """Document shards as another command left them, or what the source gives."""
        source = self.source
        if isinstance(source, LocalSource) and source.paths:
            folders = [Path(path) for path in source.paths]
            if all(any(folder.glob(DOCUMENT_SHARDS)) for folder in folders):
                for folder in folders:
                    _check_only_shards(folder)
                return Documents(given=tuple(shard for folder in folders for shard in list_shards(folder)))
        return documents_of(steps.fetch(source, self.lock, None))

    def make(self, wanted: Step, check: Callable[[Summaries], None] | None = None) -> Summaries:
        """Make a step and all that it stands on; the summary of each, by stage, and name where a stage has several.

        Args:
            check: looks at the summaries after each step, and raises where it makes no sense to go on.
        """
        with cleanup.in_use(self.store.root):
            return self._make(list(walk([wanted])), check)

    def _make(self, chain: Sequence[Step], check: Callable[[Summaries], None] | None) -> Summaries:
        stages = Counter(step.kind.name for step in chain)
        summaries: Summaries = {}
        for number, step in enumerate(chain, start=1):
            stage = step.kind.name if stages[step.kind.name] == 1 else f"{step.kind.name} {step.name}"
            title = f"[{number}/{len(chain)}] {stage}"
            started = time.monotonic()
            _logger.info("%s", title)
            cleanup.note(self.store.root, self.output, self.store.artifact(step))
            made = make(step, Workplace(self.store, self.executor, title))
            summary, seconds = self.store.summary(step), time.monotonic() - started
            how = f"{seconds:.1f} s, {speed(sizes(summary), seconds)}" if made else "there already"
            _logger.info("%s: %s", title, how)
            summaries[stage] = summary
            if check is not None:
                check(summaries)
        return summaries

    def deliver(self, wanted: Step, summaries: Summaries, paths: Sequence[tuple[Path, str]]) -> None:
        """Give finished files their names in the output folder, all of one artifact: another command that delivers
        there waits, and what an earlier one delivered goes."""
        key = self.store.artifact(wanted).key
        with delivering(self.output):
            earlier = _delivered(self.output)
            if earlier and earlier["key"] != key:
                _logger.warning(
                    "%s: held what other settings give, which is replaced (the stages' artifacts stay: %s)",
                    self.output,
                    self.store.root,
                )
            for source, name in paths:
                _share(source, self.output / name)
            names = {name for _, name in paths}
            old = set(earlier.get("files", []))
            old |= {path.name for path in self.output.glob(DOCUMENT_SHARDS)}
            for name in old - names:
                (self.output / name).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # others are in it
                    (self.output / name).parent.rmdir()
            write_json(self.output / FUNNEL_FILE, summaries)
            local = [one for one in (self.source, *self.beside) if isinstance(one, LocalSource)]
            paths_read = [path for one in local for path in one.paths]
            write_summary(self.output, self.store, wanted, paths_read, funnel_table(summaries))
            write_json(self.output / _DELIVERED, {"key": key, "files": sorted(names)})

    def deliver_documents(self, step: Step, summaries: Summaries) -> None:
        """Deliver a stage's shards, its list of clusters or hits, what it dropped, and its quarantine."""
        folder = self.store.directory(step)
        found = [
            path for path in folder.rglob("*") if path.is_file() and path.suffix in (".parquet", ".jsonl")
        ]
        names = [(path, path.relative_to(folder).as_posix()) for path in sorted(found)]
        self.deliver(step, summaries, names)

    def deliver_tokens(self, tokens: Step, summaries: Summaries) -> None:
        """Deliver an indexed dataset and its tokenizer."""
        corpus = sorted(self.store.directory(tokens).glob(f"{CORPUS}.*"))
        tokenizer = self.store.directory(tokens.inputs["tokenizer"]) / TOKENIZER_FILE
        names = [*((path, path.name) for path in corpus), (tokenizer, TOKENIZER_FILE)]
        self.deliver(tokens, summaries, names)


@dataclass(frozen=True)
class GivenTokenizer:
    """An existing tokenizer, or the kind and size of one to train.

    Attributes:
        kind: of `data_pipeline.tokenization.kinds`.
        settings: where it is, or how many tokens it gets.
    """

    kind: str
    settings: TokenizerSettings

    @staticmethod
    def at(path: Path) -> "GivenTokenizer":
        return GivenTokenizer(load_tokenizer(path).kind, TokenizerSettings(path=str(path)))

    @property
    def path(self) -> Path | None:
        return Path(self.settings.path) if self.settings.path else None


@dataclass(frozen=True)
class BuildSettings:
    """What to build.

    Attributes:
        tokenizer: an existing one also counts the length of documents.
        benchmarks: files or directories, by name, whose text the corpus must not hold.
    """

    tokenizer: GivenTokenizer
    cleaning: CleaningSettings = field(default_factory=CleaningSettings)
    decontamination: DecontaminationSettings = field(default_factory=DecontaminationSettings)
    deduplication: DeduplicationSettings = field(default_factory=DeduplicationSettings)
    benchmarks: Mapping[str, Path] = field(default_factory=dict)


def build(command: Command, settings: BuildSettings) -> Summaries:
    """Build `output/corpus.bin`, `.idx`, `.json` and `output/tokenizer.json` from raw text.

    Returns:
        The summary of each stage in order, also written to `output/funnel.json`.

    Raises:
        UserError: bad input; the message names the file and the remedy.
    """
    kind = settings.tokenizer.kind
    corpus = Corpus(
        CorpusSettings(
            name=command.name or command.source.name,
            sources=[command.source, *command.beside],
            lock=command.lock,
            cleaning=settings.cleaning,
            length_tokenizer=settings.tokenizer.path,
            decontamination=settings.decontamination,
            deduplication=settings.deduplication,
            benchmarks={
                name: BenchmarkSettings(path=str(path)) for name, path in settings.benchmarks.items()
            },
            tokenizers={kind: settings.tokenizer.settings},
            kinds={kind: kind},
        )
    )

    def check(summaries: Summaries) -> None:
        if "deduplicate" in summaries and not summaries["deduplicate"]["documents"]:
            dropped = {stage: summary.get("dropped", {}) for stage, summary in summaries.items()}
            raise UserError(f"{command.output}: no documents are left; dropped were {dropped}")

    tokens = corpus.tokenize(kind)
    summaries = command.make(tokens, check)
    command.deliver_tokens(tokens, summaries)
    return summaries


def tokenize(command: Command, tokenizer: GivenTokenizer) -> Summaries:
    """Tokenize documents as they are."""
    documents, kind, name = command.documents(), tokenizer.kind, command.source.name
    given = steps.tokenizer(name, kind, kind, tokenizer.settings, documents)
    splitter = steps.sentences(name, kind, documents) if KINDS[kind].sentences else None
    tokens = steps.tokenize(name, kind, documents, given, splitter)
    summaries = command.make(tokens)
    command.deliver_tokens(tokens, summaries)
    return summaries


def train(command: Command, tokenizer: GivenTokenizer) -> Summaries:
    """Train a tokenizer: `output/tokenizer.json`."""
    name, kind = command.source.name, tokenizer.kind
    trained = steps.tokenizer(name, kind, kind, tokenizer.settings, command.documents())
    summaries = command.make(trained)
    file = command.store.directory(trained) / TOKENIZER_FILE
    command.deliver(trained, summaries, [(file, TOKENIZER_FILE)])
    return summaries


def run_stage(command: Command, step: Step) -> Summaries:
    """One stage that turns documents into documents: `output/documents-*.parquet`, and `output/funnel.json`."""
    summaries = command.make(step)
    command.deliver_documents(step, summaries)
    return summaries


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
    with delivering(output):
        return _merge(prefixes, prefix)


def _merge(prefixes: Sequence[Path], prefix: Path) -> dict[str, Any]:
    facts = [corpus_facts(part) for part in prefixes]
    unknown = [
        str(part) for part, fact in zip(prefixes, facts, strict=True) if "tokenizer_fingerprint" not in fact
    ]
    if unknown:
        _logger.warning(
            "%s: nothing says which tokenizer made %s, so the joined corpus has no %s either; a training reads it all to "
            "see that it fits its tokenizer, and so does inspect --tokenizer",
            prefix,
            ", ".join(unknown),
            CORPUS_FILE,
        )
    merge(prefixes, prefix)
    if unknown:
        prefix.with_name(CORPUS_FILE).unlink(missing_ok=True)  # of what was there before
    dataset = IndexedDataset(prefix)
    counts = {"documents": dataset.documents, "sequences": len(dataset), "tokens": dataset.tokens}
    if not unknown:
        empty = sum(fact.get("empty_documents", 0) for fact in facts)
        write_json(prefix.with_name(CORPUS_FILE), {**facts[0], **counts, "empty_documents": empty})
    return counts


def _check_only_shards(folder: Path) -> None:
    """Refuse a folder that no command wrote, in which document shards lie beside other files that could be read."""
    others = [
        path.name
        for path in folder.iterdir()
        if kind_of(path) and not path.match(DOCUMENT_SHARDS) and path.is_file()
    ]
    if others and not any((folder / name).exists() for name in (FUNNEL_FILE, MANIFEST)):
        raise UserError(
            f"{folder}: holds document shards ({DOCUMENT_SHARDS}) and other files ({', '.join(sorted(others)[:5])}): "
            "put them into folders of their own"
        )


def funnel_table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Documents and megabytes in and out of each stage, and the reasons for what is gone, as a table."""
    rows = [("stage", "documents in", "out", "MB in", "out", "dropped")]
    for stage, summary in summaries.items():
        if "documents_in" not in summary and "records" not in summary:
            continue
        reasons = dict(summary.get("dropped", {}))
        reasons["quarantined"] = summary.get("quarantined", 0)
        reasons["cut (not dropped)"] = summary.get("cut", 0)
        reasons |= {f"{what} (not dropped)": count for what, count in summary.get("changed", {}).items()}
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


@contextlib.contextmanager
def delivering(output: Path) -> Iterator[None]:
    """Be the only one that writes to an output folder."""
    output = Path(output)
    with exclusive(output / ".delivery", _logger.warning):
        for left in [*output.glob(".*.tmp"), *output.glob(".*.link")]:  # by killed ones
            if not left.name.startswith(f".{LOCK_FILE}"):
                left.unlink(missing_ok=True)
        yield


def _delivered(output: Path) -> dict[str, Any]:
    """What the last delivery to a folder was: the artifact's key, and the files; empty when nothing says."""
    try:
        found = json.loads((output / _DELIVERED).read_text(encoding="utf-8"))
        return {"key": str(found["key"]), "files": [str(name) for name in found["files"]]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _share(source: Path, target: Path) -> None:
    """Give a finished file a second name, without a copy where the file system can.

    A link is made under a name of its own and never written to: it is the artifact's file.
    """
    if target.exists() and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    link = target.with_name(f".{target.name}.{secrets.token_hex(4)}.link")
    try:
        os.link(source, link)
    except OSError:
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
        return
    try:
        os.replace(link, target)
    finally:
        link.unlink(missing_ok=True)  # two names of one file: a rename does nothing
