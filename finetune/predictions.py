"""What fine-tuned models say of each example, on disk: as tables, and in the benchmark's official format. No torch."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from core.files import atomic_write
from finetune.program import Table

PREDICTIONS = "predictions"  # a table a split
SUBMISSION = "submission"


def write_predictions(output: Path, tables: Mapping[str, Table], submission: Mapping[str, str]) -> None:
    """Write `predictions/SPLIT.parquet` and the files of `submission/`, in place of what was there."""
    for folder in (PREDICTIONS, SUBMISSION):
        shutil.rmtree(output / folder, ignore_errors=True)
    for name, text in submission.items():
        with atomic_write(output / SUBMISSION / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    if not tables:
        return
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
            pyarrow.parquet.write_table(
                pyarrow.table(dict(table)), temporary, compression="zstd", write_page_checksum=True
            )


def read_predictions(output: Path, split: str) -> Table:
    """The table of a split, columns as lists."""
    import pyarrow.parquet

    path = output / PREDICTIONS / f"{split}.parquet"
    return pyarrow.parquet.read_table(path, page_checksum_verification=True).to_pydict()
