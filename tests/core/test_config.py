"""Configuration: all errors at once, each with its place; the paper's sizes."""

from dataclasses import replace

import pytest

from core.config import ModelConfig, ParallelConfig, TrainingConfig, preset
from core.errors import ConfigurationError
from core.tables import from_table


def test_all_errors_are_reported_at_once():
    errors: list[str] = []
    table = {"family": "gpt3", "layers": "two", "hidden": 64, "heads": 4, "wings": 2, "dropout": True}
    assert from_table(ModelConfig, table, "models.x", errors) is None
    text = "\n".join(errors)
    for part in (
        "models.x.layers: must be of type int, is 'two'",
        "models.x.wings: unknown key",
        "models.x.dropout: must be of type float, is True",
        "models.x.sequence_length: missing",
        "models.x.vocabulary_size: missing",
    ):
        assert part in text
    assert len(errors) == 5
    errors.clear()
    table |= {"layers": 2, "sequence_length": 8, "vocabulary_size": 9, "dropout": 1.0}
    assert from_table(ModelConfig, table, "models.x", errors) is None
    assert (
        "models.x.family: must be one of bert, gpt2 or added by a plug-in, is 'gpt3', did you mean 'gpt2'?"
        in errors
    )
    assert "models.x.dropout: must be in [0, 1), is 1.0" in errors


def test_values_are_checked_after_types():
    errors: list[str] = []
    table = {"steps": 10, "global_batch": 0, "micro_batch": 1, "learning_rate": -1, "warmup_steps": 11}
    assert from_table(TrainingConfig, table, "t", errors) is None
    assert [line.split(":")[0] for line in errors] == ["t.global_batch", "t.learning_rate", "t.warmup_steps"]


def test_integers_that_no_array_holds_are_refused():
    errors: list[str] = []
    table = {"steps": 1 << 63, "global_batch": 8, "micro_batch": 8, "learning_rate": 10**400}
    assert from_table(TrainingConfig, table, "t", errors) is None
    assert [error.split(", is")[0] for error in errors] == [
        "t.steps: must have at most 64 bits",
        "t.learning_rate: must have at most 64 bits",
    ]
    config = TrainingConfig(steps=10**400, global_batch=8, micro_batch=8, learning_rate=1e-3)
    assert any(error.startswith("t.steps: must have at most 64 bits") for error in config.errors("t"))


def test_integers_serve_as_floats():
    errors: list[str] = []
    config = from_table(
        TrainingConfig, {"steps": 1, "global_batch": 1, "micro_batch": 1, "learning_rate": 1}, "t", errors
    )
    assert errors == [] and config is not None and isinstance(config.learning_rate, float)


def _parameters(config: ModelConfig) -> float:
    hidden = config.hidden
    layer = 12 * hidden * hidden + 13 * hidden
    return (config.padded_vocabulary_size + config.sequence_length) * hidden + config.layers * layer


@pytest.mark.parametrize(
    ("name", "billions"),
    [("gpt2-355m", 0.355), ("gpt2-2.5b", 2.5), ("gpt2-8.3b", 8.3), ("bert-336m", 0.336), ("bert-1.3b", 1.3),
     ("bert-3.9b", 3.9), ("scaling-1.2b", 1.2), ("scaling-4.2b", 4.2)],
)  # fmt: skip
def test_the_papers_sizes(name, billions):
    assert _parameters(preset(name)) / 1e9 == pytest.approx(billions, rel=0.03)


def test_the_vocabulary_is_padded_to_one_fixed_multiple():
    assert preset("gpt2-8.3b").padded_vocabulary_size == 51200
    assert preset("bert-336m").padded_vocabulary_size == 30720
    assert not preset("gpt2-8.3b").layout_errors(8)
    assert "heads 16 is not divisible" in preset("gpt2-355m").layout_errors(3)[0]


def test_an_unknown_size_names_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"gpt2-355m"):
        preset("gpt5")


def test_a_layout_that_cannot_be_is_named():
    assert "parallel.zero: must be one of (0, 1, 2, 3), is 4" in ParallelConfig(zero=4).errors()
    config = ModelConfig("gpt2", 2, 32, 4, 15, 131)
    assert not config.layout_errors(2)
    assert config.layout_errors(2, "model", True) == [
        "model: sequence_length 15 is not divisible by tensor_parallel 2"
    ]


def test_checkpoints_to_keep_are_ones_that_are_saved():
    settings = TrainingConfig(1, 4, 1, learning_rate=1.0, checkpoint_interval=200, keep_every=1000)
    assert not settings.errors()
    assert replace(settings, keep_every=500).errors() == [
        "training.keep_every: must be 0 or a multiple of checkpoint_interval (200), is 500"
    ]


def test_what_sets_the_course_of_a_run():
    settings = TrainingConfig(steps=1, global_batch=4, micro_batch=1, learning_rate=1.0)
    otherwise_cut = replace(
        settings, micro_batch=4, recompute="full", keep_last=9, keep_every=500, asynchronous_saving=False
    )
    assert settings.significant() == otherwise_cut.significant()
    assert settings.significant(drops=True) != otherwise_cut.significant(drops=True), "other masks of dropout"
    kept = replace(otherwise_cut, micro_batch=1)
    assert settings.significant(drops=True) == kept.significant(drops=True)
    assert settings.significant(drops=True) != replace(settings, compile=True).significant(drops=True)
    assert "loss_scale_window" not in settings.significant()
    assert replace(settings, precision="fp16").significant()["loss_scale_window"] == 1000
