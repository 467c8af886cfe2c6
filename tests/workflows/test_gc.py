"""`gc`: what nothing needs goes, and nothing else: whatever `latest/` stands on, locks, and what no stage made stays."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from anew import begin_anew
from finished import TINY, begin, finish, finish_all, partial_of, root_of, stages_of

from core.errors import UserError
from core.files import exclusive
from data_pipeline.cleanup import in_use
from data_pipeline.engine.adoption import adopt, finished
from data_pipeline.engine.integrity import repair, verify
from workflows.gc import collect
from workflows.noted import NOTED_FILE, begin_work, noted
from workflows.survey import survey

CHANGE = "deduplicate.threshold=0.8"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two runs made, the second with another threshold; `latest/` leads to the second report."""
    runs = tmp_path_factory.mktemp("both")
    finish_all(TINY, runs)
    finish_all(TINY, runs, CHANGE)
    return runs


@pytest.fixture
def runs(both: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(both, tmp_path / "runs", symlinks=True))


def artifacts(runs: Path) -> set[str]:
    return {
        f"{path.parent.name}/{path.name}"
        for path in runs.glob("[!.]*/*")
        if path.is_dir() and not path.is_symlink()
    }


def wanted(runs: Path, overrides: str = "") -> set[str]:
    return {f"{s.directory.parent.name}/{s.directory.name}" for s in stages_of(TINY, runs, overrides)}


def found(capsys: pytest.CaptureFixture[str], runs: Path, *recipes: str) -> dict[str, dict]:
    capsys.readouterr()
    assert collect(runs, recipes, as_json=True) == 0
    return {Path(one["path"]).name: one for one in json.loads(capsys.readouterr().out)["found"]}


def test_nothing_goes_that_latest_needs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, needed = artifacts(runs), wanted(runs, CHANGE)
    collect(runs, [])
    assert artifacts(runs) == before, "without --yes nothing is touched"
    assert "can go: python -m workflows gc --yes" in capsys.readouterr().out
    collect(runs, [], agreed=True)
    assert artifacts(runs) == needed < before
    assert all(s.status == "done" for s in survey(root_of(TINY, runs, CHANGE)))
    assert not (runs / ".removed").exists()
    capsys.readouterr()
    collect(runs, [], agreed=True)
    assert artifacts(runs) == needed and "0 folder(s) removed" in capsys.readouterr().out
    shutil.rmtree(runs / "report")  # what is known by its link alone
    (runs / "latest" / "tiny").unlink()
    with pytest.raises(UserError, match="nothing says what is needed"):
        collect(runs, [], agreed=True)


def test_a_given_recipe_and_one_that_was_run_here_count(runs: Path, tmp_path: Path) -> None:
    both = wanted(runs) | wanted(runs, CHANGE)
    collect(runs, [str(TINY)], agreed=True)
    assert artifacts(runs) == both
    recipe = tmp_path / "mine.toml"
    recipe.write_text(TINY.read_text())
    begin_work(runs, recipe).close()
    begin_work(runs, recipe).close()
    assert list(noted(runs)) == [str(recipe)]
    collect(runs, [], agreed=True)
    assert artifacts(runs) == both
    recipe.write_text(TINY.read_text().replace("[sample]", "[sampel]"))
    begin_anew()
    collect(runs, [], agreed=True)
    assert artifacts(runs) == both, "what cannot be planned may need anything"
    recipe.unlink()
    begin_anew()
    (runs / NOTED_FILE).write_text((runs / NOTED_FILE).read_text() + '{"rec')
    collect(runs, [], agreed=True)
    assert artifacts(runs) == wanted(runs, CHANGE)


def test_what_a_recipe_goes_on_with_stays_and_given_up_work_goes(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = {stage.label(): stage for stage in stages_of(TINY, runs, CHANGE)}
    shutil.rmtree(stages["deduplicate"].directory)
    needed = begin(stages["deduplicate"])
    (given_up,) = (
        s for s in stages_of(TINY, runs, "deduplicate.threshold=0.9") if s.label() == "deduplicate"
    )
    old = begin(given_up)
    listed = found(capsys, runs)
    assert listed[needed.name]["what"] == "kept" and "goes on with it" in listed[needed.name]["note"]
    assert listed[old.name]["what"] == "partial" and listed[old.name]["can_go"]
    collect(runs, [], agreed=True)
    assert needed.exists() and not old.exists()


def test_what_a_process_holds_or_reads_stays(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stage of a third recipe is at work on what the first one made, which nothing else needs."""
    stages = {stage.label(): stage for stage in stages_of(TINY, runs, "models.gpt2-tiny.training.steps=61")}
    training = begin(stages["pretrain gpt2-tiny"])
    read = {
        stages[label].directory
        for label in ("tokenize for gpt2", "train the tokenizer of gpt2", "deduplicate")
    }
    with exclusive(stages["pretrain gpt2-tiny"].artifact.own):
        collect(runs, [], agreed=True)
        assert training.exists() and all(path.exists() for path in read)
    locked = finish_all(TINY, runs)["LAMBADA of gpt2-tiny"]
    finish_all(TINY, runs, CHANGE)
    with exclusive(locked):
        collect(runs, [], agreed=True)
        assert locked.exists()
    (begin(stages["pretrain gpt2-tiny"]) / ".made-of.json").unlink()
    finish_all(TINY, runs)
    finish_all(TINY, runs, CHANGE)
    before = artifacts(runs)
    with exclusive(stages["pretrain gpt2-tiny"].artifact.own):
        capsys.readouterr()
        collect(runs, [], agreed=True)
        assert artifacts(runs) == before
        assert "does not say of what it was made: anything may be needed for it" in capsys.readouterr().out
    with in_use(runs), pytest.raises(UserError, match="something is being made there"):
        collect(runs, [], agreed=True)
    collect(runs, [], agreed=True)
    assert artifacts(runs) == wanted(runs, CHANGE)


def test_where_a_manifest_is_lost_nothing_finished_goes(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`latest/` needs what the lost one was made of, and only the lost one knew what that is."""
    before = artifacts(runs)
    (model,) = (s.directory for s in stages_of(TINY, runs, CHANGE) if s.label() == "pretrain gpt2-tiny")
    shutil.rmtree(model)
    collect(runs, [], agreed=True)
    assert artifacts(runs) == before - {f"pretrain/{model.name}"}
    assert "is gone: anything may be needed for it" in capsys.readouterr().out
    (runs / "notes.toml").write_text(TINY.read_text() + "\n[deduplicate]\nthreshold = 0.8\n")
    collect(runs, [str(runs / "notes.toml")], agreed=True)  # which knows it, too
    assert artifacts(runs) == wanted(runs, CHANGE) - {f"pretrain/{model.name}"}


def spoilt(path: Path) -> Path:
    (path / "result").write_text("something of another size")
    return path


def test_damaged_ones(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed = spoilt(next(s.directory for s in stages_of(TINY, runs, CHANGE) if s.label() == "deduplicate"))
    stale = spoilt(next(s.directory for s in stages_of(TINY, runs) if s.label() == "deduplicate"))
    listed = found(capsys, runs)
    assert listed[needed.name]["what"] == "kept" and "verify --repair" in listed[needed.name]["note"]
    assert listed[stale.name]["what"] == "damaged" and listed[stale.name]["can_go"]
    aside = repair(verify(needed))
    assert aside is not None and "makes it anew" in found(capsys, runs)[aside.name]["note"]
    collect(runs, [], agreed=True)
    assert aside.exists() and not stale.exists()
    for stage in stages_of(TINY, runs, CHANGE):
        finish(stage)
    collect(runs, [], agreed=True)
    assert not aside.exists() and artifacts(runs) == wanted(runs, CHANGE)


def test_what_was_adopted_stays(runs: Path) -> None:
    old, new = (
        next(s for s in stages_of(TINY, runs, o) if s.label() == "deduplicate")
        for o in ("", "deduplicate.threshold=0.75")
    )
    adopt(new.artifact, finished(old.directory), [])
    collect(runs, [], agreed=True)
    assert new.directory.exists() and not old.directory.exists()


def test_what_was_adopted_from_elsewhere_stands_alone(runs: Path, tmp_path: Path) -> None:
    """What it was made of is not there; that hides nothing that is needed here."""
    made = finish_all(TINY, tmp_path / "elsewhere", "deduplicate.threshold=0.9")
    (tokens,) = (
        s for s in stages_of(TINY, runs, "deduplicate.threshold=0.95") if s.label() == "tokenize for gpt2"
    )
    adopt(tokens.artifact, finished(made["tokenize for gpt2"]), [])
    collect(runs, [], agreed=True)
    assert artifacts(runs) == wanted(runs, CHANGE) | {f"tokenize/{tokens.directory.name}"}


def test_unfinished_work_beside_what_was_finished_since_goes(runs: Path) -> None:
    (stage,) = (s for s in stages_of(TINY, runs, CHANGE) if s.label() == "deduplicate")
    left = Path(shutil.copytree(stage.directory, partial_of(stage.directory)))
    collect(runs, [], agreed=True)
    assert stage.is_made() and not left.exists() and artifacts(runs) == wanted(runs, CHANGE)


FOREIGN: list[tuple[str, Callable[[Path], object]]] = [
    ("notes.txt", lambda path: path.write_text("mine")),
    ("folder", lambda path: path.mkdir()),
    ("deduplicate/notes.txt", lambda path: path.write_text("mine")),
    ("deduplicate/folder", lambda path: path.mkdir()),
    ("deduplicate/mine-0123456789ab", lambda path: (path / "data").mkdir(parents=True)),
    ("deduplicate/link-0123456789ab", lambda path: path.symlink_to("/etc")),
    ("linked", lambda path: path.symlink_to("/etc")),
]


def test_what_no_stage_made_is_listed_and_not_touched(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "data").write_text("precious")
    for name, make in FOREIGN:
        make(runs / name)
    stale = {s.label(): s.directory for s in stages_of(TINY, runs)}
    (stale["deduplicate"] / "notes.txt").write_text("mine")
    (stale["tokenize for gpt2"] / "outside").symlink_to(outside)
    listed = found(capsys, runs)
    for name, _ in FOREIGN:
        assert listed[Path(name).name]["what"] in ("foreign", "kept"), name
        assert not listed[Path(name).name]["can_go"]
    assert "holds notes.txt, which no stage wrote" in listed[stale["deduplicate"].name]["note"]
    collect(runs, [], agreed=True)
    assert all(os.path.lexists(runs / name) for name, _ in FOREIGN)
    assert stale["deduplicate"].exists() and stale["tokenize for gpt2"].exists()
    assert (outside / "data").read_text() == "precious" and Path("/etc/passwd").exists()
    assert not stale["train the tokenizer of gpt2"].exists()
    (runs / ".removed").symlink_to(outside)
    finish_all(TINY, runs)
    finish_all(TINY, runs, CHANGE)
    with pytest.raises(UserError, match="is a link; remove it"):
        collect(runs, [], agreed=True)
    assert (outside / "data").exists()


def test_killed_in_the_middle_it_goes_on(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = wanted(runs, CHANGE)
    renamed: list[str] = []
    rename = os.rename

    def third_time_killed(old: Path, new: Path) -> None:
        if len(renamed) == 3:
            raise KeyboardInterrupt
        renamed.append(str(old))
        rename(old, new)

    monkeypatch.setattr("workflows.garbage.os.rename", third_time_killed)
    with pytest.raises(KeyboardInterrupt):
        collect(runs, [], agreed=True)
    assert len(list((runs / ".removed").iterdir())) == 3
    assert needed < artifacts(runs)
    monkeypatch.undo()
    collect(runs, [], agreed=True)
    assert artifacts(runs) == needed and not (runs / ".removed").exists()


def test_outputs_of_commands_count(runs: Path, tmp_path: Path) -> None:
    old = next(s for s in stages_of(TINY, runs) if s.label() == "deduplicate").artifact
    output = tmp_path / "out"
    output.mkdir()
    line = {"output": os.path.relpath(output, runs), "artifact": f"deduplicate/{old.own.name}"}
    (runs / ".made.jsonl").write_text(json.dumps(line) + "\n")
    collect(runs, [], agreed=True)  # not finished: what was begun for it
    assert old.is_complete()
    (output / "summary.json").write_text(json.dumps({"stages": [{"key": old.key}]}))
    collect(runs, [], agreed=True)
    assert old.is_complete()
    (output / "summary.json").write_text(json.dumps({"stages": []}))
    collect(runs, [], agreed=True)
    assert not old.is_complete()


def test_luigi_notes_its_recipe_and_keeps_gc_away(tmp_path: Path) -> None:
    program = f"""
import workflows
from pathlib import Path
from workflows import console, gc
from workflows.stage import _begin_session
root = workflows.FullReproduction(recipe={str(TINY)!r}, runs={str(tmp_path / "runs")!r})
_begin_session(root)
try:
    gc.collect(Path(root.runs), [], agreed=True)
except Exception as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "something is being made there" in result.stdout, result.stderr
    assert list(noted(tmp_path / "runs")) == [str(TINY)]
    assert collect(tmp_path / "runs", []) == 0  # where there is nothing yet
