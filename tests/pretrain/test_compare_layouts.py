"""Layouts of one model beside each other: rounding is told from a layer that computes something else, and which it is."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import GPT2, RandomTask

from core.config import ParallelConfig, TrainingConfig
from core.errors import UserError
from core.models.transformer import FeedForward
from core.parallel.mesh import initialize
from core.training.trainer import RunOptions
from pretrain.layout_record import first_steps, record_task
from workflows.compare_layouts import Comparison, Layout, Record, _errors

CONFIG = replace(GPT2, layers=4)
TRAINING = TrainingConfig(
    steps=50, global_batch=4, micro_batch=2, learning_rate=1e-2, warmup_steps=10, validation_interval=5
)


def _record(output: Path, tensor: int, split: bool, pipeline: int, planted: int | None) -> None:
    mesh = initialize(tensor, split, pipeline_parallel=pipeline)
    task = RandomTask(CONFIG, mesh)
    if planted is not None:
        _plant(task.model, planted)
    record_task(task, mesh, first_steps(TRAINING, 2), output, RunOptions())


def _add_once_more(module: torch.nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
    return output + 0.01


def _plant(model: torch.nn.Module, number: int) -> None:
    """A layer that adds something on this layout alone, as a bias that is added once a tensor rank."""
    for name, module in model.named_modules():
        if isinstance(module, FeedForward) and f"layers.{number}." in name:
            module.contract.register_forward_hook(_add_once_more)


def _recorded(folder: Path, ranks: int, tensor=1, split=False, pipeline=1, planted=None) -> Record:
    folder.mkdir()
    run_distributed(_record, ranks, folder, tensor, split, pipeline, planted)
    return Record.read(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return _recorded(tmp_path_factory.mktemp("plain") / "1,1,1", 1)


def test_all_is_recorded(plain: Record) -> None:
    assert len(plain.losses) == 2
    assert {number: values.shape for number, values in plain.layers.items()} == dict.fromkeys(
        range(4), (16, 32)
    )
    assert plain.gradients["network.token_embedding.weight"].shape == (136, 32)
    norm = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in plain.gradients.values()))
    assert norm == pytest.approx(min(norm, 1.0), rel=1e-5), "clipped"


@pytest.mark.parametrize(
    ("ranks", "tensor", "split", "pipeline"), [(4, 2, True, 1), (2, 1, False, 2)], ids=["1,2,2", "2,1,1"]
)
def test_other_layouts_differ_by_rounding(tmp_path, plain, ranks, tensor, split, pipeline) -> None:
    comparison = Comparison.of(_recorded(tmp_path / "r", ranks, tensor, split, pipeline), plain, 1e-5)
    assert comparison.verdict == "rounding"
    assert list(comparison.layers) == [0, 1, 2, 3] and comparison.gradients.keys() == plain.gradients.keys()


def test_the_first_layer_that_computes_something_else_is_named(tmp_path, plain) -> None:
    comparison = Comparison.of(_recorded(tmp_path / "r", 2, 2, planted=2), plain, 1e-4)
    assert comparison.verdict.startswith("differs from layer 2 on, by ")
    assert max(comparison.layers[0], comparison.layers[1]) < 1e-5 < 1e-4 < comparison.layers[3]


def test_verdicts() -> None:
    zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
    reference = Record([2.0], {0: ones, 1: ones}, {"a": ones, "tiny": 1e-9 * ones, "zero": zeros})
    same = Comparison.of(reference, reference, 1e-4)
    assert same.verdict == "rounding" and set(same.gradients.values()) == {0.0}
    noise = replace(reference, gradients={"a": ones, "tiny": 1.01e-9 * ones, "zero": 1e-12 * ones})
    assert Comparison.of(noise, reference, 1e-4).verdict == "rounding"
    wrong = replace(reference, gradients={"a": 1.5 * ones, "tiny": -ones, "zero": zeros})
    assert Comparison.of(wrong, reference, 1e-4).verdict.startswith(
        "2 gradients differ, most that of tiny, by "
    )
    lost = replace(reference, layers={0: ones, 1: np.full(4, np.nan, np.float32)})
    assert Comparison.of(lost, reference, 1e-4).verdict.startswith("differs from layer 1 on")
    with pytest.raises(UserError, match="other things"):
        Comparison.of(replace(reference, layers={0: ones}), reference, 1e-4)


@pytest.mark.parametrize("text", ["1,1", "0,1,1", "1,1,1,1", "a,b,c", "", "1,-1,1", "1, 1,1"])
def test_what_is_no_layout_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="PIPELINE,DATA,TENSOR"):
        Layout.parse(text)
    assert Layout.parse("2,3,4") == Layout(2, 3, 4) and Layout(2, 3, 4).ranks == 24


def test_layouts_that_do_not_fit_are_named_before_anything_starts() -> None:
    parallel = ParallelConfig(sequence_parallel=True)
    assert _errors(CONFIG, TRAINING, parallel, Layout(2, 2, 2)) == [
        "layout 2,2,2: global_batch 4 over data_parallel 2 is 1 micro-batches of 2, fewer than pipeline_parallel 2; "
        "choose another micro_batch, global_batch or pipeline_parallel"
    ]
    (three,) = _errors(CONFIG, TRAINING, parallel, Layout(1, 3, 1))
    assert three.startswith("layout 1,3,1: global_batch 4 is not divisible by data_parallel 3")
    assert not _errors(CONFIG, TRAINING, ParallelConfig(pipeline_chunks=2), Layout(1, 1, 1))
