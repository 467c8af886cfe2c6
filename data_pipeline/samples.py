"""The GPT sample stream: which tokens make the i-th training sample.

Documents are shuffled, laid end to end, cut into samples of S + 1 tokens that overlap by one, and the samples
shuffled, in the order of Megatron-core's GPT dataset, so that runs can be compared step by step. The stream depends
on the corpus, the split, the number of samples, S and the seed; never on the number of ranks.
"""

import numpy as np
import numpy.typing as npt

from data_pipeline.indexed import IndexedDataset

SPLITS = ("train", "validation", "test")
DEFAULT_SPLIT = (969.0, 30.0, 1.0)
# The last, incomplete epoch is shuffled apart when fewer than this share of its samples is used.
_LAST_EPOCH_SHARE = 0.80


def split_boundaries(sequences: int, weights: tuple[float, ...] = DEFAULT_SPLIT) -> list[int]:
    """Boundaries of consecutive parts: sequence i belongs to part p when boundaries[p] <= i < boundaries[p + 1]."""
    shares = np.cumsum([0.0, *weights]) / sum(weights)
    return [round(float(share) * float(sequences)) for share in shares]


class SampleStream:
    """`samples` token samples of `sequence_length` + 1 tokens from one part of a corpus.

    Args:
        dataset: one sequence a document.
        part: first and last (exclusive) sequence to use.
        samples: how many samples are wanted; the documents are repeated as often as that takes.

    Raises:
        ValueError: the part holds no tokens.
    """

    def __init__(
        self, dataset: IndexedDataset, part: tuple[int, int], samples: int, sequence_length: int, seed: int
    ) -> None:
        self._dataset = dataset
        self._length = sequence_length
        sequences = np.arange(*part, dtype=np.int32)
        tokens_per_epoch = int(dataset.lengths[part[0] : part[1]].sum(dtype=np.int64))
        if tokens_per_epoch == 0:
            raise ValueError(f"{dataset.prefix}: sequences {part[0]} to {part[1]} hold no tokens")
        epochs = -(-(samples * sequence_length + 1) // tokens_per_epoch)
        random = np.random.RandomState(seed)
        without_last = ((epochs - 1) * tokens_per_epoch - 1) // sequence_length
        per_epoch = (tokens_per_epoch - 1) // sequence_length
        apart = epochs > 1 and samples - without_last < int(_LAST_EPOCH_SHARE * per_epoch)
        self.documents = _shuffled_documents(sequences, epochs, apart, random)
        total = (epochs * tokens_per_epoch - 1) // sequence_length
        self._starts = np.zeros(len(self.documents) + 1, dtype=np.int64)  # first token of each document
        np.cumsum(dataset.lengths[self.documents], out=self._starts[1:])
        self.order = _shuffled_samples(total, without_last if apart else total, random)

    def __len__(self) -> int:
        """Samples the repeated documents hold; at least as many as were asked for."""
        return len(self.order)

    def __getitem__(self, index: int) -> npt.NDArray[np.int64]:
        """The tokens of a sample, [sequence_length + 1]."""
        first = int(self.order[index]) * self._length
        position = int(np.searchsorted(self._starts, first, side="right")) - 1
        offset = first - int(self._starts[position])
        missing = self._length + 1
        parts = []
        while missing:
            sequence = self._dataset[int(self.documents[position])][offset : offset + missing]
            parts.append(sequence)
            missing -= len(sequence)
            position, offset = position + 1, 0
        return np.concatenate(parts).astype(np.int64)


def _shuffled_documents(
    sequences: npt.NDArray[np.int32], epochs: int, apart: bool, random: np.random.RandomState
) -> npt.NDArray[np.int32]:
    if apart:
        first = _shuffled_documents(sequences, epochs - 1, False, random)
        return np.concatenate([first, _shuffled_documents(sequences, 1, False, random)])
    documents = np.tile(sequences, epochs)
    random.shuffle(documents)
    return documents


def _shuffled_samples(
    total: int, first_block: int, random: np.random.RandomState
) -> npt.NDArray[np.unsignedinteger]:
    dtype = np.uint32 if total < np.iinfo(np.uint32).max - 1 else np.int64
    blocks = [np.arange(0, first_block, dtype=dtype), np.arange(first_block, total, dtype=dtype)]
    for block in blocks:
        if len(block):
            random.shuffle(block)
    return np.concatenate(blocks)
