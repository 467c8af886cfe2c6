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


# What a tokenizer may consist of: its vocabulary in one of these files, and what stands beside it.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "encoder.json")
_BESIDE = (
    "merges.txt",
    "vocab.bpe",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def tokenizer_files(role: str, path: Path | None) -> dict[str, Path]:
    """All files of a given tokenizer: of a folder those that may be one's, of a file also what stands beside it, under
    the usual name or with the file's prefix (`gpt2-vocab.json`, `gpt2-merges.txt`)."""
    if path is None:
        return {}
    if path.is_dir():
        found = {name: path / name for name in (*_VOCABULARIES, *_BESIDE)}
        return {f"{role} {name}": file for name, file in found.items() if file.is_file()}
    own = next((name for name in _VOCABULARIES if path.name.endswith(name)), path.name)
    prefix = path.name.removesuffix(own)
    beside = {f"{role} {name}": path.with_name(prefix + name) for name in _BESIDE}
    if prefix:
        beside |= {f"{role} plain {name}": path.with_name(name) for name in _BESIDE}
    return {role: path, **{role: file for role, file in beside.items() if file.is_file()}}
