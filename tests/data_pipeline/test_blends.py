"""Blends: the exact order whatever the chunks, and blend files that name what does not fit together."""

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from data_pipeline.indexed import blends
from data_pipeline.indexed.blends import (
    Blend,
    BlendError,
    blend_order,
    load_blend,
    normalized,
    open_stream,
    share_of_samples,
    write_blend,
)
from data_pipeline.indexed.dataset import IndexedDataset, IndexedDatasetError, IndexedWriter
from data_pipeline.indexed.samples import SampleStream


def step_by_step(weights: list[float], samples: int) -> tuple[list[int], list[int]]:
    """The rule as it is stated: the largest `w_d · max(i, 1) − taken_d`, the first of equals."""
    taken = [0] * len(weights)
    corpora, numbers = [], []
    for step in range(samples):
        errors = [weight * float(max(step, 1)) - count for weight, count in zip(weights, taken, strict=True)]
        choice = errors.index(max(errors))
        corpora.append(choice)
        numbers.append(taken[choice])
        taken[choice] += 1
    return corpora, numbers


WEIGHTS = {
    "one": [1.0],
    "equal": [1.0] * 3,
    "halves": [0.5, 0.25, 0.25],
    "tenths": [0.1] * 10,
    "very small": [1.0, 1.0, 1e-4, 1e-4],
    "many small": [1.0] + [1e-3] * 20,
    "random": np.random.RandomState(1).rand(7).tolist(),
}


@pytest.mark.parametrize("name", list(WEIGHTS))
@pytest.mark.parametrize("chunks, warm_up", [(8192, 256), (16, 1), (500, 4)])
def test_the_order_is_that_of_the_rule(
    name: str, chunks: int, warm_up: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hardly any warm-up chunks begin with wrong counts and have to be done again."""
    monkeypatch.setattr(blends, "_LARGEST_CHUNKS", chunks)
    monkeypatch.setattr(blends, "_WARM_UP_STEPS", warm_up)
    weights = normalized(WEIGHTS[name])
    for samples in (0, 1, 2, 5000):
        order = blend_order(weights, samples)
        assert (order["corpus"].tolist(), order["sample"].tolist()) == step_by_step(weights, samples)


def test_chunks_that_begin_wrong_are_done_again() -> None:
    with (
        mock.patch.object(blends, "_WARM_UP_STEPS", 1),
        mock.patch.object(blends, "_LARGEST_CHUNKS", 500),
        mock.patch.object(blends, "_advance", wraps=blends._advance) as advance,
    ):
        blend_order(normalized(WEIGHTS["many small"]), 5000)
    assert advance.call_count > 2


def write(prefix: Path, seed: int, documents: int = 1000, dtype: str = "uint16", **facts: object) -> Path:
    """Documents of tokens that tell the corpus: multiples of 100, and the seed."""
    random = np.random.RandomState(seed)
    with IndexedWriter(prefix, dtype) as writer:
        for _ in range(documents):
            writer.add_document([100 * random.randint(0, 300, random.randint(1, 20)) + seed])
        writer.finish()
    if facts:
        Path(f"{prefix}.json").write_text(json.dumps(facts))
    return prefix


@pytest.fixture
def parts(tmp_path: Path) -> list[tuple[Path, float]]:
    facts = {"kind": "gpt2", "vocabulary_size": 50257, "tokenizer_fingerprint": "a"}
    return [
        (write(tmp_path / "one" / "corpus", 1, **facts), 3.0),
        (write(tmp_path / "two" / "corpus", 2, **facts), 1.0),
    ]


def test_a_blend_draws_each_streams_samples_in_order(parts: list[tuple[Path, float]]) -> None:
    streams = [SampleStream(IndexedDataset(prefix), (0, 1000), 400, 16, 1) for prefix, _ in parts]
    blend = Blend(streams, [3, 1], 400)
    assert len(blend) == 400
    assert np.bincount(blend.corpus).tolist() == [300, 100]
    drawn = [blend[index].tolist() for index in range(400)]
    for number, stream in enumerate(streams):
        mine = [tokens for tokens in drawn if tokens[0] % 100 == number + 1]
        assert mine == [stream[index].tolist() for index in range(len(mine))]


def test_a_stream_that_is_too_short_is_named(parts: list[tuple[Path, float]]) -> None:
    streams = [SampleStream(IndexedDataset(prefix), (0, 10), 2, 16, 1) for prefix, _ in parts]
    with pytest.raises(
        BlendError, match=r"one/corpus: part 0 of the blend has \d+ samples, but 300 are drawn"
    ):
        Blend(streams, [3, 1], 400)
    with pytest.raises(BlendError, match="2 corpora and 1 weights"):
        Blend(streams, [1], 4)


def test_shares_hold_what_is_drawn() -> None:
    for weights in WEIGHTS.values():
        shares = normalized(weights)
        for samples in (1, 10, 999):
            drawn = np.bincount(blend_order(shares, samples)["corpus"], minlength=len(shares))
            assert all(
                drawn[number] <= share_of_samples(samples, share) for number, share in enumerate(shares)
            )


def test_a_blend_file_moves_with_its_corpora(parts: list[tuple[Path, float]], tmp_path: Path) -> None:
    (tmp_path / "mixes").mkdir()
    written = write_blend(tmp_path / "mixes" / "blend.json", parts)
    assert written.weights == [0.75, 0.25]
    expected = open_stream(written.path, "train", 500, 16, 1)
    shutil.copytree(tmp_path, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "one")
    moved = open_stream(tmp_path / "elsewhere" / "mixes" / "blend.json", "train", 500, 16, 1)
    assert expected is not None and moved is not None and len(moved) == 500
    assert [moved[i].tolist() for i in range(500)] == [expected[i].tolist() for i in range(500)]


def test_the_order_is_kept_beside_the_blend_file(parts: list[tuple[Path, float]], tmp_path: Path) -> None:
    write_blend(tmp_path / "blend.json", parts)
    first = open_stream(tmp_path / "blend.json", "train", 500, 16, 1)
    with mock.patch.object(blends, "blend_order", side_effect=AssertionError("built again")):
        again = open_stream(tmp_path / "blend.json", "train", 500, 16, 1)
    assert isinstance(first, Blend) and isinstance(again, Blend)
    assert again.corpus.tolist() == first.corpus.tolist()


def test_splits_of_a_corpus_and_of_a_blend(parts: list[tuple[Path, float]], tmp_path: Path) -> None:
    single = open_stream(parts[0][0], "validation", 5, 16, 1)
    assert isinstance(single, SampleStream)
    held_out = {int(token) for index in range(len(single)) for token in single[index]}
    dataset = IndexedDataset(parts[0][0])
    assert held_out <= {int(token) for document in range(969, 999) for token in dataset[document]}
    short = write(tmp_path / "short" / "corpus", 3, documents=10)  # no document is held out of it
    assert open_stream(short, "validation", 5, 16, 1) is None
    write_blend(tmp_path / "blend.json", [parts[0], (short, 1.0)])
    blend = open_stream(tmp_path / "blend.json", "validation", 5, 16, 1)
    assert isinstance(blend, Blend) and len(blend.streams) == 1
    write_blend(tmp_path / "shorts.json", [(short, 1.0)])
    assert open_stream(tmp_path / "shorts.json", "validation", 5, 16, 1) is None
    assert open_stream(tmp_path / "shorts.json", "train", 5, 16, 1) is not None


@pytest.mark.parametrize(
    "dtype, facts, message",
    [
        ("int32", {}, "corpus has token type int32, but .*one/corpus has uint16"),
        ("uint16", {"vocabulary_size": 8000}, "vocabulary_size 8000"),
        ("uint16", {"kind": "bert"}, "kind bert"),
        ("uint16", {"tokenizer_fingerprint": "b"}, "tokenizer_fingerprint b"),
    ],
)
def test_corpora_of_different_tokenizers_are_refused(
    parts: list[tuple[Path, float]], tmp_path: Path, dtype: str, facts: dict[str, object], message: str
) -> None:
    other = write(tmp_path / "other" / "corpus", 4, 10, dtype, **facts)
    with pytest.raises(BlendError, match=f"blend.json: .*{message}.* same tokenizer"):
        write_blend(tmp_path / "blend.json", [*parts, (other, 1.0)])
    assert not (tmp_path / "blend.json").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "not a blend file"),
        ("[]", "not a blend file"),
        ('{"parts": {}}', "0 corpora"),
        ('{"parts": [{"prefix": "one/corpus"}]}', "not a blend file .*weight"),
        ('{"parts": [{"prefix": 3, "weight": 1}]}', "not a blend file"),
        ('{"parts": [{"prefix": "one/corpus", "weight": "much"}]}', "not a blend file"),
        ('{"parts": [{"prefix": "one/corpus", "weight": 0}]}', "must all be positive"),
        ('{"parts": [{"prefix": "one/corpus", "weight": -1}]}', "must all be positive"),
        ('{"parts": [{"prefix": "one/corpus", "weight": NaN}]}', "must all be positive"),
        ('{"parts": [{"prefix": "one/corpus", "weight": Infinity}]}', "must all be positive"),
    ],
)
def test_files_that_describe_no_blend_are_named(
    parts: list[tuple[Path, float]], tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "blend.json").write_text(content)
    with pytest.raises(BlendError, match=f"blend.json: .*{message}"):
        load_blend(tmp_path / "blend.json")


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    (tmp_path / "blend.json").write_text('{"parts": [{"prefix": "absent/corpus", "weight": 1}]}')
    with pytest.raises(IndexedDatasetError, match=r"absent/corpus\.idx"):
        load_blend(tmp_path / "blend.json")
    with pytest.raises(BlendError, match=r"absent\.json"):
        load_blend(tmp_path / "absent.json")
