"""The corpus of a recipe and what every stage let through: `luigi --module workflows BuildCorpus`.

Its page, `funnel.txt`, is linked from `runs/latest/<recipe>-corpus` and says where the indexed datasets are. The report of
a whole reproduction is in `report.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import luigi

from core.files import write_json
from data_pipeline import steps
from data_pipeline.build import funnel_table
from data_pipeline.engine.resumable import add_counts
from data_pipeline.engine.steps import StageKind, Step, Summary, Workplace, walk
from workflows.report_page import origins
from workflows.stage import LinkedStage, Pipeline, RecipeParameter

CORPUS = StageKind("corpus", 1, ("workflows.corpus_report",))
_DOCUMENT_KINDS = (steps.FETCH, steps.CLEAN, steps.DECONTAMINATE, steps.DEDUPLICATE)
_WORDS = ("origin", "pins")  # of a fetched corpus: tables that hold no counts


def funnel(made: Sequence[Step], place: Workplace) -> list[dict[str, Any]]:
    """What each stage of the corpus let through, over all corpora, and why it dropped the rest."""
    rows = []
    for kind in _DOCUMENT_KINDS:
        parts = {step.name: place.summary(step) for step in made if step.kind is kind}
        if parts:
            total = add_counts(map(_counts, parts.values()))
            rows.append(
                {"stage": kind.name, "documents": total["documents"], "counts": total, "parts": parts}
            )
    return rows


def _counts(summary: Summary) -> dict[str, Any]:
    return {k: value for k, value in summary.items() if isinstance(value, int | dict) and k not in _WORDS}


def corpus_report(recipe: str, corpora: Sequence[Step]) -> Step:
    """The funnel of a recipe's corpora, as a table and as JSON.

    Args:
        corpora: the tokenized ones.
    """

    def work(directory: Path, place: Workplace) -> Summary:
        made = list(walk(list(corpora)))
        counted = [step for step in made if step.kind in (*_DOCUMENT_KINDS, steps.TOKENIZE)]
        tables = {f"{step.kind.name} {step.name}": place.summary(step) for step in counted}
        totals = funnel(made, place)
        write_json(directory / "funnel.json", {"stages": tables, "totals": totals})
        places = [place.directory(step).relative_to(place.store.root).as_posix() for step in corpora]
        lines = [funnel_table(tables), *(f"{folder}/corpus.bin and .idx" for folder in places)]
        lines += [f"{name}: {origin}" for name, origin in origins(totals).items()]
        (directory / "funnel.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {"families": sorted(step.selectors["family"] for step in corpora)}

    return Step(
        CORPUS,
        recipe,
        work,
        label="write the funnel",
        parameters={"recipe": recipe},
        inputs={step.name: step for step in corpora},
        facts=lambda summary: f"of {', '.join(summary['families'])}",
        layout={"processes": 1},
    )


class CorpusReport(LinkedStage):
    """The funnel of a recipe's corpora, as a table and as JSON."""

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

    corpus = luigi.Parameter(
        default="", description="recipe of a corpus, by name or path of a .toml file (default: --recipe)"
    )

    def requires(self) -> list[luigi.Task]:
        recipe = RecipeParameter().normalize(self.corpus) if self.corpus else self.recipe
        return [self.clone(CorpusReport, recipe=recipe)]
