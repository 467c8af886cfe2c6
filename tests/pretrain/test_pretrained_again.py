"""A training's output: given again to who asks the same, refused to who asks something else; its model names its tokenizer."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from distributed import run_distributed
from tiny_inputs import recipe, write_corpus

from core.errors import UserError
from data_pipeline.indexed.dataset import IndexedWriter
from data_pipeline.tokenization.tokenizers import load_tokenizer
from pretrain.__main__ import build_parser, pretrain

LONG = "checkpoint_interval = 500"


def _pretrain(folder: Path, output: Path, data: str = "data", **options: Any) -> str:
    """The error's message, or nothing."""
    line = ["gpt2", "--recipe", str(folder / "tiny.toml"), "--model", "tiny", "--output", str(output)]
    line += ["--data", str(folder / data), "--tokenizer", str(folder / data / "tokenizer.json")]
    line += [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    try:
        pretrain(build_parser().parse_args(line))
    except UserError as error:
        return str(error)
    return ""


def _again(folder: Path, output: Path) -> list[str]:
    asks = [
        ("data", 3, LONG),
        ("data", 3, LONG + ", log_interval = 1, keep_last = 5"),  # of no significance
        ("copied", 3, LONG),
        ("data", 3, LONG + ", seed = 7"),
        ("data", 3, LONG + ", weight_decay = 0.5"),
        ("data", 4, LONG),
        ("flipped", 3, LONG),
    ]
    answers = []
    for data, steps, more in asks:
        (folder / "tiny.toml").write_text(recipe(steps, more=more))
        answers.append(_pretrain(folder, output, data))
    return answers


def test_a_finished_training_is_never_taken_for_another(tmp_path: Path):
    (tmp_path / "data").mkdir()
    write_corpus(tmp_path / "data")
    for name in ("copied", "flipped"):
        shutil.copytree(tmp_path / "data", tmp_path / name)
    content = bytearray((tmp_path / "flipped" / "corpus.bin").read_bytes())
    content[-80] ^= 1  # same counts, same lengths, another token
    (tmp_path / "flipped" / "corpus.bin").write_bytes(bytes(content))
    done, insignificant, copied, *others = run_distributed(_again, 1, tmp_path, tmp_path / "out")[0]
    assert (done, insignificant, copied) == ("", "", "")
    wanted = (
        "training.seed was 1234, is 7",
        "training.weight_decay was 0.01, is 0.5",
        "training.steps was 3, is 4",
    )
    for message, difference in zip(others, (*wanted, "data was "), strict=True):
        assert "the training there was asked with something else: " + difference in message
        assert message.count(" was ") == 2, "nothing else differs"
    own = json.loads((tmp_path / "out" / "model" / "config.json").read_text())["tokenizer_fingerprint"]
    assert own == load_tokenizer(tmp_path / "data" / "tokenizer.json").fingerprint


def _blends(folder: Path) -> list[str]:
    (folder / "tiny.toml").write_text(recipe(3))
    answers = []
    for weights in ((1, 3), (2, 6), (3, 1)):
        parts = [
            {"prefix": f"{name}/corpus", "weight": w}
            for name, w in zip(("data", "more"), weights, strict=True)
        ]
        (folder / "blend.json").write_text(json.dumps({"parts": parts}))
        line = [
            "gpt2",
            "--recipe",
            str(folder / "tiny.toml"),
            "--model",
            "tiny",
            "--output",
            str(folder / "out"),
        ]
        line += ["--data", str(folder / "blend.json"), "--tokenizer", str(folder / "data" / "tokenizer.json")]
        try:
            pretrain(build_parser().parse_args(line))
            answers.append("")
        except UserError as error:
            answers.append(str(error))
    return answers


def test_a_blend_is_its_parts_and_their_shares(tmp_path: Path):
    for name in ("data", "more"):
        (tmp_path / name).mkdir()
        write_corpus(tmp_path / name)
    with IndexedWriter(tmp_path / "more" / "corpus", np.uint16) as writer:
        for number in range(60):
            writer.add_document([np.full(40, number, np.uint16)])
        writer.finish()
    first, same_shares, other_shares = run_distributed(_blends, 1, tmp_path)[0]
    assert (first, same_shares) == ("", "")
    assert "asked with something else: data was " in other_shares
