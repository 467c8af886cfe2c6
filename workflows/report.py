"""The last stage: results of a whole recipe as `results.json`, `report.md` and `index.html`, and a link to them.

Only `results.json` is covered by the manifest: the two pages show times. What they look like is in `report_page.py`
and `templates/`, their pictures are in `pictures.py`.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import luigi

from core.files import read_json, write_json
from data_pipeline import steps
from data_pipeline.engine.artifacts import RUN_RECORD
from data_pipeline.engine.steps import StageKind, Step, Summary, Workplace
from data_pipeline.engine.steps import walk as walk_steps
from data_pipeline.sample.planted import planted_outcomes
from data_pipeline.sources.source import SampleSource
from recipes.records import FINE_TUNING, ZERO_SHOT, FineTuning, Task
from recipes.schema import Recipe
from workflows.corpus_report import funnel
from workflows.evaluation import EVALUATE, FINETUNE
from workflows.report_page import report_page, write_pages
from workflows.stage import LinkedStage, Pipeline
from workflows.training import PRETRAIN, read_metrics

REPORT = StageKind("report", 1, ("workflows.report",), unhashed=("index.html", "report.md"))


def report(recipe: Recipe, inputs: Sequence[Step]) -> Step:
    """The report of a recipe.

    Args:
        inputs: its corpus, trainings and measurements.
    """

    def work(directory: Path, place: Workplace) -> Summary:
        made = list(walk_steps(list(inputs)))
        results = collect_results(recipe.name, made, place)
        results["planted"] = planted_rows(recipe, made, place)
        write_json(directory / "results.json", results)
        curves = {
            step.selectors["model"]: read_metrics(place.directory(step))
            for step in made
            if is_pretraining(step)
        }
        rows = [stage_row(step, place) for step in made]
        write_pages(directory, report_page(recipe, results, measured_tasks(made), curves, rows))
        return {"models": sorted(results["models"])}

    return Step(
        REPORT,
        recipe.name,
        work,
        label="write the report",
        parameters={"recipe": recipe.name, "description": recipe.identity.description},
        inputs={f"{step.kind.name} {step.name}": step for step in inputs},
        facts=lambda summary: f"of {', '.join(summary['models'])}",
        layout={"processes": 1},
    )


def is_pretraining(step: Step) -> bool:
    return step.kind.name == PRETRAIN


def record_of(step: Step) -> Task | None:
    """The record of what a step measures; None for a step that measures nothing."""
    if step.kind.group == EVALUATE:
        return ZERO_SHOT[step.kind.name]
    return FINE_TUNING[step.kind.name] if step.kind.group == FINETUNE else None


def collect_results(recipe: str, made: Sequence[Step], place: Workplace) -> dict[str, Any]:
    """All numbers of a run: by model and task, and the corpus funnel. Deterministic: no times, no paths."""
    models: dict[str, dict[str, Any]] = {}
    seeds: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    for step in made:  # inputs first: a model before what measures it
        record, model = record_of(step), step.selectors.get("model", "")
        if is_pretraining(step):
            config = read_json(place.directory(step) / "model" / "config.json")
            models[model] = {"config": config, "pretraining": place.summary(step)}
        elif isinstance(record, FineTuning):
            runs = seeds[model, record.name]
            runs[step.selectors["seed"]] = place.summary(step)
            models[model][record.name] = record.combine(runs)  # the last time of all seeds
        elif record is not None:
            models[model][record.name] = place.summary(step)
    return {"recipe": recipe, "models": models, "corpus": funnel(made, place)}


def measured_tasks(made: Sequence[Step]) -> list[Task]:
    """The records of what was measured, each once, in the order of the steps."""
    records = [record for step in made if (record := record_of(step)) is not None]
    return list({record.name: record for record in records}.values())


def planted_rows(recipe: Recipe, made: Sequence[Step], place: Workplace) -> list[dict[str, Any]]:
    """What became of the sample's planted defects; empty for other corpora."""
    from data_pipeline.engine.documents import list_shards

    corpora = {source.part: source.name for source in recipe.corpora if isinstance(source, SampleSource)}
    samples = [step for step in made if step.kind is steps.SAMPLE]
    if not samples or not corpora:
        return []
    outputs = {
        kind.name: [
            shard for step in made if step.kind is kind for shard in list_shards(place.directory(step))
        ]
        for kind in (steps.CLEAN, steps.DECONTAMINATE, steps.DEDUPLICATE)
    }
    return planted_outcomes(place.directory(samples[0]), corpora, outputs)


def stage_row(step: Step, place: Workplace) -> dict[str, Any]:
    """What the report's table of stages shows of one: from its run record, so not deterministic."""
    directory = place.directory(step)
    return {
        "label": step.label,
        "facts": step.facts(place.summary(step)),
        "directory": directory.relative_to(place.store.root).as_posix(),
        "record": read_json(directory / RUN_RECORD),
        "libraries": place.store.artifact(step).libraries,
    }


class Report(LinkedStage):
    """The report of a recipe."""

    stage = REPORT.name

    def make_step(self) -> Step:
        plan = self.plan
        inputs = [plan.corpus.deduplicate(), *(plan.pretrain(model) for model in plan.recipe.models)]
        inputs += [plan.evaluate(*member.values()) for member in plan.measurements()]
        inputs += [plan.finetune(*member.values()) for member in plan.finetunings()]
        return report(plan.recipe, inputs)

    @property
    def page(self) -> Path:
        return self.link / "index.html"


class FullReproduction(Pipeline):
    """Raw text to the report."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(Report)]
