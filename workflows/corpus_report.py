"""The corpus of a recipe and what every stage let through: `luigi --module workflows BuildCorpus`.

Its page, `funnel.txt`, is linked from `runs/latest/<recipe>-corpus` and says where the indexed datasets are; `data.html`
shows documents, kept and dropped. The report of a whole reproduction is in `report.py`.
"""

from collections.abc import Sequence
from pathlib import Path

import luigi

from core.files import write_json
from data_pipeline import steps
from data_pipeline.build import funnel_table
from data_pipeline.engine.steps import StageKind, Step, Summary, Workplace, walk
from data_pipeline.inspection.chain import chain_of
from data_pipeline.inspection.counts import funnel
from data_pipeline.inspection.pages import write_page
from data_pipeline.inspection.show import data_page
from data_pipeline.inspection.view import ShowSettings
from workflows.report_page import origins
from workflows.stage import LinkedStage, Pipeline

DATA_PAGE = "data.html"
PAGES = "data"
CORPUS = StageKind("corpus", 2, ("workflows.corpus_report",), unhashed=(DATA_PAGE,))
_DOCUMENT_KINDS = (steps.FETCH, steps.CLEAN, steps.DECONTAMINATE, steps.DEDUPLICATE)


def write_data_page(directory: Path, made: Sequence[Step], place: Workplace) -> None:
    """The page that `python -m data_pipeline show` makes of what deduplication left, beside a report."""
    last = [step for step in made if step.kind is steps.DEDUPLICATE][-1]
    write_page(directory / DATA_PAGE, data_page(chain_of(place.directory(last)), ShowSettings()))


def write_data_pages(directory: Path, made: Sequence[Step], place: Workplace) -> dict[Step, str]:
    """That page, and one for each other artifact of documents or tokens in a folder beside it; returns the address of
    each, by step."""
    write_data_page(directory, made, place)
    (directory / PAGES).mkdir(exist_ok=True)
    addresses = {step: DATA_PAGE for step in made if step.kind is steps.DEDUPLICATE}
    for step in made:
        if step.kind in (*_DOCUMENT_KINDS, steps.TOKENIZE) and step not in addresses:
            addresses[step] = f"{PAGES}/{step.kind.name}-{step.name}.html"
            settings = ShowSettings(only=["tokens"] if step.kind is steps.TOKENIZE else [])
            page = data_page(chain_of(place.directory(step)), settings)
            write_page(directory / addresses[step], page)
    return addresses


def corpus_report(recipe: str, corpora: Sequence[Step]) -> Step:
    """The funnel of a recipe's corpora, as a table and as JSON.

    Args:
        corpora: the tokenized ones.
    """

    def work(directory: Path, place: Workplace) -> Summary:
        made = list(walk(list(corpora)))
        counted = [step for step in made if step.kind in (*_DOCUMENT_KINDS, steps.TOKENIZE)]
        tables = {f"{step.kind.name} {step.name}": place.summary(step) for step in counted}
        totals = funnel((step.kind.name, step.name, place.summary(step)) for step in made)
        write_json(directory / "funnel.json", {"stages": tables, "totals": totals})
        places = [place.directory(step).relative_to(place.store.root).as_posix() for step in corpora]
        lines = [funnel_table(tables), *(f"{folder}/corpus.bin and .idx" for folder in places)]
        lines += [f"{name}: {origin}" for name, origin in origins(totals).items()]
        (directory / "funnel.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_data_page(directory, made, place)
        return {"families": sorted(step.selectors["family"] for step in corpora)}

    return Step(
        CORPUS,
        recipe,
        work,
        label="write the funnel",
        parameters={"recipe": recipe},
        inputs={step.name: step for step in corpora},
        reads=tuple(walk(corpora)),
        facts=lambda summary: f"of {', '.join(summary['families'])}",
        layout={"processes": 1},
    )


class CorpusReport(LinkedStage):
    """The funnel of a recipe's corpora, as a table and as JSON."""

    makes = "runs/corpus/<recipe>-…: funnel.txt, data.html; runs/latest/<recipe>-corpus links to it"
    stage = CORPUS.name

    def make_step(self) -> Step:
        corpora = [self.plan.corpus.tokenize(family) for family in self.plan.families()]
        return corpus_report(self.settings.name, corpora)

    @property
    def link_name(self) -> str:
        return f"{self.settings.name}-corpus"

    @property
    def page(self) -> Path:
        return self.link / "funnel.txt"


class BuildCorpus(Pipeline):
    """Raw text to the tokenized corpora of a recipe; `--corpus` names a recipe that holds a corpus only."""

    makes = "the funnel, runs/latest/<recipe>-corpus/funnel.txt, and the indexed datasets that it names"
    corpus = luigi.Parameter(
        default="", description="recipe of a corpus, by name or path of a .toml file (default: --recipe)"
    )

    @property
    def recipe_read(self) -> str:
        return self.corpus or self.recipe

    def requires(self) -> list[luigi.Task]:
        return [self.clone(CorpusReport, recipe=self.recipe_read)]
