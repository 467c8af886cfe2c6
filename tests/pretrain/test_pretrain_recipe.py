"""What pretraining reads from a recipe, and the errors it gives."""

import pytest
import torch
from tiny_inputs import recipe as tiny_recipe
from tiny_inputs import write_corpus

from core.config import preset
from core.errors import ConfigurationError
from pretrain.__main__ import build_parser, pretrain
from recipes.models import read_model

RECIPE = """
[models.small]
family = "gpt2"
layers = 2
hidden = 8
heads = 2
sequence_length = 16
[models.small.training]
steps = 5
global_batch = 2
micro_batch = 1
learning_rate = 1e-3
[models.paper]
preset = "gpt2-8.3b"
dropout = 0.0
training = { steps = 1, global_batch = 1, micro_batch = 1, learning_rate = 1 }
[models.wrong]
family = "gpt2"
layers = "many"
vocabulary_size = 7
training = { steps = 1, pace = 3 }
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_a_model_gets_the_tokenizers_vocabulary(recipe):
    shape, training = read_model(str(recipe), "small", 131)
    assert (shape.vocabulary_size, shape.hidden, training.steps) == (131, 8, 5)


def test_a_preset_can_be_changed(recipe):
    shape, _ = read_model(str(recipe), "paper", 50257)
    assert shape.layers == preset("gpt2-8.3b").layers == 72
    assert shape.dropout == 0.0


def test_every_error_is_named_with_file_and_key(recipe):
    with pytest.raises(ConfigurationError) as caught:
        read_model(str(recipe), "wrong", 131)
    text = str(caught.value)
    for part in (
        "models.wrong.layers",
        "models.wrong.vocabulary_size",
        "training.pace: unknown key",
        "training.global_batch: missing",
    ):
        assert part in text
    assert text.count(str(recipe)) == len(caught.value.errors)


def test_unknown_models_and_recipes_name_the_known_ones(recipe):
    with pytest.raises(ConfigurationError, match=r"no model 'tiny' \(models: small, paper, wrong"):
        read_model(str(recipe), "tiny", 131)
    with pytest.raises(ConfigurationError, match=r"no such recipe \(known names: .*sample"):
        read_model("nonesuch", "small", 131)


def test_a_pipeline_that_a_model_does_not_fill_is_refused_before_anything_starts(tmp_path):
    write_corpus(tmp_path)
    (tmp_path / "recipe.toml").write_text(tiny_recipe(5))
    arguments = [
        "gpt2",
        "--recipe",
        str(tmp_path / "recipe.toml"),
        "--model",
        "tiny",
        "--data",
        str(tmp_path),
    ]
    arguments += ["--tokenizer", str(tmp_path / "tokenizer.json"), "--output", str(tmp_path / "out")]

    def errors(*options: str) -> list[str]:
        with pytest.raises(ConfigurationError) as refused:
            pretrain(build_parser().parse_args([*arguments, *options]))
        return refused.value.errors

    stages = ("--pipeline-parallel", "2")
    assert "model tiny: layers 1 is not divisible by the 2 stages" in errors(*stages)[0]
    assert "--zero: must be 0 or 1 with pipeline_parallel 2, is 3" in errors(*stages, "--zero", "3")[0]
    assert not torch.distributed.is_initialized() and not (tmp_path / "out").exists()
