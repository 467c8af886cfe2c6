"""`why`: which values make two artifacts different ones, down to the first cause, however the two are named."""

import json
import shutil
from pathlib import Path

import pytest
from finished import TINY, finish_all

from core.errors import UserError
from workflows.__main__ import build_parser


def why(capsys: pytest.CaptureFixture[str], runs: Path, *words: str, recipe: Path = TINY) -> list[str]:
    given = build_parser().parse_args(["why", *words, "--runs", str(runs), "--recipe", str(recipe)])
    assert given.function(given) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("once")
    finish_all(TINY, runs)
    return runs


@pytest.fixture
def runs(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "runs", symlinks=True))


CHANGED = ("--set", "deduplicate.threshold=0.8")


def test_it_names_the_parameter_and_both_values(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = why(capsys, runs, "deduplicate", *CHANGED)
    assert lines[1:] == ["  deduplicate.threshold 0.7 → 0.8"]
    lines = why(capsys, runs, "report", *CHANGED)
    assert lines[0].startswith("report/tiny-") and " → report/tiny-" in lines[0]
    assert lines[1].startswith("  input deduplicate tiny changed: deduplicate/tiny-")
    assert lines[2] == "    deduplicate.threshold 0.7 → 0.8"
    assert lines[-1] == "in the end: deduplicate.threshold 0.7 → 0.8"
    assert sum("deduplicate.threshold" in line for line in lines) == 2, "what was shown is not shown again"


def test_every_way_to_name_an_artifact_means_the_same(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = finish_all(TINY, runs, "deduplicate.threshold=0.8")["deduplicate"]
    (old,) = (path for path in (runs / "deduplicate").glob("tiny-*[0-9a-f]") if path != new)
    other = tmp_path / "other.toml"
    other.write_text(TINY.read_text() + "\n[deduplicate]\nthreshold = 0.8\n")
    key = json.loads((new / "manifest.json").read_text())["key"]
    (tmp_path / "link").symlink_to(new)
    expected = [f"deduplicate/{old.name} → deduplicate/{new.name}", "  deduplicate.threshold 0.7 → 0.8"]
    names = (new, new / "manifest.json", key, key[:8], tmp_path / "link", f"{other}:deduplicate", f"{other}:DeduplicateDocuments",
             f"{other}:deduplicate/tiny")  # fmt: skip
    for name in map(str, names):
        assert why(capsys, runs, str(old), name) == expected
        assert why(capsys, runs, "deduplicate", name) == expected
    assert why(capsys, runs, str(new)) == expected, "without B: from the nearest other"
    assert why(capsys, runs, str(new), str(new))[1].startswith("  the same: ")
    monkeypatch.chdir(runs / "deduplicate")
    assert why(capsys, runs, old.name, new.name) == expected


def test_several_causes_and_inputs_that_are_new(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = "clean.minimum_tokens=64,models.gpt2-tiny.training.steps=61"
    found = why(capsys, runs, "LAMBADA of gpt2-tiny", "--set", overrides, "--json")
    table = json.loads("\n".join(found))
    assert [(cause["where"], cause["old"], cause["new"]) for cause in table["causes"]] == [
        ("parameters.training.steps", "60", "61"),
        ("parameters.minimum_tokens", "128", "64"),
    ]
    assert table["causes"][0]["text"] == "pretrain.training.steps 60 → 61"
    assert not table["same"] and table["inputs"][0]["role"] == "model"
    lines = why(capsys, runs, "tokenize/tiny-gpt2", "tokenize/tiny-bert")
    assert "  input sentences is new" in lines and "    tokenizer.kind gpt2 → bert" in lines
    lines = why(capsys, runs, "tokenize/tiny-gpt2", "clean/stories")
    assert lines[1] == "  clean.stage tokenize → clean" or "stage tokenize → clean" in lines[1]


def test_what_is_gone_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = finish_all(TINY, runs, "clean.minimum_tokens=64")
    shutil.rmtree(made["clean stories"])
    lines = why(capsys, runs, str(made["decontaminate"]))
    assert "  input 000 stories changed, but is not there any more, so nothing says by what" in lines
    assert "    clean.minimum_tokens 128 → 64" in lines, "of the other corpus it is known"
    assert why(capsys, runs.parent / "nowhere", "deduplicate")[0].endswith(
        ": never made, nor another of its stage and name"
    )


def test_a_copy_whose_bytes_differ_is_told(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = finish_all(TINY, tmp_path / "again")["pretrain gpt2-tiny"]
    assert len(why(capsys, runs, "pretrain/gpt2-tiny", str(again))) == 2
    shutil.rmtree(again)
    from finished import stages_of

    (stage,) = (s for s in stages_of(TINY, tmp_path / "again") if s.label() == "pretrain gpt2-tiny")
    (stage.artifact.start() / "result").write_text("other bytes")
    stage.artifact.finish({}, {"segments": []})
    (first,) = (runs / "pretrain").glob("gpt2-tiny-*[0-9a-f]")
    assert any("but result is not" in line for line in why(capsys, runs, str(first), str(again)))


@pytest.mark.parametrize(
    "name, message",
    [
        ("frog", "frog: is no folder, no key, and no stage of recipe"),
        ("clean", "clean: is several stages of recipe .*clean/books, clean/stories"),
        ("deadbeef", "deadbeef: is no folder, no key"),
    ],
)
def test_a_name_of_none_or_of_several_is_an_error(
    runs: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        why(capsys, runs, name)
