"""The GPT sample stream: which tokens make the i-th training sample.

Documents are shuffled, laid end to end, cut into samples of S + 1 tokens that overlap by one, and the samples
shuffled, in the order of Megatron-core's GPT dataset, so that runs can be compared step by step. The stream depends
on the corpus, the split, the number of samples, S and the seed; never on the number of ranks. Streams of several
corpora are mixed in `blends`; batches and tensors are made in `pretrain`.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import UserError
from data_pipeline.indexed.array_cache import Arrays, cached_arrays
from data_pipeline.indexed.dataset import IndexedDataset, bin_path, index_path

SPLITS = ("train", "validation", "test")
DEFAULT_SPLIT = (969.0, 30.0, 1.0)
# The last, incomplete epoch is shuffled apart when fewer than this share of its samples is used.
_LAST_EPOCH_SHARE = 0.80
_BLOCK_DOCUMENTS = 1 << 20


def split_boundaries(sequences: int, weights: tuple[float, ...] = DEFAULT_SPLIT) -> list[int]:
    """Boundaries of consecutive parts: sequence i belongs to part p when boundaries[p] <= i < boundaries[p + 1]."""
    shares = np.cumsum([0.0, *(np.array(weights) / np.sum(weights))])
    return [round(float(share) * float(sequences)) for share in shares]


def refuse_other_values(dataset: IndexedDataset) -> None:
    """Check that a dataset holds integers.

    Raises:
        UserError: it holds something else, as the format may.
    """
    if dataset.dtype.kind == "f":
        raise UserError(f"{index_path(dataset.prefix)}: holds {dataset.dtype.name} values, no token ids")


class SampleStream:
    """`samples` token samples of `sequence_length` + 1 tokens from one part of a corpus.

    Attributes:
        documents: int32 [documents · epochs], the shuffled sequences, laid end to end.
        sample_index: [samples + 1, 2], where each sample starts: a place in `documents`, and the tokens before it there.
        order: [samples], the row of `sample_index` that each sample has.

    Args:
        dataset: one sequence a document.
        part: first and last (exclusive) sequence to use.
        samples: how many samples are wanted; the documents are repeated as often as that takes.
        cached: keep the arrays in a hidden folder beside the corpus, and use what is there.

    Raises:
        ValueError: the part holds no tokens, or the corpus something else.
    """

    def __init__(
        self,
        dataset: IndexedDataset,
        part: tuple[int, int],
        samples: int,
        sequence_length: int,
        seed: int,
        cached: bool = False,
    ) -> None:
        self.dataset = dataset
        self._length = sequence_length
        refuse_other_values(dataset)
        lengths = dataset.lengths[part[0] : part[1]]
        if not lengths.any():
            raise UserError(f"{dataset.prefix}: sequences {part[0]} to {part[1]} hold no tokens")

        def build() -> Arrays:
            return _build(dataset.lengths, part, samples, sequence_length, seed)

        if cached:
            facts = {
                "lengths_sha256": hashlib.sha256(lengths.tobytes()).hexdigest(),
                "part": list(part),
                "samples": samples,
                "sequence_length": sequence_length,
                "seed": seed,
            }
            arrays = cached_arrays(dataset.prefix.parent, "samples", facts, build)
        else:
            arrays = build()
        self.documents, self.sample_index = arrays["documents"], arrays["sample_index"]
        self.order = arrays["order"]

    def __len__(self) -> int:
        """Samples the repeated documents hold; at least as many as were asked for."""
        return len(self.order)

    def __getitem__(self, index: int) -> npt.NDArray[np.integer]:
        """The tokens of a sample, [sequence_length + 1], as they are stored; often a view of the file."""
        row = int(self.order[index])
        (first, offset), (last, last_offset) = self.sample_index[row : row + 2].tolist()
        sequences = self.documents[first : last + 1].tolist()
        if first == last:
            return self.dataset.get(sequences[0], offset, self._length + 1)
        parts = [self.dataset[sequence] for sequence in sequences]
        parts[0] = parts[0][offset:]
        parts[-1] = parts[-1][: last_offset + 1]
        return np.concatenate(parts)

    def place_of(self, index: int, token: int) -> str:
        """Where a token of a sample is stored, for messages."""
        first, offset = self.sample_index[int(self.order[index])].tolist()
        left = offset + token
        while left >= (length := int(self.dataset.lengths[self.documents[first]])):
            left -= length
            first += 1
        return f"{bin_path(self.dataset.prefix)}: token {left} of document {self.documents[first]}"


def _build(
    lengths: npt.NDArray[np.int32], part: tuple[int, int], samples: int, sequence_length: int, seed: int
) -> Arrays:
    tokens_per_epoch = int(lengths[part[0] : part[1]].sum(dtype=np.int64))
    epochs = -(-(samples * sequence_length + 1) // tokens_per_epoch)
    random = np.random.RandomState(seed)
    without_last = ((epochs - 1) * tokens_per_epoch - 1) // sequence_length
    per_epoch = (tokens_per_epoch - 1) // sequence_length
    apart = epochs > 1 and samples - without_last < int(_LAST_EPOCH_SHARE * per_epoch)
    documents = _shuffled_documents(np.arange(*part, dtype=np.int32), epochs, apart, random)
    total = (epochs * tokens_per_epoch - 1) // sequence_length
    return {
        "documents": documents,
        "sample_index": _sample_index(lengths, documents, sequence_length, total),
        "order": _shuffled_samples(total, without_last if apart else total, random),
    }


def _shuffled_documents(
    sequences: npt.NDArray[np.int32], epochs: int, apart: bool, random: np.random.RandomState
) -> npt.NDArray[np.int32]:
    if apart:
        first = _shuffled_documents(sequences, epochs - 1, False, random)
        return np.concatenate([first, _shuffled_documents(sequences, 1, False, random)])
    documents = np.tile(sequences, epochs)
    random.shuffle(documents)
    return documents


def _sample_index(
    lengths: npt.NDArray[np.int32], documents: npt.NDArray[np.int32], sequence_length: int, total: int
) -> npt.NDArray[np.integer]:
    """Place and offset of every `sequence_length`-th token of the documents laid end to end, in bounded memory."""
    dtype = np.int32 if len(documents) <= np.iinfo(np.int32).max else np.int64
    index = np.empty((total + 1, 2), dtype)
    filled, tokens = 0, 0
    for block in range(0, len(documents), _BLOCK_DOCUMENTS):
        sizes = lengths[documents[block : block + _BLOCK_DOCUMENTS]]
        ends = np.cumsum(sizes, dtype=np.int64) + tokens
        tokens = int(ends[-1])
        reached = min(-(-tokens // sequence_length), total + 1)
        firsts = np.arange(filled, reached, dtype=np.int64) * sequence_length
        places = np.searchsorted(ends, firsts, side="right")  # an empty document holds no token
        index[filled:reached, 0] = places + block
        index[filled:reached, 1] = firsts - (ends - sizes)[places]
        filled = reached
    assert filled == total + 1, "the last sample ends within the documents"
    return index


def _shuffled_samples(total: int, first_block: int, random: np.random.RandomState) -> npt.NDArray[Any]:
    order = np.arange(total, dtype=np.uint32 if total < np.iinfo(np.uint32).max - 1 else np.int64)
    for block in (order[:first_block], order[first_block:]):
        if len(block):
            random.shuffle(block)
    return order
