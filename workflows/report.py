"""The last stage: results of a whole recipe as `results.json`, `report.md` and `index.html`, and a link to them.

Only `results.json` is covered by the manifest: the two pages show times. What they look like is in `report_page.py`
and `templates/`, their pictures are in `pictures.py`.
"""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from core.files import read_json, write_json
from data_pipeline.engine.artifacts import RUN_RECORD
from data_pipeline.sample.planted import planted_outcomes
from workflows.corpus import (
    CleanDocuments,
    DecontaminateDocuments,
    DeduplicateDocuments,
)
from workflows.corpus_report import funnel, summary_of
from workflows.evaluation import EvaluateZeroShot, FinetuneRACE, evaluations
from workflows.fetching import WriteSample
from workflows.report_page import write_pages
from workflows.stage import LinkedStage, Pipeline, Stage, walk
from workflows.training import Pretrain, PretrainBERT, PretrainGPT2, read_metrics

CHANCE = 0.25  # RACE has four options


class Report(LinkedStage):
    """The report of a recipe."""

    stage = "report"
    version = 1
    sources = ("workflows/report.py", "data_pipeline/sample/planted.py")
    unhashed = ("index.html", "report.md")

    def label(self) -> str:
        return "write the report"

    def inputs(self) -> dict[str, Stage]:
        stages: list[Stage] = [self.clone(DeduplicateDocuments)]
        for task, family in ((PretrainGPT2, "gpt2"), (PretrainBERT, "bert")):
            stages += [self.clone(task, model=name) for name in self.settings.models_of(family)]
        stages += evaluations(self)
        return {f"{stage.stage} {stage.artifact_name()}": stage for stage in stages}

    def parameters(self) -> dict[str, Any]:
        return {"recipe": self.settings.name, "description": self.settings.identity.description}

    @property
    def page(self) -> Path:
        return self.link / "index.html"

    def work(self, directory: Path) -> Mapping[str, Any]:
        stages = [stage for stage in walk(self) if stage is not self]
        results = collect_results(self.settings.name, stages)
        results["planted"] = planted_rows(self, stages)
        write_json(directory / "results.json", results)
        write_pages(directory, self.settings, results, curves(stages), [stage_row(s) for s in stages])
        return {"models": sorted(results["models"])}

    def facts(self, summary: Mapping[str, Any]) -> str:
        return f"of {', '.join(summary['models'])}"


def collect_results(recipe: str, stages: list[Stage]) -> dict[str, Any]:
    """All numbers of a run: by model and task, and the corpus funnel. Deterministic: no times, no paths."""
    models: dict[str, dict[str, Any]] = {}
    for stage in stages:
        if isinstance(stage, Pretrain):
            config = read_json(stage.directory / "model" / "config.json")
            models[stage.model] = {"config": config, "pretraining": summary_of(stage)}
    for stage in stages:
        if isinstance(stage, EvaluateZeroShot):
            models[stage.model][stage.stage] = summary_of(stage)
    for name in models:
        runs = {s.seed: summary_of(s) for s in stages if isinstance(s, FinetuneRACE) and s.model == name}
        if runs:
            models[name]["race"] = race_result(runs)
    return {"recipe": recipe, "models": models, "corpus": funnel(stages)}


def race_result(runs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """RACE over seeds, as the paper reports it: test accuracy of the run that is best on the development set, and
    the median of the development accuracies (section 5.3)."""
    best = max(sorted(runs), key=lambda seed: runs[seed]["dev_accuracy"]["all"])
    return {
        **runs[best],
        "chance": runs[best].get("chance", CHANCE),
        "seed": int(best),
        "dev_accuracy_median": statistics.median(run["dev_accuracy"]["all"] for run in runs.values()),
        "seeds": {seed: run["accuracy"]["all"] for seed, run in sorted(runs.items())},
    }


def planted_rows(report: Report, stages: list[Stage]) -> list[dict[str, Any]]:
    """What became of the sample's planted defects; empty for other corpora."""
    from data_pipeline.engine.documents import list_shards

    corpora = {corpus.part: corpus.name for corpus in report.settings.corpora if corpus.part}
    samples = [stage for stage in stages if isinstance(stage, WriteSample)]
    if not samples or not corpora:
        return []
    outputs = {
        kind.stage: [s for stage in stages if isinstance(stage, kind) for s in list_shards(stage.directory)]
        for kind in (CleanDocuments, DecontaminateDocuments, DeduplicateDocuments)
    }
    return planted_outcomes(samples[0].directory, corpora, outputs)


def curves(stages: list[Stage]) -> dict[str, list[dict[str, Any]]]:
    """The metrics of every pretraining, by model."""
    return {stage.model: read_metrics(stage.directory) for stage in stages if isinstance(stage, Pretrain)}


def stage_row(stage: Stage) -> dict[str, Any]:
    """What the report's table of stages shows of one: from its run record, so not deterministic."""
    record = read_json(stage.directory / RUN_RECORD)
    return {
        "label": stage.label(),
        "facts": stage.facts(summary_of(stage)),
        "directory": stage.directory.relative_to(stage.runs).as_posix(),
        "record": record,
        "libraries": stage.artifact.libraries,
    }


class FullReproduction(Pipeline):
    """Raw text to the report."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(Report)]
