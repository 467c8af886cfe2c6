"""A user's own family: a GPT-2 without positions, in two files outside of the packages, pretrained by `--plugin`."""

import json
import subprocess
from pathlib import Path

import pytest
from distributed import run_program
from safetensors.numpy import load_file
from tiny_inputs import recipe, write_corpus

from core.tensor_files import TensorFiles

ROOT = Path(__file__).resolve().parents[2]
STEPS = 8
NETWORK = '''
from core.models.gpt2 import GPT2Model


class WithoutPositions(GPT2Model):
    """GPT-2 that learns no positions: what comes first it only knows by what each token may see."""

    def make_positions(self):
        pass

    def add_positions(self, values, positions):
        return values
'''
RECORD = """
from core.families import Family, add_family
from recipes.records import PRETRAININGS, Pretraining

add_family(
    Family(
        name="toy",
        network="toy_network:WithoutPositions",
        objective="core.models.gpt2:GPT2LanguageModeling",
        causal=True,
        tokenizer="gpt2",
    )
)
PRETRAININGS.add("toy", Pretraining("toy", "next token, no positions", "pretrain.gpt2:GPT2Task", blends=True))
"""
DEADLY = """
import os, signal
from toy_network import WithoutPositions

forward, calls = WithoutPositions.forward, []

def deadly(network, *arguments, **settings):
    calls.extend([None] if network.training else [])
    if len(calls) == 1 + 4 * 5 + 2:  # a rehearsal, five steps and a half
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(network, *arguments, **settings)

WithoutPositions.forward = deadly
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_corpus(folder)
    saving = "checkpoint_interval = 3, asynchronous_saving = false"
    no_dropout = "layers = 2\ndropout = 0.0\nattention_dropout = 0.0"  # whose masks differ between layouts
    text = recipe(STEPS, "toy", saving).replace("layers = 1", no_dropout)
    (folder / "recipe.toml").write_text(text)
    for name, text in (("toy_network", NETWORK), ("toy", RECORD), ("deadly", DEADLY)):
        (folder / f"{name}.py").write_text(text)
    return folder


def _pretrain(
    inputs: Path, output: Path, ranks: int, *plugins: str, split: str = "tensor"
) -> subprocess.CompletedProcess[str]:
    command = ["toy", "--recipe", str(inputs / "recipe.toml"), "--model", "tiny"]
    for plugin in plugins:
        command += ["--plugin", str(inputs / f"{plugin}.py")]
    command += ["--data", str(inputs), "--tokenizer", str(inputs / "tokenizer.json")]
    command += [f"--{split}-parallel", str(ranks or 1), "--output", str(output)]
    return run_program("pretrain", command, ranks or 1)


def _losses(output: Path) -> list[float]:
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def test_two_files_are_a_family_on_every_layout_and_after_a_kill(inputs, tmp_path):
    for ranks in (1, 2):
        run = _pretrain(inputs, tmp_path / str(ranks), ranks, "toy")
        assert run.returncode == 0, run.stderr
    assert len(_losses(tmp_path / "1")) == STEPS
    assert _losses(tmp_path / "2") == pytest.approx(_losses(tmp_path / "1"), rel=1e-5)
    run = _pretrain(inputs, tmp_path / "stages", 2, "toy", split="pipeline")
    assert run.returncode == 0, run.stderr
    assert "idle" in run.stderr and "(bubble 20%)" in run.stderr
    assert _losses(tmp_path / "stages") == pytest.approx(_losses(tmp_path / "1"), rel=1e-5)
    tensors = load_file(tmp_path / "1/model/model.safetensors")
    assert TensorFiles(tmp_path / "stages/model").names == sorted(tensors)
    assert "token_embedding.weight" in tensors and "position_embedding.weight" not in tensors
    assert json.loads((tmp_path / "1/model/config.json").read_text())["model"]["family"] == "toy"

    killed = tmp_path / "killed"
    assert _pretrain(inputs, killed, 1, "toy", "deadly").returncode != 0
    assert json.loads((killed / "state.json").read_text())["status"] == "running"
    assert len(_losses(killed)) == 5
    run = _pretrain(inputs, killed, 1, "toy")
    assert "resumes at step 3 of 8" in run.stderr
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (killed / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_without_its_plugin_the_family_is_unknown(inputs, tmp_path):
    run = _pretrain(inputs, tmp_path / "out", 0)
    assert "invalid choice: 'toy'" in run.stderr
    run = _pretrain(inputs, tmp_path / "out", 0, "missing")
    assert (
        run.stderr.count("missing.py: no such plug-in file") == 1
        and "python -m pretrain: error" in run.stderr
    )
