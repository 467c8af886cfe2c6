"""The last stage: results of a whole recipe as `results.json`, `report.md` and `index.html`, and a link to them.

Only `results.json` is covered by the manifest: the two pages show times. What they look like is in `report_page.py`
and `templates/`, their pictures are in `pictures.py`.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from core.files import read_json, write_json
from data_pipeline.engine.artifacts import RUN_RECORD
from data_pipeline.sample.planted import planted_outcomes
from recipes.records import Task
from workflows.corpus import CleanDocuments, DecontaminateDocuments, DeduplicateDocuments
from workflows.corpus_report import funnel, summary_of
from workflows.evaluation import evaluations
from workflows.fetching import WriteSample
from workflows.measured import Evaluate, Finetune, pretrainings
from workflows.report_page import report_page, write_pages
from workflows.stage import LinkedStage, Pipeline, Stage, walk
from workflows.training import Pretrain, read_metrics


class Report(LinkedStage):
    """The report of a recipe."""

    stage = "report"
    version = 1
    sources = ("workflows/report.py", "data_pipeline/sample/planted.py")
    unhashed = ("index.html", "report.md")

    def label(self) -> str:
        return "write the report"

    def inputs(self) -> dict[str, Stage]:
        stages = [self.clone(DeduplicateDocuments), *pretrainings(self), *evaluations(self)]
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
        curves = {s.model: read_metrics(s.directory) for s in stages if isinstance(s, Pretrain)}
        rows = [stage_row(stage) for stage in stages]
        write_pages(directory, report_page(self.settings, results, measured_tasks(stages), curves, rows))
        return {"models": sorted(results["models"])}

    def facts(self, summary: Mapping[str, Any]) -> str:
        return f"of {', '.join(summary['models'])}"


def collect_results(recipe: str, stages: list[Stage]) -> dict[str, Any]:
    """All numbers of a run: by model and task, and the corpus funnel. Deterministic: no times, no paths."""
    models: dict[str, dict[str, Any]] = {}
    seeds: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    for stage in stages:  # inputs first: a model before what measures it
        if isinstance(stage, Pretrain):
            config = read_json(stage.directory / "model" / "config.json")
            models[stage.model] = {"config": config, "pretraining": summary_of(stage)}
        elif isinstance(stage, Evaluate):
            models[stage.model][stage.record.name] = summary_of(stage)
        elif isinstance(stage, Finetune):
            runs = seeds[stage.model, stage.record.name]
            runs[stage.seed] = summary_of(stage)
            models[stage.model][stage.record.name] = stage.record.combine(runs)  # the last time of all seeds
    return {"recipe": recipe, "models": models, "corpus": funnel(stages)}


def measured_tasks(stages: list[Stage]) -> list[Task]:
    """The records of what was measured, each once, in the order of the stages."""
    records = {s.record.name: s.record for s in stages if isinstance(s, Evaluate | Finetune)}
    return list(records.values())


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
