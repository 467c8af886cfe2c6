"""The paper's tables with our numbers in them: shapes of models (tables 2 and 4), results (tables 3 and 5) and
settings of fine-tuning (table 6).

Which table a number belongs to, and the paper's rows of it, stand in the records of tasks and pretrainings.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_pipeline.inspection.pages import Paragraph, Section, Table, words, written
from recipes.documents import read_document
from recipes.records import FINE_TUNING, PRETRAININGS, SHAPE_COLUMNS, Column, Published, Task, value_at
from recipes.schema import Recipe
from workflows.report_facts import Fact, layout_of

Measurement = tuple[str, Task, Mapping[str, Any]]  # model, task, result
PAPER = "paper: "
_PAPER_RECIPE = "paper"
_OTHER = " *"  # behind a number that is about other data than the paper's


def bare(column: Column, result: Mapping[str, Any]) -> str:
    """A value with its standard error or its spread, where it has one, without its unit, which the head says."""
    text = _number(value_at(result, column.path), column)
    if spread := value_at(result, column.spread) if column.spread else None:
        text += f" ({'–'.join(_number(value, column) for value in spread)})"
    error = value_at(result, column.error) if column.error else None
    return text if error is None else f"{text} ± {_number(error, column)}"


def _number(value: Any, column: Column) -> str:
    if column.form == "percent" and isinstance(value, int | float):
        return f"{100 * value:.1f}"
    return written(value, column.form)


def head_of(column: Column) -> str:
    """A column's title with its unit."""
    return f"{column.title}, %" if column.form == "percent" else column.title


def shown(column: Column, result: Mapping[str, Any]) -> str:
    """A value with its unit, where it stands alone."""
    text = bare(column, result)
    return f"{text} %" if column.form == "percent" and text != "–" else text


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
    """Whether a number is about what published numbers are about, so that it may stand beside the paper's as one."""
    return value_at(result, "data.official") is True


def published_section(
    tasks: Sequence[Task],
    measured: Sequence[Measurement],
    warning: Paragraph | None,
    sources: Mapping[Any, str],
) -> Section:
    """The paper's tables of what was measured, ours first. A number that is about other data than the paper's is marked,
    and below the table stands what ours were measured on, so that none on another file is taken for the paper's.

    Args:
        sources: artifacts of measurements, by (model, task).
    """
    places: dict[str, list[Task]] = {}
    for task in tasks:
        if task.published:
            places.setdefault(task.published.place, []).append(task)
    tables = [_published_table(place, its, measured, sources) for place, its in places.items()]
    text = "The paper's numbers are from Shoeybi et al., 2019, on the real corpora and benchmarks."
    text += " Not comparable with the sample's numbers." if warning else ""
    return Section("Beside the paper's numbers", tables, paragraphs=[("", text)] if tables else [])


def _published_table(
    place: str, tasks: Sequence[Task], measured: Sequence[Measurement], sources: Mapping[Any, str]
) -> Table:
    known = [(task, task.published) for task in tasks if task.published]
    head = ["model"]
    for task, published in known:
        head += [f"{task.title} {column}" for column in published.columns]
    ours: dict[str, list[str]] = {}
    found: dict[str, list[str]] = {}
    width = len(head) - 1
    at = 0
    for task, published in known:
        for model, its_task, result in measured:
            if its_task is task:
                row = ours.setdefault(model, ["–"] * width)
                row[at : at + len(published.columns)] = _ours(task, published, result)
                found.setdefault(model, []).append(sources.get((model, task.name), ""))
        at += len(published.columns)
    paper: dict[str, list[str]] = {}
    at = 0
    for _, published in known:
        for model, values in published.rows:
            row = paper.setdefault(model, ["–"] * width)
            row[at : at + len(values)] = [written(value, "text") for value in values]
        at += len(published.columns)
    rows = [[model, *row, ", ".join(filter(None, found[model])) or "–"] for model, row in ours.items()]
    rows += [[PAPER + model, *row, "–"] for model, row in paper.items()]
    results = [(task, [r for _, its, r in measured if its is task]) for task, _ in known]
    note = " ".join(filter(None, (compared(task.title, its) for task, its in results)))
    return Table([*head, "from"], rows, f"{place[0].upper()}{place[1:]}. {note}", {"from": "from"})


def _ours(task: Task, published: Published, result: Mapping[str, Any]) -> Iterator[str]:
    """Our values of the paper's columns."""
    by_path = {column.path: column for column in task.columns}
    for place in range(len(published.columns)):
        column = by_path.get(published.paths[place]) if place < len(published.paths) else None
        text = bare(column, result) if column else "–"
        yield text if text == "–" or is_official(result) else text + _OTHER


def compared(title: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Whether our numbers of a task are about what the paper's are about."""
    known = {str(measured_on(r)): is_official(r) for r in results if measured_on(r)}
    if not known:
        return ""
    same = "this is" if all(known.values()) else f"{_OTHER.strip()} this is NOT"
    return f"{title}: {'; '.join(known)}; {same} what the paper's numbers are about."


def settings_section(recipe: Recipe, sources: Mapping[Any, str]) -> Section:
    """Table 6: how models were fine-tuned, ours first; the paper's settings are those of its recipe."""
    ours = [
        [*_settings(name, task, dataclasses.asdict(settings)), sources.get((name, task), "–")]
        for name, model in recipe.models.items()
        for task, settings in model.finetuning.items()
    ]
    tasks = {task for model in recipe.models.values() for task in model.finetuning}
    paper = [
        [*_settings(PAPER + name, task, settings), "–"]
        for name, model in read_document(_PAPER_RECIPE).tables["models"].items()
        for task, settings in model.get("finetuning", {}).items()
        if task in tasks
    ]
    head = ["model", "task", "batch", "learning rate", "epochs", "seeds", "from"]
    note = "Table 6 of the paper (appendix A)."
    table = Table(head, [*ours, *paper], note, {"task": "left", "from": "from"})
    return Section("Fine-tuning settings", [table] if ours else [])


def _settings(model: str, task: str, settings: Mapping[str, Any]) -> list[str]:
    rate = f"{settings['learning_rate']:.2g}"
    numbers = [str(settings["batch_size"]), rate, str(settings["epochs"]), str(len(settings["seeds"]))]
    return [model, FINE_TUNING[task].title, *numbers]


def shapes_section(models: Mapping[str, Any], trainings: Mapping[str, Fact]) -> Section:
    """Shapes of models, a table for each family, ours first."""
    tables = []
    for family in dict.fromkeys(model["config"]["model"]["family"] for model in models.values()):
        published = PRETRAININGS[family].shapes if family in PRETRAININGS else None
        rows = []
        for name, model in models.items():
            shape = model["config"]["model"]
            if shape["family"] == family:
                fact = trainings.get(name)
                rows.append([name, *_shape(model, shape, fact), fact.artifact if fact else "–"])
        place = f"; {published.place} of the paper" if published else ""
        for name, values in published.rows if published else ():
            rows.append([PAPER + name, *(written(value, "text") for value in values), "–"])
        head = ["model", *SHAPE_COLUMNS, "from"]
        tables.append(Table(head, rows, f"Family {family}{place}.", {"from": "from"}))
    return Section("Shapes of the models", tables)


def _shape(model: Mapping[str, Any], shape: Mapping[str, Any], fact: Fact | None) -> list[str]:
    devices = layout_of(fact)[0] if fact else 0
    billions = model["pretraining"]["parameters"] / 1e9
    values = [f"{billions:.3g}" if billions >= 0.001 else f"{billions:.2g}"]
    values += [str(shape[name]) for name in ("layers", "hidden", "heads")]
    return [
        *values,
        written(shape["hidden"] / shape["heads"], "text").removesuffix(".0"),
        written(devices or None),
    ]
