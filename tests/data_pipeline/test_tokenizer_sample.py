"""What a tokenizer is trained on: all of a small corpus; of a larger one a seeded sample, spread over it."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from corpus_files import contents, english, write_documents

from data_pipeline.__main__ import main
from data_pipeline.engine.documents import DocumentsError
from data_pipeline.engine.steps import Store
from data_pipeline.settings import TokenizerSettings
from data_pipeline.step_inputs import Documents
from data_pipeline.steps import tokenizer
from data_pipeline.tokenization import tokenizers
from data_pipeline.tokenization.sampling import sample_texts, text_size
from data_pipeline.tokenization.tokenizers import load_tokenizer, train_tokenizer


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_corpus_below_the_sample_is_learned_from_whole(tmp_path: Path, kind: str) -> None:
    shards = write_documents(tmp_path / "in", [english(seed, 20 + 60 * (seed % 5)) for seed in range(20)], 3)
    whole = train_tokenizer(kind, shards, tmp_path / "whole", 400)
    for megabytes in (1, 2000):
        facts = train_tokenizer(kind, shards, tmp_path / "out", 400, sample_bytes=megabytes * 1_000_000)
        assert facts == whole and contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert whole["documents"] == 20


def _places(texts: list[str]) -> list[tuple[int, ...]]:
    """Shard, document and word of each of the words that `_marked` wrote."""
    return [tuple(map(int, re.findall(r"[sdw](\d+)", word))) for word in " ".join(texts).split()]


def _marked(directory: Path) -> list[Path]:
    texts = [
        " ".join(f"s{shard}d{number}w{place}" for place in range(150))
        for shard in range(20)
        for number in range(50)
    ]
    return write_documents(directory, texts, shards=20)


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_of_a_larger_corpus_a_spread_sample_is_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shards = _marked(tmp_path / "in")
    seen: list[list[str]] = []

    def sampled(*given: object) -> list[str]:
        seen.append(list(sample_texts(*given)))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr("data_pipeline.tokenization.sampling.sample_texts", sampled)
    facts = train_tokenizer(kind, shards, tmp_path / "one", 400, sample_bytes=100_000)
    assert 95_000 < facts["bytes"] < 105_000 and facts["documents"] == len(seen[0])
    assert 0.95 < facts["sampled_from_bytes"] / text_size(shards) < 1.05
    places = _places(seen[0])
    shares = Counter(shard for shard, _, _ in places)
    assert len(shares) == 20 and max(shares.values()) < 1.2 * min(shares.values())
    assert len({number for _, number, _ in places}) > 30
    assert all(texts == seen[0] for texts in seen)  # both passes of WordPiece, too
    train_tokenizer(kind, shards, tmp_path / "two", 400, sample_bytes=100_000)
    assert seen[-1] == seen[0] and contents(tmp_path / "one") == contents(tmp_path / "two")


def test_of_very_many_shards_some_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = _marked(tmp_path / "in")
    monkeypatch.setattr(tokenizers, "_MOST_SHARDS", 4)
    read: list[Path] = []
    monkeypatch.setattr(
        "data_pipeline.tokenization.sampling.read_texts", lambda path: read.append(path) or ["a text " * 4000]
    )
    facts = train_tokenizer("gpt2", shards, tmp_path / "out", 300, sample_bytes=10_000)
    assert len(set(read)) == len(read) == 4 and 9_000 < facts["bytes"] < 11_000


def test_the_size_of_text_is_read_from_footers(tmp_path: Path) -> None:
    texts = [english(seed, 400) for seed in range(40)]
    size = text_size(write_documents(tmp_path, texts, shards=3))
    assert size == pytest.approx(sum(map(len, texts)), rel=0.2)  # pages repeat their first and last text
    with pytest.raises(DocumentsError, match="absent"):
        text_size([tmp_path / "absent.parquet"])
    (tmp_path / "documents-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DocumentsError, match=r"documents-00001\.parquet: damaged"):
        text_size([tmp_path / "documents-00001.parquet"])


def test_the_sample_is_part_of_the_key(tmp_path: Path) -> None:
    def key(**settings: int) -> str:
        step = tokenizer("t", "f", "gpt2", TokenizerSettings(vocabulary_size=400, **settings), Documents())
        return Store(tmp_path).artifact(step).key

    assert key() == key(sample_megabytes=2000) != key(sample_megabytes=1)


def test_the_command_line_says_how_large_the_sample_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [" ".join(f"{word}{seed}" for word in english(seed, 4000).split()) for seed in range(60)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    common = ["--input", str(tmp_path / "in.jsonl"), "--workers", "1", "--output"]
    for size in ("1", "5"):
        command = ["train-tokenizer", "gpt2:300", *common, str(tmp_path / size), "--tokenizer-sample", size]
        assert main(command) == 0
    read = {}
    for size in ("1", "5"):
        (manifest,) = (tmp_path / size).rglob("tokenizer/*/manifest.json")
        read[size] = json.loads(manifest.read_text())["summary"]
    assert sum(map(len, texts)) > 1_300_000
    assert 950_000 < read["1"]["bytes"] < 1_050_000 and read["5"]["bytes"] == sum(map(len, texts))
    assert main(["train-tokenizer", "gpt2:300", *common, str(tmp_path / "0"), "--tokenizer-sample", "0"]) == 2
    assert "--tokenizer-sample: must be" in capsys.readouterr().err
    given = ["--tokenizer", str(tmp_path / "1" / "tokenizer.json"), "--tokenizer-sample", "5"]
    assert main(["tokenize", *common, str(tmp_path / "given"), *given]) == 2
    assert "--tokenizer-sample: is of a tokenizer that is trained" in capsys.readouterr().err
    assert load_tokenizer(tmp_path / "1").vocabulary_size == 300
