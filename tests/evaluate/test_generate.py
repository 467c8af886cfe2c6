"""Generation with the cache, on real processes, against a reference that reads everything anew for every token."""

import argparse
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from distributed import run_distributed, run_program
from tokenizers import decoders, models, pre_tokenizers

from core.config import ModelConfig
from core.errors import ConfigurationError, UserError
from core.flags import flag_errors
from core.generation.batches import generate_tokens
from core.generation.beams import BeamSearch
from core.generation.sampling import Sampling, draw
from core.model_directory import build_model, load_model, save_model
from core.models.cache import KeyValueCache
from core.models.gpt2 import GPT2Model
from core.parallel.mesh import Mesh, initialize
from data_pipeline.tokenization.tokenizers import load_tokenizer
from evaluate.generate import (
    TextStream,
    add_arguments,
    chosen_method,
    generate_texts,
    read_prompts,
    typed_prompts,
)

ROOT = Path(__file__).resolve().parents[2]

# 11 tokens padded to 16: at two tensor ranks the second holds 3 real columns and 5 of padding.
CONFIG = ModelConfig("gpt2", 2, 32, 4, 12, 11, vocabulary_multiple=16, initial_std=0.3)
LENGTHS = (1, 12, 30)  # shorter than the window, exactly the window, longer
COUNT = 20  # the window fills several times
NEVER = -1  # a token that stops nothing
SAMPLINGS = (Sampling(), Sampling(temperature=1.3), Sampling(temperature=0.8, top_k=5, top_p=0.9, seed=7))


def _model(mesh: Mesh) -> GPT2Model:
    """Random, with rows of padding so large that one of them would be the first choice."""
    model = build_model(CONFIG, mesh)
    assert isinstance(model, GPT2Model)
    weight = model.token_embedding.weight
    start = mesh.tensor_rank * weight.to_local().shape[0]
    with torch.no_grad():
        weight.to_local()[max(0, CONFIG.vocabulary_size - start) :] *= 100.0
    return model


def _prompt(length: int) -> list[int]:
    return torch.randint(
        CONFIG.vocabulary_size, (length,), generator=torch.Generator().manual_seed(length)
    ).tolist()


def _generate_all(tensor: int) -> list[list[int]]:
    mesh = initialize(tensor)
    model = _model(mesh)
    return [
        list(
            generate_tokens(model, mesh, _prompt(length), COUNT, stop=NEVER, sampling=sampling, number=length)
        )
        for sampling in SAMPLINGS
        for length in LENGTHS
    ]


@torch.inference_mode()
def _without_cache() -> tuple[list[list[int]], int]:
    """The same texts, and how often padding would have been chosen."""
    mesh = initialize(1)
    model = _model(mesh)
    texts, padding = [], 0
    for sampling in SAMPLINGS:
        for length in LENGTHS:
            random = sampling.stream(length)
            context, text = _prompt(length)[-CONFIG.sequence_length :], []
            for _ in range(COUNT):
                if len(context) > CONFIG.sequence_length:
                    context = context[-(CONFIG.sequence_length // 2) :]
                logits = model(torch.tensor([context]))[0, -1]
                padding += int(logits.argmax() >= CONFIG.vocabulary_size)
                logits = logits[: CONFIG.vocabulary_size]
                if sampling.temperature == 0:
                    token = int(logits.argmax())
                else:
                    token = draw(
                        logits, sampling, torch.rand((), generator=random, dtype=torch.float64).item()
                    )
                text.append(token)
                context.append(token)
            texts.append(text)
    return texts, padding


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    texts, padding = run_distributed(_without_cache, 1)[0]
    assert padding > COUNT, "the test needs padding that is likely"
    return texts


@pytest.mark.parametrize("tensor", [1, 2])
def test_texts_are_those_without_a_cache_on_any_layout(expected: list[list[int]], tensor: int) -> None:
    for texts in run_distributed(_generate_all, tensor, tensor):
        assert texts == expected
    assert len({tuple(text) for text in expected}) == len(expected), (
        "texts differ, so equality says something"
    )
    assert all(0 <= token < CONFIG.vocabulary_size for text in expected for token in text)


def _cached_logits() -> float:
    """The largest difference of logits, read in pieces of several sizes and at once."""
    mesh = initialize(1)
    model = _model(mesh)
    tokens = torch.tensor([_prompt(12), _prompt(13)[1:]])
    cache = KeyValueCache(CONFIG, mesh, rows=2)
    with torch.inference_mode():
        pieces = [model(piece, cache=cache) for piece in tokens.split([3, 1, 5, 1, 2], dim=1)]
        assert cache.lengths == [12, 12]
        with pytest.raises(ValueError, match="13 tokens are more than the model's sequence_length 12"):
            model(tokens[:, :1], cache=cache)
        difference = torch.cat(pieces, 1) - model(tokens)
    return difference[..., : CONFIG.vocabulary_size].abs().max().item()


def test_the_cache_gives_the_same_logits() -> None:
    assert run_distributed(_cached_logits, 1)[0] < 1e-4


def _stopped() -> tuple[list[int], list[int]]:
    mesh = initialize(1)
    model = _model(mesh)
    whole = list(generate_tokens(model, mesh, [1], COUNT, stop=NEVER, sampling=SAMPLINGS[1]))
    return whole, list(generate_tokens(model, mesh, [1], COUNT, stop=whole[9], sampling=SAMPLINGS[1]))


def test_a_text_ends_before_the_end_of_a_document() -> None:
    whole, stopped = run_distributed(_stopped, 1)[0]
    assert stopped == whole[: whole.index(whole[9])]


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    grid = [(i + 0.5) / 1000 for i in range(1000)]

    def shares(sampling: Sampling) -> list[float]:
        drawn = [draw(logits, sampling, uniform) for uniform in grid]
        return [drawn.count(token) / 1000 for token in range(4)]

    assert shares(Sampling(temperature=1.0)) == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=2e-3)
    assert shares(Sampling(temperature=0.5)) == pytest.approx([1 / 30, 16 / 30, 4 / 30, 9 / 30], abs=2e-3)
    assert shares(Sampling(temperature=1.0, top_k=2)) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=2e-3)
    assert shares(Sampling(temperature=1.0, top_p=0.75)) == pytest.approx([0, 4 / 9, 2 / 9, 3 / 9], abs=2e-3)
    assert shares(Sampling(temperature=1.0, top_p=0.01)) == [0, 1, 0, 0], "the likeliest is always among them"
    assert draw(logits, Sampling(temperature=1.0, top_k=1), 1 - 2**-53) == 1
    with pytest.raises(ValueError, match="not finite"):
        draw(logits / 0, Sampling(temperature=1.0), 0.5)


def test_settings_that_mean_nothing_are_refused_together() -> None:
    flags = [line.split(": ")[0] for line in flag_errors(Sampling(temperature=-1, top_k=-2, top_p=0))]
    assert flags == ["--temperature", "--top-k", "--top-p"]
    (line,) = flag_errors(Sampling(top_k=3))
    assert line == "--temperature: must be above 0 where top_k or top_p choose among tokens drawn at random"


def _write_tokenizer(path: Path) -> int:
    """A byte-level tokenizer without merges: every byte is a token; returns its vocabulary size."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    backend = tokenizers.Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(path))
    return len(pieces)


def test_only_complete_characters_are_shown(tmp_path: Path) -> None:
    _write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    stream = TextStream(tokenizer)
    text = "né€😀!"
    pieces = [stream.add(token) for token in tokenizer.encode(text)]
    assert pieces == ["n", "", "é", "", "", "€", "", "", "", "😀", "!"]
    assert stream.end() == ""
    broken = tokenizer.encode("€")[:2] + tokenizer.encode("a€")[:3]  # cut, then a character, then cut
    stream = TextStream(tokenizer)
    shown = "".join(stream.add(token) for token in broken)
    assert shown == "\ufffda"
    assert shown + stream.end() == tokenizer.decode(broken)


def _write_model(directory: Path, vocabulary_size: int) -> None:
    mesh = initialize(1)
    config = ModelConfig("gpt2", 1, 16, 2, 24, vocabulary_size, vocabulary_multiple=64, initial_std=0.3)
    save_model(build_model(config, mesh), directory, mesh)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    size = _write_tokenizer(folder / "tokenizer.json")
    run_distributed(_write_model, 1, folder / "trained" / "model", size)
    return folder


def _command(
    folder: Path, processes: int, *options: str, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    common = ["--checkpoint", str(folder / "trained"), "--tokenizer", str(folder / "tokenizer.json")]
    return run_program("evaluate", ["generate", *common, *options], processes, typed)


def test_the_command_reads_lines_and_gives_the_same_texts_on_two_ranks(inputs: Path, tmp_path: Path) -> None:
    options = ["--tokens", "20", "--temperature", "0.9", "--top-p", "0.95", "--output"]
    typed = "Once upon\n\n" + "too long for a model that reads two dozen\n"
    alone = _command(inputs, 1, *options, str(tmp_path / "alone.json"), typed=typed)
    assert alone.returncode == 0, alone.stderr
    together = _command(
        inputs, 2, *options, str(tmp_path / "two.json"), "--tensor-parallel", "2", typed=typed
    )
    assert together.returncode == 0, together.stderr
    assert (tmp_path / "alone.json").read_text() == (tmp_path / "two.json").read_text()
    assert together.stdout == alone.stdout
    result = json.loads((tmp_path / "alone.json").read_text())
    assert [text["prompt"] for text in result["texts"]] == typed.splitlines()
    assert [text["prompt_tokens_left_out"] for text in result["texts"]] == [0, 0, 17]
    assert "warning: prompt 3 has 41 tokens, the model reads 24: the first 17 are left out" in alone.stderr
    shown, _, record = alone.stdout.partition('\n{\n  "')
    assert shown == "\n".join(text["prompt"] + text["text"] for text in result["texts"])
    assert json.loads('{"' + record) == result
    assert result["settings"] == {"tokens": 20, "temperature": 0.9, "top_k": 0, "top_p": 0.95, "seed": 1234}


def _prompts(*options: str) -> list[str]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    found = read_prompts(parser.parse_args(options))
    assert found is not None
    return list(found)


def _type(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    return list(typed_prompts())


def test_prompts_are_the_same_typed_and_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prompts.txt"
    for mark in (b"", b"\xef\xbb\xbf"):
        for end in (b"\n", b"\r\n"):
            content = mark + end.join(["one \u2028 \x85 line".encode(), b"", b"\xf0\x9f\x98\x80"])
            for last in (b"", end):
                path.write_bytes(content + last)
                expected = ["one \u2028 \x85 line", "", "😀"]
                assert _prompts("--prompt-file", str(path)) == _type(monkeypatch, content + last) == expected


def test_prompts_that_are_no_text_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"good\ncaf\xe9")
    with pytest.raises(UserError, match=rf"{path}: is not UTF-8 text, in line 2"):
        _prompts("--prompt-file", str(path))
    with pytest.raises(UserError, match="standard input, line 2: is not UTF-8 text"):
        _type(monkeypatch, path.read_bytes())
    with pytest.raises(UserError, match="--prompt, number 2: is not UTF-8 text"):
        _prompts("--prompt", "good", "--prompt", os.fsdecode(b"caf\xe9"))


def _too_many_ranks(folder: Path) -> None:
    mesh = initialize(1)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    with pytest.raises(ValueError, match="2 processes for --tensor-parallel 1"):
        generate_texts(_model(mesh), tokenizer, mesh, iter(["a"]), 1, Sampling())


def test_ranks_beyond_the_tensor_group_are_refused(inputs: Path) -> None:
    run_distributed(_too_many_ranks, 2, inputs)


def _batched(folder: Path, tensor: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The command's object: one text at a time (where one tensor group is all), in batches, and by beams."""
    mesh = initialize(tensor)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    model = load_model(folder / "trained", mesh)
    prompts = ["Once", "", "too long for a model that reads two dozen", "a", "bc"]
    drawn, search = Sampling(temperature=0.9, top_p=0.95), BeamSearch(3)
    alone = generate_texts(model, tokenizer, mesh, iter(prompts), 20, drawn) if mesh.data_size == 1 else {}
    batched = generate_texts(model, tokenizer, mesh, iter(prompts), 20, drawn, 2)
    return alone, batched, generate_texts(model, tokenizer, mesh, iter(prompts), 20, search, 3)


def test_batches_give_the_same_texts_and_are_shared_by_data_ranks(
    inputs: Path,
) -> None:
    alone, batched, searched = run_distributed(_batched, 1, inputs, 1)[0]
    assert batched == alone
    for text in searched["texts"]:
        assert text["prompt_tokens_left_out"] == max(0, text["prompt_tokens"] - 5), "24 - 20 + 1 are read"
        assert text["score"] < 0
    assert searched["settings"] == {
        "tokens": 20,
        "beams": 3,
        "length_penalty": 1.0,
        "early_stopping": "false",
    }
    for tensor in (1, 2):
        for _, other, again in run_distributed(_batched, 2, inputs, tensor):
            assert other == batched
            assert [text["text"] for text in again["texts"]] == [text["text"] for text in searched["texts"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length-penalty", "2"], "--beams: must be 2 or more for --length-penalty and --early-stopping"),
        (["--early-stopping", "true"], "--beams: must be 2 or more"),
        (["--beams", "3", "--temperature", "1"], "--beams: looks for the likeliest text"),
        (["--beams", "0"], "--beams: must be 1 or more, is 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: list[str], message: str) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(ConfigurationError, match=message):
        chosen_method(parser.parse_args(options))
