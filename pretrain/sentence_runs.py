"""The runs of consecutive sentences that BERT's samples are made of: where each begins and ends, how long it is to be, and
in which order they come. Of each sample a dozen bytes, in arrays that lie beside the corpus. What is done with a run:
`masking`.

The digits are those of numpy's `RandomState` called run by run: `random_sample` says whether a run is to be short, then
`randint` how short, and at the end `shuffle` orders them all. Called so, one call costs more than a run; so the words of its
generator are taken in blocks, and read as those calls read them.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import UserError
from data_pipeline.indexed.array_cache import Arrays, cached_arrays
from data_pipeline.indexed.dataset import IndexedDataset

SHORT_SHARE = 0.1  # of the runs is made shorter than a sequence
_SHORTEST = 2  # tokens
_BLOCK_WORDS = 1 << 18
_BLOCK_DOCUMENTS = 1 << 14


def sentence_runs(
    dataset: IndexedDataset, part: tuple[int, int], samples: int, longest: int, seed: int, cached: bool
) -> Arrays:
    """Runs that reach a target of at most `longest` tokens, at least `samples` of them.

    Args:
        part: first and last (exclusive) document to use.
        cached: keep the arrays in a hidden folder beside the corpus, and use what is there.

    Returns:
        "first" and "sentences" (the first sentence of each run, and how many), "target" (tokens), and "order", [runs].

    Raises:
        UserError: no document of the part has two sentences.
    """
    documents = usable_documents(dataset, part)
    if not len(documents):
        raise UserError(
            f"{dataset.prefix}: documents {part[0]} to {part[1]} have no two sentences in one document"
        )

    def build() -> Arrays:
        return _build(dataset, documents, samples, longest, seed)

    if not cached:
        return build()
    lengths = dataset.lengths[documents[0, 0] : documents[-1, 1]]
    facts = {
        "lengths_sha256": hashlib.sha256(np.ascontiguousarray(lengths).data).hexdigest(),
        "documents_sha256": hashlib.sha256(documents.tobytes()).hexdigest(),
        "samples": samples,
        "longest": longest,
        "seed": seed,
    }
    return cached_arrays(dataset.prefix.parent, "runs", facts, build)


def usable_documents(dataset: IndexedDataset, part: tuple[int, int]) -> npt.NDArray[np.int64]:
    """First sentence, and past the last, of the part's documents that have two sentences or more, [documents, 2]."""
    bounds = np.asarray(dataset.document_index[part[0] : part[1] + 1], dtype=np.int64)
    documents = np.stack([bounds[:-1], bounds[1:]], axis=1)
    return documents[documents[:, 1] - documents[:, 0] >= 2]


def _build(
    dataset: IndexedDataset, documents: npt.NDArray[np.int64], samples: int, longest: int, seed: int
) -> Arrays:
    targets = _Targets(seed, longest)
    most = int((documents[:, 1] - documents[:, 0]).max())
    kinds = {
        "first": _smallest(len(dataset)),
        "sentences": _smallest(most),
        "target": _smallest(longest),
    }
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in kinds}
    count = 0
    while count < samples:
        for block in range(0, len(documents), _BLOCK_DOCUMENTS):
            found = _cut(dataset, documents[block : block + _BLOCK_DOCUMENTS], targets)
            for (name, kind), values in zip(kinds.items(), found, strict=True):
                parts[name].append(values.astype(kind))
            count += len(found[0])
    order = np.arange(count, dtype=_smallest(count))
    targets.random_after().shuffle(order)
    return {name: np.concatenate(values) for name, values in parts.items()} | {"order": order}


def _cut(
    dataset: IndexedDataset, documents: npt.NDArray[np.int64], targets: "_Targets"
) -> tuple[npt.NDArray[np.int64], ...]:
    """Each document in runs of two sentences or more that reach a target. No sentence is left alone at the end.

    Returns:
        of each run the first sentence, the number of sentences, and the target.
    """
    offset, end_of_block = int(documents[0, 0]), int(documents[-1, 1])
    sums = np.zeros(end_of_block - offset + 1, dtype=np.int64)
    np.cumsum(dataset.lengths[offset:end_of_block], dtype=np.int64, out=sums[1:])
    before = memoryview(sums.data)  # tokens before a sentence
    ends, wanted = array("q"), array("q")
    add_end, add_target, draw = ends.append, wanted.append, targets.__next__
    counts = array("q")
    for start, end in (documents - offset).tolist():
        runs = len(ends)
        while start < end:
            target = draw()
            start = bisect_left(before, before[start] + target, start + 2, end)
            if start == end - 1:
                start = end
            add_end(start)
            add_target(target)
        draw()  # for the run that would follow
        counts.append(len(ends) - runs)
    last = np.frombuffer(ends, dtype=np.int64)
    first = np.empty_like(last)
    first[1:] = last[:-1]
    begins = np.cumsum(counts) - np.frombuffer(counts, dtype=np.int64)
    first[begins] = documents[:, 0] - offset
    return first + offset, last - first, np.frombuffer(wanted, dtype=np.int64)


class _Targets(Iterator[int]):
    """How many tokens each run is to have: `longest`, or for a share of them from 2 to that."""

    def __init__(self, seed: int, longest: int) -> None:
        self._seed, self._longest = seed, longest
        self._words = _words(np.random.RandomState(seed))
        self._left = np.empty(0, dtype=np.uint32)
        self._passed = 0  # words before the block
        self._block: list[int] = []
        self._ends = np.empty(0, dtype=np.int64)  # words of the block, up to each target of it
        self._next = 0

    def __next__(self) -> int:
        try:
            target = self._block[self._next]
        except IndexError:
            self._read()
            return self.__next__()
        self._next += 1
        return target

    def random_after(self) -> np.random.RandomState:
        """The generator as it is when the targets drawn so far have been drawn."""
        random = np.random.RandomState(self._seed)
        used = self._passed + (int(self._ends[self._next - 1]) if self._next else 0)
        _words(random).random_raw(used, output=False)
        return random

    def _read(self) -> None:
        """The next block of targets, as many as its words are enough for."""
        if self._next:
            used = int(self._ends[-1])
            self._passed += used
            self._left = self._left[used:]
        words = np.concatenate([self._left, self._words.random_raw(_BLOCK_WORDS).astype(np.uint32)])
        self._left = words
        # Two words make a number from 0 to 1 with 53 digits, wherever they stand.
        high, low = words[:-1] >> np.uint32(5), words[1:] >> np.uint32(6)
        short = (high * 67108864.0 + low) / 9007199254740992.0 < SHORT_SHARE
        span = self._longest - _SHORTEST
        mask = np.uint32((1 << span.bit_length()) - 1)
        next_short, next_fit = _next(short, 2), _next((words & mask) <= span, 1)
        numbers, values, widths = (
            [],
            [],
            [],
        )  # of the short targets: which, how many tokens, and of how many words
        place, count = 0, 0
        while place < len(short) and (found := int(next_short[place])) < len(short):
            drawn = found + 1  # where there is but one length nothing is drawn
            if span:
                drawn = int(next_fit[found + 2]) if found + 2 < len(words) else len(words)
            if drawn >= len(words):
                break
            count += (found - place) // 2
            numbers.append(count)
            values.append(_SHORTEST + (int(words[drawn] & mask) if span else 0))
            widths.append(drawn + 1 - found)
            place, count = drawn + 1, count + 1
        until = int(next_short[place]) if place < len(short) else place
        count += (min(until, len(words)) - place) // 2
        targets = np.full(count, self._longest, dtype=np.int64)
        targets[numbers] = values
        words_each = np.full(count, 2, dtype=np.int64)
        words_each[numbers] = widths
        self._block, self._ends, self._next = targets.tolist(), np.cumsum(words_each), 0


def _next(wanted: npt.NDArray[np.bool_], step: int) -> npt.NDArray[np.int64]:
    """From each place the next one, going by `step`, where something is wanted; the length and more where there is none."""
    places = np.where(wanted, np.arange(len(wanted)), len(wanted) + step)
    for first in range(step):
        along = places[first::step][::-1]
        np.minimum.accumulate(along, out=along)
    return places


def _words(random: np.random.RandomState) -> Any:
    """The generator of 32-bit words below a `RandomState`."""
    return random._bit_generator


def _smallest(largest: int) -> npt.DTypeLike:
    """The type of integers from 0 to `largest`."""
    return np.min_scalar_type(largest)
