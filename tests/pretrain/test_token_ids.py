"""A token id that is none of the vocabulary's stops a pretraining, on any layout, with the place where it is stored."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.errors import UserError
from data_pipeline.indexed.blends import open_stream, write_blend
from data_pipeline.indexed.dataset import IndexedDataset, IndexedWriter
from data_pipeline.indexed.samples import SampleStream
from pretrain.bert import BertSamples
from pretrain.gpt2 import GPT2Samples
from pretrain.masking import SentencePairs

VOCABULARY = 1000
BERT_TOKENIZER = SimpleNamespace(
    vocabulary_size=VOCABULARY, pad=0, cls=1, sep=2, mask=3, continuation=np.zeros(VOCABULARY, bool)
)
# What a flipped bit makes of 7 in uint16, and what only signed types hold.
WRONG = [
    (np.uint16, 7 ^ (1 << 15)),
    (np.uint16, VOCABULARY),
    (np.int32, -1),
    (np.int32, -100),
    (np.int64, 1 << 40),
]


def _corpus(folder: Path, dtype=np.uint16, documents=20, sentences=1) -> Path:
    folder.mkdir()
    with IndexedWriter(folder / "corpus", dtype) as writer:
        for _ in range(documents):
            writer.add_document([[7] * 30 for _ in range(sentences)])
        writer.finish()
    return folder / "corpus"


def _spoil(prefix: Path, place: int, value: int) -> None:
    """Write a token over another one, in the `.bin` file."""
    dtype = IndexedDataset(prefix).dtype
    with open(f"{prefix}.bin", "r+b") as stream:
        stream.seek(place * dtype.itemsize)
        stream.write(np.array(value, dtype).tobytes())


@pytest.mark.parametrize(("dtype", "wrong"), WRONG)
@pytest.mark.parametrize("place", [0, 29, 30, 4 * 30 + 11, 599])
def test_gpt2_names_file_and_document(tmp_path, dtype, wrong, place):
    prefix = _corpus(tmp_path / "mine", dtype)
    stream = SampleStream(IndexedDataset(prefix), (0, 20), 60, 16, 1)
    samples = GPT2Samples(stream, len(stream), VOCABULARY)
    whole = samples.batch(np.arange(len(stream)))
    assert whole["tokens"].unique().tolist() == [7]
    _spoil(prefix, place, wrong)
    with pytest.raises(UserError) as error:
        samples.batch(np.arange(len(stream)))
    message = str(error.value)
    assert message.startswith(f"{prefix}.bin: token {place % 30} of document {place // 30} (sample ")
    assert f"token id {wrong} is none of the {VOCABULARY} tokens" in message
    # The sample that it names is the one, and others are still given.
    named = int(message.partition("(sample ")[2].partition(")")[0])
    fine = [index for index in range(len(stream)) if wrong not in stream[index]]
    assert wrong in stream[named] and 0 < len(fine) < len(stream)
    assert torch.equal(samples.batch(np.array(fine))["targets"], whole["targets"][fine])


def test_a_blend_names_the_corpus(tmp_path):
    parts = [(_corpus(tmp_path / name), 1.0) for name in ("one", "two")]
    _spoil(parts[1][0], 65, VOCABULARY + 23)  # within the padding to a multiple of 1024
    stream = open_stream(write_blend(tmp_path / "blend.json", parts).path, "train", 60, 16, 1)
    with pytest.raises(
        UserError, match=r"two/corpus\.bin: token 5 of document 2 \(sample \d+\): token id 1023 is none"
    ):
        GPT2Samples(stream, 60, VOCABULARY).batch(np.arange(60))


@pytest.mark.parametrize(("dtype", "wrong"), WRONG)
def test_bert_names_file_and_sentence(tmp_path, dtype, wrong):
    prefix = _corpus(tmp_path / "mine", dtype, documents=6, sentences=4)
    pairs = SentencePairs(IndexedDataset(prefix), (0, 6), 40, 64, 1)
    samples = BertSamples(pairs, BERT_TOKENIZER, 40, 1)
    assert samples.batch(np.arange(40))["masked_targets"].max() == 7
    _spoil(prefix, 9 * 30 + 14, wrong)
    with pytest.raises(UserError) as error:
        samples.batch(np.arange(40))
    assert str(error.value).startswith(f"{prefix}.bin: sequence 9, in document 2 (sample ")
    assert f"token id {wrong} is none of" in str(error.value)


def test_bert_refuses_what_are_no_ids(tmp_path):
    prefix = _corpus(tmp_path / "mine", np.int64, sentences=3)
    index = bytearray(Path(f"{prefix}.idx").read_bytes())
    index[17] = 6  # the format's code of float64
    Path(f"{prefix}.idx").write_bytes(index)
    with pytest.raises(UserError, match=r"corpus\.idx: holds float64 values, no token ids"):
        SentencePairs(IndexedDataset(prefix), (0, 20), 10, 64, 1)
