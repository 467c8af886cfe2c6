"""`python -m workflows verify`: whatever is wrong with a folder of artifacts is a line, and can be set aside."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import UserError
from core.files import PARTIAL_SUFFIX
from data_pipeline.engine.artifacts import Artifact
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.steps import StageKind, Step, Store, Summary, Workplace, make
from workflows.__main__ import main
from workflows.verify import verify_artifacts

PAGE = StageKind("page", 1, (), unhashed=("index.html",))


def step(kind: StageKind = PAGE) -> Step:
    def work(directory: Path, place: Workplace) -> Summary:
        (directory / "part").mkdir(exist_ok=True)
        (directory / "part" / "data").write_text("12345")
        (directory / "index.html").write_text("now")
        return {"documents": 1}

    return Step(kind, "mine", work)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    made(tmp_path / "runs", step())
    return tmp_path / "runs"


def made(root: Path, wanted: Step) -> Artifact:
    store = Store(root)
    make(wanted, Workplace(store, LocalExecutor(1)))
    return store.artifact(wanted)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edit(path: Path) -> None:
    manifest = json.loads(path.read_text())
    manifest["summary"]["documents"] = 2
    path.write_text(json.dumps(manifest))


def not_a_number(path: Path) -> None:
    manifest = json.loads(path.read_text())
    manifest["summary"]["documents"] = float("nan")
    path.write_text(json.dumps(manifest))


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("manifest.json", os.unlink, "manifest.json: missing"),
    ("manifest.json", half, "manifest.json: cannot be read as JSON"),
    ("manifest.json", lambda path: path.write_bytes(b"\xff\xfe"), "manifest.json: cannot be read as JSON"),
    ("manifest.json", lambda path: path.write_text("[" * 100_000), "manifest.json: cannot be read as JSON"),
    ("manifest.json", lambda path: path.write_text("[]"), "manifest.json: differs from the hash in it"),
    ("manifest.json", edit, "manifest.json: differs from the hash in it"),
    ("manifest.json", not_a_number, "manifest.json: differs from the hash in it"),
    ("manifest.json", folder_instead, "manifest.json: cannot be read as JSON"),
    ("part/data", os.unlink, "part/data: missing"),
    ("part/data", half, "part/data: 2 bytes, the manifest says 5"),
    ("part/data", flip, "part/data: its sha256 differs"),
    ("part/data", folder_instead, "part/data: "),
    ("part/more", lambda path: path.write_text(""), "part/more: is not in the manifest"),
    ("index.html", os.unlink, "index.html: missing"),
    ("run.json", os.unlink, "run.json: cannot be read"),
    ("run.json", lambda path: path.write_text("{}"), "run.json: is no record of a run"),
]


@pytest.mark.parametrize("name, damage, line", DAMAGES)
def test_every_damage_is_a_line_and_can_be_repaired(
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], object],
    line: str,
) -> None:
    assert verify_artifacts(runs, mend=False) == 0
    directory = Store(runs).directory(step())
    damage(directory / name)
    capsys.readouterr()
    assert verify_artifacts(runs, mend=False) == 1
    found = capsys.readouterr().out.splitlines()
    assert line in found[0]
    assert "1 artifacts checked, " in found[-2] and found[-2].endswith("1 problem(s)")
    assert "verify --repair" in found[-1]
    assert verify_artifacts(runs, mend=True) == 0
    (aside,) = directory.parent.glob("*.damaged-*")
    made(runs, step())
    capsys.readouterr()
    assert verify_artifacts(runs, mend=False) == 1
    told = capsys.readouterr().out
    assert f"rm -r '{aside}'" in told and "--repair" not in told
    shutil.rmtree(aside)
    assert verify_artifacts(runs, mend=False) == 0


def test_one_that_is_damaged_does_not_hide_the_next(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Store(runs).directory(step())
    other = made(runs, step(StageKind("page", 2, (), unhashed=("index.html",)))).directory
    (first / "manifest.json").unlink()
    half(other / "manifest.json")
    (runs / "page" / f"begun-{'0' * 12}{PARTIAL_SUFFIX}").mkdir()
    (runs / "latest").mkdir()
    (runs / "latest" / "mine").symlink_to(first)
    assert verify_artifacts(runs, mend=False) == 1
    assert "2 artifacts checked, 1 unfinished, 2 problem(s)" in capsys.readouterr().out


def test_a_folder_under_another_name_is_found_out(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = Store(runs).directory(step())
    directory.rename(directory.with_name(f"mine-{'0' * 12}"))
    assert verify_artifacts(runs, mend=False) == 1
    assert "holds the artifact with the key" in capsys.readouterr().out


def test_an_edited_manifest_is_not_believed(runs: Path) -> None:
    store = Store(runs)
    edit(store.directory(step()) / "manifest.json")
    assert not Store(runs).is_complete(step())


def test_a_mistyped_folder_is_an_error(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.rename(tmp_path / "stages")
    for given, message in (
        (tmp_path / "runz", "no such folder"),
        (tmp_path / "stages" / "page", "holds no artifacts"),
        (tmp_path, f"holds no artifacts .*; did you mean {tmp_path / 'stages'}"),
    ):
        with pytest.raises(UserError, match=f"{given}: {message}"):
            verify_artifacts(given, mend=False)
    monkeypatch.setattr("sys.argv", ["workflows", "verify", "--runs", str(tmp_path / "runz")])
    assert main() == 1
    assert "error: " in capsys.readouterr().err
