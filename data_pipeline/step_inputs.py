"""What steps read: document shards, a benchmark's files, a given tokenizer's; made by other steps or the user's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.engine.steps import Step, Workplace


@dataclass(frozen=True)
class Documents:
    """Document shards: what steps give, in order, or shards given by hand.

    Attributes:
        steps: by role.
        given: shards that no step of ours made.
        sources: only the documents of these sources; all when there are none.
    """

    steps: Mapping[str, Step] = field(default_factory=dict)
    given: tuple[Path, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, Path]:
        return {f"{index:05d}": path for index, path in enumerate(self.given)}

    def shards(self, place: Workplace) -> list[Path]:
        """Where the shards are (a shard holds documents of one source)."""
        from data_pipeline.engine.documents import list_shards

        found = [shard for step in self.steps.values() for shard in list_shards(place.directory(step))]
        found += self.given
        return [shard for shard in found if not self.sources or _shard_source(shard) in self.sources]


def _shard_source(shard: Path) -> str | None:
    """The source of a shard's documents; None when it holds none."""
    from data_pipeline.engine.documents import read_shard

    first = next(read_shard(shard), None)
    return first.source if first is not None else None


def documents_of(step: Step) -> Documents:
    """The documents that one step gives."""
    return Documents({"documents": step})


@dataclass(frozen=True)
class BenchmarkFile:
    """A benchmark's file or folder in the authors' format: below a step's output, or the user's own.

    Attributes:
        name: of the benchmark.
        path: relative to the step's output, if there is a step.
        step: what makes it.
    """

    name: str
    path: Path
    step: Step | None = None

    def at(self, place: Workplace) -> Path:
        return self.path if self.step is None else place.directory(self.step) / self.path

    def inputs(self, role: str) -> dict[str, Step]:
        return {} if self.step is None else {role: self.step}

    def files(self, role: str) -> dict[str, Path]:
        return {role: self.path} if self.step is None else {}


def tokenizer_files(role: str, path: Path | None) -> dict[str, Path]:
    """The files of a given tokenizer: of GPT-2's two both."""
    if path is None:
        return {}
    merges = path.with_name(path.name.removesuffix("vocab.json") + "merges.txt")
    return {role: path, **({f"{role} merges": merges} if path.name.endswith("vocab.json") else {})}
