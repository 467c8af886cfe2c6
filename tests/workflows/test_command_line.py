"""What luigi's command line says of our tasks, and that its exit codes are as told."""

import argparse
import re
import types
from pathlib import Path

import luigi
import pytest
from luigi.cmdline_parser import CmdlineParser

from workflows import central, luigi_command, luigi_defaults
from workflows.command_line import EXIT_CODES, our_tasks

DOCS = Path(__file__).resolve().parents[2] / "docs"


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """(exit code, all that is printed) of luigi's parser."""
    with pytest.raises(SystemExit) as ended:
        CmdlineParser(["--module", "workflows", *words])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err


def test_help_of_every_task_says_what_it_makes_and_each_option_once(capsys: pytest.CaptureFixture[str]):
    for task in our_tasks():
        code, text = said([task.__name__, "--help"], capsys)
        assert code == 0
        assert text.startswith(f"usage: luigi --module workflows {task.__name__} [options]\n\n")
        (made,) = re.findall(r"^makes: (.*)", text, re.MULTILINE)
        assert "an artifact below" not in made, f"{task.__name__} does not say what it makes"
        assert (task.__doc__ or "").strip().splitlines()[0] in text
        options = re.findall(r"^  (--[a-z-]+)(?: ([A-Z_]+))?(?:  +(.*))?$", text, re.MULTILINE)
        names = [option[0] for option in options]
        assert len(set(names)) == len(names)
        assert {f"--{name.replace('_', '-')}" for name, _ in task.get_params()} <= set(names)
        undescribed = [name for name, parameter in task.get_params() if not parameter.description]
        assert not undescribed, f"{task.__name__}: {undescribed}"


def test_help_lists_the_tasks(capsys: pytest.CaptureFixture[str]):
    code, text = said(["--help"], capsys)
    assert code == 0
    for task in our_tasks():
        assert re.search(rf"^  {task.__name__} +\S", text, re.MULTILINE)


def test_an_unknown_task_is_one_line(capsys: pytest.CaptureFixture[str]):
    code, text = said(["EvaluateLamda"], capsys)
    assert code == 2
    assert text.startswith("no task is called EvaluateLamda (did you mean EvaluateLambada?); known: ")


def test_exit_codes_are_those_of_the_page_and_of_luigis_settings():
    page = (DOCS / "workflow.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert {int(code): text for code, text in rows} == EXIT_CODES
    assert {int(code) for code in luigi_defaults._LUIGI_DEFAULTS["retcode"].values()} <= EXIT_CODES.keys()


def test_a_daemon_that_does_not_answer_ends_the_command_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    central.check_answers.cache_clear()
    central.check_answers()  # outside a luigi command nobody is asked
    central.check_answers.cache_clear()
    monkeypatch.setattr(CmdlineParser, "get_instance", object)
    settings = types.SimpleNamespace(
        local_scheduler=False, scheduler_url="", scheduler_host="127.0.0.1", scheduler_port=9
    )
    monkeypatch.setattr(luigi.interface, "core", lambda: settings)
    with pytest.raises(SystemExit) as ended:
        central.check_answers()
    assert ended.value.code == 40
    message = capsys.readouterr().err
    assert (
        message.startswith("no scheduler answers at http://127.0.0.1:9 (") and "--local-scheduler" in message
    )
    settings.local_scheduler = True
    central.check_answers()


def test_our_own_run_takes_a_value_for_the_local_scheduler(monkeypatch: pytest.MonkeyPatch):
    """Luigi's command ends there, before it reads the module."""
    asked: list[bool] = []
    monkeypatch.setattr(luigi.interface.core.local_scheduler, "parsing", luigi.BoolParameter.IMPLICIT_PARSING)

    def run(words: list[str]) -> None:
        with CmdlineParser.global_instance(words):
            asked.append(luigi.interface.core().local_scheduler)

    monkeypatch.setattr(luigi_command, "luigi_run", run)
    for word in ("--local-scheduler=false", "--local-scheduler=true", "--local-scheduler"):
        luigi_command.run(argparse.Namespace(words=["Report", word]))
    assert asked == [False, True, True]
