"""The report's pictures, drawn as SVG by matplotlib, each for a light and a dark page."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Okabe and Ito's colours: told apart with any colour vision, readable on white and on near-black.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_THEMES = {"light": ("#1b1f24", "#d0d7de"), "dark": ("#e6edf3", "#3d444d")}


@dataclass(frozen=True)
class Picture:
    """One picture: data URIs of its two variants, and the words for who cannot see it."""

    light: str
    dark: str
    alternative: str


@dataclass(frozen=True)
class Bar:
    """A measured share with what to hold it against: {name: share}."""

    label: str
    value: float
    baselines: Mapping[str, float]


def loss_curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Picture:
    """Training loss over steps, one line a model."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for colour, (name, points) in zip(_COLOURS * 10, curves.items(), strict=False):
            steps, losses = zip(*smoothed(points), strict=True)
            axes.plot(steps, losses, color=colour, linewidth=2, label=name)
        axes.set_xlabel("step")
        axes.set_ylabel("training loss")
        axes.legend(frameon=False)

    ends = "; ".join(f"{name}: from {p[0][1]:.2f} to {p[-1][1]:.2f}" for name, p in curves.items())
    return _picture(draw, (7.2, 3.6), f"Training loss falls over the steps. {ends}.")


def smoothed(points: Sequence[tuple[int, float]], most: int = 150) -> list[tuple[float, float]]:
    """At most `most` points, each the mean of its neighbours: (step, loss)."""
    size = max(1, -(-len(points) // most))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def accuracies(bars: Sequence[Bar]) -> Picture:
    """Accuracies as bars, with a mark for each baseline."""
    names = list(dict.fromkeys(name for bar in bars for name in bar.baselines))

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        rows = range(len(bars))
        axes.barh(rows, [100 * bar.value for bar in bars], color=_COLOURS[0], height=0.5, label="this run")
        for marker, colour, name in zip("oDs^v", _COLOURS[1:], names, strict=False):
            points = [
                (100 * bar.baselines[name], row)
                for row, bar in zip(rows, bars, strict=True)
                if name in bar.baselines
            ]
            axes.scatter(
                *zip(*points, strict=True),
                s=60,
                color=colour,
                marker=marker,
                edgecolors="white",
                zorder=3,
                label=name,
            )
        for row, bar in enumerate(bars):
            axes.text(100 * bar.value + 1, row, f"{bar.value:.1%}", va="center")
        axes.set_yticks(list(rows), [bar.label for bar in bars])
        axes.invert_yaxis()
        axes.set_xlim(0, 110)
        axes.set_xlabel("accuracy, %")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)

    words = "; ".join(
        f"{bar.label} {bar.value:.1%} (" + ", ".join(f"{n} {v:.1%}" for n, v in bar.baselines.items()) + ")"
        for bar in bars
    )
    return _picture(draw, (7.2, 1.5 + 0.55 * len(bars)), f"Accuracy against baselines: {words}.")


def funnel(rows: Sequence[tuple[str, int, str]]) -> Picture:
    """Documents left after each stage: (stage, documents, why others were dropped)."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        most = max(count for _, count, _ in rows) or 1
        for index, (_, count, dropped) in enumerate(rows):
            axes.barh(index, count, left=(most - count) / 2, color=_COLOURS[0], height=0.8)
            place = index - 0.15 if dropped else index
            axes.text(most / 2, place, f"{count:,}", ha="center", va="center", color="white", weight="bold")
            axes.text(most / 2, index + 0.2, dropped, ha="center", va="center", color="white", size=9)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.xaxis.set_visible(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.grid(False)

    words = ", ".join(f"{name} {count}" for name, count, _ in rows)
    return _picture(draw, (7.2, 0.4 + 0.7 * len(rows)), f"Documents left after each stage: {words}.")


def _picture(draw: Any, size: tuple[float, float], alternative: str) -> Picture:
    import matplotlib
    from matplotlib.figure import Figure

    variants = {}
    for theme, (ink, lines) in _THEMES.items():
        settings: dict[Any, Any] = {
            "text.color": ink,
            "axes.labelcolor": ink,
            "xtick.color": ink,
            "ytick.color": ink,
            "axes.edgecolor": lines,
            "axes.grid": True,
            "grid.color": lines,
            "grid.linewidth": 0.5,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.facecolor": "none",
            "font.size": 11,
            "svg.hashsalt": "report",
        }
        with matplotlib.rc_context(settings):
            figure = Figure(figsize=size, layout="constrained", facecolor="none")
            draw(figure)
            stream = io.BytesIO()
            figure.savefig(stream, format="svg", metadata={"Date": None})
        variants[theme] = "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()
    return Picture(variants["light"], variants["dark"], alternative)
