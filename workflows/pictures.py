"""The report's pictures, drawn as SVG by matplotlib, each for a light and a dark page."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

# Okabe and Ito's colours: told apart with any colour vision, readable on white and on near-black.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_STYLE: Any = {
    "axes.grid": True,
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.prop_cycle": f"cycler('color', {_COLOURS})",
    "lines.linewidth": 2,
    "font.size": 11,
    "svg.hashsalt": "report",
}
_THEMES = {"light": ("#1b1f24", "#d0d7de"), "dark": ("#e6edf3", "#3d444d")}


@dataclass(frozen=True)
class Picture:
    """One picture: data URIs of its two variants, and the words for who cannot see it."""

    light: str
    dark: str
    alternative: str


def loss_curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Picture:
    """Training loss over steps, one line a model."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for name, points in curves.items():
            axes.plot(*zip(*smoothed(points), strict=True), label=name)
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


def accuracies(bars: Sequence[tuple[str, float, Mapping[str, float]]]) -> Picture:
    """Accuracies as bars, with a mark for each baseline: (label, share, baselines' shares by name)."""
    names = dict.fromkeys(name for *_, baselines in bars for name in baselines)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        rows = axes.barh(range(len(bars)), [100 * share for _, share, _ in bars], 0.5, label="this run")
        axes.bar_label(rows, [f"{share:.1%}" for _, share, _ in bars], padding=5)
        for mark, colour, name in zip(cycle("oDs^vPX*"), cycle(_COLOURS[1:]), names, strict=False):
            points = [(100 * known[name], row) for row, (*_, known) in enumerate(bars) if name in known]
            axes.plot(*zip(*points, strict=True), mark, color=colour, mec="white", ms=9, label=name)
        axes.set_yticks(range(len(bars)), [label for label, *_ in bars])
        axes.invert_yaxis()
        axes.set_xlim(0, 110)
        axes.set_xlabel("accuracy, %")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)

    words = "; ".join(
        f"{label} {share:.1%} (" + ", ".join(f"{n} {v:.1%}" for n, v in baselines.items()) + ")"
        for label, share, baselines in bars
    )
    return _picture(draw, (7.2, 1.5 + 0.55 * len(bars)), f"Accuracy against baselines: {words}.")


def funnel(rows: Sequence[tuple[str, int, str]]) -> Picture:
    """Documents left after each stage: (stage, documents, why others were dropped)."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot(frame_on=False)
        most = max(count for _, count, _ in rows) or 1
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": "white"}
        for index, (_, count, dropped) in enumerate(rows):
            axes.barh(index, count, left=(most - count) / 2, color=_COLOURS[0])
            axes.text(most / 2, index - 0.15 * bool(dropped), f"{count:,}", weight="bold", **style)
            axes.text(most / 2, index + 0.2, dropped, size=9, **style)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.xaxis.set_visible(False)
        axes.grid(False)

    words = ", ".join(f"{name} {count}" for name, count, _ in rows)
    return _picture(draw, (7.2, 0.4 + 0.7 * len(rows)), f"Documents left after each stage: {words}.")


def _picture(draw: Callable[[Any], None], size: tuple[float, float], alternative: str) -> Picture:
    import matplotlib
    from matplotlib.figure import Figure

    variants = {}
    for theme, (ink, lines) in _THEMES.items():
        inks = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
        colours: Any = dict.fromkeys(inks, ink) | dict.fromkeys(("axes.edgecolor", "grid.color"), lines)
        with matplotlib.rc_context(_STYLE | colours):
            figure = Figure(figsize=size, layout="constrained", facecolor="none")
            draw(figure)
            stream = io.BytesIO()
            figure.savefig(stream, format="svg", metadata={"Date": None})
        variants[theme] = "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()
    return Picture(**variants, alternative=alternative)
