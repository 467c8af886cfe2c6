"""`BuildCorpus --corpus`: from text files to indexed datasets and the funnel, once."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline.indexed import IndexedDataset

_WORDS = [
    "the",
    "old",
    "ferryman",
    "walked",
    "along",
    "a",
    "quiet",
    "river",
    "and",
    "told",
    "his",
    "friends",
    "about",
    "many",
    "ships",
    "that",
    "had",
    "come",
    "home",
]


def _luigi(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "luigi", "--module", "workflows", "BuildCorpus", "--cpu-workers", "1"]
    return subprocess.run(
        [*command, "--runs", str(tmp_path / "runs"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    draw = random.Random(1)
    texts = [" ".join(draw.choice(_WORDS) for _ in range(300)) + "." for _ in range(30)]
    lines = [json.dumps({"text": text}) for text in [*texts, texts[4], "too short"]]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "my.toml").write_text(
        '[recipe]\nname = "mine"\n[[corpora]]\nname = "tales"\nsource = "local"\npaths = ["mine.jsonl"]\n'
        "[tokenizers.gpt2]\nvocabulary_size = 300\n[deduplicate]\nthreshold = 0.95\n"
    )
    return tmp_path / "my.toml"


def test_a_corpus_of_ones_own(tmp_path: Path, corpus: Path) -> None:
    first = _luigi(tmp_path, "--corpus", str(corpus))
    assert first.returncode == 0, first.stdout + first.stderr
    page = tmp_path / "runs" / "latest" / "mine-corpus" / "funnel.txt"
    assert str(page) in first.stdout
    funnel = json.loads(page.with_name("funnel.json").read_text())
    assert [(row["stage"], row["documents"]) for row in funnel["totals"]] == [
        ("fetch", 32),
        ("clean", 31),
        ("decontaminate", 31),
        ("deduplicate", 30),
    ]
    assert funnel["stages"]["deduplicate mine"]["dropped"] == {"exact_duplicate": 1}
    table = page.read_text()
    assert "1 too_short" in table
    prefix = next(word for word in table.split() if word.endswith("corpus.bin")).removesuffix(".bin")
    assert IndexedDataset(tmp_path / "runs" / prefix).documents == 30

    again = _luigi(tmp_path, "--corpus", str(corpus))
    assert again.returncode == 0
    assert "nothing to run" in again.stdout


def test_an_absent_corpus_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    result = _luigi(tmp_path, "--corpus", "absent.toml")
    assert result.returncode == 2
    assert "absent.toml: no such recipe" in result.stderr
    assert not (tmp_path / "runs").exists()
