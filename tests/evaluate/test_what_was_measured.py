"""A number says what it is about: which file, whose tokenizer, and with what settings it was asked; padding rows of an
embedding take no part in it."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from distributed import run_distributed
from tokenizers import decoders, models, pre_tokenizers

from core.config import ModelConfig
from core.errors import UserError
from core.generation.sampling import Sampling
from core.model_directory import build_model, load_model, read_config, save_model
from core.parallel.mesh import Mesh, initialize
from data_pipeline.benchmarks.lambada import read_rows
from data_pipeline.tokenization.tokenizers import load_tokenizer
from evaluate.__main__ import build_parser
from evaluate.generate import generate_texts
from evaluate.lambada import encode_rows
from evaluate.wikitext103 import detokenize

LENGTH, ROWS = 32, 300


def _write_tokenizer(path: Path, swapped: int = 0) -> None:
    """A byte-level tokenizer without merges, 257 tokens; with the last bytes' ids in another order."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    pieces[60 : 60 + swapped] = reversed(pieces[60 : 60 + swapped])
    backend = tokenizers.Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(path))


def _write_model(folder: Path) -> None:
    """A model of the tokenizer, which says so, and one of 300 rows, whose rows beyond the tokens are by far the
    likeliest."""
    mesh = initialize(1)
    shape: dict[str, Any] = {
        "family": "gpt2",
        "layers": 1,
        "hidden": 16,
        "heads": 4,
        "sequence_length": LENGTH,
    }
    own = ModelConfig(**shape, vocabulary_size=257, vocabulary_multiple=64, initial_std=0.3)
    fingerprint = load_tokenizer(folder / "tokenizer.json").fingerprint
    save_model(build_model(own, mesh), folder / "own", mesh, fingerprint)
    wide = ModelConfig(**shape, vocabulary_size=ROWS, vocabulary_multiple=8, initial_std=0.3)
    model = build_model(wide, mesh)
    with torch.no_grad():
        model.token_embedding.weight.to_local()[257:] *= 50
    save_model(model, folder / "wide", mesh)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    _write_tokenizer(folder / "tokenizer.json")
    _write_tokenizer(folder / "other.json", swapped=40)
    run_distributed(_write_model, 1, folder)
    rows = [json.dumps({"text": f"the {word} said {word}"}) for word in ("cat", "dog", "cat", "bird", "ox")]
    (folder / "lambada.jsonl").write_text("\n".join(rows) + "\n")
    lines = [f" = Number {n} = \n \n Some words , and {n} @-@ more . \n" for n in range(12)]
    (folder / "wiki.tokens").write_text("".join(lines))
    return folder


def _evaluate(folder: Path, task: str, **options: Any) -> dict[str, Any] | str:
    """The program's result, or its message."""
    data = {"lambada": "lambada.jsonl", "wikitext103": "wiki.tokens"}
    given = {"checkpoint": "own", "tokenizer": "tokenizer.json", "data": data.get(task)} | options
    line = [task]
    for name, value in given.items():
        path = name in ("checkpoint", "tokenizer", "data")
        line += [
            f"--{name.replace('_', '-')}",
            *([] if value is True else [str(folder / value if path else value)]),
        ]
    printed = io.StringIO()
    arguments = build_parser().parse_args(line)
    try:
        with contextlib.redirect_stdout(printed):
            arguments.run(arguments)
    except UserError as error:
        return str(error)
    return json.loads(printed.getvalue() or "{}")  # only the main rank prints


def _asked_again(folder: Path, output: str) -> list[dict[str, Any] | str]:
    asks: list[dict[str, Any]] = [
        {},
        {},
        {"stride": 16},
        {"controls": True},
        {"data": "half.tokens"},
        {"checkpoint": "changed"},
    ]
    text = (folder / "wiki.tokens").read_text()
    (folder / "half.tokens").write_text(text[: len(text) // 2])
    mesh = initialize(1)
    model = load_model(folder / "own", mesh)
    with torch.no_grad():
        model.transformer.final_norm.bias.to_local()[-1] += 1e-3
    save_model(model, folder / "changed", mesh, load_tokenizer(folder / "tokenizer.json").fingerprint)
    return [_evaluate(folder, "wikitext103", **{"output": output, "stride": 8, **ask}) for ask in asks]


def test_a_finished_evaluation_is_given_again_and_never_for_something_else(inputs: Path, tmp_path: Path):
    output = tmp_path / "result.json"
    first, again, *others = run_distributed(_asked_again, 1, inputs, str(output))[0]
    assert first == again == json.loads(output.read_text())
    differing = ("settings.stride was 8, is 16", "controls was False, is True", "data was", "model was")
    for message, difference in zip(others, differing, strict=True):
        assert isinstance(message, str) and difference in message and str(output) in message
        assert message.count(" was ") == 2, "nothing else differs"


def test_another_tokenizer_of_the_same_size_is_refused_unless_the_user_insists(inputs: Path):
    evaluated, generated, insisted, own = run_distributed(_with_other, 1, inputs)[0]
    for message in (evaluated, generated):
        assert "other.json: is not the tokenizer that the model in" in message
        assert "--accept-tokenizer" in message
    assert insisted["tokenizer_is"] == "accepted" and own["tokenizer_is"] == "the model's"


def _with_other(folder: Path) -> list[Any]:
    refused = _evaluate(folder, "lambada", tokenizer="other.json")
    line = ["generate", "--checkpoint", str(folder / "own"), "--tokenizer", str(folder / "other.json")]
    arguments = build_parser().parse_args([*line, "--prompt", "a"])
    with pytest.raises(UserError) as raised:
        arguments.run(arguments)
    insisted = _evaluate(folder, "lambada", tokenizer="other.json", accept_tokenizer=True)
    return [refused, str(raised.value), insisted, _evaluate(folder, "lambada")]


def _imported(folder: Path) -> list[Any]:
    """As an import leaves it: the tokenizer's files in the model's folder, no fingerprint."""
    mesh = initialize(1)
    save_model(load_model(folder / "own", mesh), folder / "imported", mesh)
    (folder / "imported" / "tokenizer").mkdir()
    shutil.copy(folder / "tokenizer.json", folder / "imported" / "tokenizer")
    return [
        _evaluate(folder, "lambada", checkpoint="imported", tokenizer=name)
        for name in ("tokenizer.json", "other.json")
    ]


def test_an_imported_models_own_tokenizer_is_the_one_that_came_with_it(inputs: Path):
    own, other = run_distributed(_imported, 1, inputs)[0]
    assert own["tokenizer_is"] == "the model's"
    assert "is not the tokenizer that the model in" in other


def _wide(folder: Path, tensor: int) -> tuple[Any, Any, list[str]]:
    lambada = _evaluate(folder, "lambada", checkpoint="wide", tensor_parallel=tensor)
    wikitext = _evaluate(folder, "wikitext103", checkpoint="wide", stride=8, tensor_parallel=tensor)
    mesh = initialize(tensor)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    model = load_model(folder / "wide", mesh, read_config(folder / "wide").for_tokens(257))
    texts = []
    for temperature in (0.0, 1.0):
        with contextlib.redirect_stdout(io.StringIO()):
            made = generate_texts(model, tokenizer, mesh, iter(["the"]), 8, Sampling(temperature=temperature))
        texts.append(made["texts"][0]["text"])
    return lambada, wikitext, texts


def _expected_of_wide(folder: Path) -> tuple[int, float]:
    """Right last words and the loss of the text, over 257 columns only, a plain softmax for each target."""
    mesh: Mesh = initialize(1)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    model = load_model(folder / "wide", mesh)

    @torch.inference_mode()
    def logits(context: np.ndarray) -> torch.Tensor:
        return model(torch.tensor(context)[None])[0, -1].double()

    right = 0
    for row in encode_rows(read_rows(folder / "lambada.jsonl"), tokenizer, LENGTH):
        places = range(len(row.tokens) - row.scored, len(row.tokens))
        assert all(logits(row.tokens[:place]).argmax() >= 257 for place in places), (
            "rows beyond are the likeliest"
        )
        right += all(logits(row.tokens[:p])[:257].argmax() == row.tokens[p] for p in places)
    text = np.array(tokenizer.encode(detokenize((folder / "wiki.tokens").read_text())))
    loss = 0.0
    for place in range(1, len(text)):
        window = max(0, -(-(place - LENGTH) // 8)) * 8
        loss -= logits(text[window:place])[:257].log_softmax(-1)[text[place]].item()
    return right, loss


@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_rows_beyond_the_tokenizers_tokens_take_no_part_on_any_layout(inputs: Path, tensor: int):
    right, loss = run_distributed(_expected_of_wide, 1, inputs)[0]
    lambada, wikitext, texts = run_distributed(_wide, tensor, inputs, tensor)[0]
    words = len((inputs / "wiki.tokens").read_text().strip().split(" "))
    assert lambada["correct"] == right
    assert wikitext["perplexity"] == pytest.approx(np.exp(loss / (words - 1)), rel=1e-4)
    assert all(texts) and not any("\x00" in text for text in texts)
