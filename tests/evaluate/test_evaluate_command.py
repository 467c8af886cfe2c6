"""The command line: one JSON object, one message for what a user can cause."""

import hashlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from distributed import run_distributed, run_program
from tokenizers import decoders, models, pre_tokenizers

from core.config import ModelConfig
from core.errors import UserError
from core.model_directory import build_model, save_model
from core.parallel.mesh import initialize
from core.program.ranks import read_model_config
from data_pipeline.tokenization.tokenizers import load_tokenizer
from evaluate.__main__ import build_parser, tasks_by_name
from evaluate.predictions import check_predictions, write_predictions

ROOT = Path(__file__).resolve().parents[2]


def _write_tokenizer(path: Path) -> int:
    """A byte-level tokenizer without merges; returns its vocabulary size."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    backend = tokenizers.Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(path))
    return len(pieces)


def _write_model(directory: Path, family: str, vocabulary_size: int) -> None:
    mesh = initialize(1)
    config = ModelConfig(
        family=family,  # type: ignore[arg-type]
        layers=1,
        hidden=16,
        heads=2,
        sequence_length=32,
        vocabulary_size=vocabulary_size,
        vocabulary_multiple=64,
    )
    save_model(build_model(config, mesh), directory, mesh)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    size = _write_tokenizer(folder / "tokenizer.json")
    # As a training stage leaves it: the model in `model/` of the output.
    run_distributed(_write_model, 1, folder / "trained" / "model", "gpt2", size)
    run_distributed(_write_model, 1, folder / "foreign", "gpt2", size - 1)
    run_distributed(_write_model, 1, folder / "bert", "bert", size)
    (folder / "wiki.tokens").write_text(" \n = A title = \n \n Some words , and @-@ more . \n" * 5)
    rows = [{"text": f"the {word} said {word}"} for word in ("cat", "dog", "cat", "bird")]
    (folder / "lambada.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


def _evaluate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Under torchrun itself, which has its own to say about ranks that fail."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    common = ["--tokenizer", str(folder / "tokenizer.json"), "--tensor-parallel", "2"]
    return subprocess.run(
        [sys.executable, *launcher, "-m", "evaluate", *arguments, *common],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_training_output_is_scored_with_controls_on_two_tensor_ranks(inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    paths = ["--checkpoint", str(inputs / "trained"), "--data", str(inputs / "lambada.jsonl")]
    paths += ["--tokenizer", str(inputs / "tokenizer.json"), "--output", str(output)]
    run = run_program("evaluate", ["lambada", *paths, "--controls", "--tensor-parallel", "2"], processes=2)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)  # one object, from one rank, and nothing else
    assert result == json.loads(output.read_text())
    assert result["task"] == "lambada"
    assert result["total"] == 4
    assert result["baseline_accuracy"] == 0.5
    assert result["accuracy"] == result["correct"] / 4
    assert {"shuffled_context_accuracy", "untrained_accuracy", "sequence_length"} <= set(result)
    right = [1] * result["correct"] + [0] * (4 - result["correct"])
    assert result["standard_error"] == pytest.approx(statistics.stdev(right) / 2)
    assert result["data"]["description"] == "another file, 4 passages" and not result["data"]["official"]
    assert result["data"]["sha256"] == hashlib.sha256((inputs / "lambada.jsonl").read_bytes()).hexdigest()
    assert (result["precision"], result["tokenizer_is"]) == ("fp32", "not known")
    assert "does not say which tokenizer" in run.stderr


SCORED = """
import atexit, runpy, sys
atexit.register(lambda: print("imported:", "torch.distributed.tensor" in sys.modules, file=sys.stderr))
runpy.run_module("evaluate", run_name="__main__")
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_rank_scores_without_importing_distributed_tensors(
    inputs: Path, tmp_path: Path, precision: str
) -> None:
    # They take half a second to import; only tensor ranks that share parameters, and training, need them.
    paths = ["--checkpoint", str(inputs / "trained"), "--data", str(inputs / "lambada.jsonl")]
    paths += ["--tokenizer", str(inputs / "tokenizer.json"), "--controls", "--precision", precision]
    command = [sys.executable, "-c", SCORED, "lambada", *paths]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert "imported: False" in run.stderr
    ranks = run_program("evaluate", ["lambada", *paths, "--tensor-parallel", "2"], processes=2)
    one, two = (json.loads(result.stdout) for result in (run, ranks))
    for name in ("accuracy", "untrained_accuracy", "last_word_perplexity"):
        assert one[name] == pytest.approx(two[name], rel=1e-2 if precision == "bf16" else 1e-5)


def test_an_error_is_one_message_from_two_ranks(inputs: Path) -> None:
    run = _evaluate(
        inputs,
        *("wikitext103", "--checkpoint", str(inputs / "trained"), "--data", str(inputs / "wiki.tokens")),
        *("--stride", "33"),
    )
    assert run.returncode != 0
    assert run.stdout == ""
    assert run.stderr.count("--stride: must be from 1 to the model's sequence length, 32, is 33") == 1
    assert str(ROOT / "evaluate") not in run.stderr, "our part of the output is a message, not a traceback"


def test_models_and_tokenizers_must_belong_together(inputs: Path) -> None:
    path = inputs / "tokenizer.json"
    tokenizer = load_tokenizer(path)
    with pytest.raises(
        ValueError, match=r"has 257 tokens, the model in .*foreign.* 256 only, .* give that one"
    ):
        read_model_config(inputs / "foreign", tokenizer, path, causal=True)
    with pytest.raises(ValueError, match=r"holds a bert model, this task needs .*gpt2"):
        read_model_config(inputs / "bert", tokenizer, path, causal=True)
    with pytest.raises(ValueError, match="is a gpt2 tokenizer, the model needs a bert one"):
        read_model_config(inputs / "bert", tokenizer, path, causal=False)
    with pytest.raises(ValueError, match="no model here"):
        read_model_config(inputs, tokenizer, path, causal=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], r"--checkpoint: give one model or more"),
        (
            ["--checkpoint", "{0}/trained", "--hf", "{0}/other/trained"],
            r"two models are called 'trained'.*NAME=DIR",
        ),
        (
            ["--checkpoint", "{0}/trained", *["--tokenizer", "{0}/tokenizer.json"] * 2],
            r"--tokenizer: .* 2 for 1",
        ),
        (["--checkpoint", "{0}/trained"], r"trained: holds no tokenizer; give the one .* by --tokenizer"),
        (
            ["--checkpoint", "a={0}/bert", "--tokenizer", "{0}/tokenizer.json"],
            r"holds a bert model, this task needs",
        ),
        (["--checkpoint", "{0}/nothing", "--tokenizer", "{0}/tokenizer.json"], r"nothing: no model here"),
    ],
)
def test_what_is_wrong_with_a_launch_of_several_is_said_before_it_starts(
    inputs: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    typed = [option.format(inputs) for option in options]
    line = [
        "all",
        *typed,
        "--tasks",
        f"lambada={inputs / 'lambada.jsonl'}",
        "--output",
        str(tmp_path / "out"),
    ]
    arguments = build_parser().parse_args(line)
    with pytest.raises(UserError, match=message):
        arguments.run(arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["lambada"], "'lambada' must be TASK=PATH"),
        (["glue=a.tsv"], "no zero-shot task is called 'glue'"),
        (["text=a/x.txt", "text=b/x.txt"], "text is asked twice of files called x.txt"),
    ],
)
def test_tasks_that_cannot_be_told_are_refused(tasks: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tasks_by_name(tasks)


def test_a_task_with_several_files_has_a_result_for_each() -> None:
    found = tasks_by_name(["text=a/x.txt", "lambada=l=1.jsonl", "text=y.txt"])
    assert {name: (record.name, str(path)) for name, (record, path) in found.items()} == {
        "text-x.txt": ("text", "a/x.txt"),
        "lambada": ("lambada", "l=1.jsonl"),
        "text-y.txt": ("text", "y.txt"),
    }


def test_predictions_are_of_one_result_and_nothing_else_is_overwritten(tmp_path: Path) -> None:
    path, columns = tmp_path / "rows.parquet", {"row": [1], "right": [True]}
    assert not check_predictions(path, {"data": "a"})
    write_predictions(path, columns, {"data": "a"})
    assert check_predictions(path, {"data": "a"})
    with pytest.raises(UserError, match=r"rows\.parquet: what was predicted there .*data was a, is b"):
        check_predictions(path, {"data": "b"})
    path.write_text("notes of mine")
    with pytest.raises(UserError, match=r"rows\.parquet: no predictions of an evaluation"):
        check_predictions(path, {"data": "a"})
    assert path.read_text() == "notes of mine" and [path] == list(tmp_path.iterdir())
