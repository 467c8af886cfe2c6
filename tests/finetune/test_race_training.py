"""RACE fine-tuning on real processes: learns, agrees over layouts, resumes, and scores exactly."""

import json
import math
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed, run_program

from core.config import ModelConfig, TrainingConfig
from core.errors import UserError
from core.model_directory import build_model, read_config, save_model
from core.parallel.mesh import Mesh, initialize
from core.training.trainer import train
from data_pipeline.benchmarks.race import LEVELS, OPTIONS, read_split
from data_pipeline.tokenization.tokenizers import load_tokenizer
from finetune.heads import MultipleChoice, Scorer
from finetune.pairs import PairExamples
from finetune.race import encode_split
from finetune.tuner import Epochs
from recipes.schema import FinetuningSettings
from tests.finetune.race_tree import VOCABULARY, write_tree, write_vocabulary

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 48


def _write_model(directory: Path, dropout: float) -> None:
    mesh = initialize(1)
    config = ModelConfig(
        family="bert",
        layers=1,
        hidden=32,
        heads=4,
        sequence_length=LENGTH,
        vocabulary_size=len(VOCABULARY),
        vocabulary_multiple=64,
        dropout=dropout,
        attention_dropout=dropout,
        initial_std=0.1,
    )
    save_model(build_model(config, mesh), directory, mesh)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("race")
    write_vocabulary(folder / "vocab.txt")
    write_tree(folder / "RACE", {"train": 15, "dev": 3, "test": 8})
    run_distributed(_write_model, 1, folder / "plain", 0.0)
    run_distributed(_write_model, 1, folder / "dropout", 0.1)
    return folder


def _split(inputs: Path, name: str) -> PairExamples:
    return encode_split(read_split(inputs / "RACE", name), load_tokenizer(inputs / "vocab.txt"), LENGTH)


def _task(inputs: Path, checkpoint: str, mesh: Mesh, epochs: int) -> Epochs:
    model = MultipleChoice(read_config(inputs / checkpoint), mesh, OPTIONS, "race")
    model.load_pretrained(inputs / checkpoint, seed=3)
    return Epochs(model, _split(inputs, "train"), mesh, epochs, seed=3)


def _records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_every_epoch_asks_every_question_in_another_order(inputs: Path) -> None:
    split = _split(inputs, "train")
    model = torch.nn.Module()
    model.config = model.counts = None  # type: ignore[assignment]
    task = Epochs(model, split, None, epochs=3, seed=1)  # type: ignore[arg-type]
    assert task.total_samples == 3 * 60
    stream = np.concatenate([task.chosen(np.arange(start, start + 20)) for start in range(0, 180, 20)])
    epochs = stream.reshape(3, 60)
    assert (np.sort(epochs, axis=1) == np.arange(60)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3
    other = Epochs(model, split, None, epochs=3, seed=2)  # type: ignore[arg-type]
    assert not any((other.chosen(np.arange(60)) == epoch).all() for epoch in epochs), "seeds share no epoch"


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_batches_lie_by_length_and_hold_what_they_held(inputs: Path, ranks: int) -> None:
    """Two epochs of 60 questions in batches of 16, the sixth across them, the eighth short."""
    split = _split(inputs, "train")
    model = torch.nn.Module()
    model.config, model.counts = ModelConfig("bert", 1, 8, 1, LENGTH, len(VOCABULARY)), None  # type: ignore[assignment]
    random, sorted_ = (
        Epochs(model, split, SimpleNamespace(data_size=ranks), 2, 1, batch_size=size)  # type: ignore[arg-type]
        for size in (0, 16)
    )

    def texts(batch: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
        """Of each question its four sequences, the padding left out."""
        rows = batch["tokens"].view(-1, OPTIONS * batch["tokens"].shape[1])
        return [
            (*row[row > 0].tolist(), answer)
            for row, answer in zip(rows, batch["answers"].tolist(), strict=True)
        ]

    padded = {0: 0, 16: 0}
    for start in range(0, 120, 16):
        places = np.arange(start, min(start + 16, 120))
        assert sorted(texts(random.batch(places))) == sorted(texts(sorted_.batch(places)))
        share = math.ceil(len(places) / ranks)
        for rank in range(ranks):
            own = places[rank * share :][:share]
            passes = [own[i : i + 4] for i in range(0, len(own), 4)]
            for size, task in ((0, random), (16, sorted_)):
                padded[size] += sum(task.batch(indices)["tokens"].numel() for indices in passes)
    assert padded[16] < padded[0], "less is padded"


@pytest.mark.parametrize(
    ("length", "batch", "ranks", "most", "expected"),
    [
        (400, 32, 1, 8, 2),  # 2 · 4 · 400 tokens are the first above 2048
        (400, 5, 1, 8, 2),
        (400, 32, 1, 1, 1),
        (10, 32, 1, 8, 8),
        (10, 20, 1, 16, 10),  # 10 and 10 rather than 16 and 4
        (100, 32, 2, 16, 6),  # a rank has 16: 6, 6 and 4
    ],
)
def test_passes_hold_what_keeps_the_device_busy(
    length: int, batch: int, ranks: int, most: int, expected: int
) -> None:
    class Examples(list):
        lengths = np.array([length])

        def batch(self, _: np.ndarray) -> dict[str, np.ndarray]:
            return {"tokens": np.zeros((4, length))}

    mesh = SimpleNamespace(data_size=ranks, device=torch.device("cpu"))
    model = SimpleNamespace(counts=None, config=None)
    task = Epochs(model, Examples(), mesh, 1, 1, batch)  # type: ignore[arg-type]
    assert task.pass_size(most) == expected


def test_settings_become_steps_with_linear_decay() -> None:
    settings = FinetuningSettings(epochs=3, batch_size=32, warmup_fraction=0.1)
    config = settings.training_config(examples=100, seed=1)  # 300 questions: 9 batches of 32 and one of 12
    assert (config.steps, config.warmup_steps, config.schedule) == (10, 1, "linear")
    assert not config.errors()


def _first_losses(inputs: Path, output: Path, tensor_parallel: int) -> None:
    """One epoch of 60 questions in batches of 8: the last holds 4."""
    mesh = initialize(tensor_parallel)
    config = TrainingConfig(steps=8, global_batch=8, micro_batch=2, learning_rate=1e-3, schedule="linear")
    train(_task(inputs, "plain", mesh, epochs=1), mesh, config, output)


class _Killed(BaseException):
    """Not an Exception, so that nothing in the trainer tidies up after it."""


def _train_with_dropout(inputs: Path, output: Path, killed_at: int | None) -> None:
    mesh = initialize(1)
    task = _task(inputs, "dropout", mesh, epochs=2)
    config = TrainingConfig(
        steps=12, global_batch=10, micro_batch=3, learning_rate=1e-3, schedule="linear", checkpoint_interval=4
    )
    if killed_at is not None:
        whole = task.batch

        def batch(indices: np.ndarray) -> dict[str, torch.Tensor]:
            if indices[0] >= killed_at * config.global_batch:
                raise _Killed
            return whole(indices)

        task.batch = batch  # type: ignore[method-assign]
    try:
        train(task, mesh, config, output)
    except _Killed:
        assert killed_at is not None


def test_a_killed_run_goes_on_bit_by_bit(inputs: Path, tmp_path: Path) -> None:
    """Two data ranks, dropout on, killed in step 7 with a checkpoint of step 4: the same weights and records."""
    run_distributed(_train_with_dropout, 2, inputs, tmp_path / "whole", None)
    run_distributed(_train_with_dropout, 2, inputs, tmp_path / "broken", 6)
    assert json.loads((tmp_path / "broken" / "state.json").read_text())["status"] == "running"
    run_distributed(_train_with_dropout, 2, inputs, tmp_path / "broken", None)
    for name in ("metrics.jsonl", "state.json", "model/model.safetensors", "model/config.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def _finetuned(directory: Path, mesh: Mesh) -> MultipleChoice:
    model = MultipleChoice(read_config(directory), mesh, OPTIONS, "race")
    model.load_finetuned(directory)
    return model


def _answer(inputs: Path, directory: Path, tensor_parallel: int) -> tuple[dict[str, int], dict[str, int]]:
    mesh = initialize(tensor_parallel)
    model = _finetuned(directory, mesh)
    result = Scorer(model, mesh, micro_batch=2)(_split(inputs, "test"), "test", LEVELS)
    return result.correct, result.total


def _answer_one_by_one(inputs: Path, directory: Path) -> dict[str, int]:
    """The same by the definition: one question at a time."""
    mesh = initialize(1)
    model = _finetuned(directory, mesh)
    split = _split(inputs, "test")
    correct = {"all": 0, "middle": 0, "high": 0}
    with torch.no_grad():
        for question in range(len(split)):
            batch = {name: torch.from_numpy(a) for name, a in split.batch(np.array([question])).items()}
            answer = batch.pop("answers").item()
            right = int(model.scores(**batch).argmax()) == answer
            correct["all"] += right
            correct[str(split.groups[question])] += right
    return correct


def test_accuracy_is_exact_at_any_layout(inputs: Path, tmp_path: Path) -> None:
    run_distributed(_first_losses, 1, inputs, tmp_path, 1)
    expected = run_distributed(_answer_one_by_one, 1, inputs, tmp_path / "model")[0]
    assert 0 < expected["all"] < 32
    for world_size, tensor_parallel in ((1, 1), (3, 1), (2, 2)):
        for rank in run_distributed(_answer, world_size, inputs, tmp_path / "model", tensor_parallel):
            assert rank == (expected, {"all": 32, "middle": 16, "high": 16})


def _finetune(inputs: Path, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = {
        "--checkpoint": inputs / "plain",
        "--tokenizer": inputs / "vocab.txt",
        "--data": inputs / "RACE",
        "--output": output,
    }
    given = [str(part) for pair in paths.items() for part in pair]
    return run_program("finetune", ["race", *given, *arguments], processes=2)


def test_the_command_learns_to_find_the_answer_in_the_passage(inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = ("--epochs", "24", "--batch-size", "12", "--micro-batch", "6", "--learning-rate", "3e-3")
    run = _finetune(inputs, output, *settings, "--controls")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result == json.loads((output / "result.json").read_text())
    assert json.loads((output / "state.json").read_text()) == {"status": "finished", "step": 120}
    assert result["total"] == {"all": 32, "middle": 16, "high": 16}
    assert result["accuracy"]["all"] == result["correct"]["all"] / 32
    assert set(result["dev"]["accuracy"]) == {"all", "middle", "high"}
    assert result["chance"] == 0.25
    assert result["accuracy"]["all"] > 0.6
    assert result["blank_passage_accuracy"]["all"] < 0.5, "the options alone must not give the answer"

    # Finished but not scored: it scores, and does not train again.
    (output / "result.json").unlink()
    weights = (output / "model" / "model.safetensors").stat().st_mtime_ns
    again = _finetune(inputs, output, *settings, "--controls")
    assert json.loads(again.stdout) == result
    assert (output / "model" / "model.safetensors").stat().st_mtime_ns == weights


def _score_with_no_numbers(inputs: Path) -> str:
    mesh = initialize(1)
    model = MultipleChoice(read_config(inputs / "dropout"), mesh, OPTIONS, "race")
    model.load_pretrained(inputs / "dropout", 1)
    with torch.no_grad():
        model.multiple_choice_head.bias.to_local().fill_(float("nan"))
    with pytest.raises(UserError) as error:
        Scorer(model.eval(), mesh, micro_batch=2)(_split(inputs, "test"), "test", LEVELS)
    return str(error.value)


def test_scores_that_are_no_numbers_give_no_accuracy(inputs: Path) -> None:
    for message in run_distributed(_score_with_no_numbers, 2, inputs):
        assert "questions are not finite numbers (test)" in message
