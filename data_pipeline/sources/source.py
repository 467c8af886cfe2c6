"""Sources of documents: one class a kind, which says what a corpus is made of, and fetches it.

A user's kind is a subclass of `Source` in a plug-in, added to `SOURCES`; it needs `records` only. How files, datasets
and downloads are read lives in `local`, `hub` and `remote_files`, which are imported when they are needed.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from core.registry import Registry
from core.tables import out_of_range
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.engine.steps import Pins
from data_pipeline.settings import MAXIMUM_RECORD_BYTES
from data_pipeline.sources.fields import ALL, Fields, path_problem

if TYPE_CHECKING:
    from data_pipeline.engine.documents import Document
    from data_pipeline.sources.hub import HubDataset

_LARGEST_RECORD_BYTES = 1 << 30  # a page of a document shard holds at most twice that
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def name_errors(name: str, where: str) -> list[str]:
    """What is wrong with a name that becomes part of a folder's."""
    if _NAME.fullmatch(name):
        return []
    return [f"{where}: must be letters, digits, '.', '_' and '-' (it names a folder), is {name!r}"]


def _default(field: "dataclasses.Field[Any]") -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


@dataclass(frozen=True)
class Source:
    """One corpus as it comes.

    Attributes:
        name: of the corpus; ids of its documents begin with it.
        text_field: field of a record that holds its text, or a path to it: article.text in an object, paragraphs[].text in
            each element of a list, joined by blank lines.
        text_fields: others for some files, as PATTERN=FIELD; patterns are of files' names below the inputs, the first that
            fits counts.
        txt: what of a .txt file is one document: the file, each line, or each paragraph (lines between blank ones).
        metadata: names, or patterns of names, of the fields that are kept beside the text; "" for none. Binary ones never
            are.
        limit: for a first try, fetch only the first so many documents; 0 for all.
        join_lines: remove needless line breaks when it is cleaned (the paper does so for CC-Stories).
        on_bad_file: at a cut off or corrupt file, stop or keep its readable part.
        maximum_record_bytes: a longer line, row or text file goes to quarantine.
        families: which models learn from it, the key `for` of a recipe; all when there are none.
        licence, terms, stand_in: for the report: of the texts, what a user has to heed, and how it differs from what
            the paper used.
    """

    name: str
    text_field: str = "text"
    text_fields: list[str] = field(default_factory=list)
    txt: Literal["file", "line", "paragraph"] = "file"
    metadata: list[str] = field(default_factory=lambda: [ALL])
    limit: int = 0
    join_lines: bool = False
    on_bad_file: Literal["stop", "keep"] = "stop"
    maximum_record_bytes: int = MAXIMUM_RECORD_BYTES
    families: tuple[str, ...] = ()
    licence: str = ""
    terms: str = ""
    stand_in: str = ""

    kind: ClassVar[str]
    reads_files: ClassVar[bool] = False
    needed: ClassVar[str] = ""  # the field without which there is nothing to read
    own_paths: ClassVar[
        tuple[str, ...]
    ] = ()  # a plug-in's fields that are paths: in a recipe, relative to it

    def errors(self, where: str) -> list[str]:
        """What is wrong with it, a line each."""
        problems = name_errors(self.name, f"{where}.name")
        if self.needed and not getattr(self, self.needed):
            problems.append(f'{where}: source = "{self.kind}" needs {self.needed}')
        if problem := path_problem(self.text_field):
            problems.append(f"{where}.text_field: {problem}")
        for entry in self.text_fields:
            pattern, _, path = entry.rpartition("=")
            problem = path_problem(path) if pattern else f"must be PATTERN=FIELD, is {entry!r}"
            problems += [f"{where}.text_fields: {problem}"] if problem else []
        if not self.reads_files:
            problems += [
                f"{where}.{name}: only of a source that reads files"
                for name, default in (("text_fields", []), ("txt", "file"))
                if getattr(self, name) != default
            ]
        return problems + out_of_range(
            self, where, maximum_record_bytes=(1, _LARGEST_RECORD_BYTES), limit=(0, math.inf)
        )

    def fields(self, name: str = "") -> Fields:
        """What of a record becomes a document.

        Args:
            name: of the file that it is in.
        """
        from data_pipeline.sources.found_files import matches

        pairs = (entry.rpartition("=") for entry in self.text_fields if name)
        text = next((path for pattern, _, path in pairs if matches(name, pattern)), self.text_field)
        return Fields(text, tuple(self.metadata))

    def limited(self, documents: "Iterator[Document]") -> "Iterator[Document]":
        """All of the documents, or as many as are asked for."""
        return itertools.islice(documents, self.limit) if self.limit else documents

    def key(self) -> dict[str, Any]:
        """What determines its documents, besides `files` and `pins`."""
        facts: dict[str, Any] = {
            "source": self.name,
            "part": "",
            "text_field": self.text_field,
            "on_bad_file": self.on_bad_file,
        }
        defaults = {field.name: field for field in dataclasses.fields(Source)}
        for name in ("text_fields", "txt", "metadata", "limit", "maximum_record_bytes"):
            if (value := getattr(self, name)) != _default(defaults[name]):
                facts[name] = value
        if notes := self.notes():  # the manifest holds them
            facts["notes"] = notes
        if plugin := SOURCES.plugin(self.kind):
            common = {field.name for field in dataclasses.fields(Source)}
            own = {name: value for name, value in dataclasses.asdict(self).items() if name not in common}
            facts |= {"kind": self.kind, "settings": own, "plugin": plugin}
        return facts

    def files(self) -> dict[str, Path]:
        """Files and folders of this machine that it reads, by role."""
        return {}

    def pins(self, lock: LockFile | None, folder: Path | None) -> Pins:
        """What its remote parts are pinned to, by their names: a commit or a sha256, part of the key.

        Args:
            lock: where it stands, or is written the first time.
            folder: for what has to be downloaded to know; None when the network is not to be asked.

        Raises:
            UserError: the network is needed, and cannot or must not be used.
        """
        return {}

    def records(self) -> Iterator[Mapping[str, Any]]:
        """A plug-in's records, in a fixed order: a text under `text_field`, and fields that become metadata."""
        raise NotImplementedError

    def fetch(
        self, output: Path, *, executor: Executor, title: str, lock: LockFile | None, sample: Path | None
    ) -> dict[str, Any]:
        """Write its documents as shards below `output`, and return the counts.

        Args:
            lock: pins of remote sources.
            sample: the generated sample, for a source that is part of it.
        """
        from data_pipeline.sources.local import fetch_records

        return self._with_origin(fetch_records(self, output, executor=executor, title=title))

    def notes(self) -> dict[str, str]:
        """What a report says of it: licence, terms, and how it differs from the paper's."""
        facts = {"licence": self.licence, "terms": self.terms, "stand_in": self.stand_in}
        return {name: fact for name, fact in facts.items() if fact}

    def _with_origin(self, counts: dict[str, Any]) -> dict[str, Any]:
        return {**counts, "origin": self.notes()} if self.notes() else counts


@dataclass(frozen=True)
class LocalSource(Source):
    """Files of this machine.

    Attributes:
        paths: files, folders of them, and quoted patterns, ** included.
    """

    paths: list[str] = field(default_factory=list)

    kind = "local"
    needed = "paths"
    reads_files = True

    def found(self) -> dict[str, Path]:
        """The files by what they are called, in the order of their documents; looked for once, so that those that are read
        are those of the key."""
        from data_pipeline.sources.found_files import check_patterns, find_files
        from data_pipeline.sources.local import first_documents

        if "_found" not in self.__dict__:
            files, digest = find_files(self.paths), ""
            check_patterns(self.text_fields, files)
            if self.limit:
                files, digest = first_documents(self, files)
            self.__dict__.update(_found=files, _digest=digest)
        return dict(self.__dict__["_found"])

    def __getstate__(self) -> dict[str, Any]:
        """Workers, who get it with every task, need no list of all files."""
        return {**{name: value for name, value in self.__dict__.items() if name != "_found"}, "paths": []}

    def files(self) -> dict[str, Path]:
        """All that it reads; none for a first try, which hashes what it reads of them alone (see `pins`)."""
        if self.limit:
            return {}
        return {f"{index:05d} {name}": path for index, (name, path) in enumerate(self.found().items())}

    def pins(self, lock: LockFile | None, folder: Path | None) -> Pins:
        from data_pipeline.sources.local import FIRST_DOCUMENTS

        if not self.limit:
            return {}
        self.found()
        return {FIRST_DOCUMENTS: self.__dict__["_digest"]}

    def fetch(
        self, output: Path, *, executor: Executor, title: str, lock: LockFile | None, sample: Path | None
    ) -> dict[str, Any]:
        from data_pipeline.sources.local import fetch_local

        return self._with_origin(fetch_local(self, self.found(), output, executor=executor, title=title))


@dataclass(frozen=True)
class SampleSource(Source):
    """One file of the generated sample.

    Attributes:
        part: "stories", "articles" or "books".
    """

    part: str = ""

    kind = "sample"
    needed = "part"
    reads_files = True

    def key(self) -> dict[str, Any]:
        return {**super().key(), "part": self.part}

    def fetch(
        self, output: Path, *, executor: Executor, title: str, lock: LockFile | None, sample: Path | None
    ) -> dict[str, Any]:
        from data_pipeline.sources.local import ONLY_FILE, fetch_local

        assert sample is not None
        (path,) = (sample / "corpus").glob(f"{self.part}.jsonl*")
        counts = fetch_local(self, {ONLY_FILE: path}, output, executor=executor, title=title)
        counts.pop("pins", None)  # the sample is an artifact
        return self._with_origin(counts)


@dataclass(frozen=True)
class HubSource(Source):
    """A dataset of the Hugging Face hub, or a local folder in hub layout.

    Attributes:
        dataset: its name on the hub, or the folder's path.
        configuration, split: one of the dataset's.
        revision: commit, branch or tag; what is no commit is pinned by the lock file at the first fetch.
        streaming: read the dataset over the network, with no copy on disk.
        expected_rows: another number of rows is an error; 0 when it is not known.
    """

    dataset: str = ""
    configuration: str = ""
    split: str = "train"
    revision: str = "main"
    streaming: bool = False
    expected_rows: int = 0

    kind = "huggingface"
    needed = "dataset"

    def errors(self, where: str) -> list[str]:
        return super().errors(where) + out_of_range(self, where, expected_rows=(0, float("inf")))

    @property
    def is_local(self) -> bool:
        return Path(self.dataset).is_absolute()

    def key(self) -> dict[str, Any]:
        names = ["configuration", "split", "expected_rows"]
        names += [] if self.is_local else ["dataset"]  # the commit is among the pins
        return {**super().key(), **{name: getattr(self, name) for name in names}}

    def files(self) -> dict[str, Path]:
        """A folder is read; none for a first try, which hashes what it reads of it alone (see `pins`)."""
        return {"dataset": Path(self.dataset)} if self.is_local and not self.limit else {}

    def pins(self, lock: LockFile | None, folder: Path | None) -> Pins:
        from data_pipeline.sources.hub import first_documents, pin_of, pinned
        from data_pipeline.sources.local import FIRST_DOCUMENTS

        if self.is_local and self.limit:
            if "_digest" not in self.__dict__:
                self.__dict__["_digest"] = first_documents(self, self._wanted())
            return {FIRST_DOCUMENTS: self.__dict__["_digest"]}
        return pin_of(pinned(self._wanted(), lock, asks=folder is not None))

    def _wanted(self) -> "HubDataset":
        from data_pipeline.sources.hub import HubDataset

        return HubDataset(self.dataset, self.configuration, self.split, self.revision)

    def fetch(
        self, output: Path, *, executor: Executor, title: str, lock: LockFile | None, sample: Path | None
    ) -> dict[str, Any]:
        from data_pipeline.sources.hub import fetch_hub, pin_of, pinned

        dataset = pinned(self._wanted(), lock)
        counts = fetch_hub(self, dataset, output, executor=executor, title=title)
        return {"pins": pin_of(dataset), **counts, "origin": {**dataset.facts(), **self.notes()}}


@dataclass(frozen=True)
class WebSource(Source):
    """Files and archives on the web.

    Attributes:
        urls: their addresses.
        sha256: of each of them, "" where it is not known; those are pinned by the lock file.
    """

    urls: list[str] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)

    kind = "http"
    needed = "urls"
    reads_files = True

    def errors(self, where: str) -> list[str]:
        problems = super().errors(where)
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                problems.append(f"{where}.urls: {url!r} is no http or https address")
        if self.sha256 and len(self.sha256) != len(self.urls):
            problems.append(f"{where}.sha256: {len(self.sha256)} of them for {len(self.urls)} urls")
        for digest in self.sha256:
            if digest and not _SHA256.fullmatch(digest):
                problems.append(f"{where}.sha256: {digest!r} is not 64 lower-case hexadecimal digits")
        return problems

    def key(self) -> dict[str, Any]:
        return {**super().key(), "urls": self.urls}  # their hashes are the pins

    def pins(self, lock: LockFile | None, folder: Path | None) -> Pins:
        from data_pipeline.sources.remote_files import pin_files

        return pin_files(self, lock, folder)

    def fetch(
        self, output: Path, *, executor: Executor, title: str, lock: LockFile | None, sample: Path | None
    ) -> dict[str, Any]:
        from data_pipeline.sources.remote_files import fetch_remote

        counts, pins = fetch_remote(self, output, lock=lock, executor=executor, title=title)
        return {**counts, "origin": {"urls": self.urls, **self.notes()}, "pins": pins}


SOURCES: Registry[type[Source]] = Registry("source")
for _kind in (SampleSource, LocalSource, HubSource, WebSource):
    SOURCES.add(_kind.kind, _kind)
