"""Adoption, with the keys of the stages of a whole recipe: which artifacts follow, and what both manifests say."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from anew import begin_anew
from finished import TINY, finish_all, root_of, stages_of

from core.errors import UserError
from data_pipeline.engine.integrity import verify_store
from workflows.adopt import adopt_artifacts
from workflows.show_plan import show_plan
from workflows.stage import walk
from workflows.survey import survey


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of libraries, in place of those that are installed."""
    found: dict[str, str] = {}
    installed = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda name: found.get(name) or installed(name))
    return found


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.read_text())
    return path


def to_run(recipe: Path, runs: Path) -> set[str]:
    return {stage.label() for stage in stages_of(recipe, runs) if not stage.artifact.is_complete()}


def edit(recipe: Path, old: str, new: str) -> None:
    assert old in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(old, new))


def test_one_look_at_a_new_torch_is_enough(
    recipe: Path, tmp_path: Path, versions: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    versions["torch"] = "2.13.0+cpu"
    runs = tmp_path / "runs"
    made = finish_all(recipe, runs)
    versions["torch"] = "2.13.1"
    assert to_run(recipe, runs) == set()
    versions["torch"] = "2.14.0"
    torch = {stage.label() for stage in stages_of(recipe, runs) if "torch" in stage.step.kind.libraries}
    assert "pretrain bert-tiny" in torch and len(torch) == 6
    assert to_run(recipe, runs) == torch | {"write the report"}
    before = {label: (path / "manifest.json").read_bytes() for label, path in made.items()}
    assert adopt_artifacts(stages_of(recipe, runs), [], agreed=False) == 0  # shows, and does nothing
    shown = capsys.readouterr().out
    assert shown.count('    libraries.torch: "2.13" → "2.14"') == len(torch)
    assert {label: (path / "manifest.json").read_bytes() for label, path in made.items()} == before
    given = made["LAMBADA of gpt2-tiny"]
    assert adopt_artifacts(stages_of(recipe, runs), [given], agreed=True) == 0
    assert to_run(recipe, runs) == set()
    show_plan(root_of(recipe, runs))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("adopted ") for line in lines) == len(torch)
    assert lines[-1].startswith("1 of "), "the adopted report is not linked from runs/latest yet"
    assert not [line for checked in verify_store(runs) for line in checked.problems]
    versions["torch"] = "2.13.0"
    assert to_run(recipe, runs) == set(), "the old ones are still there"


def test_both_manifests_tell_of_it(recipe: Path, tmp_path: Path, versions: dict[str, str]) -> None:
    versions["torch"] = "2.13.0"
    runs = tmp_path / "runs"
    old = finish_all(recipe, runs)["pretrain gpt2-tiny"]
    versions["torch"] = "2.14.0"
    adopt_artifacts(stages_of(recipe, runs), [old], agreed=True)
    (new,) = (stage.directory for stage in stages_of(recipe, runs) if stage.label() == "pretrain gpt2-tiny")
    of_old, of_new = (json.loads((path / "manifest.json").read_text()) for path in (old, new))
    lines = ['libraries.torch: "2.13" → "2.14"']
    assert of_new["adopted"] == {"key": of_old["key"], "name": of_old["name"], "differences": lines}
    assert of_old["adopted_as"] == {of_new["key"]: lines}
    assert (of_new["outputs"], of_new["summary"]) == (of_old["outputs"], of_old["summary"])
    assert of_new["libraries"]["torch"] == "2.14"
    assert "adopted_as" not in of_new and "adopted" not in of_old
    assert (new / "logs" / "it.log").read_text() == "made"
    assert (new / "run.json").exists()


def test_a_parameter_is_accepted_of_the_named_artifact_and_of_no_other(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    made = finish_all(recipe, runs)
    edit(recipe, "steps = 60", "steps = 61")
    recipe.write_text(recipe.read_text() + "\n[deduplicate]\nbands = 16\n")
    begun = to_run(recipe, runs)
    assert adopt_artifacts(stages_of(recipe, runs), [made["deduplicate"]], agreed=True) == 0
    assert "    parameters.bands: 32 → 16" in capsys.readouterr().out
    left = to_run(recipe, runs)
    assert {"deduplicate", "tokenize for gpt2", "tokenize for bert"} <= begun - left
    assert left == {
        "pretrain gpt2-tiny",  # whose own parameter differs, too
        "WikiText-103 of gpt2-tiny",
        "LAMBADA of gpt2-tiny",
        "texts of gpt2-tiny",
        "write the report",
    }


def test_what_was_made_elsewhere_enters(recipe: Path, tmp_path: Path) -> None:
    """In another folder, or by another computer, under the same key or another one; what it was copied from may go."""
    made = finish_all(recipe, tmp_path / "elsewhere")
    runs = tmp_path / "runs"
    given = [made[label] for label in ("deduplicate", "train the tokenizer of gpt2", "tokenize for gpt2")]
    assert adopt_artifacts(stages_of(recipe, runs), given, agreed=True) == 0
    edit(recipe, "steps = 60", "steps = 61")
    assert adopt_artifacts(stages_of(recipe, runs), [made["pretrain gpt2-tiny"]], agreed=True) == 0
    shutil.rmtree(tmp_path / "elsewhere")
    done = {stage.label(): stage for stage in stages_of(recipe, runs) if stage.is_made()}
    assert done.keys() == {
        "deduplicate",
        "train the tokenizer of gpt2",
        "tokenize for gpt2",
        "pretrain gpt2-tiny",
    }
    told = done["pretrain gpt2-tiny"].artifact.manifest()["adopted"]
    assert told["differences"] == ["parameters.training.steps: 60 → 61"]
    assert done["deduplicate"].artifact.manifest()["adopted"]["differences"] == []
    assert not [line for checked in verify_store(runs) for line in checked.problems]
    assert {s.stage.label(): s.status for s in survey(root_of(recipe, runs))}["deduplicate"] == "adopted"


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda folder: (folder / "result").write_text("PRETRAIN GPT2-TINY"),
            "is damaged, so it is not adopted",
        ),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "differs from the hash in it"),
    ],
)
def test_what_is_damaged_is_not_adopted(
    recipe: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    runs = tmp_path / "runs"
    old = finish_all(recipe, runs)["pretrain gpt2-tiny"]
    edit(recipe, "steps = 60", "steps = 61")
    spoil(old)
    with pytest.raises(UserError, match=message):
        adopt_artifacts(stages_of(recipe, runs), [old], agreed=True)
    assert "pretrain gpt2-tiny" in to_run(recipe, runs)


def test_nothing_is_adopted_unasked_or_by_mistake(recipe: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = finish_all(recipe, runs)
    with pytest.raises(UserError, match="pretrain gpt2-tiny is done"):
        adopt_artifacts(stages_of(recipe, runs), [made["pretrain gpt2-tiny"]], agreed=True)
    edit(recipe, "steps = 60", "steps = 61")
    with pytest.raises(UserError, match="when the differences change nothing, say --yes"):
        adopt_artifacts(stages_of(recipe, runs), [made["pretrain gpt2-tiny"]], agreed=False)
    assert "pretrain gpt2-tiny" in to_run(recipe, runs)
    alone = tmp_path / "alone.toml"
    alone.write_text('[recipe]\nname = "a"\n[tokenizers.gpt2]\nvocabulary_size = 300\n[sample]\ndocuments = 100\n'
                     '[[corpora]]\nname = "s"\nsource = "sample"\npart = "stories"\n')  # fmt: skip
    begin_anew()
    from workflows.corpus_report import CorpusReport

    stages = list(walk(CorpusReport(recipe=str(alone), runs=str(runs))))
    with pytest.raises(UserError, match="for which stage\\? The recipe has of pretrain: none"):
        adopt_artifacts(stages, [made["pretrain gpt2-tiny"]], agreed=True)
