"""Blends: samples of several corpora in given proportions, in the order of Megatron-core's blended dataset.

At step i the sample comes from the corpus d with the largest `w_d · max(i, 1) − taken_d`, the first of equals.
The order is found exactly, without a compiler: see `blend_order`. A blend file names the corpora:

    {"parts": [{"prefix": "wikipedia/corpus", "weight": 3}, {"prefix": "stories/corpus", "weight": 1}]}

with prefixes relative to the file. `open_stream` reads a corpus or a blend file. The order within a corpus is in
`samples`; batches are made in `pretrain`.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import UserError
from core.files import read_json, write_json
from data_pipeline.indexed.array_cache import Arrays, cached_arrays
from data_pipeline.indexed.dataset import IndexedDataset, bin_path
from data_pipeline.indexed.samples import SPLITS, SampleStream, split_boundaries

_LARGEST_CHUNKS = 8192  # chunks that are simulated at once
_WARM_UP_STEPS = 256
# Drawn from each corpus beyond its share, as Megatron-core does; the order may exceed a share by a few samples.
_SURPLUS = 0.005
# What the corpora of a blend must have in common, in the `corpus.json` beside each.
_COMMON_FACTS = ("kind", "vocabulary_size", "tokenizer_fingerprint")

Steps = npt.NDArray[np.int64]


class BlendError(UserError):
    """A blend is impossible, or its file is unreadable; the message names the file."""


def blend_order(weights: Sequence[float], samples: int) -> Arrays:
    """Which corpus, and which of its samples, each sample of a blend is.

    The rule is a recursion, but one that forgets where it began: two runs of it soon take the same corpora. So the
    steps are cut into chunks that are simulated side by side, each begun some steps early from the proportional counts.
    A chunk is right when it begins with the counts that the right chunk before it ends with; those that do not are
    done again from these counts until there are none. What comes out is therefore the recursion's result, whatever
    the weights.

    Args:
        weights: of each corpus, positive, of sum 1.

    Returns:
        `corpus`: uint16 [samples], `sample`: [samples], uint32 unless there are too many.
    """
    shares = np.asarray(weights, np.float64)
    size = max(_WARM_UP_STEPS, -(-samples // _LARGEST_CHUNKS))
    firsts = np.arange(0, samples, size, dtype=np.int64)
    begun = np.maximum(firsts - _WARM_UP_STEPS, 0)
    taken = _proportional(shares, begun)
    _advance(shares, taken, begun, firsts - begun, None)
    begins = taken.copy()
    corpus = np.empty((len(firsts), size), np.uint16)
    _advance(shares, taken, firsts, np.full(len(firsts), size), corpus)
    while len(wrong := 1 + np.flatnonzero((begins[:, 1:] != taken[:, :-1]).any(axis=0))):
        begins[:, wrong] = taken[:, wrong - 1]
        again, choices = begins[:, wrong], corpus[wrong]
        _advance(shares, again, firsts[wrong], np.full(len(wrong), size), choices)
        taken[:, wrong], corpus[wrong] = again, choices
    order = corpus.reshape(-1)[:samples]
    return {"corpus": order, "sample": _count_up(order, len(shares))}


def _proportional(shares: npt.NDArray[np.float64], steps: Steps) -> Steps:
    """About the samples taken of each corpus before each step, [corpora, steps]; sums are exact."""
    ideal = shares[:, None] * steps
    taken = np.floor(ideal).astype(np.int64)
    missing = steps - taken.sum(axis=0)
    rank = np.argsort(np.argsort(taken - ideal, axis=0), axis=0)
    taken += rank < missing
    return taken


def _advance(
    shares: npt.NDArray[np.float64],
    taken: Steps,
    firsts: Steps,
    counts: Steps,
    chosen: npt.NDArray[np.uint16] | None,
) -> None:
    """Do `counts` steps of the rule in all chunks at once, from step `firsts`; changes `taken` and `chosen`.

    The arithmetic is that of the recursion, operation for operation, so that equal values stay equal.
    """
    chunks = np.arange(len(firsts))
    for number in range(int(counts.max(initial=0))):
        step = np.maximum(firsts + number, 1).astype(np.float64)
        largest = shares[0] * step - taken[0]
        choice = np.zeros(len(firsts), np.uint16)
        for corpus in range(1, len(shares)):
            error = shares[corpus] * step - taken[corpus]
            choice[error > largest] = corpus
            np.maximum(largest, error, out=largest)
        taken[choice, chunks] += number < counts
        if chosen is not None:
            chosen[:, number] = choice


def _count_up(order: npt.NDArray[np.uint16], corpora: int) -> npt.NDArray[Any]:
    """For each step, how often its corpus came before."""
    sample = np.empty(len(order), np.uint32 if len(order) < np.iinfo(np.uint32).max else np.int64)
    for corpus in range(corpora):
        places = order == corpus
        sample[places] = np.arange(np.count_nonzero(places))
    return sample


class Blend:
    """`samples` samples of several streams, mixed by weight; indexed like a `SampleStream`.

    Attributes:
        corpus: [samples], which stream each sample is from.
        sample: [samples], which of the stream's samples it is.

    Args:
        streams: of the same sequence length; each must hold its share, see `share_of_samples`.
        weights: of each stream, positive; only their proportions matter.
        cache_directory: where the order is kept for the next time, if it is given.

    Raises:
        BlendError: numbers of streams and weights differ, a weight is not positive, or a stream is too short.
    """

    def __init__(
        self,
        streams: Sequence[SampleStream],
        weights: Sequence[float],
        samples: int,
        cache_directory: Path | None = None,
    ) -> None:
        _check_weights("blend", len(streams), weights)
        self.streams = list(streams)
        shares = normalized(weights)
        if cache_directory is None:
            order = blend_order(shares, samples)
        else:
            facts = {"weights": shares, "samples": samples}
            order = cached_arrays(cache_directory, "blend", facts, lambda: blend_order(shares, samples))
        self.corpus, self.sample = order["corpus"], order["sample"]
        drawn = np.bincount(self.corpus, minlength=len(self.streams)).tolist()
        for number, (stream, needed) in enumerate(zip(self.streams, drawn, strict=True)):
            if len(stream) < needed:
                raise BlendError(
                    f"{stream.dataset.prefix}: part {number} of the blend has {len(stream):,} samples, but "
                    f"{needed:,} are drawn from it; make its stream with share_of_samples"
                )

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: int) -> npt.NDArray[np.integer]:
        """The tokens of a sample, [sequence_length + 1], as they are stored."""
        return self.streams[int(self.corpus[index])][int(self.sample[index])]

    def place_of(self, index: int, token: int) -> str:
        """Where a token of a sample is stored, for messages."""
        return self.streams[int(self.corpus[index])].place_of(int(self.sample[index]), token)


def normalized(weights: Sequence[float]) -> list[float]:
    """Weights of sum 1."""
    values = np.array(weights, np.float64)
    return (values / np.sum(values)).tolist()


def share_of_samples(samples: int, weight: float) -> int:
    """How many samples a corpus of this normalised weight must have ready for a blend of `samples`."""
    return math.ceil(math.ceil(samples * weight) * (1 + _SURPLUS))


def _check_weights(source: str, parts: int, weights: Sequence[float]) -> None:
    if not parts or parts != len(weights):
        raise BlendError(f"{source}: {parts} corpora and {len(weights)} weights; there must be one for each")
    if not all(0 < weight < math.inf for weight in weights):
        raise BlendError(f"{source}: weights {list(weights)} must all be positive numbers")


@dataclasses.dataclass(frozen=True)
class BlendDescription:
    """What a blend file says.

    Attributes:
        path: the file.
        prefixes: of the corpora's `.bin` and `.idx`.
        weights: of each corpus, of sum 1.
    """

    path: Path
    prefixes: list[Path]
    weights: list[float]


def write_blend(output: Path, parts: Sequence[tuple[Path, float]]) -> BlendDescription:
    """Write a blend file, with prefixes relative to it, after the checks of `load_blend`.

    Raises:
        BlendError: the corpora do not fit together; nothing is written.
    """
    output = Path(output)
    _check(output, [prefix for prefix, _ in parts], [weight for _, weight in parts])
    folder = output.parent.resolve()
    described = [
        {"prefix": os.path.relpath(Path(prefix).resolve(), folder), "weight": weight}
        for prefix, weight in parts
    ]
    write_json(output, {"parts": described})
    return load_blend(output)


def load_blend(path: Path) -> BlendDescription:
    """Read a blend file and check that its corpora can be mixed.

    Raises:
        BlendError: the file is unreadable or malformed, a weight is not positive, or the corpora differ in token type
            or, by the `corpus.json` beside each, in tokenizer.
        IndexedDatasetError: a corpus is missing or damaged.
    """
    path = Path(path)
    try:
        parts = read_json(path)["parts"]
        prefixes = [path.parent / part["prefix"] for part in parts]
        weights = [float(part["weight"]) for part in parts]
    except (LookupError, TypeError, ValueError) as error:
        raise BlendError(
            f'{path}: not a blend file ({error}); it is {{"parts": [{{"prefix": …, "weight": …}}, …]}}'
        ) from error
    _check(path, prefixes, weights)
    return BlendDescription(path, prefixes, normalized(weights))


def _check(path: Path, prefixes: Sequence[Path], weights: Sequence[float]) -> None:
    _check_weights(str(path), len(prefixes), weights)
    check_alike(path, prefixes)


def check_alike(path: Path, prefixes: Sequence[Path]) -> None:
    """Check that corpora can be put together; `path` is what is made of them.

    Raises:
        BlendError: they differ in token type or, by the `corpus.json` beside each, in tokenizer.
        IndexedDatasetError: a corpus is missing or damaged.
    """
    known: dict[str, tuple[Path, Any]] = {}
    for prefix in prefixes:
        facts = corpus_facts(prefix)
        compared = {"token type": IndexedDataset(prefix).dtype.name}
        compared |= {name: facts[name] for name in _COMMON_FACTS if name in facts}
        for name, value in compared.items():
            other, expected = known.setdefault(name, (prefix, value))
            if value != expected:
                raise BlendError(
                    f"{path}: {prefix} has {name} {value}, but {other} has {expected}; only corpora "
                    "tokenized with the same tokenizer can be mixed: tokenize one of them anew"
                )


def corpus_prefix(path: Path) -> Path:
    """The path without `.bin` and `.idx` of the corpus in a folder: ours, or the only one there, whatever its name.

    Raises:
        BlendError: there are several.
    """
    path = Path(path)
    if not path.is_dir():
        return path.with_suffix("") if path.suffix in (".bin", ".idx") else path
    found = [
        file.with_suffix("")
        for file in sorted(path.glob("*.idx"))
        if bin_path(file.with_suffix("")).is_file()
    ]
    if len(found) == 1 or path / "corpus" in found:
        return found[0] if len(found) == 1 else path / "corpus"
    if found:
        names = ", ".join(prefix.name for prefix in found)
        raise BlendError(
            f"{path}: holds several corpora ({names}): give one by its path without .bin and .idx"
        )
    return path / "corpus"


def corpus_facts(prefix: Path) -> dict[str, Any]:
    """What `corpus.json` (or `<prefix>.json`) beside a corpus says, or nothing.

    Raises:
        BlendError: the file is there but cannot be read.
    """
    path = Path(f"{prefix}.json")
    if not path.exists():
        return {}
    try:
        facts = read_json(path)
    except UserError as error:
        raise BlendError(str(error)) from error
    if not isinstance(facts, dict):
        raise BlendError(f"{path}: does not describe a corpus")
    return facts


def open_stream(
    source: Path, split: str, samples: int, sequence_length: int, seed: int
) -> SampleStream | Blend | None:
    """A split of a corpus or of all corpora of a blend file, its indices kept beside them.

    Args:
        source: prefix of a corpus, or a blend file (`.json`).
        split: "train", "validation" or "test", by the default shares.
        samples: how many are wanted; documents are repeated as often as that takes.

    Returns:
        None where a split other than "train" holds less than one sample; of a blend, such corpora are left out
        (megatron-core would repeat the few tokens they have).

    Raises:
        ValueError: the training split holds no tokens, or a file is damaged.
    """
    part = SPLITS.index(split)
    if source.suffix != ".json":
        dataset = IndexedDataset(source)
        bounds = _part(dataset, part, sequence_length)
        return bounds and SampleStream(dataset, bounds, samples, sequence_length, seed, cached=True)
    blend = load_blend(source)
    datasets = [IndexedDataset(prefix) for prefix in blend.prefixes]
    used = [
        (dataset, bounds, weight)
        for dataset, weight in zip(datasets, blend.weights, strict=True)
        if (bounds := _part(dataset, part, sequence_length))
    ]
    if not used:
        return None
    weights = blend.weights if len(used) == len(datasets) else normalized([weight for *_, weight in used])
    streams = [
        SampleStream(dataset, bounds, share_of_samples(samples, weight), sequence_length, seed, cached=True)
        for (dataset, bounds, _), weight in zip(used, weights, strict=True)
    ]
    return Blend(streams, weights, samples, source.parent)


def _part(dataset: IndexedDataset, part: int, sequence_length: int) -> tuple[int, int] | None:
    """First and last (exclusive) sequence of a split; None if it is too short and not the training split."""
    first, end = split_boundaries(len(dataset))[part : part + 2]
    enough = int(dataset.lengths[first:end].sum(dtype=np.int64)) > sequence_length
    return (first, end) if enough or part == 0 else None
