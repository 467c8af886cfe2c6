"""A user's own family and fine-tuning task, two files each outside of the packages, from text to numbers by a recipe."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

NETWORK = '''
from core.models.gpt2 import GPT2Model


class WithoutPositions(GPT2Model):
    """GPT-2 that learns no positions."""

    def make_positions(self):
        pass

    def add_positions(self, values, positions):
        return values
'''
FAMILY = """
from core.families import Family, add_family
from recipes.records import PRETRAININGS, Pretraining

add_family(
    Family(
        name="plain",
        network="plain_network:WithoutPositions",
        objective="core.models.gpt2:GPT2LanguageModeling",
        causal=True,
        tokenizer="gpt2",
    )
)
PRETRAININGS.add("plain", Pretraining("plain", "next token, no positions", "pretrain.gpt2:GPT2Task"))
"""
DATA = '''
import json

from data_pipeline.benchmarks import Benchmark, BenchmarkText
from data_pipeline.benchmarks.benchmark import add_benchmark


def read_rows(folder, split):
    """(question, two possible answers, text, right answer) of {train,dev,test}.jsonl."""
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def texts(content):
    for line in content.splitlines():
        yield BenchmarkText(json.loads(line)["text"])


add_benchmark(Benchmark(name="colours", title="Colours", file="colours", suffix=".jsonl", texts=texts))
'''
TASK = '''
import numpy as np

from colours_data import read_rows
from finetune.pairs import PairExamples, encode_texts
from finetune.program import Program
from recipes.records import Column, FineTuning, add_fine_tuning


class Colours(Program):
    """Which of two colours does the text name?"""

    def __init__(self, data, tokenizer, sequence_length, settings):
        self.rows = {split: read_rows(data, split) for split in ("train", "dev", "test")}
        self.tokenizer, self.sequence_length = tokenizer, sequence_length

    def examples(self, split):
        rows = self.rows[split]
        room = self.sequence_length // 2
        return PairExamples(
            choices=2,
            firsts=encode_texts([option for row in rows for option in row["options"]], self.tokenizer, room),
            seconds=encode_texts([row["text"] for row in rows], self.tokenizer, room),
            second_of=np.arange(len(rows)),
            answers=np.array([row["answer"] for row in rows]),
            groups=np.array(["all"] * len(rows)),
            tokenizer=self.tokenizer,
            sequence_length=self.sequence_length,
        )

    def model(self, config, mesh):
        from finetune.heads import MultipleChoice

        return MultipleChoice(config, mesh, 2, "colours")

    def on_dev(self, score):
        return {"accuracy": score(self.examples("dev"), "dev").share["all"]}

    def result(self, score, controls):
        test = score(self.examples("test"), "test")
        return {"accuracy": test.share["all"], "total": test.total["all"]}


add_fine_tuning(
    FineTuning(
        name="colours",
        title="Colours",
        benchmark="colours",
        program="colours_task:Colours",
        causal=False,
        columns=(Column("accuracy", "accuracy", "percent"), Column("questions", "total")),
        published=None,
        facts=lambda result: f"accuracy {result['accuracy']:.0%}",
        chosen_by="accuracy",
    )
)
'''
RECIPE = """
plugins = ["plain_family.py", "colours_task.py"]
[recipe]
name = "own"
[[corpora]]
name = "tales"
source = "local"
paths = ["tales.jsonl"]
[tokenizers.plain]
vocabulary_size = 300
[tokenizers.bert]
vocabulary_size = 300
[parallel]
tensor_parallel = {ranks}
[models.plain]
family = "plain"
layers = 1
hidden = 16
heads = 2
sequence_length = 32
dropout = 0.0
attention_dropout = 0.0
[models.plain.training]
steps = 40
global_batch = 4
micro_batch = 4
learning_rate = 1e-3
checkpoint_interval = 5
[models.reader]
family = "bert"
layers = 1
hidden = 16
heads = 2
sequence_length = 32
dropout = 0.0
attention_dropout = 0.0
[models.reader.training]
steps = 10
global_batch = 4
micro_batch = 4
learning_rate = 1e-3
[models.reader.finetuning.colours]
epochs = 1
batch_size = 8
micro_batch = 8
learning_rate = 1e-3
[benchmarks.lambada]
path = "lambada.jsonl"
[benchmarks.colours]
path = "colours"
"""
WORDS = [
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
    "came",
    "home",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = random.Random(5)

    def sentence(words: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(words)).capitalize() + ". "

    def lines(path: Path, rows: list[dict]) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    files = {
        "plain_network.py": NETWORK,
        "plain_family.py": FAMILY,
        "colours_data.py": DATA,
        "colours_task.py": TASK,
        "one.toml": RECIPE.format(ranks=1),
        "two.toml": RECIPE.format(ranks=2),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    lines(tmp_path / "tales.jsonl", [{"text": sentence(12) * 20 + sentence(150)} for _ in range(40)])
    lines(tmp_path / "lambada.jsonl", [{"text": sentence(20) + "home"} for _ in range(6)])
    for split, count in (("train", 48), ("dev", 8), ("test", 16)):
        answers = [draw.randrange(2) for _ in range(count)]
        rows = [
            {
                "text": f"The ship that came home with many friends and told about rivers is {('red', 'blue')[a]}.",
                "options": ["red", "blue"],
                "answer": a,
            }
            for a in answers
        ]
        lines(tmp_path / "colours" / f"{split}.jsonl", rows)
    return tmp_path


def start(folder: Path, recipe: str, runs: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "luigi",
        "--module",
        "workflows",
        "FullReproduction",
        "--cpu-workers",
        "1",
    ]
    command += ["--recipe", str(folder / recipe), "--runs", str(folder / runs)]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finished(folder: Path, recipe: str, runs: str) -> tuple[str, dict]:
    process = start(folder, recipe, runs)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output, json.loads((folder / runs / "latest" / "own" / "results.json").read_text())


def losses(folder: Path, runs: str) -> list[float]:
    (path,) = (folder / runs).glob("pretrain/plain-*/metrics.jsonl")
    return [record["loss"] for record in map(json.loads, path.read_text().splitlines())]


def test_a_family_and_a_task_of_two_files_each_go_from_text_to_numbers_on_any_layout_and_after_a_kill(
    folder: Path,
):
    process = start(folder, "one.toml", "killed")
    end = time.monotonic() + 200
    while not list((folder / "killed").glob("pretrain/plain-*.partial/checkpoints/step-*")):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    output, first = finished(folder, "one.toml", "killed")
    assert re.search(r"resumes at step \d+ of 40", output), output

    for stage in ("fetch", "clean", "decontaminate", "deduplicate", "tokenizer", "sentences", "tokenize"):
        shutil.copytree(folder / "killed" / stage, folder / "split" / stage)
    output, second = finished(folder, "two.toml", "split")
    assert "tokenize for plain" not in output
    assert losses(folder, "split") == pytest.approx(losses(folder, "killed"), rel=1e-4)
    for results in (first, second):
        assert results["models"]["plain"]["config"]["model"]["family"] == "plain"
        assert results["models"]["plain"]["lambada"]["total"] == 6
        assert results["models"]["reader"]["colours"]["total"] == 16
        assert 0 <= results["models"]["reader"]["colours"]["accuracy"] <= 1
    page = (folder / "split" / "latest" / "own" / "index.html").read_text()
    assert "Colours, fine-tuned" in page and "LAMBADA, zero-shot" in page
