"""A user's own task: two-option riddles, in two files outside of the packages, fine-tuned by `--plugin`."""

import json
import subprocess
from pathlib import Path

import pytest
from distributed import run_distributed, run_program

from core.config import ModelConfig
from core.model_directory import build_model, save_model
from core.parallel.mesh import initialize
from tests.finetune.race_tree import VOCABULARY, WORDS, write_vocabulary

ROOT = Path(__file__).resolve().parents[2]
DATA = '''
"""Riddles: {train,test}.jsonl, each line a text, two options and the number of the right one."""
import json

from core.files import read_text
from data_pipeline.benchmarks import Benchmark, BenchmarkText
from data_pipeline.benchmarks.benchmark import add_benchmark


def read_riddles(path):
    return [json.loads(line) for line in read_text(path).splitlines()]


def texts(content):
    return (BenchmarkText(json.loads(line)["text"]) for line in content.splitlines())


add_benchmark(Benchmark("riddles", "Riddles", "riddles", ".jsonl", texts))
'''
TASK = """
import numpy as np
from riddle_data import read_riddles

from finetune.pairs import PairExamples, encode_texts
from finetune.program import Program
from recipes.records import Column, FineTuning, add_fine_tuning


class Riddles(Program):
    def __init__(self, data, tokenizer, sequence_length, settings):
        self.splits = {name: read_riddles(data / f"{name}.jsonl") for name in ("train", "test")}
        self.tokenizer, self.sequence_length = tokenizer, sequence_length

    def examples(self, split):
        rows = self.splits[split]
        options = [option for row in rows for option in row["options"]]
        return PairExamples(
            choices=2,
            firsts=encode_texts(options, self.tokenizer, 8),
            seconds=encode_texts([row["text"] for row in rows], self.tokenizer, self.sequence_length - 3),
            second_of=np.arange(len(rows)),
            answers=np.array([row["answer"] for row in rows]),
            groups=np.zeros(len(rows)),
            tokenizer=self.tokenizer,
            sequence_length=self.sequence_length,
        )

    def model(self, config, mesh):
        from finetune.heads import MultipleChoice

        return MultipleChoice(config, mesh, 2, "riddles")

    def result(self, score, controls):
        test = self.examples("test")
        result = {"accuracy": score(test, "test").share["all"]}
        if controls:
            result["blank_accuracy"] = score(test.without_seconds(), "no texts").share["all"]
        return result


add_fine_tuning(
    FineTuning(
        name="riddles",
        title="Riddles",
        benchmark="riddles",
        program="riddle_task:Riddles",
        causal=False,
        columns=(Column("accuracy", "accuracy", "percent"),),
        published=None,
        facts=lambda result: f"accuracy {result['accuracy']:.1%}",
    )
)
"""


def _write_model(directory: Path) -> None:
    mesh = initialize(1)
    shape = {"layers": 1, "hidden": 32, "heads": 4, "sequence_length": 24}
    vocabulary = {"vocabulary_size": len(VOCABULARY), "vocabulary_multiple": 64}
    no_dropout = {"dropout": 0.0, "attention_dropout": 0.0}
    config = ModelConfig(family="bert", **shape, **vocabulary, **no_dropout, initial_std=0.1)
    save_model(build_model(config, mesh), directory, mesh)


def _riddle(number: int) -> str:
    """The text names the right one of two animals."""
    right, wrong = WORDS[number % 8], WORDS[(number + 1 + number // 8 % 7) % 8]
    answer = number // 3 % 2
    options = [right, wrong] if answer == 0 else [wrong, right]
    return json.dumps({"text": f"{right} is here .", "options": options, "answer": answer})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own_task")
    write_vocabulary(folder / "vocab.txt")
    (folder / "riddle_data.py").write_text(DATA)
    (folder / "riddle_task.py").write_text(TASK)
    (folder / "data").mkdir()
    for split, numbers in (("train", range(40)), ("test", range(40, 56))):
        (folder / "data" / f"{split}.jsonl").write_text("\n".join(map(_riddle, numbers)) + "\n")
    run_distributed(_write_model, 1, folder / "bert")
    return folder


def _finetune(inputs: Path, output: Path, ranks: int, *options: str) -> subprocess.CompletedProcess[str]:
    paths = {"checkpoint": "bert", "tokenizer": "vocab.txt", "data": "data"}
    given = [part for name, path in paths.items() for part in (f"--{name}", str(inputs / path))]
    line = ["riddles", *given, "--output", str(output), "--tensor-parallel", str(ranks), *options]
    return run_program("finetune", line, ranks)


def test_two_files_are_a_task_on_every_layout(inputs: Path, tmp_path: Path) -> None:
    plugin = ("--plugin", str(inputs / "riddle_task.py"))
    settings = ("--epochs", "20", "--batch-size", "8", "--learning-rate", "3e-3", "--controls")
    losses = {}
    for ranks in (1, 2):
        output = tmp_path / str(ranks)
        run = _finetune(inputs, output, ranks, *plugin, *settings)
        assert run.returncode == 0, run.stderr
        result = json.loads(run.stdout)
        assert result == json.loads((output / "result.json").read_text())
        assert result["task"] == "riddles"
        assert result["accuracy"] > 0.8 > result["blank_accuracy"]
        records = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
        losses[ranks] = [record["loss"] for record in records]
    assert len(losses[1]) == 100
    assert losses[2][:20] == pytest.approx(losses[1][:20], rel=1e-3)


def test_its_mistakes_are_one_message_and_without_its_plugin_it_is_unknown(
    inputs: Path, tmp_path: Path
) -> None:
    assert "invalid choice: 'riddles'" in _finetune(inputs, tmp_path / "out", 1).stderr
    wrong = ("--warmup-fraction", "2", "--learning-rate", "-1", "--micro-batch", "99")
    run = _finetune(inputs, tmp_path / "out", 1, "--plugin", str(inputs / "riddle_task.py"), *wrong)
    assert run.returncode != 0
    for line in (
        "--warmup-fraction: must be from 0 to 1, is 2.0",
        "--learning-rate: must be above 0, is -1.0",
        "--micro-batch: must be at most batch_size (32), is 99",
    ):
        assert run.stderr.count(line) == 1
    assert not (tmp_path / "out").exists()
