"""The options of pretraining and fine-tuning that say what a training shows and records."""

import pytest

import finetune.__main__
import pretrain.__main__
from core.errors import ConfigurationError
from core.flags import from_flags
from core.program.run_options import RunSettings
from core.training.trainer import RunOptions

COMMANDS = [
    (pretrain.__main__.build_parser, "gpt2 --model m --data d --tokenizer t --output o"),
    (pretrain.__main__.build_parser, "bert --model m --data d --tokenizer t --output o"),
    (finetune.__main__.build_parser, "race --checkpoint c --data d --tokenizer t --output o"),
]


@pytest.mark.parametrize(("build_parser", "line"), COMMANDS, ids=["gpt2", "bert", "race"])
def test_they_reach_the_trainer(build_parser, line):
    parser = build_parser()
    plain = from_flags(RunSettings, parser.parse_args(line.split()))
    assert RunOptions(**plain.options()) == RunOptions()
    chosen = parser.parse_args([*line.split(), "--tensorboard", "--profile-steps", "10:13", "--measure-peak"])
    assert RunOptions(**from_flags(RunSettings, chosen).options()) == RunOptions(
        measure_peak=True, tensorboard=True, profile_steps=(10, 13)
    )


@pytest.mark.parametrize("text", ["13:10", "0:2", "5", "a:b", "-1:2", "1:2:3"])
def test_a_range_that_is_none_is_named(text):
    build_parser, line = COMMANDS[0]
    arguments = build_parser().parse_args([*line.split(), f"--profile-steps={text}"])
    with pytest.raises(
        ConfigurationError, match=f"^--profile-steps: must be FIRST:LAST.* as 10:13, is '{text}'"
    ):
        from_flags(RunSettings, arguments)
