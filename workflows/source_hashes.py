"""A committed table of what each stage's code hashed to at its version.

An artifact's key carries the stage's version, bumped by hand. The table notices code that changed without it: a test
compares it with the checkout, `python -m workflows refresh-hashes` writes it anew. Which code that is follows from
imports: the modules that a stage names, with all of ours that they import.
"""

import hashlib
from pathlib import Path
from typing import Any

from core.families import FAMILIES
from core.files import read_json, write_json
from core.imports import import_closure
from data_pipeline.engine.run_record import CHECKOUT
from data_pipeline.engine.steps import StageKind
from data_pipeline.steps import KINDS_OF_STEPS
from recipes.reader import add_our_records
from recipes.records import FINE_TUNING, PRETRAININGS, ZERO_SHOT
from workflows import corpus_report, report
from workflows.evaluation import ensemble_kind, fine_tuning_kind, zero_shot_kind
from workflows.texts import texts_kind
from workflows.training import pretrain_kind

TABLE = CHECKOUT / "tests" / "workflows" / "source_hashes.json"
_DATA_SUFFIXES = (".toml", ".json", ".txt")  # beside code that reads them

# Code that a stage imports, and why no change of it changes what the stage writes.
EXCEPTIONS = {
    "core/errors.py": "says what went wrong",
    "core/flags.py": "reads command lines; what they say is a parameter",
    "core/imports.py": "reads source files for this table",
    "core/processes.py": "starts and ends processes",
    "core/program": "starts programs on ranks, and prints",
    "core/registry.py": "finds records; what they do is in their own modules",
    "core/training/errors.py": "says what went wrong",
    "core/training/observers.py": "shows and records",
    "core/training/peak.py": "measures the device for display",
    "core/training/profiler.py": "traces",
    "core/training/progress.py": "shows progress",
    "core/training/stopping.py": "ends a run early; it goes on to the same bytes",
    "core/training/tensorboard.py": "shows curves",
    "core/training/throughput.py": "measures speed for display",
    "data_pipeline/engine/adoption.py": "accepts what was made; no stage runs it",
    "data_pipeline/engine/executors.py": "the same bytes from any number of workers, which tests hold",
    "data_pipeline/engine/ray_executor.py": "the same bytes from a cluster, which tests hold",
    "data_pipeline/engine/hashes.py": "sha256, whatever the cache; keys and manifests are held by tests",
    "data_pipeline/engine/integrity.py": "looks at what was made",
    "data_pipeline/engine/run_record.py": "writes what no manifest covers",
    "data_pipeline/engine/steps.py": "makes artifacts of what stages write; keys are held by tests",
    "data_pipeline/steps.py": "says what stages are made of, which is in their keys",
    "data_pipeline/corpora.py": "chains stages, which is in their keys",
    "data_pipeline/step_inputs.py": "says what stages read, which is in their keys",
    "recipes/reader.py": "reads recipes; what they say is a parameter",
    "workflows/recipe_plan.py": "chains stages, which is in their keys",
    "workflows/stage.py": "the face of stages to Luigi",
    "workflows/tasks.py": "the face of stages to Luigi",
    "workflows/training.py": "starts programs on ranks; their code is their stage's",
    "workflows/evaluation.py": "starts programs on ranks; their code is their stage's",
    "workflows/launch.py": "starts programs on ranks",
    "workflows/console.py": "shows what runs",
    "workflows/texts.py": "starts programs on ranks; their code is their stage's",
    "workflows/report_page.py": "writes pages that no manifest covers",
    "workflows/report_facts.py": "tells when and on what, on pages that no manifest covers",
    "workflows/report_made.py": "tells how, on pages that no manifest covers",
    "workflows/report_training.py": "tells of trainings, on pages that no manifest covers",
    "workflows/paper_tables.py": "makes tables of pages that no manifest covers",
    "workflows/paper_scaling.py": "makes tables of pages that no manifest covers",
    "workflows/stage_drawings.py": "draws for pages that no manifest covers",
    "workflows/pictures.py": "draws for pages that no manifest covers",
}


def stage_kinds() -> dict[str, StageKind]:
    """Every stage of ours, by a name of its own."""
    add_our_records()
    kinds = {kind.name: kind for kind in (*KINDS_OF_STEPS, report.REPORT, corpus_report.CORPUS, texts_kind())}
    kinds |= {f"pretrain {name}": pretrain_kind(name) for name in PRETRAININGS if name in FAMILIES}
    kinds |= {name: zero_shot_kind(ZERO_SHOT[name]) for name in ZERO_SHOT}
    kinds |= {name: fine_tuning_kind(FINE_TUNING[name]) for name in FINE_TUNING}
    ensembles = [name for name in FINE_TUNING if FINE_TUNING[name].makes_ensembles]
    return kinds | {f"ensemble {name}": ensemble_kind(FINE_TUNING[name]) for name in ensembles}


def source_files(kind: StageKind) -> list[Path]:
    """The files whose code and data decide what a stage writes.

    Raises:
        FileNotFoundError: a module that is not there.
    """
    roots = []
    for module in kind.code:
        path = CHECKOUT / (module.replace(".", "/") + ".py")
        if not path.is_file():
            raise FileNotFoundError(f"stage {kind.name}: no module {module}")
        roots.append(path)
    files = import_closure(roots, CHECKOUT, _left_out())
    data = {near for file in files for near in file.parent.iterdir() if near.suffix in _DATA_SUFFIXES}
    recipes = CHECKOUT / "recipes"
    return sorted({*files, *(path for path in data if path.parent != recipes)})


def _left_out() -> list[Path]:
    found = []
    for name in EXCEPTIONS:
        path = CHECKOUT / name
        found += list(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def source_hash(kind: StageKind) -> str:
    digest = hashlib.sha256()
    for path in source_files(kind):
        digest.update(path.relative_to(CHECKOUT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def current_table() -> dict[str, Any]:
    """{stage: {version, sha256}} of the checkout as it is."""
    return {
        name: {"version": kind.version, "sha256": source_hash(kind)} for name, kind in stage_kinds().items()
    }


def write_table() -> None:
    write_json(TABLE, current_table())


def changed_stages() -> list[str]:
    """One line for each stage that differs from the committed table, with what to do."""
    known, current = read_json(TABLE), current_table()
    lines = []
    for name, entry in current.items():
        if known.get(name) == entry:
            continue
        if known.get(name, {}).get("version") == entry["version"]:
            lines.append(
                f"{name}: its sources changed. If its output changes, bump its kind's version; "
                "then run: python -m workflows refresh-hashes"
            )
        else:
            lines.append(f"{name}: new or with a new version; run: python -m workflows refresh-hashes")
    gone = known.keys() - current
    return lines + [f"{name}: gone; run: python -m workflows refresh-hashes" for name in gone]
