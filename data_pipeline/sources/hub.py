"""Hugging Face datasets as a source: rows of a pinned revision, or of a local folder in hub layout, into documents.

Rows are dealt to tasks by number, two thousand at a time and from the four millionth on ever more, so a killed fetch goes
on at the first missing task, and what is written is the same streamed or downloaded, with any number of workers. Which datasets stand for the paper's corpora
is in `presets`; pins are kept by `lock_file`.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TransientError
from core.files import read_json, write_json
from core.progress import Bar
from data_pipeline.engine.documents import SHARD_ROWS, SHARDS_OF_A_SIZE, Document, ShardSize
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.lock_file import LockFile, NotPinnedError
from data_pipeline.engine.resumable import BadRecord, Counts, add_counts, run_shards
from data_pipeline.sources.formats import row_record
from data_pipeline.sources.local import FIRST_DOCUMENTS, ONLY_FILE, digest_of, hashed
from data_pipeline.sources.raw_records import RawRecord
from data_pipeline.sources.records import Reading, SourceError, documents_of, judge, write_documents

if TYPE_CHECKING:
    from data_pipeline.sources.source import HubSource

_STREAMED_AT_ONCE = 64
_BINARY_TYPES = ("binary", "large_binary")
_MEDIA = ("Image", "Audio", "Video", "Pdf")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_logger = logging.getLogger("data_pipeline")


@dataclass(frozen=True)
class HubDataset:
    """One split of a dataset.

    Attributes:
        name: its name on the hub, or the absolute path of a folder in hub layout (such as
            data/train-00000-of-00001.parquet).
        configuration: one of the dataset's configurations; empty for the default one.
        split: such as "train".
        revision: a commit, branch or tag; of a local folder it is not looked at.
    """

    name: str
    configuration: str = ""
    split: str = "train"
    revision: str = "main"

    @property
    def is_local(self) -> bool:
        return Path(self.name).is_absolute()

    def facts(self) -> dict[str, str]:
        """What a manifest says of it; of a folder only its name, for where it lies does not matter."""
        facts = dataclasses.asdict(self)
        if self.is_local:
            facts["dataset"] = Path(self.name).name
            del facts["revision"]
        else:
            facts["dataset"] = self.name
        del facts["name"]
        return {name: fact for name, fact in facts.items() if fact}

    def __str__(self) -> str:
        parts = [self.name, self.configuration, self.split]
        return " ".join(part for part in parts if part) + ("" if self.is_local else f" at {self.revision}")


def pinned(dataset: HubDataset, lock: LockFile | None, asks: bool = True) -> HubDataset:
    """The dataset at one commit: the given one, the locked one, or, the first time, what is on the hub now.

    Args:
        asks: whether the hub may be asked.

    Raises:
        SourceError: the hub cannot be reached, or has no such dataset or revision.
        NotPinnedError: it would have to be asked.
    """
    if dataset.is_local or _COMMIT.fullmatch(dataset.revision):
        return dataset
    entry = _lock_entry(dataset)
    known = lock.get(entry) if lock else None
    if known is None and not asks:
        raise NotPinnedError(f"{dataset}: no commit, and none in the lock file yet")
    if known is None:
        from huggingface_hub import HfApi

        with _explained(dataset):
            commit = HfApi().dataset_info(dataset.name, revision=dataset.revision).sha
        known = {"revision": commit}
        if lock:
            lock.settle(entry, known)
    return dataclasses.replace(dataset, revision=known["revision"])


def pin_of(dataset: HubDataset) -> dict[str, dict[str, Any]]:
    """What keys say of a dataset at one commit, however that was found; nothing for folders, whose files are hashed."""
    return {} if dataset.is_local else {dataset.name: {"revision": dataset.revision}}


def _lock_entry(dataset: HubDataset) -> str:
    return f"{dataset.name} at {dataset.revision}"


def open_dataset(dataset: HubDataset, *, streaming: bool = False) -> Any:
    """A `datasets.Dataset` (or, streaming, an `IterableDataset`) of the split.

    Raises:
        SourceError: it cannot be loaded; the message says why and what helps.
    """
    import datasets

    arguments: dict[str, Any] = {"split": dataset.split, "streaming": streaming}
    folder = Path(dataset.name)
    if not dataset.is_local and folder.exists():  # which `datasets` would silently prefer
        raise SourceError(
            f"{dataset}: {folder.absolute()} has the same name; run from another folder, or give its absolute path"
        )
    if not dataset.is_local:
        arguments |= {"name": dataset.configuration or None, "revision": dataset.revision}
    elif (folder / "README.md").exists():  # it says which files a configuration has
        arguments |= {"name": dataset.configuration or None}
    elif dataset.configuration:
        arguments |= {"data_dir": dataset.configuration}
    with _explained(dataset):
        return datasets.load_dataset(dataset.name, **arguments)


def hub_rows(dataset: HubDataset) -> Iterator[dict[str, Any]]:
    """All rows of a split, in order, streamed."""
    rows = open_dataset(dataset, streaming=True)
    with _explained(dataset):
        yield from rows


class UnreachableError(SourceError, TransientError):
    """The network failed."""


@contextlib.contextmanager
def _explained(dataset: HubDataset) -> Iterator[None]:
    """Name the dataset and a remedy in whatever the libraries raise; there is no common class of their errors."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        kind = UnreachableError if _is_network(error) else SourceError
        cause = str(error.__cause__ or error).strip().split("\n")[0]
        if "scripts are no longer supported" in cause:
            remedy = (
                "it is made by a script, which is not run: take a revision that holds data files "
                '(often revision = "refs/convert/parquet") or another dataset'
            )
        elif "Bad split" in cause and dataset.is_local and not (Path(dataset.name) / "README.md").exists():
            remedy = "copy the dataset's README.md into the folder, too: it says which files a split has"
        elif _is_network(error) or "offline" in cause.lower():
            remedy = (
                "check the network, or give a local folder in hub layout as the dataset; what is at a commit, in the "
                "recipe or its lock file, and already fetched needs no network"
            )
        else:
            remedy = "check its name, configuration, split and revision, or whether its files are damaged"
        raise kind(f"{dataset}: {type(error).__name__}: {cause} ({remedy})") from error


def _is_network(error: Exception) -> bool:
    """Whether the network failed; the HTTP libraries' errors share no class with Python's own."""
    names = {cls.__name__ for kind in (error, error.__cause__) if kind for cls in type(kind).__mro__}
    return bool(
        names & {"ConnectionError", "TimeoutError", "ConnectError", "TimeoutException", "TransportError"}
    )


def fetch_hub(
    source: "HubSource", dataset: HubDataset, output: Path, *, executor: Executor, title: str = ""
) -> Counts:
    """Turn a split's rows into document shards; ids are `<source>/00000/<row>`, other fields become metadata.

    Args:
        source: what it is called, and how its rows are read. Streaming reads rows over the network as they are needed,
            one process, no copy on disk; a resumed fetch reads the skipped rows again. Otherwise `datasets` downloads
            and caches the split first.
        dataset: at one commit (see `pinned`), or a local folder.
        output: directory to write to.

    Returns:
        Counts: records, documents, bytes, quarantined, blank_lines and bad_files (both 0); of a folder with a limit
        "pins", too: the hash of what was read, see `first_documents`.

    Raises:
        SourceError: not to be had, without the column, of another size, or with too many bad records.
    """
    output = Path(output)
    rows = _open_used(source, dataset, streaming=_is_streamed(source, dataset))
    if source.limit:
        work = functools.partial(_fetch_first, source, dataset, output, rows)
        tasks = {_task_name(0): 0}
        counts = run_shards(f"fetch {source.name}", work, tasks, output, executor, title)
    elif source.streaming:
        counts = _stream(source, dataset, output, rows, title)
    else:
        _check_rows(dataset, rows.num_rows, source.expected_rows)
        last = next(task for task in itertools.count() if task_rows(task).stop > rows.num_rows)
        tasks = {_task_name(task): task for task in range(last + 1)}
        work = functools.partial(_fetch_task, source, dataset, output, rows)
        counts = run_shards(f"fetch {source.name}", work, tasks, output, executor, title)
    pins = {"pins": {FIRST_DOCUMENTS: counts[0].pop(FIRST_DOCUMENTS)}} if FIRST_DOCUMENTS in counts[0] else {}
    summary = add_counts(counts)
    if not source.limit:
        _check_rows(dataset, summary["records"], source.expected_rows)

    def where(record: BadRecord) -> str:
        return f"{dataset} row {record.line}"

    judge(summary, source.name, output, where)
    return {**summary, **pins}


def first_documents(source: "HubSource", dataset: HubDataset) -> str:
    """The sha256 of what a fetch with a limit takes from a local folder; nothing beyond it is read."""
    rows, reading, digest = _open_used(source, dataset, streaming=True), Reading(), hashlib.sha256()
    documents = source.limited(_documents(source, dataset, _in_batches(rows), 0, reading))
    for _ in hashed(documents, digest):
        pass
    return digest_of(reading, digest)


def _is_streamed(source: "HubSource", dataset: HubDataset) -> bool:
    """Whether rows are read as they are needed: for a first try of a folder there is nothing else to do."""
    return source.streaming or bool(source.limit and dataset.is_local)


def _open_used(source: "HubSource", dataset: HubDataset, streaming: bool) -> Any:
    rows = open_dataset(dataset, streaming=streaming)
    _check_column(dataset, rows.column_names, source)
    return _used_columns(rows, source)


def _check_column(dataset: HubDataset, columns: list[str] | None, source: "HubSource") -> None:
    if columns is not None and not source.fields().column(
        columns
    ):  # some formats name none before they are read
        raise SourceError(
            f"{dataset}: no column {source.text_field!r}, only {sorted(columns)[:10]}; name the texts' as text_field"
        )


def _used_columns(rows: Any, source: "HubSource") -> Any:
    """The rows with their texts and what is kept as metadata: pictures and the like are not even decoded."""
    features, fields = rows.features, source.fields()
    if features is None:  # some formats name none before they are read
        return rows
    text = fields.column(list(features))
    used = [
        name
        for name, feature in features.items()
        if name == text or (fields.keeps(name) and not _is_binary(feature))
    ]
    return rows if len(used) == len(features) else rows.select_columns(used)


def _is_binary(feature: Any) -> bool:
    return getattr(feature, "dtype", "") in _BINARY_TYPES or type(feature).__name__ in _MEDIA


def _check_rows(dataset: HubDataset, found: int, expected: int) -> None:
    if expected and found != expected:
        raise SourceError(
            f"{dataset}: {found:,} rows, expected {expected:,}; it changed, or is not whole: "
            "check its revision, then set expected_rows"
        )


def task_rows(task: int) -> range:
    """The numbers of the rows that are a task's; the last task of a dataset has fewer. Each 2000 tasks have twice as many
    rows as those before, so that nobody needs to know how many there are."""
    doublings, place = divmod(task, SHARDS_OF_A_SIZE)
    rows = SHARD_ROWS << doublings
    start = SHARDS_OF_A_SIZE * (rows - SHARD_ROWS) + place * rows
    return range(start, start + rows)


def _task_name(task: int) -> str:
    return f"rows-{task:06d}"


def _fetch_task(source: "HubSource", dataset: HubDataset, output: Path, rows: Any, task: int) -> Counts:
    """Write the documents of one task's rows of a downloaded split."""
    numbers = task_rows(task)
    numbers = range(numbers.start, min(numbers.stop, rows.num_rows))
    return _write_task(source, dataset, output, rows.select(numbers) if numbers else [], task)


def _fetch_first(source: "HubSource", dataset: HubDataset, output: Path, rows: Any, task: int) -> Counts:
    """Write the first documents, as many as the source's limit says."""
    batches = _in_batches(rows) if _is_streamed(source, dataset) else rows
    return _write_task(source, dataset, output, batches, task)


def _stream(source: "HubSource", dataset: HubDataset, output: Path, rows: Any, title: str) -> list[Counts]:
    """Write task after task as rows arrive, from the first one that is missing; the last has fewer rows."""
    counts: list[Counts] = []
    while (stats := output / "stats" / f"{_task_name(len(counts))}.json").exists():
        counts.append(read_json(stats))
    if counts and counts[-1]["records"] < len(task_rows(len(counts) - 1)):
        return counts
    done = task_rows(len(counts)).start
    if done:
        _logger.info("fetch %s: resuming at row %d", source.name, done + 1)
    with Bar(desc=title, total=source.expected_rows or None, initial=done, unit="row") as bar:
        stream = _in_batches(rows.skip(done) if done else rows)
        while not counts or counts[-1]["records"] == len(task_rows(len(counts) - 1)):
            task = len(counts)
            rows_of_task = itertools.islice(stream, len(task_rows(task)))
            counts.append(_write_task(source, dataset, output, rows_of_task, task))
            write_json(output / "stats" / f"{_task_name(task)}.json", counts[-1])
            bar.update(counts[-1]["records"])
    return counts


def _in_batches(rows: Any) -> Iterator[dict[str, Any]]:
    """The rows of a stream, made of columns a batch at a time: three times as fast as one by one."""
    for batch in rows.iter(batch_size=_STREAMED_AT_ONCE):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _documents(
    source: "HubSource", dataset: HubDataset, rows: Iterable[Mapping[str, Any]], task: int, reading: Reading
) -> Iterator[Document]:
    def records() -> Iterator[RawRecord]:
        with _explained(dataset):
            for number, row in enumerate(rows, start=task_rows(task).start + 1):
                yield row_record(number, dict(row), source.text_field, source.maximum_record_bytes)

    return documents_of(
        records(),
        path=Path(dataset.name),
        source=source.name,
        name=ONLY_FILE,
        fields=source.fields(),
        maximum_record_bytes=source.maximum_record_bytes,
        reading=reading,
    )


def _write_task(
    source: "HubSource", dataset: HubDataset, output: Path, rows: Iterable[Mapping[str, Any]], task: int
) -> Counts:
    """Write the documents of a task; of a first try of a folder, which no key hashes, their hash is among the counts."""
    reading, digest = Reading(), hashlib.sha256()

    def name(part: int) -> str:
        return f"documents-{task:06d}-{part:04d}.parquet"

    documents = source.limited(_documents(source, dataset, rows, task, reading))
    is_hashed = bool(source.limit and dataset.is_local)
    if is_hashed:
        documents = hashed(documents, digest)
    size = ShardSize.of_part(task)
    counts = write_documents(output, _task_name(task), name, documents, reading, lambda part: size)
    return {**counts, FIRST_DOCUMENTS: digest_of(reading, digest)} if is_hashed else counts
