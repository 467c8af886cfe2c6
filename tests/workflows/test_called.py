"""`workflows.run` and `workflows.plan` from Python: cheap to import, nothing that ends or confuses the caller. A whole run is
in `docs/from-python.md`, which is played by its own test."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from core.errors import ConfigurationError, UserError
from core.files import write_json
from workflows import called, plan, run
from workflows.called import RunError, written
from workflows.export import export
from workflows.report_page import write_pages

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A corpus of a few documents, its paths relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(
        '{"text": "The old ferryman walked home along the quiet river."}\n' * 3
    )
    return {
        "recipe": {"name": "mine"},
        "corpora": [{"name": "mine", "source": "local", "paths": ["in.jsonl"]}],
        "clean": {"minimum_tokens": 8},
        "tokenizers": {"gpt2": {"vocabulary_size": 300}},
    }


def _of_a_fresh_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_importing_costs_nothing_and_luigi_finds_every_task():
    said = _of_a_fresh_python(
        "import sys, time; began = time.process_time(); import workflows; took = time.process_time() - began\n"
        "print(took < 0.5, 'luigi' in sys.modules, 'torch' in sys.modules)\n"
        "import workflows.recipe_plan; from workflows import plan, run, Pretrain; print(callable(plan), callable(run))\n"
        "import luigi; print(luigi.configuration.get_config().get('core', 'no_lock'), 'torch' in sys.modules)"
    )
    assert said.split() == ["True", "False", "False", "True", "True", "true", "False"]
    said = _of_a_fresh_python(
        "import luigi, workflows; from luigi.task_register import Register\n"
        "print(Register.get_task_cls('EvaluateLambada').__module__)"  # as luigi --module workflows asks for it
    )
    assert said.split() == ["workflows.tasks"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(sys.modules["workflows"], "nothing")  # noqa: B009


def test_a_plan_is_of_the_recipe_as_it_is_at_each_call(recipe: dict[str, Any]):
    stages = plan(recipe, task="BuildCorpus")
    assert [(stage.task, stage.status) for stage in stages][:2] == [
        ("FetchDocuments mine", "to run"),
        ("CleanDocuments mine", "to run"),
    ]
    assert "never made" in str(stages[0])
    first = stages[1].directory
    recipe["clean"]["minimum_tokens"] = 9
    assert plan(recipe, task="BuildCorpus")[1].directory != first
    path = Path("other.json")
    path.write_text(json.dumps(recipe))
    second = plan(path, task="BuildCorpus")[1].directory
    path.write_text(json.dumps({**recipe, "clean": {"minimum_tokens": 8}}))
    assert plan(path, task="BuildCorpus")[1].directory == first != second, "the file was read again"
    assert plan(path, set="clean.minimum_tokens=9", task="BuildCorpus")[1].directory == second
    assert not Path("runs").exists(), "nothing is made"


def test_a_table_becomes_a_file_of_the_working_directory(recipe: dict[str, Any], tmp_path: Path):
    recipe["corpora"][0]["paths"] = [Path("in.jsonl")]
    path = Path(written(recipe))
    assert path == tmp_path / ".mine.recipe.json"
    assert json.loads(path.read_text())["corpora"][0]["paths"] == ["in.jsonl"]
    before = path.stat().st_mtime_ns, path.stat().st_ino
    written(recipe)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before, "the same again changes nothing"
    assert written("sample") == "sample" and written(Path("a.toml")) == "a.toml"
    for wrong in (
        {},
        {"recipe": 3},
        {"recipe": {"name": "../x"}},
        {"recipe": {"name": "x"}, "sample": {1, 2}},
    ):
        with pytest.raises(ConfigurationError):
            written(wrong)
    assert [one.name for one in tmp_path.glob(".*.json")] == [".mine.recipe.json"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "Nothing"}, "no task is called 'Nothing'"),
        ({"task": "plan"}, "no task is called 'plan'"),
        ({"task": "CleanDocuments", "corpus": "yours"}, "it has: mine"),
        ({"task": "CleanDocuments", "modell": "a"}, "has no option 'modell'"),
        ({"set": "clean.minimum_token=3"}, "minimum_token"),
    ],
)
@pytest.mark.parametrize("ask", [plan, run])
def test_what_is_wrong_is_an_error_and_never_an_exit(
    recipe: dict[str, Any], options: dict[str, Any], said: str, ask: Any, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(UserError, match=said):
        ask(recipe, **options)
    assert capfd.readouterr().err == ""


def test_a_failed_stage_is_an_error_with_its_message_and_code(
    recipe: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "in.jsonl").write_text('{"text": 3}\n' * 200)
    with pytest.raises(RunError, match="FAILED") as raised:
        run(recipe, task="FetchDocuments", cpu_workers=1)
    assert raised.value.exit_code == 30
    assert "in.jsonl" in str(raised.value) and "Traceback" not in str(raised.value)
    assert "FAILED" in capfd.readouterr().out, "shown as it came"


@pytest.fixture
def interrupts() -> Iterator[None]:
    """In a moment the main thread gets a KeyboardInterrupt."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, usual)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_ends_the_command_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    command = (
        "import signal, sys, time, pathlib\n"
        "def end(*_):\n    pathlib.Path(sys.argv[2]).write_text('in order'); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('begun', flush=True)\ntime.sleep(60)\n"
    )
    monkeypatch.setattr(called, "_COMMAND", command)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        called._started([str(tmp_path / "ended")], quiet=True)
    assert (tmp_path / "ended").read_text() == "in order"
    assert time.monotonic() - began < 20


def test_the_reason_of_a_failure_is_what_the_command_said_of_it():
    output = "A: 2 stages\n[1/2] a … 1 s\n[2/2] b FAILED: x.jsonl: no good\n  the log: y\nA: 1 stage run\n"
    assert called._why(output, 30) == "[2/2] b FAILED: x.jsonl: no good\n  the log: y\nA: 1 stage run"
    assert called._why("nothing special\n", 40) == "nothing special"
    assert "exit code 40 and said nothing" in called._why("", 40)


def test_an_exported_report_holds_all_its_pages_and_the_same_bytes_each_time(tmp_path: Path):
    from report_world import finished, page_of

    folder = tmp_path / "report"
    (folder / "data").mkdir(parents=True)
    write_pages(folder, page_of(finished(tmp_path / "runs")))
    write_json(folder / "results.json", {"a": 1})
    for name in ("data.html", "data/clean-a.html", "data/fetch-a.html"):
        (folder / name).write_text(name)
    export(folder, tmp_path / "out" / "a.zip")
    export(folder, tmp_path / "b.ZIP")
    assert (tmp_path / "out" / "a.zip").read_bytes() == (tmp_path / "b.ZIP").read_bytes()
    with zipfile.ZipFile(tmp_path / "b.ZIP") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "report.html", "report.md", "results.json", "data.html", "data/clean-a.html", "data/fetch-a.html",
        ]  # fmt: skip
        assert archive.read("report.html") == (folder / "index.html").read_bytes()
    with pytest.raises(UserError, match=r"must end in \.zip"):
        export(folder, tmp_path / "a.tar")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export(folder, tmp_path / "file" / "a.zip")
