"""A small hand-made world of results for the report's page: two models, a zero-shot and a fine-tuning task, a corpus whose
documents were cut, and a training and a measurement with their records of the run."""

import contextlib
import dataclasses
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from core.files import write_json
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.steps import StageKind, Step, Store, Workplace
from recipes.reader import load_recipe
from recipes.records import Bar, Column, FineTuning, Published, Task, ZeroShot
from recipes.schema import Recipe
from workflows import pictures
from workflows.report_facts import facts_of
from workflows.report_page import ReportPage, report_page

CLOZE = ZeroShot(
    name="cloze",
    title="Cloze | test",
    benchmark="cloze",
    program="nowhere:nothing",
    causal=True,
    columns=(
        Column("accuracy", "accuracy.all", "percent", error="error.all"),
        Column("asked", "total"),
        Column("metric", "metric", "text"),
    ),
    published=Published(("accuracy, %", "F1"), (("GPT-9", (12.0, None)),), "table 99", ("accuracy.all",)),
    facts=lambda result: "",
    bar=Bar("accuracy.all", {"chance": "chance", "blank": "accuracy.blank"}),
    note="Share of <blanks> filled.",
)
TAGGING = FineTuning(
    name="tagging",
    title="Tagging",
    benchmark="tagging",
    program="nowhere:nothing",
    causal=False,
    columns=(Column("loss", "loss"), Column("untrained", "untrained_loss")),
    published=None,
    facts=lambda result: "",
    combine=lambda runs: dict(runs["1"]),
)
VALIDATION = "the official Cloze validation set, sequence length 64, stride 32, precision fp32"
_SHAPE = {"family": "gpt2", "layers": 1, "hidden": 64, "heads": 2}
RESULTS: dict[str, Any] = {
    "models": {
        "gpt2-small": {
            "config": {"model": _SHAPE},
            "pretraining": {"parameters": 254_912, "step": 40, "loss": 2.0},
            "cloze": {
                "accuracy": {"all": 0.75}, "chance": 0.5, "total": 4000, "metric": "exact",
                "error": {"all": 0.0123}, "standard_error_over": "40 passages",
                "data": {"description": "the official Cloze validation set", "official": False},
                "sequence_length": 64, "stride": 32, "precision": "fp32",
            },
            "texts": [{"prompt": "", "text": "<script>alert(1)</script> \u202ex", "tokens": 5, "end": "length"}],
        },
        "other": {
            "config": {"model": {**_SHAPE, "family": "bert"}},
            "pretraining": {"parameters": 99, "step": 40, "loss": 2.0},
            "tagging": {"loss": 1.5, "untrained_loss": 200000.0},
        },
    },
    "corpus": [
        {
            "stage": "fetch",
            "documents": 1000,
            "counts": {"records": 1001, "documents": 1000, "quarantined": 1},
            "parts": {"a": {"origin": {"terms": "T"}}},
        },
        {
            "stage": "clean",
            "documents": 991,
            "counts": {"documents_in": 1000, "documents": 991, "dropped": {"too_short": 2, "not_english": 7}},
            "parts": {"a": {"length_counted_by": "words"}},
        },
        {
            "stage": "decontaminate",
            "documents": 998,
            "counts": {"documents_in": 991, "documents": 998, "cut": 4, "dropped": {"benchmark_text": 3}},
            "parts": {"a": {}},
        },
    ],
    "planted": [{"kind": "too_short", "planted": 2, "found": 2, "outcomes": {"clean": 2}}],
}  # fmt: skip
_MACHINE = {"processor": "EPYC", "instruction_set": "AVX2", "threads": 2, "device": "cpu"}
_LAYOUT = {
    "sequence_parallel": False, "tensor_parallel": 2, "data_parallel": 3, "pipeline_parallel": 1, "zero": 2,
    "device": "auto",
}  # fmt: skip
RECORD: dict[str, Any] = {
    "seconds": 61.0,
    "resumed": 1,
    "segments": [
        {
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 30.0,
            "layout": {"processes": 1},
            "machine": _MACHINE,
        },
        {
            "started": "2026-01-01T01:00:00+00:00",
            "seconds": 61.0,
            "layout": _LAYOUT,
            "libraries": {"numpy": importlib.metadata.version("numpy")},
            "machine": _MACHINE,
        },
    ],
    "python": "3.11",
    "torch": "2",
    "luigi": "3",
    "git_revision": "abc",
}
TRAINING = Step(
    StageKind("pretrain", 1, (), ("numpy",)),
    "gpt2-small",
    lambda directory, place: {},
    label="pretrain gpt2-small",
    selectors={"model": "gpt2-small"},
    facts=lambda summary: f"step {summary['step']}",
)
MEASUREMENT = Step(
    StageKind("cloze", 1, (), group="evaluate"),
    "gpt2-small",
    lambda directory, place: {},
    label="cloze of gpt2-small",
    inputs={"model": TRAINING},
    selectors={"task": "cloze", "model": "gpt2-small"},
)


def finished(root: Path) -> Workplace:
    """A folder in which the training and the measurement are finished."""
    place = Workplace(Store(root), LocalExecutor(1))
    summaries = {TRAINING: {"step": 40, "parameters": 254_912}, MEASUREMENT: {}}
    records = {
        TRAINING: RECORD,
        MEASUREMENT: {
            **RECORD,
            "segments": [{"started": "2026-01-01T02:00:00+00:00", "seconds": 10.0, "machine": _MACHINE}],
        },
    }
    for step, summary in summaries.items():
        directory = place.directory(step)
        (directory / "logs").mkdir(parents=True)
        write_json(directory / "manifest.json", {"summary": summary})
        write_json(directory / "run.json", records[step])
    rates = [
        {"tokens_per_second": rate, "model_tflops": 2.0, "mfu": 0.3, "memory_bytes": 1 << 30}
        for rate in (100, 900, 200)
    ]
    lines = [json.dumps(rate) for rate in rates]
    (place.directory(TRAINING) / "logs" / "throughput.jsonl").write_text("\n".join([*lines, '{"tokens_per']))
    return place


def page_of(
    place: Workplace,
    results: dict[str, Any] = RESULTS,
    tasks: Sequence[Task] = (CLOZE, TAGGING),
    recipe: Recipe | None = None,
    drawn: bool = False,
) -> ReportPage:
    """The page of these results; without its pictures, which take their time, unless they are asked for."""
    undrawn = mock.patch.object(
        pictures, "_picture", lambda draw, size, words: pictures.Picture("", "", words)
    )
    recipe = recipe or load_recipe("sample")
    models = {**recipe.models, "other": dataclasses.replace(recipe.models["bert-small"], name="other")}
    recipe = dataclasses.replace(recipe, models=models)
    curves = {name: [{"step": step, "loss": 3.0 - step} for step in range(3)] for name in results["models"]}
    with contextlib.nullcontext() if drawn else undrawn:
        return report_page(
            recipe, results, tasks, curves, facts_of(recipe, [TRAINING, MEASUREMENT], place, {})
        )
