"""Predictions on disk, the benchmark's own format beside them, and what several models say together."""

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.errors import UserError
from finetune.__main__ import build_parser
from finetune.predictions import ensemble, read_predictions, write_ensemble, write_predictions
from recipes.records import FINE_TUNING

LABELS = ("no", "yes", "maybe")


def _table(probabilities: list[list[float]]) -> dict[str, Any]:
    predicted = [LABELS[int(np.argmax(row))] for row in probabilities]
    return {
        "id": ["7", "9"],
        "answer": ["yes", None],
        "prediction": predicted,
        "probabilities": probabilities,
    }


FIRST = _table([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7]])
SECOND = _table([[0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])


def test_tables_come_back_and_replace_what_was_there(tmp_path: Path) -> None:
    def files(tables: Any) -> dict[str, str]:
        return {"answers.tsv": "\t".join(tables["dev"]["prediction"]) + "\n"}

    write_predictions(tmp_path, {"dev": FIRST, "test": SECOND}, files)
    assert read_predictions(tmp_path) == {"dev": FIRST, "test": SECOND}
    assert pq.read_table(tmp_path / "predictions" / "dev.parquet").column("answer").to_pylist() == [
        "yes",
        None,
    ]
    assert (tmp_path / "submission" / "answers.tsv").read_bytes() == b"no\tmaybe\n"
    write_predictions(tmp_path, {"dev": SECOND}, None)
    assert read_predictions(tmp_path) == {"dev": SECOND}
    assert not (tmp_path / "submission").exists()
    write_predictions(tmp_path, {}, files)
    with pytest.raises(UserError, match="no predictions there"):
        read_predictions(tmp_path)


def test_without_pyarrow_all_but_the_tables_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def refusing(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refusing)
    write_predictions(tmp_path, {"dev": FIRST}, lambda tables: {"a": "b"})
    assert (tmp_path / "submission" / "a").read_text() == "b"
    assert "pyarrow is not installed" in capsys.readouterr().err


def test_an_ensemble_is_the_plain_mean_of_probabilities() -> None:
    """By hand: (0.6 + 0.1) / 2 = 0.35 < (0.4 + 0.5) / 2 = 0.45, though the first is surer."""
    together = ensemble([{"dev": FIRST}, {"dev": SECOND}], LABELS)["dev"]
    assert np.allclose(together["probabilities"], [[0.35, 0.45, 0.2], [0.2, 0.25, 0.55]], rtol=0, atol=1e-15)
    assert together["prediction"] == ["yes", "maybe"]
    assert together["id"] == FIRST["id"] and together["answer"] == FIRST["answer"]
    for other in ({}, {"dev": SECOND | {"id": ["9", "7"]}}):
        with pytest.raises(UserError, match="predictions of dev are not about the same examples"):
            ensemble([{"dev": FIRST}, other], LABELS)


def test_the_command_lets_runs_answer_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three runs of CoLA's two examples; Matthews' correlation of one right and one wrong is 0, of two right 1."""
    for name, first, second in (("a", 0.9, 0.2), ("b", 0.4, 0.45), ("c", 0.4, 0.6)):
        rows = [[1 - first, first], [1 - second, second]]
        predicted = [str(int(row[1] > 0.5)) for row in rows]
        table = {"id": ["0", "1"], "answer": ["1", "0"], "prediction": predicted, "probabilities": rows}
        write_predictions(tmp_path / name, {"dev": table, "test": table}, None)
    line = [
        "ensemble",
        "cola",
        "--runs",
        *(str(tmp_path / name) for name in "abc"),
        "--output",
        str(tmp_path / "all"),
    ]
    arguments = build_parser().parse_args(line)
    arguments.run(arguments)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "all" / "result.json").read_text())
    assert (printed["task"], printed["runs"], printed["matthews"]) == ("cola", 3, {"all": 1.0})
    assert (tmp_path / "all" / "submission" / "CoLA.tsv").read_text() == "index\tprediction\n0\t1\n1\t0\n"
    with pytest.raises(UserError, match="no predictions there"):
        write_ensemble(FINE_TUNING["cola"], [tmp_path / "absent"], tmp_path / "none")
