"""What fine-tuned models say of each example, on disk: as tables, and in the benchmark's official format; and what several
models say together. No torch."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.files import atomic_write
from recipes.records import FineTuning, Table

PREDICTIONS = "predictions"  # a table a split
SUBMISSION = "submission"
PROBABILITIES = "probabilities"  # a column


def write_predictions(
    output: Path,
    tables: Mapping[str, Table],
    submission: Callable[[Mapping[str, Table]], dict[str, str]] | None,
) -> None:
    """Write `predictions/SPLIT.parquet` and the files of `submission/`, in place of what was there."""
    for folder in (PREDICTIONS, SUBMISSION):
        shutil.rmtree(output / folder, ignore_errors=True)
    if not tables:
        return
    for name, text in submission(tables).items() if submission else ():
        with atomic_write(output / SUBMISSION / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:  # a bare machine for training: all else is there
        print(
            f"warning: no tables in {output / PREDICTIONS}, since pyarrow is not installed (pip install pyarrow, remove "
            "the result and give the same command again: it scores the finished model)",
            file=sys.stderr,
            flush=True,
        )
        return
    for split, table in tables.items():
        with atomic_write(output / PREDICTIONS / f"{split}.parquet") as temporary:
            columns = pyarrow.table(dict(table))
            pyarrow.parquet.write_table(columns, temporary, compression="zstd", write_page_checksum=True)


def read_predictions(output: Path) -> dict[str, Table]:
    """The tables by split, columns as lists.

    Raises:
        UserError: there are none.
    """
    import pyarrow.parquet

    paths = sorted((output / PREDICTIONS).glob("*.parquet"))
    if not paths:
        raise UserError(
            f"{output / PREDICTIONS}: no predictions there; fine-tune again with pyarrow installed"
        )
    return {
        path.stem: pyarrow.parquet.read_table(path, page_checksum_verification=True).to_pydict()
        for path in paths
    }


def ensemble(runs: Sequence[Mapping[str, Table]], labels: Sequence[str]) -> dict[str, Table]:
    """Predictions of several models for the same examples as one's: the plain mean of their probabilities.

    Args:
        labels: what the probabilities are of.

    Raises:
        UserError: they are not about the same examples.
    """
    together: dict[str, Table] = {}
    for split, first in runs[0].items():
        tables = [run.get(split, {}) for run in runs]
        if any(table.get("id") != first["id"] for table in tables):
            raise UserError(
                f"the predictions of {split} are not about the same examples, so there is no ensemble"
            )
        mean = np.mean([np.asarray(table[PROBABILITIES], float) for table in tables], axis=0)
        predicted = [labels[place] for place in mean.argmax(axis=1)]
        together[split] = {**first, "prediction": predicted, PROBABILITIES: mean.tolist()}
    return together


def write_ensemble(record: FineTuning, runs: Sequence[Path], output: Path) -> dict[str, Any]:
    """Write what several runs of a task say together, in their outputs' form; returns its numbers.

    Raises:
        UserError: a run has no predictions, they are not about the same examples, or the task makes no ensembles.
    """
    if not record.labels or not record.numbers:
        raise UserError(
            f"{record.name}: the task's predictions have no probabilities, so it makes no ensembles"
        )
    together = ensemble([read_predictions(run) for run in runs], record.labels)
    write_predictions(output, together, record.submission)
    return record.numbers(together)
