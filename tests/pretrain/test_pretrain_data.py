"""What `pretrain gpt2 --data` accepts, and the batches that come from it."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_pipeline.build import merge_corpora
from data_pipeline.indexed.blends import Blend, open_stream, write_blend
from data_pipeline.indexed.dataset import IndexedWriter
from pretrain.__main__ import corpus_and_identity
from pretrain.gpt2 import GPT2Samples
from recipes.records import PRETRAININGS

TOKENIZER = SimpleNamespace(
    fingerprint="a", kind="gpt2", vocabulary_size=40_050, special=lambda name: {"<|endoftext|>": 40_000}[name]
)


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


@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64", "uint8"])
@pytest.mark.parametrize("name", ["corpus", "my-gpt2_text_document"])
def test_a_corpus_of_others_is_read_whole_and_fits_by_its_own_type(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dtype: str, name: str
) -> None:
    """Megatron-LM's own tools write no corpus.json, and call the files as they like."""
    tokenizer = SimpleNamespace(**vars(TOKENIZER) | {"vocabulary_size": 201, "special": lambda name: 200})
    with IndexedWriter(tmp_path / name, dtype) as writer:
        for number in range(50):
            writer.add_document([[number, 7, 200]])
        writer.finish()
    for data in (tmp_path, tmp_path / name, tmp_path / f"{name}.idx"):
        prefix, identity = corpus_and_identity(data, PRETRAININGS["gpt2"], tokenizer)
        assert prefix == tmp_path / name
        assert json.loads(identity).items() >= {"dtype": dtype, "documents": 50, "tokens": 150}.items()
    assert not caplog.records
    tokenizer.vocabulary_size = 200
    with pytest.raises(
        ValueError, match=f"{name}.bin: sequence 0 holds id 200, but the tokenizer has only 200"
    ):
        corpus_and_identity(tmp_path, PRETRAININGS["gpt2"], tokenizer)
    tokenizer.vocabulary_size, tokenizer.special = 201, lambda name: 199
    with caplog.at_level(logging.WARNING):
        corpus_and_identity(tmp_path, PRETRAININGS["gpt2"], tokenizer)
    assert (
        "50 documents, the first of them document 0, do not end in the end-of-document token" in caplog.text
    )


def test_a_corpus_of_others_that_cannot_be_ids_or_is_one_of_several_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one")
    for name in ("a", "b"):
        for suffix in (".bin", ".idx"):
            (tmp_path / f"{name}{suffix}").write_bytes((tmp_path / f"one/corpus{suffix}").read_bytes())
    with pytest.raises(ValueError, match=r"holds several corpora \(a, b\)"):
        corpus_and_identity(tmp_path, PRETRAININGS["gpt2"], TOKENIZER)
    index = bytearray((tmp_path / "a.idx").read_bytes())
    index[17] = 7  # float32, of half as many values
    (tmp_path / "a.bin").write_bytes((tmp_path / "a.bin").read_bytes() * 2)
    starts = 34 + 4 * 50
    index[starts : starts + 8 * 50] = (np.arange(50, dtype="<i8") * 80).tobytes()
    (tmp_path / "a.idx").write_bytes(index)
    with pytest.raises(ValueError, match=r"a\.idx: holds float32 values, which are no token ids"):
        corpus_and_identity(tmp_path / "a", PRETRAININGS["gpt2"], TOKENIZER)
    with pytest.raises(ValueError, match=r"absent: no corpus with \.bin and \.idx"):
        corpus_and_identity(tmp_path / "absent", PRETRAININGS["bert"], TOKENIZER)


def test_known_and_unknown_corpora_are_merged_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known, unknown = write(tmp_path / "known"), write(tmp_path / "unknown")
    (tmp_path / "unknown/corpus.json").unlink()
    merge_corpora([known, known], tmp_path / "merged")
    assert (tmp_path / "merged/corpus.json").exists() and not caplog.records
    for parts in ([known, unknown], [unknown, known]):
        counts = merge_corpora(parts, tmp_path / "merged")
        assert counts == {"documents": 100, "sequences": 100, "tokens": 2000}
        assert not (tmp_path / "merged/corpus.json").exists()
        assert f"nothing says which tokenizer made {unknown}" in caplog.text
        prefix, _ = corpus_and_identity(tmp_path / "merged", PRETRAININGS["gpt2"], TOKENIZER)
        assert prefix == tmp_path / "merged/corpus"


def test_batches_of_a_blend_are_int64_and_shifted_by_one(tmp_path: Path) -> None:
    parts = [(write(tmp_path / name), 1.0) for name in ("one", "two")]
    blend = open_stream(write_blend(tmp_path / "blend.json", parts).path, "train", 20, 30, 1)
    assert isinstance(blend, Blend)
    batch = GPT2Samples(blend, 20, 50_000).batch(np.array([3, 4]))
    assert batch["tokens"].dtype == torch.int64 and batch["tokens"].shape == (2, 30)
    assert batch["tokens"][1].tolist() == blend[4][:-1].tolist()
    assert batch["targets"][1].tolist() == blend[4][1:].tolist()
    assert int(batch["tokens"].min()) >= 40_000
