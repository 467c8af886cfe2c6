"""The delivered model is that of the epoch that is best on the development set, however often the run is killed, and on
every layout the same."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import run_distributed

import finetune.selection
import finetune.tuner
from core.config import ModelConfig
from core.errors import UserError
from core.model_directory import build_model, read_config, save_model
from core.parallel.mesh import Mesh, initialize
from data_pipeline.tokenization.tokenizers import load_tokenizer
from finetune.predictions import read_predictions
from finetune.race import RACE, Race
from finetune.selection import best_step
from finetune.tuner import Epochs, Tuning
from recipes.records import FINE_TUNING
from recipes.schema import FinetuningSettings
from tests.finetune.race_tree import VOCABULARY, write_tree, write_vocabulary

# 2 · 2 · 11 = 44 questions, three epochs in batches of 6: they end after steps 8, 15 and 22.
EPOCHS, BATCH, ENDS = 3, 6, (8, 15, 22)
WRITTEN = (
    "metrics.jsonl", "epochs.json", "state.json", "result.json", "model/model.safetensors", "model/config.json",
    "predictions/test.parquet", "submission/answers.json",
)  # fmt: skip


class _Killed(BaseException):
    """Not an Exception, so that nothing tidies up after it."""


class _Scripted(Race):
    """RACE whose accuracy on the development set is what the test says of each epoch's weights."""

    known: Path  # a number by what tells the weights
    says: tuple[float, ...] = (0.25, 0.75, 0.75)

    def on_dev(self, score: Any) -> dict[str, Any]:
        weights = score.model.multiple_choice_head.weight.to_local().double()
        key = repr(float(weights.abs().sum()))
        known = json.loads(self.known.read_text()) if self.known.exists() else {}
        if key not in known:
            known[key] = self.says[len(known)]
            self.known.write_text(json.dumps(known))
        return {"accuracy": {**super().on_dev(score)["accuracy"], "all": known[key]}}


def _write_model(directory: Path) -> None:
    mesh = initialize(1)
    config = ModelConfig("bert", 1, 16, 2, 48, len(VOCABULARY), vocabulary_multiple=8)
    save_model(build_model(config, mesh), directory, mesh)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selection")
    write_vocabulary(folder / "vocab.txt")
    write_tree(folder / "RACE", {"train": 11, "dev": 2, "test": 3})
    run_distributed(_write_model, 1, folder / "bert")
    return folder


def _run(inputs: Path, output: Path, mesh: Mesh, program: Any, **settings: Any) -> None:
    tokenizer = load_tokenizer(inputs / "vocab.txt")
    config = read_config(inputs / "bert").for_tokens(tokenizer.vocabulary_size)
    chosen = FinetuningSettings(
        **{"epochs": EPOCHS, "batch_size": BATCH, "micro_batch": 3, "learning_rate": 3e-3, **settings}
    )
    Tuning(
        "race", program, inputs / "bert", tokenizer, inputs / "RACE", output, chosen, seed=1, config=config
    ).run(mesh, "test", False, "the model's", {})


@contextlib.contextmanager
def _killed(module: Any, name: str, when: Callable[..., bool]) -> Iterator[None]:
    """Inside, the call of a function of which `when(number, arguments)` is true is the run's last."""
    whole, calls = getattr(module, name), 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if when(calls, arguments):
            raise _Killed
        return whole(*arguments, **named)

    setattr(module, name, deadly)
    try:
        with contextlib.suppress(_Killed):
            yield
            raise AssertionError(f"{name}: the run was not killed")
    finally:
        setattr(module, name, whole)


def _first_sample(arguments: tuple[Any, ...]) -> int:
    return int(arguments[1][0])


# What is killed when, by what is said of it.
KILLS: dict[str, tuple[Any, str, Callable[[int, Any], bool]]] = {
    "in the second epoch, without a checkpoint after its evaluation": (
        Epochs, "batch", lambda _, arguments: _first_sample(arguments) >= 9 * BATCH,
    ),
    "in the third": (Epochs, "batch", lambda _, arguments: _first_sample(arguments) >= 17 * BATCH),
    "while the second epoch is scored": (_Scripted, "on_dev", lambda number, _: number == 2),
    "with the second epoch's model not recorded": (finetune.selection, "write_json", lambda n, _: n == 2),
    "with the first epoch's model not removed": (
        shutil, "rmtree", lambda _, a: Path(a[0]).name == f"step-{ENDS[0]:08d}",
    ),
    "before the best is moved": (finetune.selection.BestOnDev, "deliver", lambda *_: True),
    "when it is moved": (
        shutil, "rmtree", lambda _, a: Path(a[0]).name == "epochs" and Path(a[0]).exists(),
    ),
    "before predictions are written": (finetune.tuner, "write_predictions", lambda *_: True),
    "before the result is written": (finetune.tuner, "write_json", lambda *_: True),
}  # fmt: skip


def _runs(inputs: Path, folder: Path) -> list[str]:
    """A whole run, and one killed at each of the moments, and then again; names of those that differ."""
    mesh = initialize(1)
    _Scripted.known = folder / "known.json"
    _run(inputs, folder / "whole", mesh, _Scripted)
    different = []
    for what, (module, name, when) in KILLS.items():
        output = folder / what.replace(" ", "-")
        with _killed(module, name, when):
            _run(inputs, output, mesh, _Scripted)
        _run(inputs, output, mesh, _Scripted)
        for file in WRITTEN:
            if (output / file).read_bytes() != (folder / "whole" / file).read_bytes():
                different.append(f"{what}: {file}")
        if (output / "epochs").exists():
            different.append(f"{what}: models are left")
    assert len(json.loads(_Scripted.known.read_text())) == len(ENDS), "no run had other weights"
    return different


def test_the_best_epoch_is_delivered_whenever_the_run_is_killed(inputs: Path, tmp_path: Path) -> None:
    assert run_distributed(_runs, 1, inputs, tmp_path) == [[]]
    whole = tmp_path / "whole"
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    measured = {record["step"]: record["measured"] for record in records if "measured" in record}
    assert list(measured) == list(ENDS)
    assert [found["epoch"] for found in measured.values()] == [1, 2, 3]
    assert [found["dev"]["accuracy"]["all"] for found in measured.values()] == [0.25, 0.75, 0.75]
    assert [record["step"] for record in records if "loss" in record] == list(range(1, 23))
    result = json.loads((whole / "result.json").read_text())
    assert result["epoch"] == 2, "the first of equal ones"
    assert result["dev"] == measured[ENDS[1]]["dev"]
    head = _head(whole)
    assert repr(head) == list(json.loads((tmp_path / "known.json").read_text()))[1]
    table = read_predictions(whole)["test"]
    right = np.mean([a == p for a, p in zip(table["answer"], table["prediction"], strict=True)])
    assert result["accuracy"]["all"] == pytest.approx(right, abs=1e-12)
    assert np.allclose(np.sum(table["probabilities"], axis=1), 1)


def _head(output: Path) -> float:
    from safetensors.torch import load_file

    weights = load_file(output / "model" / "model.safetensors")
    return float(weights["multiple_choice_head.weight"].double().abs().sum())


def _on_a_layout(inputs: Path, folder: Path, tensor: int) -> None:
    """Without dropout's masks, which are drawn by rank."""
    mesh = initialize(tensor)
    name = "x".join(map(str, (mesh.data_size, mesh.tensor_size)))
    _run(inputs, folder / name, mesh, Race, micro_batch=6)
    _run(inputs, folder / f"{name}-bf16", mesh, Race, micro_batch=6, precision="bf16", epochs=1)


def test_the_losses_and_what_is_said_of_each_epoch_agree_on_every_layout(
    inputs: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "inputs"
    shutil.copytree(inputs, plain)
    record = json.loads((plain / "bert" / "config.json").read_text())
    record["model"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    (plain / "bert" / "config.json").write_text(json.dumps(record))
    for processes, tensor in ((1, 1), (2, 1), (2, 2)):
        run_distributed(_on_a_layout, processes, plain, tmp_path, tensor)
    losses, scores = {}, {}
    for name in ("1x1", "2x1", "1x2"):
        records = [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [record["loss"] for record in records if "loss" in record][:20]
        result = json.loads((tmp_path / name / "result.json").read_text())
        scores[name] = result["epoch"], result["dev"], result["accuracy"]
        halves = [json.loads(x) for x in (tmp_path / f"{name}-bf16/metrics.jsonl").read_text().splitlines()]
        assert halves[0]["loss"] == pytest.approx(losses[name][0], rel=0.02)
        assert halves[0]["loss"] != losses[name][0], "computed in bf16"
        assert json.loads((tmp_path / f"{name}-bf16/result.json").read_text())["precision"] == "fp32"
    for name in ("2x1", "1x2"):
        assert losses[name] == pytest.approx(losses["1x1"], rel=1e-4)
        assert scores[name] == scores["1x1"]


def test_the_best_step_is_the_first_of_the_best() -> None:
    found = {
        "8": {"dev": {"a": {"b": 0.5}}},
        "15": {"dev": {"a": {"b": 0.75}}},
        "100": {"dev": {"a": {"b": 0.75}}},
    }
    record = dataclasses.replace(RACE, chosen_by="a.b")
    assert best_step(found, record) == 15
    assert best_step(found, dataclasses.replace(record, lower_is_better=True)) == 8
    with pytest.raises(UserError, match=r"race: on_dev gives None at 'a\.c'"):
        best_step(found, dataclasses.replace(record, chosen_by="a.c"))
    with pytest.raises(UserError, match=r"race: on_dev gives inf at 'a\.b'"):
        best_step(found | {"200": {"dev": {"a": {"b": float("inf")}}}}, record)


@pytest.mark.parametrize(
    ("epochs", "examples", "batch", "ends"),
    [(3, 44, 6, {8: 1, 15: 2, 22: 3}), (4, 5, 10, {1: 2, 2: 4}), (2, 10, 5, {2: 1, 4: 2}), (1, 3, 8, {1: 1})],
)
def test_where_epochs_end(epochs: int, examples: int, batch: int, ends: dict[int, int]) -> None:
    settings = FinetuningSettings(epochs=epochs, batch_size=batch)
    assert settings.ends_of_epochs(examples) == ends
    assert max(ends) == settings.training_config(examples, 1).steps
    assert FINE_TUNING["race"].chosen_by
