"""The paper's scaling study (section 5.1: figure 5, tables 1, 7 and 8) beside what a run measured of its own trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.config import ModelConfig
from data_pipeline.inspection.pages import Section, Table, cells
from recipes.schema import Recipe
from workflows import pictures
from workflows.report_facts import Fact, layout_of, throughput

# Model: parameters in 10⁹, hidden, heads, layers, devices of a model, weak scaling in percent; devices with data
# parallelism, weak scaling in percent.
_WEAK = (
    ("1.2B", 1.2, 1536, 16, 40, 1, 100, 64, 96),
    ("2.5B", 2.5, 1920, 20, 54, 2, 95, 128, 83),
    ("4.2B", 4.2, 2304, 24, 64, 4, 82, 256, 79),
    ("8.3B", 8.3, 3072, 32, 72, 8, 77, 512, 74),
)
_HEADS = ((16, 192, 82), (24, 128, 80), (32, 96, 77))
_STRONG = ((1, 1.0), (2, 1.64), (4, 2.34), (8, 2.98))
_MODEL, _DATA = "paper, model parallel", "paper, model and data parallel"


@dataclass(frozen=True)
class Measured:
    """How a training of this run scaled: its layout, and the rate of a device."""

    model: str
    family: str
    artifact: str
    devices: int
    layout: str
    tflops: float
    tokens_per_second: float
    shape: ModelConfig
    sequences: int


def measured(recipe: Recipe, trainings: Mapping[str, Fact]) -> list[Measured]:
    """What the trainings of a run say, those on fewer devices first."""
    found = []
    for name, fact in trainings.items():
        rates = throughput(fact.directory)
        if not fact.segments or "model_tflops" not in rates or "tokens_per_second" not in rates:
            continue
        devices, layout = layout_of(fact)
        model = recipe.models[name]
        found.append(
            Measured(
                name,
                model.config.family,
                fact.artifact,
                devices,
                layout,
                rates["model_tflops"],
                rates["tokens_per_second"],
                model.config,
                model.training.global_batch,
            )
        )
    return sorted(found, key=lambda one: one.devices)  # the recipe's order among equals


def weak_scaling(rows: Sequence[Measured]) -> dict[str, float]:
    """Of each model the rate of a device over that of the family's model on the fewest devices; nothing for families
    whose models all ran on as many."""
    shares: dict[str, float] = {}
    for family in dict.fromkeys(row.family for row in rows):
        own = [row for row in rows if row.family == family]
        if len({row.devices for row in own}) > 1 and own[0].tflops > 0:
            shares |= {row.model: row.tflops / own[0].tflops for row in own}
    return shares


def strong_scaling(rows: Sequence[Measured]) -> dict[str, float]:
    """Of each model the tokens a second over those of the same shape and batch on the fewest devices; nothing for shapes
    that were trained on one number of devices."""
    speedups: dict[str, float] = {}
    for shape, sequences in dict.fromkeys((row.shape, row.sequences) for row in rows):
        own = [row for row in rows if (row.shape, row.sequences) == (shape, sequences)]
        if len({row.devices for row in own}) > 1 and own[0].tokens_per_second > 0:
            speedups |= {row.model: row.tokens_per_second / own[0].tokens_per_second for row in own}
    return speedups


def scaling_section(recipe: Recipe, trainings: Mapping[str, Fact]) -> Section:
    """Figure 5 and tables 1, 7 and 8, and ours where models of a family ran on different numbers of devices."""
    rows = measured(recipe, trainings)
    shares, speedups = weak_scaling(rows), strong_scaling(rows)
    tables = [_ours(rows, shares, speedups)] if shares else []
    tables += [_weak(), _heads(), _strong()]
    bars: dict[str, dict[str, float]] = {
        _MODEL: {f"{row[5]}": row[6] / 100 for row in _WEAK},
        _DATA: {f"{row[7]}": row[8] / 100 for row in _WEAK},
    }
    if shares:
        bars = {
            "this run": {f"{r.model}, {r.devices}": shares[r.model] for r in rows if r.model in shares}
        } | bars
    text = "Weak scaling: what a device does, against one on which the smallest model is alone."
    text += (
        ""
        if shares
        else " This run trained no two models of a family on different numbers of devices, so it measured none."
    )
    return Section("Scaling: figure 5, tables 1, 7 and 8", tables, [pictures.scaling(bars)], [("", text)])


def _ours(rows: Sequence[Measured], shares: Mapping[str, float], speedups: Mapping[str, float]) -> Table:
    head = ("ours", "heads", "layout", "devices", "sequences a step", "TFLOP/s a device", "tokens/s", "weak scaling, %",
            "speedup", "from")  # fmt: skip
    told = [
        [
            row.model,
            *cells(row.shape.heads, row.layout, row.devices, row.sequences),
            f"{row.tflops:.3g}",
            *cells(round(row.tokens_per_second), 100 * shares[row.model], speedups.get(row.model)),
            row.artifact,
        ]
        for row in rows
        if row.model in shares
    ]
    note = "Measured here. Weak scaling: model FLOPs a second and device, against the family's first model on the fewest "
    note += "devices. Speedup: tokens a second, against the same shape and batch on the fewest devices."
    return Table(head, told, note, {"layout": "left", "weak scaling, %": "best", "from": "from"})


def _weak() -> Table:
    head = (
        "paper", "parameters, 10⁹", "hidden", "heads", "layers", "devices of a model",
        "weak scaling, %", "devices with data parallelism", "weak scaling with it, %",
    )  # fmt: skip
    return Table(
        head,
        [[row[0], *_texts(row[1:])] for row in _WEAK],
        "The paper's table 1 and figure 5, on V100 of 32 GB in DGX-2H servers.",
    )


def _heads() -> Table:
    rows = [[str(heads), *_texts((width, share))] for heads, width, share in _HEADS]
    head = ("paper: attention heads", "hidden a head", "scaling, %")
    return Table(
        head,
        rows,
        "The paper's table 7, 8.3 · 10⁹ parameters on 8 devices: more heads make smaller products.",
    )


def _strong() -> Table:
    rows = [[str(devices), f"{speed:.2f}"] for devices, speed in _STRONG]
    return Table(
        ("paper: devices", "speedup"), rows, "The paper's table 8, 1.2 · 10⁹ parameters at a constant batch."
    )


def _texts(values: Sequence[Any]) -> list[str]:
    return [str(value) for value in values]
