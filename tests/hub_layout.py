"""Local folders in the layout that datasets have on the Hugging Face hub, with its libraries kept off the network."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def write_hub_split(folder: Path, split: str, rows: list[dict[str, Any]], files: int = 1) -> Path:
    """Write `<split>-00000-of-0000n.parquet` and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // files)
    for number in range(files):
        table = pa.Table.from_pylist(rows[number * size : (number + 1) * size])
        pq.write_table(table, folder / f"{split}-{number:05d}-of-{files:05d}.parquet")
    return folder


def stay_offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Set what the libraries read when they are imported, and what they read it into if they already were."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(cache))
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
    datasets.disable_progress_bars()
