"""The GPT sample stream against a loop that follows the published order token by token."""

import numpy as np
import pytest

from data_pipeline.indexed.dataset import IndexedDataset, IndexedWriter
from data_pipeline.indexed.samples import SampleStream, split_boundaries


@pytest.fixture
def dataset(tmp_path) -> IndexedDataset:
    random = np.random.RandomState(0)
    with IndexedWriter(tmp_path / "corpus", np.uint16) as writer:
        for number in range(40):
            length = 0 if number == 7 else int(random.randint(1, 30))
            writer.add_document([list(random.randint(0, 1000, length))])
        writer.finish()
    return IndexedDataset(tmp_path / "corpus")


def _by_hand(
    dataset: IndexedDataset, part: tuple[int, int], samples: int, length: int, seed: int
) -> list[list[int]]:
    """All samples in stream order, by laying the documents end to end and walking."""
    ids = list(range(*part))
    per_epoch = sum(len(dataset[i]) for i in ids)
    epochs = 1
    while epochs * per_epoch < samples * length + 1:
        epochs += 1
    random = np.random.RandomState(seed)
    without_last = ((epochs - 1) * per_epoch - 1) // length
    apart = epochs > 1 and samples - without_last < int(0.80 * ((per_epoch - 1) // length))

    def shuffled(times: int) -> list[int]:
        order = np.array(ids * times, dtype=np.int32)
        random.shuffle(order)
        return order.tolist()

    order = shuffled(epochs - 1) + shuffled(1) if apart else shuffled(epochs)
    tokens = [int(token) for i in order for token in dataset[i]]
    total = (len(tokens) - 1) // length
    blocks = [(0, without_last), (without_last, total)] if apart else [(0, total)]
    places: list[int] = []
    for first, end in blocks:
        block = np.arange(first, end, dtype=np.uint32)
        random.shuffle(block)
        places += block.tolist()
    return [tokens[k * length : k * length + length + 1] for k in places]


@pytest.mark.parametrize("seed", [1, 2, 1234])
@pytest.mark.parametrize("samples", [5, 60, 73, 130, 500])  # part of an epoch, and several, whole or not
def test_stream_follows_the_published_order(dataset, seed, samples):
    stream = SampleStream(dataset, (2, 39), samples, 8, seed)
    wanted = _by_hand(dataset, (2, 39), samples, 8, seed)
    assert len(stream) == len(wanted) >= samples
    assert [stream[i].tolist() for i in range(len(stream))] == wanted


def test_both_ways_of_shuffling_the_last_epoch_are_met(dataset):
    per_epoch = int(dataset.lengths[2:39].sum()) // 8
    for samples, apart in ((int(1.2 * per_epoch), True), (int(1.95 * per_epoch), False)):
        documents = SampleStream(dataset, (2, 39), samples, 8, 1).documents
        first = set(documents[:37].tolist())
        assert (first == set(range(2, 39))) is apart


def test_split_boundaries_round():
    assert split_boundaries(1000) == [0, 969, 999, 1000]
    assert split_boundaries(7) == [0, 7, 7, 7]
    assert split_boundaries(10, (1.0, 1.0)) == [0, 5, 10]


def test_an_empty_part_is_refused(dataset):
    with pytest.raises(ValueError, match="hold no tokens"):
        SampleStream(dataset, (7, 8), 3, 8, 1)
