"""`summary.json` and `summary.md` in a command's output: which stages' artifacts it stands on now, and their counts.

Paths are relative to the output, so that it can be moved together with them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.files import atomic_write, write_json
from data_pipeline import steps
from data_pipeline.engine.steps import Step, Store, walk

SUMMARY_FILE = "summary.json"
_PAGE_FILE = "summary.md"
_BENCHMARK = "benchmark "  # the role of a benchmark's file, before its name


def write_summary(output: Path, store: Store, wanted: Step, inputs: Sequence[str], table: str) -> None:
    """Write both files.

    Args:
        wanted: the step whose artifact was delivered.
        inputs: files, folders and patterns of this machine that were read.
        table: the funnel, for people.
    """
    made = list(walk([wanted]))
    stages = [_entry(output, store, step) for step in made]
    benchmarks = {
        role.removeprefix(_BENCHMARK): _relative(path, output)
        for step in made
        if step.kind is steps.DECONTAMINATE
        for role, path in step.files.items()
        if role.startswith(_BENCHMARK)
    }
    told = {
        "stages": stages,
        "inputs": [_relative(Path(path), output) for path in inputs],
        "benchmarks": benchmarks,
    }
    write_json(output / SUMMARY_FILE, told)
    lines = [
        "# What this stands on",
        "",
        "```",
        table,
        "```",
        "",
        "| stage | of | artifact |",
        "|---|---|---|",
    ]
    lines += [f"| {stage['stage']} | {stage['name']} | `{stage['directory']}` |" for stage in stages]
    lines += ["", "`python -m data_pipeline show` on this folder or on an artifact shows the documents."]
    with atomic_write(output / _PAGE_FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _entry(output: Path, store: Store, step: Step) -> dict[str, Any]:
    artifact = store.artifact(step)
    return {
        "stage": step.kind.name,
        "name": step.name,
        "key": artifact.key,
        "directory": _relative(artifact.directory, output),
        "counts": store.summary(step),
    }


def _relative(path: Path, output: Path) -> str:
    return Path(os.path.relpath(path, output)).as_posix()
