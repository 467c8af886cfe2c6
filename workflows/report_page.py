"""Results as pages for people: `index.html`, self-contained, and `report.md`, both of one `Page` of tables.

What a task's table, its accuracies and the paper's numbers are, its record says; what the results are is `report.py`'s.
The paper's tables are in `paper_tables` and `paper_scaling`, trainings in `report_training`, how the run was made in
`report_made`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.files import atomic_write
from data_pipeline.inspection.counts import STAGE_TITLES, funnel_rows, reasons
from data_pipeline.inspection.pages import (
    Entry,
    Page,
    Section,
    Table,
    cells,
    listed,
    rendered,
    words,
    written,
)
from data_pipeline.inspection.visible import Span, visible
from recipes.records import Column, FineTuning, Task, value_at
from recipes.schema import Recipe, TextSettings
from workflows import pictures
from workflows.paper_scaling import scaling_section
from workflows.paper_tables import (
    Measurement,
    bare,
    head_of,
    is_official,
    measured_on,
    published_section,
    settings_section,
    shapes_section,
    shown,
)
from workflows.report_facts import Fact
from workflows.report_made import made_section, software, sources_section, summary_line
from workflows.report_training import Records, curve_of, training_sections

TEMPLATES = Path(__file__).parent / "templates"
ALL_SAMPLE = (
    "These numbers are about the generated sample, not about English.",
    "Corpus and benchmark files were written by this project, in the formats of the real ones. The numbers show that "
    "the whole way works and that the models learn; they do not compare with the paper's, beside which they stand below.",
)
SOME_SAMPLE = (
    "Part of the data is the generated sample.",
    "Numbers on it do not compare with the paper's, beside which they stand below.",
)


@dataclass(frozen=True)
class ReportPage(Page):
    """A page with a line that sums it up."""

    summary: str = ""


def write_pages(directory: Path, page: Page) -> None:
    """Write `index.html` and `report.md`."""
    for name, template in (("index.html", "report.html.jinja"), ("report.md", "report.md.jinja")):
        with atomic_write(directory / name) as temporary:
            temporary.write_text(rendered(template, page, TEMPLATES), encoding="utf-8")


def report_page(
    recipe: Recipe,
    results: Mapping[str, Any],
    tasks: Sequence[Task],
    records: Mapping[str, Records],
    facts: Sequence[Fact],
) -> ReportPage:
    """What the pages show.

    Args:
        results: as in `results.json`.
        tasks: what was measured.
        records: the lines of `metrics.jsonl`, by model.
        facts: of all steps behind the results, finished, in order.
    """
    models = results["models"]
    measured = [
        (name, task, model[task.name])
        for name, model in models.items()
        for task in tasks
        if task.name in model
    ]
    kinds = {c.kind for c in recipe.corpora} | {b.source for b in recipe.benchmarks.values()}
    warning = ALL_SAMPLE if kinds == {"sample"} else SOME_SAMPLE if "sample" in kinds else None
    sources = sources_of(facts)
    trainings = {name: fact for name in models if (fact := _training(name, facts))}
    curves = {name: curve_of(recipe, name, records[name]) for name in models}
    sections = [
        accuracies(measured),
        *(task_section(task, measured, models, sources) for task in tasks),
        published_section(tasks, measured, warning, sources),
        settings_section(recipe, sources),
        shapes_section(models, trainings),
        *training_sections(models, curves, trainings),
        scaling_section(recipe, trainings),
        texts_section(models, recipe.texts, sources),
        corpus_section(results["corpus"], results["planted"], facts),
        made_section(facts),
        sources_section(recipe, facts),
    ]
    tokens = sum(models[name]["pretraining"]["step"] * curves[name].tokens_a_step for name in models)
    return ReportPage(
        title=f"{recipe.name} – Megatron-LM reproduced",
        kicker="Megatron-LM (2019), reproduced",
        heading=f"Report of the recipe “{recipe.name}”",
        description=recipe.identity.description,
        sections=[s for s in sections if s.tables or s.pictures or s.paragraphs or s.entries or s.blocks],
        warning=warning,
        cards=[card(*measurement) for measurement in measured],
        software=software(facts),
        summary=summary_line(facts, len(models), len(measured), tokens),
    )


def sources_of(facts: Sequence[Fact]) -> dict[Any, str]:
    """Artifacts of what is known of a model: by (model, kind of stage or task), those of several seeds together."""
    found: dict[Any, list[str]] = {}
    for fact in facts:
        model = fact.step.selectors.get("model")
        if model:
            task = fact.step.selectors.get("task", fact.step.kind.name)
            found.setdefault((model, task), []).append(fact.artifact)
    return {key: ", ".join(artifacts) for key, artifacts in found.items()}


def _training(model: str, facts: Sequence[Fact]) -> Fact | None:
    """The stage that made a model: the one that is of the model and of no task, and whose folder holds it."""
    return next(
        (
            fact
            for fact in facts
            if dict(fact.step.selectors) == {"model": model} and "parameters" in fact.summary
        ),
        None,
    )


def card(model: str, task: Task, result: Mapping[str, Any]) -> tuple[str, str, str]:
    """A task's headline number, beside its first baseline or, where it has none, the second column."""
    headline, *others = task.columns
    baselines = task.bar.baselines if task.bar else {}
    controls = [*(Column(*baseline, "percent") for baseline in baselines.items()), *others]
    control = "".join(f"{column.title}: {shown(column, result)}" for column in controls[:1])
    where = value_at(result, "data.description")
    data = f" on {where}" if where and not is_official(result) else ""
    return f"{model}, {task.title} {headline.title}{data}", shown(headline, result), control


def accuracies(measured: Sequence[Measurement]) -> Section:
    """Every accuracy of the run beside its baselines."""
    bars = []
    for model, task, result in measured:
        if task.bar and value_at(result, task.bar.path) is not None:
            baselines = {name: value_at(result, path) for name, path in task.bar.baselines.items()}
            known = {name: value for name, value in baselines.items() if value is not None}
            bars.append((f"{model}, {task.title}", value_at(result, task.bar.path), known))
    drawn = [pictures.accuracies(bars)] if bars else []
    return Section("Accuracy against what needs no understanding", pictures=drawn)


def task_section(
    task: Task, measured: Sequence[Measurement], models: Mapping[str, Any], sources: Mapping[Any, str]
) -> Section:
    how = "fine-tuned" if isinstance(task, FineTuning) else "zero-shot"
    results = [(model, result) for model, its_task, result in measured if its_task is task]
    data = [measured_on(result) for _, result in results]
    one = len(set(data)) == 1  # what all were measured on stands above the table
    head = ["model", "parameters", *map(head_of, task.columns), *([] if one else ["measured on"]), "from"]
    rows = [
        [
            *cells(model, models[model]["pretraining"]["parameters"]),
            *(bare(column, result) for column in task.columns),
            *([] if one else [written(where)]),
            sources.get((model, task.name), "–"),
        ]
        for (model, result), where in zip(results, data, strict=True)
    ]
    over = {result["standard_error_over"] for _, result in results if "standard_error_over" in result}
    errors = f"± is the standard error over {' or '.join(sorted(over))}." if over else ""
    note = " ".join(filter(None, [task.note, f"Measured on {data[0]}." if one and data[0] else "", errors]))
    styles = {head[2]: "best", "measured on": "left", "from": "from"}
    title = task.title if task.title.endswith(how) else f"{task.title}, {how}"
    return Section(title, [Table(head, rows, note, styles)])


def texts_section(models: Mapping[str, Any], settings: TextSettings, sources: Mapping[Any, str]) -> Section:
    """What the models write."""
    entries = []
    for name, model in models.items():
        for number, text in enumerate(model.get("texts", ()), start=1):
            facts = [("tokens", written(text["tokens"])), ("ended by", text["end"])]
            shown_text = [Span(visible(text["prompt"] + text["text"]))]
            entries.append(Entry(f"{name}, text {number}", facts, [("", shown_text)]))
    found = [sources[name, "texts"] for name in models if (name, "texts") in sources]
    return Section(
        "What the models write",
        entries=entries,
        paragraphs=[("", f"{settings.described()} From: {', '.join(found)}.")] if entries else [],
    )


def corpus_section(corpus: Records, planted: Records, facts: Sequence[Fact] = ()) -> Section:
    """What every stage let through, where the text is from, and what became of the sample's defects."""
    funnel = [(STAGE_TITLES[row["stage"]], row["documents"], reasons(row["counts"])) for row in corpus]
    table = funnel_rows(corpus)
    artifacts = {
        row["stage"]: ", ".join(f.artifact for f in facts if f.step.kind.name == row["stage"])
        for row in corpus
    }
    rows = [[*row, artifacts[told["stage"]] or "–"] for row, told in zip(table.rows, corpus, strict=True)]
    tables = [Table([*table.head, "from"], rows, table.note, {**table.styles, "from": "from"})]
    if planted:
        note = "Defects planted in the sample: how many the stage meant for them removed or mended, and what became of all."
        rows = [cells(words(r["kind"]), r["planted"], r["found"], listed(r["outcomes"])) for r in planted]
        tables.append(Table(("kind", "planted", "found", "outcomes"), rows, note, {"outcomes": "left"}))
    measures = {part.get("length_counted_by") for row in corpus for part in row["parts"].values()} - {None}
    paragraphs = [("", f"Length of documents counted by {'; '.join(sorted(measures))}.")] if measures else []
    paragraphs += [(name, f": {origin}.") for name, origin in origins(corpus).items()]
    return Section("The corpus", tables, [pictures.funnel(funnel)] if funnel else [], paragraphs)


def origins(corpus: Records) -> dict[str, str]:
    """Of each fetched corpus that is not the user's own files: where it is from, under what terms, and for what it
    stands in."""
    found = {}
    for name, part in ((name, part) for row in corpus for name, part in row["parts"].items()):
        if origin := part.get("origin"):
            place = [origin.get("dataset"), origin.get("configuration"), *origin.get("urls", [])]
            notes = [" ".join(filter(None, place))]
            notes += [f"{key} {origin[key]}" for key in ("revision", "licence", "terms") if key in origin]
            notes += [f"differs from the paper's: {origin['stand_in']}"] if "stand_in" in origin else []
            found[name] = "; ".join(filter(None, notes))
    return found
