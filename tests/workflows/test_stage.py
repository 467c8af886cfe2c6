"""The base stage: keys, locks, resumption, failure. With small stages of the tests' own."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dummy_stages import Luigi

from core.errors import ConfigurationError, StoppedError, TransientError, UserError
from core.processes import is_running
from core.training.errors import LostRank
from data_pipeline.engine.artifacts import RUN_RECORD
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.steps import Workplace
from data_pipeline.sources.download import GivenUpError
from workflows import EvaluateLambada, FullReproduction, Pretrain, Report, TrainTokenizer, attempts
from workflows.__main__ import build_parser
from workflows.source_hashes import changed_stages
from workflows.stage import walk
from workflows.status import rows

CHECKOUT = Path(__file__).resolve().parents[2]
TINY = str(CHECKOUT / "tests" / "recipes" / "tiny.toml")
NO_DROPOUT = "dropout = 0.0\nattention_dropout = 0.0"


@pytest.fixture
def luigi_run(tmp_path: Path) -> Luigi:
    return Luigi(tmp_path)


def test_one_line_a_stage_a_summary_and_no_noise(luigi_run: Luigi):
    code, output, errors = luigi_run.run()
    assert code == 0
    lines = output.splitlines()
    assert lines[0] == "Second: 2 stages"
    assert lines[1].startswith("[1/2] first of the test … ")
    assert lines[2].startswith("[2/2] second of the test … ")
    assert lines[3].startswith("Second: 2 stages run, 0 already done, ")
    assert len(lines) == 4
    assert errors == ""


def test_a_second_command_runs_nothing_and_says_so(luigi_run: Luigi):
    luigi_run.run()
    code, output, _ = luigi_run.run()
    assert code == 0
    assert "nothing to run, 2 stages already done" in output
    assert luigi_run.traced() == ["first", "one", "two"]


def test_what_is_gone_below_a_complete_stage_is_made_again_when_something_needs_it(luigi_run: Luigi):
    luigi_run.run()
    shutil.rmtree(luigi_run.artifact("first"))
    code, output, _ = luigi_run.run()
    assert code == 0
    assert "Second: nothing to run, 1 stage already done, 1 gone and not needed" in output
    assert luigi_run.traced() == ["first", "one", "two"]
    shutil.rmtree(luigi_run.artifact("second"))
    code, output, _ = luigi_run.run()
    assert code == 0 and "2 stages run, 0 already done" in output
    assert luigi_run.traced() == ["first", "one", "two"] * 2


def test_another_terminal_sees_what_runs_and_how_what_was_killed_ended(luigi_run: Luigi):
    process = luigi_run.start("slow")
    given = build_parser().parse_args(["status", "--runs", str(luigi_run.folder / "runs")])
    deadline = time.monotonic() + 60
    found = []
    while not any(row.state == "running" and row.what.startswith("second/") for row in found):
        assert time.monotonic() < deadline and process.poll() is None, found
        found = list(rows(given)) if (luigi_run.folder / "runs").is_dir() else []
        time.sleep(0.02)
    running = next(row for row in found if row.what.startswith("second/"))
    assert f"process {process.pid} on " in running.holder
    assert [row.state for row in found if row.what.startswith("first/")] == ["done"]
    process.kill()
    process.communicate()
    assert {row.what.split("/")[0]: row.state for row in rows(given)} == {"first": "done", "second": "killed"}


def test_a_killed_stage_goes_on_in_its_partial_directory(luigi_run: Luigi):
    code, _, _ = luigi_run.run("die")
    assert code == -9
    partial = luigi_run.artifact("second")
    assert partial.name.endswith(".partial")
    code, output, _ = luigi_run.run()
    assert code == 0
    assert luigi_run.traced() == ["first", "one", "two"], "what was done before the kill is not done again"
    assert "1 already done" in output
    record = json.loads((luigi_run.artifact("second") / RUN_RECORD).read_text())
    assert [segment["ended"] for segment in record["segments"]] == ["killed", "finished"]
    assert record["resumed"] == 1


def test_a_failed_stage_makes_luigi_fail_with_one_message(luigi_run: Luigi):
    code, output, errors = luigi_run.run("fail")
    assert code == 30
    assert "[2/2] second of the test FAILED: the disk is full of frogs" in errors
    assert "Traceback" not in errors
    assert "1 stage run, 0 already done, 1 not done (failed" in output
    log = luigi_run.artifact("second") / "logs" / "second.log"
    assert f"the whole log: {log}" in errors
    assert "Traceback" in log.read_text()
    (segment,) = json.loads((luigi_run.artifact("second") / RUN_RECORD).read_text())["segments"]
    assert (segment["ended"], segment["error"]) == ("failed", "the disk is full of frogs")


def test_a_stage_goes_on_by_itself_when_a_process_was_lost(luigi_run: Luigi):
    code, _, errors = luigi_run.run("transient")
    assert code == 0
    assert "[2/2] second of the test: a process was lost" in errors
    assert "goes on from what is kept in 0.05 s (1 of 2)" in errors
    assert luigi_run.traced() == ["first", "one", "two"], "what was done before is not done again"
    record = json.loads((luigi_run.artifact("second") / RUN_RECORD).read_text())
    assert [segment["ended"] for segment in record["segments"]] == ["failed", "finished"]


@pytest.mark.parametrize(
    "error, expected",
    [
        (TransientError("a rank was lost"), 3),
        (GivenUpError("the server is away"), 3),
        (LostRank("rank 1 is gone"), 3),
        (UserError("no such file"), 1),
        (ConfigurationError(["heads: must be 1 or more"]), 1),
        (StoppedError("asked to end"), 1),
        (KeyError("frog"), 1),
    ],
)
def test_only_what_another_attempt_may_mend_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception, expected: int
):
    made: list[int] = []

    def make() -> None:
        made.append(1)
        raise error

    monkeypatch.setattr(attempts, "_WAIT_SECONDS", 0.0)
    with pytest.raises(type(error)):
        attempts.again(make, 2, "a stage")
    assert len(made) == expected


def test_a_signal_ends_a_stage_with_its_pool(luigi_run: Luigi):
    """SIGTERM and SIGKILL, trainings and evaluations: `test_reproduction.py`; all of them by hand: `signals.py`."""
    process = luigi_run.start(task="Pooled", options=("--workers", "2", "--cpu-workers", "2"))
    pool: list[Path] = []
    while len(pool) < 2 or not all(path.read_text() for path in pool):
        time.sleep(0.02)
        pool = [*luigi_run.folder.glob("runs/pooled/*.partial/[ab]")]
    process.send_signal(signal.SIGHUP)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in output
    assert not any(is_running(int(path.read_text())) for path in pool)
    (segment,) = json.loads((luigi_run.artifact("pooled") / RUN_RECORD).read_text())["segments"]
    assert segment["ended"] == "stopped"


def test_a_task_that_cannot_be_planned_is_another_exit_code(luigi_run: Luigi):
    code, _, errors = luigi_run.run(task="Unplannable")
    assert code == 35
    assert "KeyError: 'frog'" in errors


def test_two_recipes_of_one_name_say_so_when_they_take_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "other.toml").write_text(Path(TINY).read_text())
    for recipe, artifact in ((TINY, "a"), (TINY, "b"), (str(tmp_path / "other.toml"), "c"), (TINY, "b")):
        monkeypatch.setattr(Report, "directory", tmp_path / "runs" / "report" / artifact)
        task = Report(recipe=recipe, runs=str(tmp_path / "runs"))
        task.deliver()
        assert task.link.readlink() == Path(f"../report/{artifact}")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(
        f"note: {tmp_path}/runs/latest/tiny was of {TINY}, and is now of {tmp_path}/other.toml: "
    )
    assert f"is still in {tmp_path}/runs/report/b" in first
    assert f"is now of {TINY}" in second


def test_a_link_that_cannot_be_set_is_a_failure_of_its_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(Report, "make", lambda task: True)
    task = Report(recipe=TINY, runs=str(tmp_path))
    task.directory.mkdir(parents=True)
    (task.link / "mine").mkdir(parents=True)
    (task.link / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match="is no link"):
        task.run()
    assert "FAILED: " in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(luigi_run: Luigi):
    code, _, errors = luigi_run.run("bug")
    assert code == 30
    assert "KeyError: 'frog'" in errors


def test_an_error_of_a_library_is_a_bug_too(luigi_run: Luigi):
    code, _, errors = luigi_run.run("numpy")
    assert code == 30
    assert "ValueError: cannot reshape" in errors
    assert "Traceback" in errors


def test_two_commands_at_once_do_the_work_once(luigi_run: Luigi):
    processes = [luigi_run.start("slow") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(luigi_run.traced()) == ["first", "one", "two"]
    assert any("in use by process" in output for output in outputs)


def keys(recipe: Path | str, **parameters: int) -> dict[str, str]:
    root = FullReproduction(recipe=str(recipe), runs="/nowhere", **parameters)
    return {stage.label(): stage.artifact.key for stage in walk(root)}


def test_a_changed_parameter_changes_everything_downstream_and_nothing_else(tmp_path: Path):
    changed = tmp_path / "changed.toml"
    changed.write_text(Path(TINY).read_text().replace("steps = 60", "steps = 61"))
    before, after = keys(TINY), keys(changed)
    different = {label for label in before if before[label] != after[label]}
    assert different == {
        "pretrain gpt2-tiny",
        "WikiText-103 of gpt2-tiny",
        "LAMBADA of gpt2-tiny",
        "texts of gpt2-tiny",
        "write the report",
    }


def test_a_recipe_that_was_edited_since_trains_nothing_under_the_old_key(tmp_path: Path):
    """The ranks read the recipe when they start, hours after the keys were taken."""
    recipe = tmp_path / "edited.toml"
    recipe.write_text(Path(TINY).read_text())
    stage = Pretrain(recipe=str(recipe), runs=str(tmp_path / "runs"), model="gpt2-tiny")
    place = Workplace(stage.store, LocalExecutor(1))
    step = stage.step
    recipe.write_text(Path(TINY).read_text().replace("steps = 60", "steps = 61"))
    with pytest.raises(UserError, match=r"edited\.toml: was changed since this command began"):
        step.ranks(tmp_path, place)


def test_cleaning_is_upstream_of_all_models(tmp_path: Path):
    changed = tmp_path / "changed.toml"
    changed.write_text(Path(TINY).read_text() + "\n[clean]\nminimum_tokens = 64\n")
    before, after = keys(TINY), keys(changed)
    same = {label for label in before if before[label] == after[label]}
    assert same == {"write the sample's text", "fetch stories", "fetch books"}


def test_what_does_not_matter_does_not_change_keys(tmp_path: Path):
    changed = tmp_path / "elsewhere.toml"
    text = without_dropout = Path(TINY).read_text().replace("heads = 2", "heads = 2\n" + NO_DROPOUT)
    for old, new in (
        ("micro_batch = 4", "micro_batch = 2"),
        ("micro_batch = 64", "micro_batch = 32"),
        ("checkpoint_interval = 5", "checkpoint_interval = 7"),
        ("tensor_parallel = 2", "tensor_parallel = 1\ndata_parallel = 2"),
    ):
        assert old in text
        text = text.replace(old, new)
    changed.write_text(
        text + '\n[launch]\nkind = "slurm"\nprocesses_per_node = 1\narguments = ["--partition=gpu"]\n'
    )
    plain = tmp_path / "plain.toml"
    plain.write_text(without_dropout)
    assert keys(changed, cpu_workers=1) == keys(plain, cpu_workers=7)


def test_with_dropout_the_cut_of_a_batch_is_in_the_key_as_it_chooses_the_masks(tmp_path: Path):
    before = keys(TINY)
    for old, new, different in (
        ("micro_batch = 4", "micro_batch = 2", {"pretrain gpt2-tiny", "pretrain bert-tiny", "fine-tune bert-tiny on RACE"}),
        ("micro_batch = 64", "micro_batch = 32", {"fine-tune bert-tiny on RACE"}),
    ):  # fmt: skip
        changed = tmp_path / f"{new}.toml"
        changed.write_text(Path(TINY).read_text().replace(old + "\n", new + "\n"))
        after = keys(changed)
        found = {label for label in before if before[label] != after[label]}
        measured = {
            "WikiText-103 of gpt2-tiny",
            "LAMBADA of gpt2-tiny",
            "texts of gpt2-tiny",
            "write the report",
        }
        assert found - measured == different


def test_external_files_count_by_content_not_by_path(tmp_path: Path):
    found = []
    for folder, content in (("a", "one two"), ("b", "one two"), ("c", "one three")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "lambada.jsonl").write_text(json.dumps({"text": content}) + "\n")
        recipe = tmp_path / folder / "recipe.toml"
        old = '[benchmarks.lambada]\nsource = "sample"'
        recipe.write_text(Path(TINY).read_text().replace(old, '[benchmarks.lambada]\npath = "lambada.jsonl"'))
        found.append(keys(recipe)["LAMBADA of gpt2-tiny"])
    assert found[0] == found[1] != found[2]


def test_a_task_without_its_selector_stands_for_all_members():
    group = EvaluateLambada(recipe="sample", runs="/nowhere")
    assert [member.model for member in group.requires()] == ["gpt2-small", "gpt2-medium"]
    assert not group.complete()
    only = EvaluateLambada(recipe="sample", runs="/nowhere", model="gpt2-small")
    upstream = {type(stage) for stage in walk(only)}
    assert Pretrain in upstream
    assert TrainTokenizer in upstream


def test_importing_workflows_costs_nothing():
    """What is in it is imported when it is asked for, or by luigi."""
    program = "import sys, workflows; print(sorted(sys.modules.keys() & {'luigi', 'numpy', 'pyarrow', 'tokenizers', 'torch'}))"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_planning_needs_no_slow_import():
    program = "import sys, workflows; workflows.FullReproduction; print([name for name in ('torch', 'nltk', 'datasets') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_a_damaged_manifest_is_one_line(tmp_path: Path):
    folder = tmp_path / "clean" / "mine-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    command = [sys.executable, "-m", "workflows", "verify", "--runs", str(tmp_path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert "manifest.json: cannot be read as JSON" in result.stdout
    assert "1 artifacts checked, 1 problem(s)" in result.stdout
    assert result.stderr == ""


def test_sources_are_as_the_committed_table_says():
    assert changed_stages() == []
