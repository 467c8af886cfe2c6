"""What becomes of a model that a pipeline trained: it is evaluated and trained further on any layout."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import RandomTask, random_batch
from reference import bert_loss, gpt2_loss
from safetensors.torch import load_file
from staged import ADAM, CONFIGS, Meshes, without_measuring

from core.model_directory import load_model
from core.training.trainer import RunOptions, train

LAYOUTS = [1, 4]  # tensor ranks of four


def _used_elsewhere(output: Path) -> dict:
    """Models trained in stages on two tensor ranks and interleaved: their losses, and those of further trainings of them,
    on each layout."""
    without_measuring()
    meshes, found = Meshes(), {}
    for name in ("gpt2", "bert"):
        config = CONFIGS[name]
        batch = random_batch(config, np.arange(4))
        first = RandomTask(config, meshes[2, 2, False, 2])
        train(first, first.mesh, replace(ADAM, steps=2), output / name, RunOptions())
        for tensor in LAYOUTS:
            mesh = meshes[1, tensor, False, 1]
            task = RandomTask(config, mesh)
            task.network.load_state_dict(load_model(output / name / "model", mesh).state_dict())
            with torch.no_grad():
                sums = task.model.eval()(**batch)
            totals = task.counts(batch)
            loss = sum(value.item() / totals[term] for term, value in sums.items())
            further = output / f"{name} {tensor}"
            train(task, mesh, replace(ADAM, steps=2), further, RunOptions())
            lines = (further / "metrics.jsonl").read_text().splitlines() if mesh.is_main else []
            found[name, tensor] = loss, [json.loads(line)["loss"] for line in lines]
    return found


def test_what_was_trained_in_stages_is_evaluated_and_trained_further_on_any_layout(tmp_path):
    found = run_distributed(_used_elsewhere, 4, tmp_path)[0]
    for name, loss_of in (("gpt2", gpt2_loss), ("bert", bert_loss)):
        files = sorted((tmp_path / name / "model").glob("*.safetensors"))
        assert len(files) == 2, "one of each stage"
        weights = {f"network.{key}": value for file in files for key, value in load_file(file).items()}
        wanted = loss_of(weights, CONFIGS[name], random_batch(CONFIGS[name], np.arange(4))).item()
        for tensor in LAYOUTS:
            loss, further = found[name, tensor]
            assert loss == pytest.approx(wanted, rel=1e-5)
            assert further[0] == pytest.approx(wanted, rel=1e-5)  # the batch is that of the first step
            assert further == pytest.approx(found[name, 1][1], rel=1e-4)
