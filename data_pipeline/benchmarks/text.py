"""A plain text of the user's own that models are measured on."""

from collections.abc import Iterator

from data_pipeline.benchmarks.benchmark import Benchmark, BenchmarkText, add_benchmark
from data_pipeline.benchmarks.wikitext103 import normalise


def _texts(content: str) -> Iterator[BenchmarkText]:
    """Its lines, which are paragraphs or parts of one."""
    for line in normalise(content)[0].split("\n"):
        if line.strip():
            yield BenchmarkText(line)


TEXT = add_benchmark(Benchmark(name="text", title="Plain text", file="text.txt", suffix=".txt", texts=_texts))
