"""The corpus of a recipe and what every stage let through: `luigi --module workflows BuildCorpus`.

Its page, `funnel.txt`, is linked from `runs/latest/<recipe>-corpus` and says where the indexed datasets are. The report of
a whole reproduction is in `report.py`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import luigi

from data_pipeline.artifacts import write_json
from data_pipeline.resumable import add_counts
from workflows.corpus import CleanDocuments, DecontaminateDocuments, DeduplicateDocuments
from workflows.fetching import FetchDocuments
from workflows.report_page import origins
from workflows.stage import Pipeline, RecipeParameter, Stage, walk
from workflows.tokenization import TokenizeCorpus

_DOCUMENT_STAGES = (FetchDocuments, CleanDocuments, DecontaminateDocuments, DeduplicateDocuments)


def summary_of(stage: Stage) -> dict[str, Any]:
    """The deterministic facts of a finished stage."""
    return dict(stage.artifact.manifest()["summary"])


def funnel(stages: list[Stage]) -> list[dict[str, Any]]:
    """What each stage of the corpus let through, over all corpora, and why it dropped the rest."""
    rows = []
    for kind in _DOCUMENT_STAGES:
        parts = {s.artifact_name(): summary_of(s) for s in stages if isinstance(s, kind)}
        if parts:
            total = add_counts(_countable(part) for part in parts.values())
            rows.append(
                {"stage": kind.stage, "documents": total["documents"], "counts": total, "parts": parts}
            )
    return rows


def _countable(summary: Mapping[str, Any]) -> dict[str, Any]:
    words = ("origin", "pins")  # of a fetched corpus
    return {
        key: value for key, value in summary.items() if isinstance(value, int | dict) and key not in words
    }


def replace_link(link: Path, target: Path) -> None:
    """Point a relative symbolic link at a directory, atomically."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    os.replace(temporary, link)


class CorpusReport(Stage):
    """The funnel of a recipe's corpora, as a table and as JSON."""

    stage = "corpus"
    sources = ("workflows/corpus_report.py", "data_pipeline/build.py")

    def label(self) -> str:
        return "write the funnel"

    def layout(self) -> dict[str, int]:
        return {"processes": 1}

    def inputs(self) -> dict[str, Stage]:
        every = self.clone(TokenizeCorpus)
        return {stage.artifact_name(): stage for stage in every.members()}

    def parameters(self) -> dict[str, Any]:
        return {"recipe": self.settings.name}

    @property
    def link(self) -> Path:
        """`runs/latest/<recipe>-corpus`, which points to the newest one."""
        return Path(self.runs) / "latest" / f"{self.settings.name}-corpus"

    def complete(self) -> bool:
        return super().complete() and self.link.resolve() == self.directory.resolve()

    def run(self) -> None:
        super().run()
        replace_link(self.link, self.directory)

    @property
    def page(self) -> Path:
        return self.link / "funnel.txt"

    def work(self, directory: Path) -> Mapping[str, Any]:
        from data_pipeline.build import funnel_table

        stages = [stage for stage in walk(self) if stage is not self]
        tables = {
            f"{stage.stage} {stage.artifact_name()}": summary_of(stage)
            for stage in stages
            if isinstance(stage, (*_DOCUMENT_STAGES, TokenizeCorpus))
        }
        totals = funnel(stages)
        write_json(directory / "funnel.json", {"stages": tables, "totals": totals})
        corpora = [stage for stage in stages if isinstance(stage, TokenizeCorpus)]
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
