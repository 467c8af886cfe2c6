"""Building and reading GPT-2's sample stream, and blending, against megatron-core.

One corpus of random document lengths for both sides; its tokens are a hole in a file, so only the index takes space.
Index building goes from the corpus on disk to indices on disk that are ready to be read. Reads are of random samples,
the same for both sides and once before time is taken. Without megatron-core only our side runs.
"""

import shutil
import struct
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from data_pipeline.indexed.blends import blend_order, normalized
from data_pipeline.indexed.dataset import IndexedDataset, bin_path, index_path
from data_pipeline.indexed.samples import SampleStream
from pretrain.gpt2 import GPT2Samples

_VOCABULARY = 50_257
_BLEND_WEIGHTS = (4.3, 2.2, 1.1, 3.9, 0.7)
Work = Callable[[], Any]
_PEER_MODULES = ("megatron.core.datasets.gpt_dataset", "megatron.core.datasets.helpers_cpp")


@dataclass(frozen=True)
class Settings(harness.Settings):
    """Sizes.

    Attributes:
        documents: in the corpus.
        sequence_length: tokens a sample, less one.
        reads: random samples read a turn.
        blended: samples to blend.
    """

    turns: int = 5
    documents: int = 10_000_000
    sequence_length: int = 1024
    reads: int = 5000
    blended: int = 10_000_000


def run(settings: Settings, report: harness.Report) -> None:
    warnings.simplefilter("ignore")
    peer = _Peer() if report.has_peer(*_PEER_MODULES) else None
    with tempfile.TemporaryDirectory() as name:
        comparison = _Comparison(
            settings, report, write_corpus(Path(name) / "corpus", settings.documents), peer
        )
        for epochs in (1, 3):
            comparison.of_builds(epochs)
        comparison.of_reads()
        comparison.of_blends()


def write_corpus(prefix: Path, documents: int, seed: int = 1) -> Path:
    """An index of documents of random lengths, 400 tokens on average, and a hole for their tokens."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(random.lognormal(5.5, 1.0, documents), 100_000).astype("<i4") + 1
    ends = np.cumsum(lengths, dtype="<i8")
    with index_path(prefix).open("wb") as stream:
        stream.write(struct.pack("<9sQBQQ", b"MMIDIDX\x00\x00", 1, 8, documents, documents + 1))
        for array in (lengths, (ends - lengths) * 2, np.arange(documents + 1, dtype="<i8")):
            array.tofile(stream)
    with bin_path(prefix).open("wb") as stream:
        stream.truncate(int(ends[-1]) * 2)
    return prefix


class _Peer:
    """megatron-core's data set over all documents of a corpus."""

    vocab_size = _VOCABULARY  # the little that it asks of a tokenizer
    eod = _VOCABULARY - 1
    unique_identifiers = {"class": "none"}  # noqa: RUF012

    def open(self, prefix: Path, samples: int, sequence_length: int, cache: Path) -> Any:
        from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
        from megatron.core.datasets.indexed_dataset import IndexedDataset as PeerDataset
        from megatron.core.datasets.utils import Split

        config = GPTDatasetConfig(
            random_seed=1, sequence_length=sequence_length, split="1,0,0", blend=([str(prefix)], None),
            tokenizer=self, reset_position_ids=False, reset_attention_mask=False, eod_mask_loss=False,
            create_attention_mask=False, path_to_cache=str(cache),
        )  # fmt: skip
        dataset = PeerDataset(str(prefix))
        indices = np.arange(len(dataset), dtype=np.int32)
        return GPTDataset(dataset, str(prefix), indices, samples, Split.train, config)

    def blend(self, weights: list[float], samples: int) -> None:
        from megatron.core.datasets import helpers

        corpora, numbers = np.zeros(samples, np.int16), np.zeros(samples, np.int64)
        helpers.build_blending_indices(corpora, numbers, weights, len(weights), samples, False)


class _Comparison:
    """Rows of the table, on one corpus; without a peer only ours."""

    def __init__(self, settings: Settings, report: harness.Report, prefix: Path, peer: _Peer | None) -> None:
        self.settings, self.report, self.prefix, self.peer = settings, report, prefix, peer
        self.cache = prefix.with_name("cache")
        dataset = IndexedDataset(prefix)
        self.samples = (dataset.tokens - 1) // settings.sequence_length
        report.note(
            f"{dataset.documents:,} documents, {dataset.tokens:,} tokens, {self.samples:,} samples an epoch, one core"
        )

    def add(self, what: str, count: int, ours: Work, theirs: Work | None = None) -> None:
        """How long `count` of something take, and how many a second that is."""

        def measured(work: Work) -> harness.Measurement:
            seconds = harness.seconds(work)
            return {"seconds": seconds, "a second": count / seconds}

        sides = {"ours": partial(measured, ours)}
        if self.peer and theirs:
            sides["megatron-core"] = partial(measured, theirs)
        self.report.compare(sides, self.settings.turns, ["a second"], {"what": what})

    def stream(self, samples: int) -> SampleStream:
        settings = self.settings
        part = (0, settings.documents)
        return SampleStream(
            IndexedDataset(self.prefix), part, samples, settings.sequence_length, 1, cached=True
        )

    def their_stream(self, samples: int) -> Any:
        assert self.peer is not None
        return self.peer.open(self.prefix, samples, self.settings.sequence_length, self.cache)

    def of_builds(self, epochs: int) -> None:
        wanted = epochs * self.samples - self.samples // 2  # so that the last epoch is half used

        def ours() -> None:
            for folder in self.prefix.parent.glob(".samples-*/"):
                shutil.rmtree(folder)
            self.stream(wanted)

        def theirs() -> None:
            shutil.rmtree(self.cache, ignore_errors=True)
            self.their_stream(wanted)

        what = f"samples of an index, epochs: {epochs}"
        self.add(f"{what}, built and written", wanted, ours, theirs)
        self.add(f"{what}, found on disk, hashes checked", wanted, lambda: self.stream(wanted))

    def of_reads(self) -> None:
        stream = self.stream(self.samples)
        other = self.their_stream(self.samples) if self.peer else None
        pairs = [
            ("documents", "document_index"),
            ("sample_index", "sample_index"),
            ("order", "shuffle_index"),
        ]
        if other and not all(np.array_equal(getattr(stream, a), getattr(other, b)) for a, b in pairs):
            raise ValueError(
                "the indices differ from megatron-core's: the figures would be of different work"
            )
        chosen = np.random.default_rng(2).integers(0, self.samples, self.settings.reads).tolist()

        def each(read: Callable[[int], Any]) -> Work:
            return lambda: [read(index) for index in chosen]

        arrays = each(lambda index: stream[index].astype(np.int64))
        their_arrays = other and each(other._query_document_sample_shuffle_indices)
        arrays()
        self.add("samples read as int64 arrays", len(chosen), arrays, their_arrays)
        batches = GPT2Samples(stream, self.samples, _VOCABULARY)
        tensors = each(lambda index: batches.batch(np.array([index])))
        what = "samples read as tensors (theirs: `GPTDataset.__getitem__`, with loss mask and positions)"
        self.add(what, len(chosen), tensors, other and each(other.__getitem__))

    def of_blends(self) -> None:
        weights, samples = normalized(_BLEND_WEIGHTS), self.settings.blended
        what = f"order of a blend of {len(weights)} corpora (theirs compiled)"
        theirs = self.peer and (lambda: self.peer.blend(weights, samples))
        self.add(what, samples, lambda: blend_order(weights, samples), theirs)
