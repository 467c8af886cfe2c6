"""What a program's output was asked with: kept beside it, compared with what is asked again, and every difference named."""

import hashlib
import json
from pathlib import Path

import pytest

import core.files
from core.files import content_hash
from core.program.asked import check_asked, differences, finished_result

ASKED = {
    "settings": {"epochs": 3, "learning_rate": 2e-5, "betas": (0.9, 0.95)},
    "data": "aa",
    "controls": False,
}


def test_a_difference_is_named_with_both_values():
    other = {**ASKED, "settings": {"epochs": 2, "learning_rate": 2e-5, "betas": (0.9, 0.95)}, "plugin": "p"}
    assert differences(ASKED, ASKED) == []
    assert differences(ASKED, other) == ["settings.epochs was 3, is 2", "plugin was not given, is p"]
    assert differences({"a": {"b": 1}}, {"a": 5}) == ["a was {'b': 1}, is 5"]


def test_a_result_is_given_again_to_who_asks_the_same_and_to_nobody_else(tmp_path: Path):
    path = tmp_path / "result.json"
    assert finished_result(path, ASKED, "remove it") is None
    path.write_text(json.dumps({"accuracy": 0.5, "asked": ASKED}))
    result = finished_result(path, ASKED, "remove it")
    assert result is not None and result["accuracy"] == 0.5
    with pytest.raises(ValueError, match=r"result\.json.*: data was aa, is bb; remove it, or give another"):
        finished_result(path, {**ASKED, "data": "bb"}, "remove it")
    for foreign in ('{"accuracy": 0.5}', "[1]"):
        path.write_text(foreign)
        with pytest.raises(ValueError, match="does not say what it was asked with; remove it"):
            finished_result(path, ASKED, "remove it")


@pytest.mark.parametrize("status", ["finished", "failed", "stopped"])
def test_a_training_that_is_worth_something_is_not_taken_for_another(tmp_path: Path, status: str):
    other = {**ASKED, "data": "bb"}
    check_asked(tmp_path, ASKED)
    check_asked(tmp_path, other)  # nothing is there yet: asked anew
    check_asked(tmp_path, ASKED)
    (tmp_path / "state.json").write_text(json.dumps({"status": status, "step": 5}))
    if status != "finished":
        (tmp_path / "checkpoints" / "step-00000004").mkdir(parents=True)
    check_asked(tmp_path, ASKED)
    with pytest.raises(
        ValueError, match="the training there was asked with something else: data was aa, is bb"
    ):
        check_asked(tmp_path, other)
    (tmp_path / "asked.json").unlink()
    if status != "finished":
        return check_asked(
            tmp_path, ASKED
        )  # of an earlier version; the checkpoints themselves say whose they are
    with pytest.raises(ValueError, match="does not say what it was asked with"):
        check_asked(tmp_path, ASKED)


def test_a_files_hash_is_sha256sums_and_a_folders_knows_every_name_and_byte(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    files = [tmp_path / "a" / "one", tmp_path / "a" / "b" / "two"]
    for file in files:
        file.write_text(file.name)
    assert content_hash(files[0]) == hashlib.sha256(b"one").hexdigest()
    seen = {content_hash(tmp_path / "a")}
    files[1].write_text("twx")
    seen.add(content_hash(tmp_path / "a"))
    files[1].rename(tmp_path / "a" / "b" / "three")
    seen.add(content_hash(tmp_path / "a"))
    assert len(seen) == 3
    (tmp_path / "a" / ".DS_Store").write_text("x")
    assert content_hash(tmp_path / "a") in seen
    assert content_hash(tmp_path / "a", ["one"]) == content_hash(tmp_path / "a", ["on*"])
    with pytest.raises(ValueError, match=r"nowhere: cannot be read"):
        content_hash(tmp_path / "nowhere")


def test_a_huge_file_is_told_by_its_size_and_by_blocks_all_over_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(core.files, "_HASHED_WHOLE_BYTES", 1000)
    monkeypatch.setattr(core.files, "_SAMPLES", 11)
    monkeypatch.setattr(core.files, "_SAMPLE_BYTES", 100)
    content = bytearray(2000)
    seen = set()
    for place in (None, 0, 1000, 1999):  # blocks begin at 0, 190, 380, …, 1900
        changed = bytes(content) if place is None else content[:place] + b"x" + content[place + 1 :]
        (tmp_path / "f").write_bytes(changed)
        seen.add(content_hash(tmp_path / "f"))
    (tmp_path / "f").write_bytes(bytes(2001))
    seen.add(content_hash(tmp_path / "f"))
    assert len(seen) == 5
