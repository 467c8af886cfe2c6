"""Results as pages for people: `index.html`, self-contained, and `report.md`, both of one `Page` of tables.

What a task's table, its accuracies and the paper's numbers are, its record says; what the results are is `report.py`'s.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files import read_json
from data_pipeline.engine.artifacts import RUN_RECORD
from data_pipeline.engine.steps import Step, Workplace
from data_pipeline.inspection.counts import STAGE_TITLES, funnel_rows, reasons
from data_pipeline.inspection.pages import (
    Page,
    Paragraph,
    Section,
    Table,
    cells,
    listed,
    rendered,
    words,
    write_page,
    written,
)
from recipes.records import Column, FineTuning, Task, value_at
from recipes.schema import Recipe
from workflows import pictures
from workflows.console import format_seconds

TEMPLATES = Path(__file__).parent / "templates"
ALL_SAMPLE = (
    "These numbers are about the generated sample, not about English.",
    "Corpus and benchmark files were written by this project, in the formats of the real ones. The numbers show that "
    "the whole way works and that the models learn; they do not compare with the paper's, which are listed apart below.",
)
SOME_SAMPLE = (
    "Part of the data is the generated sample.",
    "Numbers on it do not compare with the paper's, which are listed apart below.",
)
Records = Sequence[Mapping[str, Any]]
Measurement = tuple[str, Task, Mapping[str, Any]]  # model, task, result


def write_pages(directory: Path, page: Page) -> None:
    """Write `index.html` and `report.md`."""
    write_page(directory / "index.html", page)
    text = rendered("report.md.jinja", page, TEMPLATES)
    (directory / "report.md").write_text(text, encoding="utf-8")


def report_page(
    recipe: Recipe,
    results: Mapping[str, Any],
    tasks: Sequence[Task],
    curves: Mapping[str, Records],
    made: Sequence[Step],
    place: Workplace,
) -> Page:
    """What the pages show.

    Args:
        results: as in `results.json`.
        tasks: what was measured.
        curves: the lines of `metrics.jsonl`, by model.
        made: all steps behind the results, finished, in order.
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
    sections = [
        Section("Accuracy against what needs no understanding", picture=accuracies(measured)),
        *(task_section(task, measured, models) for task in tasks),
        training_section(models, curves),
        corpus_section(results["corpus"], results["planted"]),
        published_section(tasks, measured, warning),
        stages_section(made, place),
    ]
    return Page(
        title=f"{recipe.name} – Megatron-LM reproduced",
        kicker="Megatron-LM (2019), reproduced",
        heading=f"Report of the recipe “{recipe.name}”",
        description=recipe.identity.description,
        sections=[section for section in sections if section.tables or section.picture],
        warning=warning,
        cards=[card(*measurement) for measurement in measured],
        software=software(made, place),
    )


def shown(column: Column, result: Mapping[str, Any]) -> str:
    """A value with its standard error or its spread, where it has one."""
    text = written(value_at(result, column.path), column.form)
    if spread := value_at(result, column.spread) if column.spread else None:
        text += f" ({'–'.join(written(value, column.form) for value in spread)})"
    error = value_at(result, column.error) if column.error else None
    return text if error is None else f"{text} ± {written(error, column.form)}"


def measured_on(result: Mapping[str, Any]) -> str | None:
    """What a number was measured on, and how: file, windows, precision."""
    described = value_at(result, "data.description")
    if described is None:
        return None
    facts = {name: result.get(name) for name in ("sequence_length", "stride", "precision")}
    rule = [result["rule"]] if "rule" in result else []
    return ", ".join(
        [described, *(f"{words(name)} {value}" for name, value in facts.items() if value), *rule]
    )


def is_official(result: Mapping[str, Any]) -> bool:
    """Whether a number is about what published numbers are about, so that it may stand beside the paper's."""
    return value_at(result, "data.official") is True


def card(model: str, task: Task, result: Mapping[str, Any]) -> tuple[str, str, str]:
    """A task's headline number, beside its first baseline or, where it has none, the second column."""
    headline, *others = task.columns
    baselines = task.bar.baselines if task.bar else {}
    controls = [*(Column(*baseline, "percent") for baseline in baselines.items()), *others]
    control = "".join(f"{column.title}: {shown(column, result)}" for column in controls[:1])
    where = value_at(result, "data.description")
    data = f" on {where}" if where and not is_official(result) else ""
    return f"{model}, {task.title} {headline.title}{data}", shown(headline, result), control


def accuracies(measured: Sequence[Measurement]) -> pictures.Picture | None:
    """Every accuracy of the run beside its baselines."""
    bars = []
    for model, task, result in measured:
        if task.bar:
            baselines = {name: value_at(result, path) for name, path in task.bar.baselines.items()}
            known = {name: value for name, value in baselines.items() if value is not None}
            bars.append((f"{model}, {task.title}", value_at(result, task.bar.path), known))
    return pictures.accuracies(bars) if bars else None


def task_section(task: Task, measured: Sequence[Measurement], models: Mapping[str, Any]) -> Section:
    how = "fine-tuned" if isinstance(task, FineTuning) else "zero-shot"
    results = [(model, result) for model, its_task, result in measured if its_task is task]
    head = ["model", "parameters", *(column.title for column in task.columns), "measured on"]
    rows = [
        [
            *cells(model, models[model]["pretraining"]["parameters"]),
            *(shown(column, result) for column in task.columns),
            written(measured_on(result)),
        ]
        for model, result in results
    ]
    over = {result["standard_error_over"] for _, result in results if "standard_error_over" in result}
    errors = f"± is the standard error over {' or '.join(sorted(over))}." if over else ""
    note = " ".join(filter(None, [task.note, errors]))
    styles = {head[2]: "best", head[-1]: "left"}
    title = task.title if task.title.endswith(how) else f"{task.title}, {how}"
    return Section(title, [Table(head, rows, note, styles)])


def training_section(models: Mapping[str, Any], curves: Mapping[str, Records]) -> Section:
    """How the pretrainings went, and how each ended: its mean training loss over the last twentieth of the steps, where
    single steps are noisy, and its last validation loss, if it had one."""
    losses: dict[str, list[tuple[int, float]]] = {}
    rows = []
    for name, model in models.items():
        points = [(record["step"], record["loss"]) for record in curves[name] if "loss" in record]
        tail = [loss for _, loss in points[-max(1, len(points) // 20) :]]
        mean = sum(tail) / len(tail) if tail else None
        validation = [None, *(r["validation_loss"] for r in curves[name] if "validation_loss" in r)][-1]
        summary = model["pretraining"]
        rows.append(cells(name, summary["parameters"], summary["step"], mean, validation))
        if points:
            losses[name] = points
    head = ("model", "parameters", "steps", "loss, mean of the last twentieth", "validation loss")
    return Section(
        "Training", [Table(head, rows)] if rows else [], pictures.loss_curves(losses) if losses else None
    )


def corpus_section(corpus: Records, planted: Records) -> Section:
    """What every stage let through, where the text is from, and what became of the sample's defects."""
    funnel = [(STAGE_TITLES[row["stage"]], row["documents"], reasons(row["counts"])) for row in corpus]
    tables = [funnel_rows(corpus)]
    if planted:
        note = "Defects planted in the sample: how many the stage meant for them removed or mended, and what became of all."
        rows = [cells(words(r["kind"]), r["planted"], r["found"], listed(r["outcomes"])) for r in planted]
        tables.append(Table(("kind", "planted", "found", "outcomes"), rows, note, {"outcomes": "left"}))
    measures = {part.get("length_counted_by") for row in corpus for part in row["parts"].values()} - {None}
    paragraphs = [("", f"Length of documents counted by {'; '.join(sorted(measures))}.")] if measures else []
    paragraphs += [(name, f": {origin}.") for name, origin in origins(corpus).items()]
    bars = [(title, count, f"{why} dropped" if why else "") for title, count, why in funnel]
    return Section("The corpus", tables, pictures.funnel(bars), paragraphs)


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


def published_section(
    tasks: Sequence[Task], measured: Sequence[Measurement], warning: Paragraph | None
) -> Section:
    """The paper's numbers for what was measured, apart from ours: other data, other sizes. Above each table stands what
    ours were measured on, so that none on another file is taken for the paper's."""
    tables = []
    for task in tasks:
        if published := task.published:
            rows = [[name, *(written(value, "text") for value in values)] for name, values in published.rows]
            head = (f"{task.title}, {published.place}", *published.columns)
            tables.append(Table(head, rows, compared([r for _, its, r in measured if its is task])))
    text = "From Shoeybi et al., 2019, on the real corpora and benchmarks."
    text += " Not comparable with the sample's numbers above." if warning else ""
    return Section("The paper's numbers", tables, paragraphs=[("", text)])


def compared(results: Sequence[Mapping[str, Any]]) -> str:
    """Whether our numbers of a task are about what the paper's are about."""
    known = {str(measured_on(r)): is_official(r) for r in results if measured_on(r)}
    if not known:
        return ""
    same = "This is" if all(known.values()) else "This is NOT"
    return f"Ours: {'; '.join(known)}. {same} what the paper's numbers are about."


def stages_section(made: Sequence[Step], place: Workplace) -> Section:
    head = ("stage", "time", "layout", "resumed", "outcome", "artifact")
    records = [run_record(step, place) for step in made]
    rows = [
        cells(
            step.label,
            format_seconds(record["seconds"]),
            listed(record["segments"][-1]["layout"]),
            record["resumed"] or None,
            step.facts(place.summary(step)),
            place.directory(step).relative_to(place.store.root).as_posix(),
        )
        for step, record in zip(made, records, strict=True)
    ]
    total = format_seconds(sum(record["seconds"] for record in records))
    note = f"{len(made)} stages, {total} of work in all (each stage's last attempt). The same bytes in every run are "
    note += "promised on one kind of processor: another rounds otherwise."
    if machines := sorted({text for record in records if (text := machine(record["segments"][-1]))}):
        note += f" These stages ran on: {'; '.join(machines)}."
    styles = {"layout": "left", "outcome": "left", "artifact": "code"}
    return Section("How it was made", [Table(head, rows, note, styles)])


def run_record(step: Step, place: Workplace) -> dict[str, Any]:
    return dict(read_json(place.directory(step) / RUN_RECORD))


def machine(segment: Mapping[str, Any]) -> str:
    """What a segment computed on; on another kind of processor the last digits are others."""
    machine = segment.get("machine", {})
    return ", ".join(
        str(machine[name]) for name in ("processor", "instruction_set", "device") if name in machine
    )


def software(made: Sequence[Step], place: Workplace) -> str:
    """Versions of what made the numbers."""
    record = run_record(made[-1], place)
    segments = [segment for step in made for segment in run_record(step, place)["segments"]]
    versions = {
        name: version for step in made for name, version in place.store.artifact(step).libraries.items()
    }
    for segment in segments:  # the whole versions, of which keys have less
        versions |= segment.get("libraries", {})
    versions |= {name: record[name] for name in ("python", "torch", "luigi")}
    facts = [*sorted(versions.items()), ("checkout", record["git_revision"])]
    facts += [("computed on", text) for text in dict.fromkeys(map(machine, segments)) if text]
    return " · ".join(f"{name} {version}" for name, version in facts)
