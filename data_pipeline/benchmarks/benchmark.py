"""What is known of a benchmark's data, in one record. No torch, no pyarrow."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from core.errors import UserError
from core.registry import Registry
from data_pipeline.text_files import check_characters

if TYPE_CHECKING:
    from data_pipeline.sample.text import Guard
    from data_pipeline.sample.world import World

UNKNOWN_WORD = "<unk>"  # what stands for a rare word in a benchmark's text

Rows = Callable[[str], Iterable[Mapping[str, Any]]]


class BenchmarkText(NamedTuple):
    """One passage of a benchmark that training documents must not hold.

    Attributes:
        text: the passage; empty where there is a title.
        title: of an article, which no article of Wikipedia's may have as its own, `UNKNOWN_WORD` for any word; or empty.
    """

    text: str
    title: str = ""


@dataclass(frozen=True)
class Origin:
    """Where a benchmark is on the hub, under what terms, and how its rows become the authors' files.

    Attributes:
        dataset, configuration, split, revision: what to load. A branch is pinned by the lock file.
        licence, terms: of its data, and what a user has to heed.
        write: (rows of a split by its name, the file or folder to write).
        count: what such a file or folder holds.
        counts: what `count` says of the published benchmark.
        measured: the part that published numbers are about: the answers of some test sets are not public.
        others: what it says of other published parts, which published numbers are not about, by name.
        file, url, sha256: where the benchmark is one of the data set's files: its path there, its address and content.
    """

    dataset: str
    licence: str
    write: Callable[[Rows, Path], None]
    count: Callable[[Path], dict[str, Any]]
    counts: Mapping[str, Any]
    configuration: str = ""
    split: str = "test"
    revision: str = "main"
    terms: str = ""
    file: str = ""
    url: str = ""
    sha256: str = ""
    measured: Literal["test", "dev"] = "test"
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.url and not self.sha256:
            raise UserError(f"{self.url}: the record of a benchmark at an address says its sha256, too")

    def notes(self) -> dict[str, str]:
        """What a report says of it."""
        return {name: getattr(self, name) for name in ("licence", "terms") if getattr(self, name)}


@dataclass(frozen=True)
class Sample:
    """How the generated sample writes a benchmark.

    Attributes:
        path: of its file or folder, below the sample's `benchmarks/`.
        write: (that path, the world, the guard to reserve its wording with, the seed) → the test texts.
        share: of a corpus file's documents that hold such a text, for decontamination to find.
        whole: whether such a document is the text and nothing else.
        on_demand: whether it is written only for a recipe whose benchmark it is; others are in every sample.
    """

    path: str
    write: "Callable[[Path, World, Guard, int], list[str]]"
    share: float
    whole: bool = False
    on_demand: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's data.

    Attributes:
        name: as in a recipe, and of tasks that are measured on it.
        title: for people.
        file: the name of its file, or folder, in the authors' format.
        suffix: of its files.
        texts: for decontamination the passages in the content of one file, where a file is not read row by row.
        row_texts: the same in one row of JSON lines or a table, such as the hub's; a `UserError` says what is wrong with
            it.
        other_suffixes: of files that hold the same as those with `suffix`.
        origin: where it can be fetched; None where it cannot.
        sample: how the generated sample writes one; None where it does not.
    """

    name: str
    title: str
    file: str
    suffix: str
    texts: Callable[[str], Iterable[BenchmarkText]] | None = None
    origin: Origin | None = None
    sample: Sample | None = None
    row_texts: Callable[[Mapping[str, Any]], Iterable[BenchmarkText]] | None = None
    other_suffixes: tuple[str, ...] = ()

    def not_from(self, source: str) -> str:
        """Why its data cannot be had from there; nothing where it can."""
        if source == "sample" and self.sample is None:
            return f"the sample has no {self.title}"
        if source == "huggingface" and self.origin is None:
            return f"{self.title} cannot be fetched"
        return ""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (self.suffix, *self.other_suffixes)


BENCHMARKS: Registry[Benchmark] = Registry("benchmark")


def text_of(record: Any, name: str) -> str:
    """A field of a row that must be a text.

    Raises:
        UserError: no such field, no text, or no Unicode.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get(name), str):
        raise UserError(f'must be an object with a string "{name}"')
    check_characters(record[name])
    return str(record[name])


def add_benchmark(benchmark: Benchmark) -> Benchmark:
    """Make a benchmark known, under its name."""
    return BENCHMARKS.add(benchmark.name, benchmark)


def samples(asked: Iterable[str] = ()) -> dict[str, Sample]:
    """What the generated sample writes, by benchmark, in an order that imports do not change: the rarest first.

    Args:
        asked: benchmarks of those that are written on demand.
    """
    found = {
        name: sample
        for name in BENCHMARKS
        if (sample := BENCHMARKS[name].sample) and (name in asked or not sample.on_demand)
    }
    return dict(sorted(found.items(), key=lambda item: (item[1].share, item[0])))
