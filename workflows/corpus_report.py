"""The corpus of a recipe and what every stage let through: `luigi --module workflows BuildCorpus`.

Its page, `funnel.txt`, is linked from `runs/latest/<recipe>-corpus` and says where the indexed datasets are. The report of
a whole reproduction is in `report.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from core.files import write_json
from data_pipeline.engine.resumable import add_counts
from workflows.corpus import CleanDocuments, DecontaminateDocuments, DeduplicateDocuments
from workflows.fetching import FetchDocuments
from workflows.report_page import origins
from workflows.stage import LinkedStage, Pipeline, RecipeParameter, Stage, walk
from workflows.tokenization import TokenizeCorpus

_DOCUMENT_STAGES = (FetchDocuments, CleanDocuments, DecontaminateDocuments, DeduplicateDocuments)
_WORDS = ("origin", "pins")  # of a fetched corpus: tables that hold no counts


def summary_of(stage: Stage) -> dict[str, Any]:
    """The deterministic facts of a finished stage."""
    return dict(stage.artifact.manifest()["summary"])


def funnel(stages: list[Stage]) -> list[dict[str, Any]]:
    """What each stage of the corpus let through, over all corpora, and why it dropped the rest."""
    rows = []
    for kind in _DOCUMENT_STAGES:
        parts = {stage.artifact_name(): summary_of(stage) for stage in stages if isinstance(stage, kind)}
        if parts:
            total = add_counts(
                {
                    key: value
                    for key, value in part.items()
                    if isinstance(value, int | dict) and key not in _WORDS
                }
                for part in parts.values()
            )
            rows.append(
                {"stage": kind.stage, "documents": total["documents"], "counts": total, "parts": parts}
            )
    return rows


class CorpusReport(LinkedStage):
    """The funnel of a recipe's corpora, as a table and as JSON."""

    stage = "corpus"
    sources = ("workflows/corpus_report.py", "data_pipeline/build.py")

    def label(self) -> str:
        return "write the funnel"

    def inputs(self) -> dict[str, Stage]:
        return {stage.artifact_name(): stage for stage in self.clone(TokenizeCorpus).members()}

    def parameters(self) -> dict[str, Any]:
        return {"recipe": self.settings.name}

    @property
    def link_name(self) -> str:
        return f"{self.settings.name}-corpus"

    @property
    def page(self) -> Path:
        return self.link / "funnel.txt"

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.build import funnel_table

        stages = [stage for stage in walk(self) if stage is not self]
        corpora = [stage for stage in stages if isinstance(stage, TokenizeCorpus)]
        counted = [stage for stage in stages if isinstance(stage, (*_DOCUMENT_STAGES, TokenizeCorpus))]
        tables = {f"{stage.stage} {stage.artifact_name()}": summary_of(stage) for stage in counted}
        totals = funnel(stages)
        write_json(directory / "funnel.json", {"stages": tables, "totals": totals})
        places = [stage.directory.relative_to(stage.runs).as_posix() for stage in corpora]
        lines = [funnel_table(tables), *(f"{place}/corpus.bin and .idx" for place in places)]
        lines += [f"{name}: {origin}" for name, origin in origins(totals).items()]
        (directory / "funnel.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {"families": sorted(stage.family for stage in corpora)}

    def facts(self, summary: Mapping[str, Any]) -> str:
        return f"of {', '.join(summary['families'])}"


class BuildCorpus(Pipeline):
    """Raw text to the tokenized corpora of a recipe; `--corpus` names a recipe that holds a corpus only."""

    corpus = luigi.Parameter(
        default="", description="recipe of a corpus, by name or path of a .toml file (default: --recipe)"
    )

    def requires(self) -> list[luigi.Task]:
        recipe = RecipeParameter().normalize(self.corpus) if self.corpus else self.recipe
        return [self.clone(CorpusReport, recipe=recipe)]
