"""Building and reading GPT-2's sample stream, and blending, against megatron-core.

One corpus of random document lengths for both sides; its tokens are a hole in a file, so only the index takes space.
Index building goes from the corpus on disk to indices on disk that are ready to be read. Reads are of random samples,
the same for both sides and once before time is taken; runs alternate. Without megatron-core only our side runs.
"""

import argparse
import shutil
import statistics
import struct
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.indexed.blends import blend_order, normalized
from data_pipeline.indexed.dataset import IndexedDataset, bin_path, index_path
from data_pipeline.indexed.samples import SampleStream
from pretrain.gpt2 import GPT2Samples

_VOCABULARY = 50_257
_BLEND_WEIGHTS = (4.3, 2.2, 1.1, 3.9, 0.7)
_INSTALL = "megatron-core is not installed, so only our side runs: pip install megatron-core==0.16.1"
Timed = Callable[[], Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--documents", type=int, default=10_000_000, help="in the corpus (default: %(default)s)"
    )
    parser.add_argument(
        "--sequence-length", type=int, default=1024, help="tokens a sample, less one (default: %(default)s)"
    )
    parser.add_argument(
        "--reads", type=int, default=5000, help="random samples read a run (default: %(default)s)"
    )
    parser.add_argument(
        "--blended", type=int, default=10_000_000, help="samples to blend (default: %(default)s)"
    )
    parser.add_argument("--repetitions", type=int, default=5, help="alternating runs (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    peer = _import_peer()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        prefix = write_corpus(directory / "corpus", arguments.documents)
        dataset = IndexedDataset(prefix)
        samples = (dataset.tokens - 1) // arguments.sequence_length
        print(
            f"{dataset.documents:,} documents, {dataset.tokens:,} tokens, {samples:,} samples an epoch, one core"
        )
        print("| | ours | megatron-core | times as fast, lowest–highest |\n|---|---|---|---|")
        for epochs in (1, 3):
            wanted = epochs * samples - samples // 2  # so that the last epoch is half used
            _print_builds(directory, prefix, epochs, wanted, arguments, peer)
        _print_reads(directory, prefix, samples, arguments, peer)
        _print_blends(arguments, peer)


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
            random_seed=1,
            sequence_length=sequence_length,
            split="1,0,0",
            blend=([str(prefix)], None),
            tokenizer=self,
            reset_position_ids=False,
            reset_attention_mask=False,
            eod_mask_loss=False,
            create_attention_mask=False,
            path_to_cache=str(cache),
        )
        dataset = PeerDataset(str(prefix))
        indices = np.arange(len(dataset), dtype=np.int32)
        return GPTDataset(dataset, str(prefix), indices, samples, Split.train, config)

    def blend(self, weights: list[float], samples: int) -> None:
        from megatron.core.datasets import helpers

        corpora, numbers = np.zeros(samples, np.int16), np.zeros(samples, np.int64)
        helpers.build_blending_indices(corpora, numbers, weights, len(weights), samples, False)


def _import_peer() -> _Peer | None:
    try:
        import megatron.core.datasets.gpt_dataset
        import megatron.core.datasets.helpers_cpp  # noqa: F401
    except ImportError:
        print(_INSTALL)
        return None
    return _Peer()


def _seconds(work: Timed) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _print_row(
    name: str, unit: str, ours: Timed, theirs: Timed | None, repetitions: int, count: int = 0
) -> None:
    """Medians of alternating runs: seconds, or with a count, so many a second."""
    pairs = []
    for _ in range(repetitions):
        mine = _seconds(ours)
        pairs.append((mine, _seconds(theirs) if theirs else float("nan")))
    shown = [statistics.median(column) for column in zip(*pairs, strict=True)]
    figures = [f"{count / value:,.0f}{unit}" if count else f"{value:.2f}{unit}" for value in shown]
    ratios = [other / mine for mine, other in pairs]
    spread = f"{statistics.median(ratios):.2f}, {min(ratios):.2f}–{max(ratios):.2f}" if theirs else "–"
    print(f"| {name} | {figures[0]} | {figures[1] if theirs else '–'} | {spread} |", flush=True)


def _print_builds(
    directory: Path, prefix: Path, epochs: int, wanted: int, arguments: argparse.Namespace, peer: _Peer | None
) -> None:
    length, part = arguments.sequence_length, (0, arguments.documents)

    def again() -> None:
        SampleStream(IndexedDataset(prefix), part, wanted, length, 1, cached=True)

    def ours() -> None:
        for folder in directory.glob(".samples-*/"):
            shutil.rmtree(folder)
        again()

    def theirs() -> None:
        assert peer is not None
        shutil.rmtree(directory / "cache", ignore_errors=True)
        peer.open(prefix, wanted, length, directory / "cache")

    _print_row(
        f"index, epochs: {epochs}, built and written",
        " s",
        ours,
        theirs if peer else None,
        arguments.repetitions,
    )

    _print_row(f"index, epochs: {epochs}, found on disk, hashes checked", " s", again, None, 1)


def _print_reads(
    directory: Path, prefix: Path, samples: int, arguments: argparse.Namespace, peer: _Peer | None
) -> None:
    length = arguments.sequence_length
    stream = SampleStream(IndexedDataset(prefix), (0, arguments.documents), samples, length, 1, cached=True)
    batches = GPT2Samples(stream, samples)
    other = peer.open(prefix, samples, length, directory / "cache") if peer else None
    chosen = np.random.default_rng(2).integers(0, samples, arguments.reads).tolist()
    if other and not (
        np.array_equal(stream.documents, other.document_index)
        and np.array_equal(stream.sample_index, other.sample_index)
        and np.array_equal(stream.order, other.shuffle_index)
    ):
        raise ValueError("the indices differ from megatron-core's: the figures would be of different work")

    def arrays() -> None:
        for index in chosen:
            stream[index].astype(np.int64)

    def items() -> None:
        for index in chosen:
            batches.batch(np.array([index]))

    def their_arrays() -> None:
        for index in chosen:
            other._query_document_sample_shuffle_indices(index)

    def their_items() -> None:
        for index in chosen:
            other[index]

    arrays()
    repetitions, reads = arguments.repetitions, arguments.reads
    _print_row(
        "samples read as int64 arrays", "/s", arrays, their_arrays if peer else None, repetitions, reads
    )
    _print_row(
        "samples read as tensors (theirs: `GPTDataset.__getitem__`, with loss mask and positions)",
        "/s",
        items,
        their_items if peer else None,
        repetitions,
        reads,
    )


def _print_blends(arguments: argparse.Namespace, peer: _Peer | None) -> None:
    weights = normalized(_BLEND_WEIGHTS)
    _print_row(
        f"order of a blend of {len(weights)} corpora, {arguments.blended:,} samples (theirs compiled)",
        " s",
        lambda: blend_order(weights, arguments.blended),
        (lambda: peer.blend(weights, arguments.blended)) if peer else None,
        arguments.repetitions,
    )
