"""What `pretrain gpt2 --data` accepts, and the batches that come from it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_pipeline.indexed.blends import Blend, open_stream, write_blend
from data_pipeline.indexed.dataset import IndexedWriter
from pretrain.__main__ import corpus_and_identity
from pretrain.gpt2 import GPT2Samples
from recipes.records import PRETRAININGS

TOKENIZER = SimpleNamespace(fingerprint="a")


def write(directory: Path, fingerprint: str = "a") -> Path:
    directory.mkdir()
    with IndexedWriter(directory / "corpus", np.uint16) as writer:
        for number in range(50):
            writer.add_document([[40_000 + number] * 20])
        writer.finish()
    (directory / "corpus.json").write_text(json.dumps({"tokenizer_fingerprint": fingerprint}))
    return directory / "corpus"


def test_a_folder_or_a_blend_file_is_data_and_its_content_identifies_it(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    prefix, identity = corpus_and_identity(tmp_path / "one", PRETRAININGS["gpt2"], TOKENIZER)
    assert prefix == one and json.loads(identity) == {"tokenizer_fingerprint": "a"}
    identities = set()
    for weight in (1.0, 3.0):
        blend = write_blend(tmp_path / "blend.json", [(one, weight), (two, 1.0)]).path
        source, identity = corpus_and_identity(blend, PRETRAININGS["gpt2"], TOKENIZER)
        assert source == blend
        identities.add(identity)
    assert len(identities) == 2
    with pytest.raises(ValueError, match="bert reads one corpus: merge several first"):
        corpus_and_identity(blend, PRETRAININGS["bert"], TOKENIZER)


def test_every_corpus_must_be_of_the_tokenizer(tmp_path: Path) -> None:
    other = write(tmp_path / "other", fingerprint="b")
    blend = write_blend(tmp_path / "blend.json", [(other, 1.0)]).path
    for data in (tmp_path / "other", blend):
        with pytest.raises(ValueError, match=r"other.*: was tokenized with another tokenizer"):
            corpus_and_identity(data, PRETRAININGS["gpt2"], TOKENIZER)


def test_batches_of_a_blend_are_int64_and_shifted_by_one(tmp_path: Path) -> None:
    parts = [(write(tmp_path / name), 1.0) for name in ("one", "two")]
    blend = open_stream(write_blend(tmp_path / "blend.json", parts).path, "train", 20, 30, 1)
    assert isinstance(blend, Blend)
    batch = GPT2Samples(blend, 20, 50_000).batch(np.array([3, 4]))
    assert batch["tokens"].dtype == torch.int64 and batch["tokens"].shape == (2, 30)
    assert batch["tokens"][1].tolist() == blend[4][:-1].tolist()
    assert batch["targets"][1].tolist() == blend[4][1:].tolist()
    assert int(batch["tokens"].min()) >= 40_000
