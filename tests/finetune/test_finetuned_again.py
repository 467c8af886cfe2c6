"""A finished fine-tuning is given again to who asks the same, and refused to who asks something else or with a tokenizer
that is not the model's."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from distributed import run_distributed

from core.config import ModelConfig
from core.errors import UserError
from core.interop.huggingface import export_model
from core.model_directory import build_model, read_config, read_tokenizer_fingerprint, save_model
from core.parallel.mesh import initialize
from data_pipeline.tokenization.tokenizers import load_tokenizer
from finetune.__main__ import build_parser
from tests.finetune.race_tree import VOCABULARY, write_tree, write_vocabulary

ROWS = 30  # of the embedding, for 18 tokens


def _write_models(folder: Path) -> None:
    mesh = initialize(1)
    for name, seed in (("bert", 1), ("another", 2)):
        config = ModelConfig(
            "bert", 1, 16, 2, 48, ROWS, vocabulary_multiple=8, dropout=0.0, attention_dropout=0.0
        )
        fingerprint = load_tokenizer(folder / "vocab.txt").fingerprint
        save_model(build_model(config, mesh, seed), folder / name, mesh, fingerprint)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("again")
    write_vocabulary(folder / "vocab.txt")
    special, words = VOCABULARY[:5], VOCABULARY[5:]
    (folder / "other.txt").write_text("\n".join([*special, *reversed(words)]) + "\n")
    write_tree(folder / "RACE", {"train": 2, "dev": 1, "test": 2})
    shutil.copytree(folder / "RACE", folder / "changed")
    passage = folder / "changed" / "test" / "high" / "0.txt"
    passage.write_text(passage.read_text().replace('"A"', '"B"'))
    if passage.read_bytes() == (folder / "RACE" / "test" / "high" / "0.txt").read_bytes():
        passage.write_text(passage.read_text() + "\n")
    run_distributed(_write_models, 1, folder)
    return folder


def _finetune(folder: Path, output: Path, **options: Any) -> Any:
    """The program's result, or its message."""
    paths = {"checkpoint": "bert", "tokenizer": "vocab.txt", "data": "RACE"}
    given = {name: folder / options.pop(name, path) for name, path in paths.items()}
    given |= {"output": output, "epochs": 1, "batch_size": 4, "micro_batch": 4, **options}
    line = ["race"]
    for name, value in given.items():
        line += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    printed = io.StringIO()
    arguments = build_parser().parse_args(line)
    try:
        with contextlib.redirect_stdout(printed):
            arguments.run(arguments)
    except UserError as error:
        return str(error)
    return json.loads(printed.getvalue() or "{}")  # only the main rank prints


ASKS: list[tuple[dict[str, Any], str]] = [
    ({"seed": 2}, "settings.seed was 1, is 2"),
    ({"learning_rate": 1e-3}, "settings.learning_rate was 2e-05, is 0.001"),
    ({"epochs": 2}, "settings.epochs was 1, is 2"),
    ({"sequence_length": 40}, "settings.sequence_length was 48, is 40"),
    ({"data": "changed"}, "data was "),
    ({"checkpoint": "another"}, "model was "),
    ({"controls": True}, "controls was False, is True"),
]


def _ask(folder: Path, output: Path) -> list[Any]:
    answers = [_finetune(folder, output), _finetune(folder, output, micro_batch=2, sequence_length=48)]
    return answers + [_finetune(folder, output, **ask) for ask, _ in ASKS]


def test_what_is_asked_with_something_else_is_refused_by_name(inputs: Path, tmp_path: Path):
    first, again, *others = run_distributed(_ask, 1, inputs, tmp_path / "out")[0]
    assert first == again == json.loads((tmp_path / "out" / "result.json").read_text())
    for (_, difference), message in zip(ASKS, others, strict=True):
        assert isinstance(message, str) and difference in message, message
        assert message.count(" was ") == 2, "nothing else differs"
    assert first["data"]["counts"]["test/high"] == {"passages": 2, "questions": 4}
    assert first["tokenizer_is"] == "the model's" and first["precision"] == "fp32"
    assert set(first["standard_error"]) == {"all", "middle", "high"}
    assert first["standard_error_over"] == "4 passages"


def _other_tokenizer(folder: Path, output: Path) -> list[Any]:
    refused = _finetune(folder, output, tokenizer="other.txt")
    return [refused, _finetune(folder, output, tokenizer="other.txt", accept_tokenizer=True)]


def test_another_tokenizer_is_refused_and_more_rows_than_tokens_are_none(inputs: Path, tmp_path: Path):
    refused, insisted = run_distributed(_other_tokenizer, 1, inputs, tmp_path / "out")[0]
    assert "other.txt: is not the tokenizer that the model in" in refused and "--accept-tokenizer" in refused
    assert insisted["tokenizer_is"] == "accepted"
    model = tmp_path / "out" / "model"
    assert read_tokenizer_fingerprint(model) == load_tokenizer(inputs / "other.txt").fingerprint
    assert read_config(model).vocabulary_size == len(VOCABULARY)
    assert read_config(model).padded_vocabulary_size == read_config(inputs / "bert").padded_vocabulary_size


def _as_it_is(folder: Path, output: Path) -> list[Any]:
    """A Megatron-BERT of Hugging Face's with its vocabulary beside it, and the model that it was exported from."""
    export_model(folder / "bert", output / "theirs")
    shutil.copy(folder / "vocab.txt", output / "theirs")
    line = [
        "race",
        "--hf",
        str(output / "theirs"),
        "--data",
        str(folder / "RACE"),
        "--output",
        str(output / "direct"),
    ]
    arguments = build_parser().parse_args([*line, "--epochs", "1", "--batch-size", "4", "--micro-batch", "4"])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        arguments.run(arguments)
    return [json.loads(printed.getvalue()), _finetune(folder, output / "own")]


def test_a_directory_of_hugging_faces_is_fine_tuned_as_it_is(inputs: Path, tmp_path: Path):
    direct, own = run_distributed(_as_it_is, 1, inputs, tmp_path)[0]
    assert direct["asked"].pop("model") != own["asked"].pop("model")
    assert direct == own and direct["tokenizer_is"] == "the model's"
    assert read_config(tmp_path / "direct" / "model").norm_order == "pre"
