"""Results as pages for people: `index.html`, self-contained, and `report.md`. What the results are is `report.py`'s."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.schema import Recipe
from workflows import pictures
from workflows.console import format_seconds

TEMPLATES = Path(__file__).parent / "templates"

# Tables 3 and 5 of the paper, listed apart from our numbers: other data, other sizes.
PAPER_ZERO_SHOT = (
    ("GPT-2 355M", 19.31, 45.18),
    ("GPT-2 2.5B", 12.76, 61.73),
    ("GPT-2 8.3B", 10.81, 66.51),
    ("previous best", 15.79, 63.24),
)
PAPER_RACE = (
    ("BERT 336M", 83.0, 86.9, 81.5),
    ("BERT 1.3B", 87.3, 90.4, 86.1),
    ("BERT 3.9B", 89.5, 91.8, 88.6),
    ("BERT 3.9B, ensemble", 90.9, None, None),
    ("previous best, ensemble", 89.4, None, None),
)
STAGE_TITLES = {
    "fetch": "fetched",
    "clean": "after cleaning",
    "decontaminate": "after decontamination",
    "deduplicate": "after deduplication",
}


def write_pages(
    directory: Path,
    recipe: Recipe,
    results: Mapping[str, Any],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    stages: Sequence[Mapping[str, Any]],
) -> None:
    """Write `index.html` and `report.md`.

    Args:
        results: as in `results.json`.
        curves: the lines of `metrics.jsonl`, by model.
        stages: one row a stage, with its run record.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"percent": percent, "number": number, "seconds": format_seconds, "words": words}
    content = page_content(recipe, results, curves, stages)
    for name in ("index.html", "report.md"):
        text = environment.get_template(f"{name}.jinja").render(content)
        (directory / name).write_text(text, encoding="utf-8")


def percent(share: float | None) -> str:
    """45.2 %, or a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"


def number(value: float | int | None) -> str:
    """12,345 or 12.34 or 1.2e+06, or a dash."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.2g}"


def words(name: str) -> str:
    """A key as words: not_english is "not english"."""
    return name.replace("_", " ")


def page_content(
    recipe: Recipe,
    results: Mapping[str, Any],
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    stages: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What the templates show."""
    funnel = [
        {**row, "title": STAGE_TITLES[row["stage"]], "reasons": reasons(row["counts"])}
        for row in results["corpus"]
    ]
    losses = {
        name: [(record["step"], record["loss"]) for record in records if "loss" in record]
        for name, records in curves.items()
    }
    bars = accuracy_bars(results["models"])
    return {
        "recipe": recipe,
        "results": results,
        "models": results["models"],
        "funnel": funnel,
        "planted": results["planted"],
        "trainings": [training_row(name, model, curves[name]) for name, model in results["models"].items()],
        "stages": stages,
        "total_seconds": sum(stage["record"]["seconds"] for stage in stages),
        "length_notes": length_notes(results),
        "origins": origins(results["corpus"]),
        "software": software(stages),
        "paper_zero_shot": PAPER_ZERO_SHOT,
        "paper_race": PAPER_RACE,
        "about_sample": about_sample(recipe),
        "pictures": {
            "losses": pictures.loss_curves(losses) if any(losses.values()) else None,
            "accuracies": pictures.accuracies(bars) if bars else None,
            "funnel": pictures.funnel(
                [(r["title"], r["documents"], dropped_words(r["reasons"])) for r in funnel]
            ),
        },
    }


def training_row(name: str, model: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How a pretraining ended: its mean training loss over the last twentieth of the steps, where single steps are
    noisy, and its last validation loss, if it had one."""
    losses = [record["loss"] for record in records if "loss" in record]
    tail = losses[-max(1, len(losses) // 20) :]
    validations = [record["validation_loss"] for record in records if "validation_loss" in record]
    return {
        "name": name,
        "parameters": model["pretraining"]["parameters"],
        "steps": model["pretraining"]["step"],
        "loss": sum(tail) / len(tail) if tail else None,
        "validation_loss": validations[-1] if validations else None,
    }


def about_sample(recipe: Recipe) -> str:
    """Whether numbers are about the generated sample: "all", "some" or ""."""
    kinds = {c.source for c in recipe.corpora} | {b.source for b in recipe.benchmarks.values()}
    if kinds == {"sample"}:
        return "all"
    return "some" if "sample" in kinds else ""


def reasons(counts: Mapping[str, Any]) -> dict[str, int]:
    """Why documents were dropped, most frequent first."""
    dropped = dict(counts.get("dropped", {}))
    if counts.get("quarantined"):
        dropped["bad_record"] = counts["quarantined"]
    return dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0])))


def dropped_words(dropped: Mapping[str, int]) -> str:
    """ "not english 6, too short 6 dropped"."""
    return ", ".join(f"{words(reason)} {count:,}" for reason, count in dropped.items()) + " dropped" * bool(
        dropped
    )


def length_notes(results: Mapping[str, Any]) -> list[str]:
    """How cleaning counted the tokens of a document, as its summaries say."""
    notes = {
        part["length_counted_by"]
        for row in results["corpus"]
        for part in row["parts"].values()
        if "length_counted_by" in part
    }
    return sorted(notes)


def origins(corpus: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of each fetched corpus that is not the user's own files: where it is from, under what terms, and for what it
    stands in."""
    found = {}
    for row in corpus:
        for name, part in row["parts"].items():
            if origin := part.get("origin"):
                place = [origin.get("dataset", ""), origin.get("configuration", ""), *origin.get("urls", [])]
                notes = [" ".join(filter(None, place))]
                notes += [
                    f"{words(key)} {origin[key]}" for key in ("revision", "licence", "terms") if key in origin
                ]
                notes += [f"differs from the paper's: {origin['stand_in']}"] if "stand_in" in origin else []
                found[name] = "; ".join(filter(None, notes))
    return found


def accuracy_bars(models: Mapping[str, Mapping[str, Any]]) -> list[pictures.Bar]:
    """Every accuracy of the run beside its baselines."""
    bars = []
    for name, model in models.items():
        if "lambada" in model:
            scores = model["lambada"]
            baselines = {
                "most frequent word": scores.get("baseline_accuracy"),
                "shuffled contexts": scores.get("shuffled_context_accuracy"),
                "untrained model": scores.get("untrained_accuracy"),
            }
            bars.append(pictures.Bar(f"{name}, LAMBADA", scores["accuracy"], _known(baselines)))
        if "race" in model:
            scores = model["race"]
            blank = scores.get("blank_passage_accuracy", {}).get("all")
            baselines = {"chance": scores["chance"], "passage left out": blank}
            bars.append(pictures.Bar(f"{name}, RACE", scores["accuracy"]["all"], _known(baselines)))
    return bars


def _known(baselines: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in baselines.items() if value is not None}


def software(stages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Versions of what made the numbers."""
    versions: dict[str, str] = {}
    for stage in stages:
        versions |= stage["libraries"]
    record = stages[-1]["record"]
    for name in ("python", "torch", "luigi"):
        versions[name] = record[name]
    return {**dict(sorted(versions.items())), "checkout": record["git_revision"]}
