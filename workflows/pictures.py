"""The report's pictures, drawn as SVG by matplotlib, each for a light and a dark page."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

# Okabe and Ito's colours: told apart with any colour vision, readable on white and on near-black.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_DASHES, _MARKS = ("-", "--", ":", "-."), "oDs^vPX*"
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
_LONGEST_NAME = 48
_NARROW_RANGE = 3.0  # of the largest value over the least
_THEMES = {"light": ("#1b1f24", "#d0d7de"), "dark": ("#e6edf3", "#3d444d")}


@dataclass(frozen=True)
class Picture:
    """One picture: data URIs of its two variants, and the words for who cannot see it."""

    light: str
    dark: str
    alternative: str


def curves(
    lines: Mapping[str, Sequence[tuple[int, float]]],
    over: str,
    what: str,
    *,
    smooth: bool = True,
    logarithmic: bool = False,
) -> Picture:
    """What was measured over steps or tokens, one line a model; lines differ in colour and in dashes."""

    from matplotlib.ticker import NullLocator

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(lines.items()):
            drawn = smoothed(points) if smooth else points
            style = _DASHES[number // len(_COLOURS) % len(_DASHES)] if len(lines) > len(_COLOURS) else "-"
            mark = "" if smooth else _MARKS[number % len(_MARKS)]
            axes.plot(
                *zip(*drawn, strict=True), linestyle=style, marker=mark, markersize=5, label=_plain(name)
            )
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(
                _log_ticks([value for points in lines.values() for _, value in points])
            )
            axes.yaxis.set_major_formatter(_number_formatter())
            axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(_number_formatter())
        axes.set_xlabel(over)
        axes.set_ylabel(what)
        axes.legend(frameon=False)

    ends = "; ".join(f"{name}: from {p[0][1]:.2f} to {p[-1][1]:.2f}" for name, p in lines.items())
    return _picture(
        draw, (7.2, 3.6), f"{what[0].upper()}{what[1:]} over {over}s. {ends}.".replace("ss.", "s.")
    )


def scaling(groups: Mapping[str, Mapping[str, float]]) -> Picture:
    """Weak scaling as bars: by series, shares by label."""
    count = sum(map(len, groups.values()))

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        labels, at = [], 0
        for colour, (series, shares) in zip(cycle(_COLOURS), groups.items(), strict=False):
            places = range(at, at + len(shares))
            drawn = axes.barh(
                places, [100 * share for share in shares.values()], 0.6, color=colour, label=_plain(series)
            )
            axes.bar_label(drawn, [f"{100 * share:.0f}" for share in shares.values()], padding=4)
            labels += [_plain(label) for label in shares]
            at += len(shares)
        axes.set_yticks(range(at), labels)
        axes.invert_yaxis()
        axes.set_xlabel("weak scaling, %")
        axes.set_ylabel("devices")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)

    words = "; ".join(
        f"{series}: " + ", ".join(f"{label} devices {share:.0%}" for label, share in shares.items())
        for series, shares in groups.items()
    )
    return _picture(draw, (7.2, 1.6 + 0.3 * count), f"Weak scaling. {words}.")


def _plain(text: str) -> str:
    """A name as it is, its middle left out where it is long: matplotlib reads what stands between dollar signs as a
    formula, and leaves out names that begin with an underline."""
    if len(text) > _LONGEST_NAME:
        text = f"{text[: _LONGEST_NAME // 2]}…{text[-_LONGEST_NAME // 2 :]}"
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def _log_ticks(values: Sequence[float]) -> Any:
    """As many ticks as have room for their numbers, however wide the range is."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    width = max(values) / max(min(values), 1e-9)
    if width < _NARROW_RANGE:
        return MaxNLocator(6)
    return LogLocator(subs=(1.0, 2.0, 5.0) if width < _NARROW_RANGE**4 else (1.0, 3.0), numticks=12)


def _number_formatter() -> Any:
    from matplotlib.ticker import FuncFormatter

    def text(value: float, _: int | None) -> str:
        for size, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k")):
            if abs(value) >= size:
                return f"{value / size:g}{unit}"
        return f"{value:g}"

    return FuncFormatter(text)


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
        for mark, colour, name in zip(cycle(_MARKS), cycle(_COLOURS[1:]), names, strict=False):
            points = [(100 * known[name], row) for row, (*_, known) in enumerate(bars) if name in known]
            axes.plot(*zip(*points, strict=True), mark, color=colour, mec="white", ms=9, label=_plain(name))
        axes.set_yticks(range(len(bars)), [_plain(label) for label, *_ in bars])
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
            axes.barh(index, count, 0.6, left=(most - count) / 2, color=_COLOURS[0])
            if count > 0.2 * most:
                axes.text(most / 2, index, f"{count:,}", weight="bold", **style)
            else:  # beside a bar that is too short for it
                axes.text((most + count) / 2, index, f" {count:,}", weight="bold", ha="left", va="center")
            axes.text(most / 2, index + 0.4, _plain(dropped), ha="center", va="top", size=9)
        axes.set_yticks(range(len(rows)), [_plain(name) for name, _, _ in rows])
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
