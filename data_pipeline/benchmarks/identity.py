"""Which file a number was measured on: the part that papers report, another published part, or something else."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipeline.benchmarks.benchmark import Benchmark

_PARTS = {"test": "test set", "dev": "development set"}  # what numbers are measured on, in words


def identified(benchmark: Benchmark, path: Path, sha256: str) -> dict[str, Any]:
    """What a number was measured on: which file, and whether it is the published one that papers report.

    Args:
        path: the benchmark's file or folder, which was read without errors.
        sha256: of its content, see `core.files.content_hash`.

    Returns:
        file, sha256, counts; official: whether it is what published numbers are about, the test set or where its
        answers are not public the development set, by its hash or else its counts, as recognized_by says; split: "test
        set" or "development set", the name of another published part, or None; description: the same in words, as "the
        official WikiText-103 test set" or "another file, 24,102 words".
    """
    origin, path = benchmark.origin, Path(path)
    counts = origin.count(path) if origin else {}
    part = origin.measured if origin else "test"
    published = {_PARTS[part]: origin.counts, **origin.others} if origin else {}
    split = next((name for name, expected in published.items() if expected and expected == counts), None)
    by_hash = bool(origin and sha256 == origin.sha256)
    if split is None:
        kind = "folder" if path.is_dir() else "file"
        measured = {name: value for name, value in counts.items() if name.startswith(part)}
        totals = _totals(measured or counts) or {"bytes": _size(path)}
        listed = ", ".join(f"{value:,} {name}" for name, value in totals.items())
        description = f"{f'the {part} part of ' if measured else ''}another {kind}, {listed}"
    else:
        description = f"the official {benchmark.title} {split}"
        if origin and origin.sha256 and not by_hash:
            listed = ", ".join(f"{value:,} {name}" for name, value in _totals(counts).items())
            description += f" by its count ({listed}), in another spelling"
    return {
        "file": path.resolve().name,
        "sha256": sha256,
        "counts": counts,
        "official": split == _PARTS[part],
        "recognized_by": None if split is None else "sha256" if by_hash else "counts",
        "split": split,
        "description": description,
    }


def _totals(counts: Mapping[str, Any]) -> dict[str, int]:
    """Counts added up over the parts of a benchmark."""
    totals: Counter[str] = Counter()
    for name, value in counts.items():
        totals.update(value if isinstance(value, Mapping) else {name: value})
    return dict(totals)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
