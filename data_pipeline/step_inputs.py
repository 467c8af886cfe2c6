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
        from data_pipeline.engine.documents import list_shards, source_of

        found = [shard for step in self.steps.values() for shard in list_shards(place.directory(step))]
        found += self.given
        return [shard for shard in found if not self.sources or source_of(shard) in self.sources]


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
    """All files that a given tokenizer is read from: its vocabulary, merges and what stands beside them, by part.

    Raises:
        TokenizerError: nothing is there.
    """
    if path is None:
        return {}
    from data_pipeline.tokenization.beside import BESIDE_FILES
    from data_pipeline.tokenization.loading import tokenizer_files as files_of

    vocabulary, *others = files_of(path)
    parts = {next((n for n in BESIDE_FILES if file.name.endswith(n)), "merges"): file for file in others}
    return {role: vocabulary, **{f"{role} {part}": file for part, file in parts.items()}}
