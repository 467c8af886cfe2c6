"""Model directories: written by any layout, read by any other, and refused with a clear message when wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import BERT, GPT2, whole
from safetensors.numpy import load_file, save_file

import core.tensor_files as tensor_files
from core.config import ModelConfig
from core.model_directory import build_model, load_model, model_path, read_config, save_model
from core.parallel.mesh import initialize


def _save(config: ModelConfig, directory: Path, tensor: int, largest: int) -> None:
    tensor_files.LARGEST_FILE_BYTES = largest
    mesh = initialize(tensor)
    save_model(build_model(config, mesh, seed=3), directory, mesh)


def _load(directory: Path, tensor: int) -> dict:
    model = load_model(directory, initialize(tensor))
    assert not model.training
    return {name: whole(p) for name, p in model.named_parameters()}


@pytest.mark.parametrize("config", [GPT2, BERT], ids=["gpt2", "bert"])
def test_round_trip_between_layouts_in_one_file_and_in_several(tmp_path, config):
    run_distributed(_save, 2, config, tmp_path / "two", 2, 1 << 30)
    run_distributed(_save, 1, config, tmp_path / "one", 1, 20_000)
    assert (tmp_path / "two/model.safetensors").exists()
    assert len(list((tmp_path / "one").glob("model-*.safetensors"))) > 2
    stored = load_file(tmp_path / "two/model.safetensors")
    for directory in ("one", "two"):
        for name, values in run_distributed(_load, 4, tmp_path / directory, 4)[0].items():
            np.testing.assert_array_equal(values, stored[name])
    assert read_config(tmp_path / "one") == config


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        run_distributed(_save, 2, GPT2, tmp_path / name, 2, 1 << 30)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_stage_output_is_accepted_and_other_folders_are_not(tmp_path):
    run_distributed(_save, 1, GPT2, tmp_path / "stage/model", 1, 1 << 30)
    assert model_path(tmp_path / "stage") == tmp_path / "stage/model"
    with pytest.raises(ValueError, match="no model here"):
        model_path(tmp_path)


def test_damage_is_named(tmp_path):
    run_distributed(_save, 1, GPT2, tmp_path / "m", 1, 1 << 30)
    weights = tmp_path / "m/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(AssertionError, match=r"model\.safetensors: is missing or damaged"):
        run_distributed(_load, 1, tmp_path / "m", 1)
    config = tmp_path / "m/config.json"
    record = json.loads(config.read_text())
    record["model"]["heads"] = 5
    record["model"]["colour"] = "red"
    config.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="colour: unknown key"):
        read_config(tmp_path / "m")
    del record["model"]["colour"]
    config.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="hidden 32 is not divisible by heads 5"):
        read_config(tmp_path / "m")


def _build_odd(tensor: int) -> None:
    build_model(ModelConfig("gpt2", 1, 30, 3, 8, 100, vocabulary_multiple=2), initialize(tensor))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(AssertionError, match="heads 3 is not divisible by tensor_parallel 2"):
        run_distributed(_build_odd, 2, 2)


def test_parameters_are_counted_from_the_headers_without_torch(tmp_path):
    run_distributed(_save, 1, GPT2, tmp_path / "one", 1, 1 << 30)
    run_distributed(_save, 1, GPT2, tmp_path / "several", 1, 20_000)
    wanted = sum(values.size for values in load_file(tmp_path / "one/model.safetensors").values())
    program = f"""
import sys
from pathlib import Path
from core.tensor_files import count_parameters
print([count_parameters(Path({str(tmp_path)!r}) / name) for name in ("one", "several")], "torch" in sys.modules)
"""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout == f"[{wanted}, {wanted}] False\n"


def test_a_missing_tensor_and_another_shape_are_named(tmp_path):
    run_distributed(_save, 1, GPT2, tmp_path / "m", 1, 1 << 30)
    weights = tmp_path / "m/model.safetensors"
    stored = load_file(weights)
    save_file(stored | {"token_embedding.weight": np.zeros((8, 32), np.float32)}, weights)
    with pytest.raises(AssertionError, match=r"token_embedding\.weight has shape \(8, 32\), the model needs"):
        run_distributed(_load, 1, tmp_path / "m", 1)
    del stored["token_embedding.weight"]
    save_file(stored, weights)
    with pytest.raises(AssertionError, match=r"holds no tensor 'token_embedding\.weight'"):
        run_distributed(_load, 1, tmp_path / "m", 1)


def test_a_directory_is_on_the_disk_when_it_appears(tmp_path, monkeypatch):
    """Files and the names in each folder, before the rename; the name of the directory after it."""
    done = []
    for name in ("sync_file", "sync_directory"):
        monkeypatch.setattr(tensor_files, name, lambda path: done.append(path.name))
    rename = os.replace
    monkeypatch.setattr(tensor_files.os, "replace", lambda a, b: done.append("renamed") or rename(a, b))
    (tmp_path / "mine.txt").write_text("")
    values = {"a": torch.ones(2)}
    copies = {"tokenizer/vocab.txt": tmp_path / "mine.txt"}
    tensor_files.write_directory(tmp_path / "model", {}, {"a": (2,)}, values.__getitem__, copies=copies)
    assert done == [
        "model.safetensors",
        "vocab.txt",
        "config.json",
        "tokenizer",
        ".model.tmp",
        "renamed",
        tmp_path.name,
    ]
