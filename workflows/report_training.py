"""How the pretrainings of a run went: where they ended, how fast they were, and their learning curves by family, beside
the figures of the paper that show such curves (figures 6 and 7)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_pipeline.inspection.pages import Section, Table, cells, words, written
from recipes.records import PRETRAININGS
from recipes.schema import Recipe
from workflows import pictures
from workflows.console import format_seconds
from workflows.report_facts import Fact, layout_of, throughput

Records = Sequence[Mapping[str, Any]]
_LARGEST_LOSS = 50.0  # of which a perplexity is still written


@dataclass(frozen=True)
class Curve:
    """One training: (step, loss) of each recorded step and of each validation, and the tokens of a step."""

    losses: Sequence[tuple[int, float]]
    validations: Sequence[tuple[int, float]]
    tokens_a_step: int

    @property
    def end(self) -> float | None:
        """The mean loss over the last twentieth of the steps, where single steps are noisy."""
        tail = [loss for _, loss in self.losses[-max(1, len(self.losses) // 20) :]]
        return sum(tail) / len(tail) if tail else None


def curve_of(recipe: Recipe, model: str, records: Records) -> Curve:
    settings = recipe.models[model]
    return Curve(
        [(record["step"], record["loss"]) for record in records if "loss" in record],
        [(record["step"], record["validation_loss"]) for record in records if "validation_loss" in record],
        settings.training.global_batch * settings.config.sequence_length,
    )


def training_sections(
    models: Mapping[str, Any], curves: Mapping[str, Curve], trainings: Mapping[str, Fact]
) -> list[Section]:
    """A section of tables, and one of curves for each family."""
    ended, fast = [], []
    for name, model in models.items():
        curve, summary, fact = curves[name], model["pretraining"], trainings.get(name)
        family = model["config"]["model"]["family"]
        validation = curve.validations[-1][1] if curve.validations else None
        numbers = cells(
            summary["parameters"],
            summary["step"],
            summary["step"] * curve.tokens_a_step,
            curve.end,
            validation,
            _perplexity(validation) if _has_perplexity(family) else None,
        )
        ended.append([name, *numbers, fact.artifact if fact else "–"])
        if fact:
            fast.append([name, *_speed(fact), fact.artifact])
    styles = {"from": "from"}
    loss = "loss, mean of the last twentieth"
    head = (
        "model",
        "parameters",
        "steps",
        "tokens",
        loss,
        "validation loss",
        "validation perplexity",
        "from",
    )
    note = "Tokens are places of all sequences, padding included. Losses in nats; perplexity per token."
    tables = [Table(head, ended, note, {**styles, loss: "best"})] if ended else []
    head = ("model", "time", "layout", "tokens/s", "TFLOP/s a device", "MFU, %", "memory, GiB", "from")
    note = "Medians over the training, without validation and checkpoints. MFU: model FLOPs over the device's peak; of a "
    note += "processor the peak is measured."
    tables += [Table(head, fast, note, {**styles, "layout": "left"})] if fast else []
    sections = [Section("Training", tables)]
    for family in dict.fromkeys(model["config"]["model"]["family"] for model in models.values()):
        its = {name: model for name, model in models.items() if model["config"]["model"]["family"] == family}
        sources = [trainings[name].artifact for name in its if name in trainings]
        sections.append(_curves_section(family, its, {name: curves[name] for name in its}, sources))
    return sections


def _has_perplexity(family: str) -> bool:
    return family in PRETRAININGS and PRETRAININGS[family].perplexity


def _perplexity(loss: float | None) -> float | None:
    return None if loss is None or loss > _LARGEST_LOSS else math.exp(loss)


def _speed(fact: Fact) -> list[str]:
    rates = throughput(fact.directory)
    seconds = fact.seconds
    memory = rates.get("memory_bytes")
    return [
        format_seconds(seconds) if seconds is not None else "–",
        layout_of(fact)[1],
        written(round(rates["tokens_per_second"])) if "tokens_per_second" in rates else "–",
        f"{rates['model_tflops']:.3g}" if "model_tflops" in rates else "–",
        f"{100 * rates['mfu']:.1f}" if "mfu" in rates else "–",
        f"{memory / 2**30:.2f}" if memory is not None else "–",
    ]


def _curves_section(
    family: str, models: Mapping[str, Any], curves: Mapping[str, Curve], sources: Sequence[str]
) -> Section:
    """Training losses, and validations against steps and tokens."""
    record = next((PRETRAININGS[name] for name in PRETRAININGS if name == family), None)
    names = {name: _line(name, model, record.told_by if record else ()) for name, model in models.items()}
    drawn = []
    losses = {names[name]: curve.losses for name, curve in curves.items() if curve.losses}
    if losses:
        drawn.append(pictures.curves(losses, "step", "training loss"))
    has_perplexity = _has_perplexity(family)
    what = "validation perplexity" if has_perplexity else "validation loss"
    by_step, by_token = {}, {}
    for name, curve in curves.items():
        points = [
            (s, math.exp(min(loss, _LARGEST_LOSS)) if has_perplexity else loss)
            for s, loss in curve.validations
        ]
        if len(points) > 1:
            by_step[names[name]] = points
            by_token[names[name]] = [(step * curve.tokens_a_step, value) for step, value in points]
    if by_step:
        drawn.append(pictures.curves(by_step, "step", what, smooth=False, logarithmic=has_perplexity))
        drawn.append(pictures.curves(by_token, "tokens", what, smooth=False, logarithmic=has_perplexity))
    figure = f" (the paper's {record.figure})" if record and record.figure else ""
    title = f"Learning curves: {record.title if record else family}{figure}"
    told = [f"From metrics.jsonl of {', '.join(sources)}."] if sources else []
    if not by_step:
        told.append("No validations: a model's training.validation_interval in the recipe asks for them.")
    return Section(title, pictures=drawn, paragraphs=[("", " ".join(told))] if told and drawn else [])


def _line(name: str, model: Mapping[str, Any], told_by: Sequence[str]) -> str:
    """A line's name, with what the family's figure compares."""
    shape = model["config"]["model"]
    facts = [f"{words(field)} {shape[field]}" for field in told_by if field in shape]
    return f"{name} ({', '.join(facts)})" if facts else name
