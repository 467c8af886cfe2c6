"""The stages that bring raw data in: the generated sample, each corpus as document shards, each benchmark as files.

What remote sources were when they were first fetched is kept in a lock file beside the recipe. What happens to the
documents afterwards is in `corpus.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from data_pipeline.benchmarks import BENCHMARKS, Origin
from data_pipeline.engine.executors import Executor, make_executor
from data_pipeline.engine.lock_file import LockError, LockFile
from data_pipeline.sources.formats import MAXIMUM_RECORD_BYTES
from data_pipeline.sources.presets import CORPORA
from recipes.schema import BenchmarkSettings, Corpus
from workflows import console
from workflows.console import StageError
from workflows.stage import Stage

# What every stage that reads and writes document shards depends on.
SHARD_SOURCES = ("data_pipeline/engine/documents.py", "data_pipeline/engine/resumable.py")
_REMOTE_SOURCES = ("hub", "download", "lock_file", "presets", "remote_files")


class PipelineStage(Stage):
    """A stage of shard-parallel work, on this machine's cores or on a Ray cluster."""

    def executor(self) -> Executor:
        return make_executor(self.processes(), self.ray)

    def title(self) -> str:
        return console.stage_title(self)


class WriteSample(Stage):
    """The generated corpus and benchmark files."""

    stage = "sample"
    sources = ("data_pipeline/sample/*.py", "data_pipeline/benchmarks")

    def label(self) -> str:
        return "write the sample's text"

    def parameters(self) -> dict[str, Any]:
        assert self.settings.sample is not None  # the recipe's check guarantees it
        return {"seed": self.settings.identity.seed, "documents": self.settings.sample.documents}

    def layout(self) -> dict[str, int]:
        return {"processes": 1}

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.sample.files import write_sample

        return write_sample(directory, **self.parameters(), title=console.stage_title(self))


class PinnedStage(PipelineStage):
    """A stage whose remote sources are pinned by the recipe's lock file: its summary's "pins" must be the lock's."""

    def lock(self) -> LockFile:
        return LockFile(self.settings.lock_path)

    def contradictions(self) -> list[str]:
        """Where a finished artifact is not what the lock file says."""
        if not self.artifact.is_complete():
            return []
        pins = self.artifact.manifest()["summary"].get("pins", {})
        locked = self.lock().entries() if pins else {}
        return [
            f"{source} was fetched as {pin}, but {self.settings.lock_path} pins {locked[source]}"
            for source, pin in pins.items()
            if locked.get(source, pin) != pin
        ]

    def complete(self) -> bool:
        try:
            return super().complete() and not (self.is_one() and self.contradictions())
        except LockError:
            return False  # `make` says what is wrong

    def make(self) -> bool:
        if wrong := self.contradictions():
            raise StageError(
                f"{self.directory}: {'; '.join(wrong)}: move the folder away to fetch what the lock file says, or "
                "restore the lock file"
            )
        return super().make()


class FetchDocuments(PinnedStage):
    """One corpus, wherever it comes from, as document shards."""

    stage = "fetch"
    sources = (
        *(f"data_pipeline/sources/{name}.py" for name in ("archives", "formats", "local", "records")),
        *(f"data_pipeline/sources/{name}.py" for name in _REMOTE_SOURCES),
        *SHARD_SOURCES,
    )
    library_names = ("pyarrow",)
    selectors = ("corpus",)
    corpus = luigi.Parameter(default="", description="one corpus of the recipe (default: all)")

    def choices(self) -> list[dict[str, str]]:
        return [{"corpus": corpus.name} for corpus in self.settings.corpora]

    def label(self) -> str:
        return f"fetch {self.corpus}"

    @property
    def source(self) -> Corpus:
        return self.settings.corpus(self.corpus)

    def inputs(self) -> dict[str, Stage]:
        return {"sample": sample_of(self)} if self.source.part else {}

    def parameters(self) -> dict[str, Any]:
        source = self.source
        common: dict[str, Any] = {
            "source": source.name,
            "part": source.part,
            "text_field": source.text_field,
            "on_bad_file": source.on_bad_file,
        }
        if source.maximum_record_bytes != MAXIMUM_RECORD_BYTES:
            common["maximum_record_bytes"] = source.maximum_record_bytes
        if source.urls:
            common |= {"urls": source.urls, "sha256": source.sha256}
        if source.dataset:
            keys = ("configuration", "split", "expected_rows")
            common |= {key: getattr(source, key) for key in keys}
            if not Path(source.dataset).is_absolute():
                common |= {"dataset": source.dataset, "revision": source.revision}
        return common

    def files(self) -> list[Path]:
        """The raw files, in the order that document ids follow."""
        if self.source.part:
            return sorted((self.inputs()["sample"].directory / "corpus").glob(f"{self.source.part}.jsonl*"))
        from data_pipeline.sources.local import find_files

        return find_files(self.source.paths)

    def external_files(self) -> dict[str, Path]:
        if self.source.paths:
            return {f"{index:05d} {path.name}": path for index, path in enumerate(self.files())}
        if Path(self.source.dataset).is_absolute():
            return {"dataset": Path(self.source.dataset)}
        return {}

    def work(self, directory: Path) -> Mapping[str, Any]:
        source = self.source
        common: dict[str, Any] = {
            "source": source.name,
            "text_field": source.text_field,
            "maximum_record_bytes": source.maximum_record_bytes,
            "executor": self.executor(),
            "title": self.title(),
        }
        notes = CORPORA[source.preset].notes() if source.preset else {}
        if source.source == "huggingface":
            return self._from_hub(directory, common, notes)
        if source.source == "http":
            from data_pipeline.sources.remote_files import RemoteFile, fetch_remote

            digests = source.sha256 or [""] * len(source.urls)
            files = [RemoteFile(url, digest) for url, digest in zip(source.urls, digests, strict=True)]
            counts, pins = fetch_remote(
                files, directory, on_bad_file=source.on_bad_file, lock=self.lock(), **common
            )
            return {**counts, "origin": {"urls": source.urls, **notes}, "pins": pins}
        from data_pipeline.sources.local import fetch_local

        paths = [str(path) for path in self.files()]
        counts = fetch_local(paths, directory, on_bad_file=source.on_bad_file, **common)
        return {**counts, "origin": notes} if notes else counts

    def _from_hub(self, directory: Path, common: dict[str, Any], notes: dict[str, str]) -> dict[str, Any]:
        from data_pipeline.sources.hub import HubDataset, fetch_hub, pin_of, pinned

        source = self.source
        wanted = HubDataset(source.dataset, source.configuration, source.split, source.revision)
        dataset = pinned(wanted, self.lock())
        counts = fetch_hub(
            dataset, directory, streaming=source.streaming, expected_rows=source.expected_rows, **common
        )
        return {**counts, "origin": {**dataset.facts(), **notes}, "pins": pin_of(wanted, dataset)}

    def facts(self, summary: Mapping[str, Any]) -> str:
        bad = summary["quarantined"]
        return f"{summary['documents']} documents" + (f", {bad} bad records quarantined" if bad else "")


class FetchBenchmark(PinnedStage):
    """One benchmark from the hub, or from a local copy in hub layout, in its authors' format."""

    stage = "benchmark"
    sources = (
        "data_pipeline/benchmarks",
        "data_pipeline/sources/benchmarks.py",
        "data_pipeline/sources/records.py",
        *(f"data_pipeline/sources/{name}.py" for name in _REMOTE_SOURCES),
    )
    library_names = ("pyarrow",)
    selectors = ("benchmark",)
    benchmark = luigi.Parameter(default="", description="one benchmark of the recipe (default: all)")

    def choices(self) -> list[dict[str, str]]:
        found = self.settings.benchmarks
        return [{"benchmark": name} for name in found if found[name].source == "huggingface"]

    def label(self) -> str:
        return f"fetch {self.benchmark}"

    @property
    def source(self) -> BenchmarkSettings:
        return self.settings.benchmarks[self.benchmark]

    def parameters(self) -> dict[str, Any]:
        source, origin = self.source, BENCHMARKS[self.benchmark].origin
        assert isinstance(origin, Origin)
        where = (
            {} if source.path else {"dataset": origin.dataset, "revision": source.revision or origin.revision}
        )
        return {"benchmark": self.benchmark, "check_counts": source.check_counts, **where}

    def external_files(self) -> dict[str, Path]:
        return {"dataset": Path(self.source.path)} if self.source.path else {}

    def layout(self) -> dict[str, int]:
        return {"processes": 1}

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.sources.benchmarks import fetch_benchmark

        source = self.source
        return fetch_benchmark(
            self.benchmark,
            directory,
            folder=Path(source.path) if source.path else None,
            revision=source.revision,
            check_counts=source.check_counts,
            lock=self.lock(),
        )

    def facts(self, summary: Mapping[str, Any]) -> str:
        return str(summary["origin"]["dataset"])


def sample_of(stage: Stage) -> Stage:
    return stage.clone(WriteSample)


def benchmark_inputs(stage: Stage, name: str) -> dict[str, Stage]:
    """The stage that makes a benchmark's files; none where they are the user's."""
    source = stage.settings.benchmarks[name].source
    if source == "sample":
        return {"benchmark": sample_of(stage)}
    return {"benchmark": stage.clone(FetchBenchmark, benchmark=name)} if source == "huggingface" else {}


def benchmark_files(stage: Stage, name: str) -> dict[str, Path]:
    """A benchmark's file or folder where it is the user's, in the authors' format."""
    benchmark = stage.settings.benchmarks[name]
    return {"benchmark": Path(benchmark.path)} if benchmark.source == "local" else {}


def benchmark_paths(stage: Stage) -> dict[str, Path]:
    """File or folder of each benchmark of the recipe."""
    result = {}
    for name, benchmark in stage.settings.benchmarks.items():
        sample = BENCHMARKS[name].sample
        if benchmark.source == "sample" and sample:
            result[name] = sample_of(stage).directory / "benchmarks" / sample.path
        elif benchmark.source == "huggingface":
            result[name] = stage.clone(FetchBenchmark, benchmark=name).directory / BENCHMARKS[name].file
        else:
            result[name] = Path(benchmark.path)
    return result
