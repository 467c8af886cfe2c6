"""The last stage: results of a whole recipe as `results.json`, `report.md` and `index.html`, and a link to them.

Only `results.json` is covered by the manifest: the two pages show times. `data.html` and the pages in `data/` beside them
are those of `python -m data_pipeline show`. What they look like is in `report_page.py` and
`data_pipeline.inspection.pages`, their pictures are in `pictures.py`.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import luigi

from core.files import read_json, write_json
from data_pipeline import steps
from data_pipeline.engine.steps import StageKind, Step, Summary, Workplace, walk
from data_pipeline.inspection.counts import funnel
from data_pipeline.sample.planted import planted_outcomes
from data_pipeline.sources.source import SampleSource
from recipes.records import FINE_TUNING
from recipes.schema import Recipe
from workflows.corpus_report import DATA_PAGE, PAGES, write_data_pages
from workflows.evaluation import ENSEMBLE
from workflows.recipe_plan import Plan
from workflows.report_facts import facts_of
from workflows.report_page import report_page, write_pages
from workflows.stage import LinkedStage, Pipeline
from workflows.texts import FILE, TEXTS
from workflows.training import read_metrics

REPORT = StageKind(
    "report", 4, ("workflows.report",), unhashed=("index.html", "report.md", DATA_PAGE, f"{PAGES}/")
)


def report(plan: Plan) -> Step:
    """The report of a recipe."""
    recipe = plan.recipe
    wanted = [plan.corpus.deduplicate(), *map(plan.pretrain, recipe.models)]
    wanted += [plan.evaluate(*member.values()) for member in plan.measurements()]
    wanted += [plan.texts(*member.values()) for member in plan.writings()]
    wanted += [plan.finetune(*member.values()) for member in plan.finetunings()]
    wanted += [plan.ensemble(*member.values()) for member in plan.ensembles()]

    def work(directory: Path, place: Workplace) -> Summary:
        made = list(walk(wanted))
        results = collect_results(recipe, made, place)
        write_json(directory / "results.json", results)
        write_report(plan, results, made, place, directory)
        return {"models": sorted(results["models"])}

    return Step(
        REPORT,
        recipe.name,
        work,
        label="write the report",
        parameters={"recipe": recipe.name, "description": recipe.identity.description},
        inputs={f"{step.kind.name} {step.name}": step for step in wanted},
        reads=tuple(walk(wanted)),
        facts=lambda summary: f"of {', '.join(summary['models'])}",
        layout={"processes": 1},
    )


def write_report(
    plan: Plan, results: Mapping[str, Any], made: Sequence[Step], place: Workplace, directory: Path
) -> None:
    """Write the pages of finished steps: the report, and those of documents that it refers to."""
    recipe = plan.recipe
    pages = write_data_pages(directory, made, place)
    records = {model: read_metrics(place.directory(plan.pretrain(model))) for model in recipe.models}
    facts = facts_of(recipe, made, place, pages)
    page = report_page(recipe, results, recipe.measured_tasks(), records, facts)
    links = [(DATA_PAGE, "The data: documents kept and dropped, duplicates, benchmark hits")]
    write_pages(directory, dataclasses.replace(page, links=links))


def collect_results(recipe: Recipe, made: Sequence[Step], place: Workplace) -> dict[str, Any]:
    """All numbers of a run: by model and task, the corpus funnel, and which artifact holds each. Deterministic: no times,
    no paths."""
    models: dict[str, dict[str, Any]] = {}
    seeds: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    for step in made:  # inputs first: a model before what measures it
        model, task, seed = (step.selectors.get(name) for name in ("model", "task", "seed"))
        if model and task and seed:
            seeds[model, task][seed] = place.summary(step)
            models[model][task] = FINE_TUNING[task].of_seeds(seeds[model, task])  # the last time of all seeds
        elif model and task and step.kind.name == ENSEMBLE:
            models[model][task]["ensemble"] = place.summary(step)
        elif model and task:
            models[model][task] = place.summary(step)
        elif model and step.kind.name == TEXTS:
            models[model]["texts"] = read_json(place.directory(step) / FILE)["texts"]
        elif model:
            config = read_json(place.directory(step) / "model" / "config.json")
            models[model] = {"config": config, "pretraining": place.summary(step)}
    planted = planted_rows(recipe, made, place)
    passed = funnel((step.kind.name, step.name, place.summary(step)) for step in made)
    return {
        "recipe": recipe.name,
        "models": models,
        "corpus": passed,
        "planted": planted,
        "artifacts": [
            {
                "stage": step.kind.name,
                "name": step.name,
                "key": place.store.artifact(step).key,
                "of": dict(step.selectors),
            }
            for step in made
        ],
    }


def planted_rows(recipe: Recipe, made: Sequence[Step], place: Workplace) -> list[dict[str, Any]]:
    """What became of the sample's planted defects; empty for other corpora."""
    from data_pipeline.engine.documents import list_shards

    corpora = {source.part: source.name for source in recipe.corpora if isinstance(source, SampleSource)}
    samples = [place.directory(step) for step in made if step.kind is steps.SAMPLE]
    if not samples or not corpora:
        return []
    outputs = {
        kind.name: [s for step in made if step.kind is kind for s in list_shards(place.directory(step))]
        for kind in (steps.CLEAN, steps.DECONTAMINATE, steps.DEDUPLICATE)
    }
    return planted_outcomes(samples[0], corpora, outputs)


class Report(LinkedStage):
    """The report of a recipe."""

    makes = "runs/report/<recipe>-…: index.html, report.md, results.json, data.html, data/; runs/latest/<recipe> links to it"
    stage = REPORT.name

    def make_step(self) -> Step:
        return report(self.plan)

    @property
    def page(self) -> Path:
        return self.link / "index.html"


class FullReproduction(Pipeline):
    """Raw text to the report."""

    makes = "the report, runs/latest/<recipe>/index.html, and all that it stands on"

    def requires(self) -> list[luigi.Task]:
        return [self.clone(Report)]
