"""How a run was made, for the report: on what, when, in which order, by which commands, and with which software."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from core.config import ParallelConfig
from core.errors import UserError
from data_pipeline.inspection.pages import Block, Section, Table, listed, words, written
from recipes.schema import Recipe
from workflows.console import format_seconds
from workflows.report_facts import Fact, Segment, busy, layout_of, machine_of, recipe_argument
from workflows.stage_drawings import Bar, Graph, bars, graph

_SIZES = ("tensor", "data", "pipeline")


@dataclass(frozen=True)
class DrawnSection(Section):
    """A part with drawings that the page makes itself."""

    graph: Graph | None = None
    bars: Sequence[Bar] = ()


def took(fact: Fact) -> str:
    return "–" if fact.seconds is None else format_seconds(fact.seconds)


def summary_line(facts: Sequence[Fact], models: int, measurements: int, tokens: int) -> str:
    """A run in one sentence."""
    spans = busy(facts)
    wall = sum(end - start for start, end in spans)
    work = sum(fact.seconds or 0.0 for fact in facts)
    parts = [
        f"{_counted(len(facts), 'stage')}, {_counted(models, 'model')}, {_counted(measurements, 'measurement')}",
        f"{tokens:,} tokens trained on",
    ]
    if wall:
        parts.append(f"{format_seconds(wall)} by the clock, {format_seconds(work)} of work")
    if machines := machines_of(facts):
        parts.append(f"on {'; '.join(machines)}")
    return ", ".join(parts) + "."


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def machines_of(facts: Sequence[Fact]) -> list[str]:
    """Each kind of machine once, with the cores or processes' threads that were used at most."""
    threads: dict[str, int] = {}
    for segment in (segment for fact in facts for segment in fact.segments):
        if name := machine_of(segment):
            threads[name] = max(threads.get(name, 0), _threads(segment))
    return [f"{name}{f', {count} cores' if count else ''}" for name, count in sorted(threads.items())]


def _threads(segment: Segment) -> int:
    """Threads of all processes of a segment; 0 where nothing says it."""
    found = str(segment.machine.get("threads", "")).split(",")[0].strip()
    return int(found) if found.isdigit() else 0


def made_section(facts: Sequence[Fact]) -> DrawnSection:
    """Every stage with its time, its layout and the command that makes it again, and two drawings."""
    written_times = {fact.artifact: took(fact) for fact in facts}
    head = ("stage", "time", "layout", "attempts", "outcome", "artifact", "data", "makes it again")
    rows = [
        [
            fact.step.label,
            written_times[fact.artifact],
            layout_words(fact),
            written(len(fact.segments) if len(fact.segments) > 1 else None),
            fact.outcome or "–",
            fact.artifact,
            fact.page or "–",
            fact.command,
        ]
        for fact in facts
    ]
    total = format_seconds(sum(fact.seconds or 0.0 for fact in facts))
    note = f"{len(facts)} stages, {total} of work in all. A command makes its artifact, with what that stands on, in a "
    note += "folder that has none (--runs EMPTY); the key at the end of its name says of which inputs, settings and versions it is. "
    note += "The same bytes in every run are promised on one kind of processor: another rounds otherwise."
    styles = {"layout": "left", "outcome": "left", "artifact": "artifact", "data": "page"}
    table = Table(head, rows, note, {**styles, "makes it again": "code"})
    drawn = bars(facts, written_times)
    return DrawnSection("How it was made", [_machines(facts), table], graph=graph(facts), bars=drawn)


def layout_words(fact: Fact) -> str:
    """How a step's last attempt was laid out: without what is as it would be anyway."""
    if not fact.segments:
        return "–"
    layout = fact.segments[-1].layout
    if "tensor_parallel" not in layout:
        return listed(layout) or "–"
    usual = {
        **asdict(ParallelConfig()),
        **{f"{word}_parallel": layout.get(f"{word}_parallel") for word in _SIZES},
    }
    # A choice that is left to the device (None) is as good as not made.
    others = {
        name: value for name, value in layout.items() if (usual.get(name, value) or False) != (value or False)
    }
    return ", ".join(filter(None, [layout_of(fact)[1], listed(others)]))


def _machines(facts: Sequence[Fact]) -> Table:
    """Which stages ran on what."""
    stages: dict[tuple[str, str], list[str]] = {}
    for fact in facts:
        for segment in fact.segments:
            key = (machine_of(segment) or "–", str(segment.machine.get("threads", "–")))
            labels = stages.setdefault(key, [])
            if fact.step.label not in labels:
                labels.append(fact.step.label)
    rows = [[*key, f"{len(labels)}: {', '.join(labels)}"] for key, labels in sorted(stages.items())]
    head = ("computed on", "threads a process", "stages")
    return Table(head, rows, "", {"stages": "left"})


def recipe_blocks(recipe: Recipe) -> list[Block]:
    """The recipe's files as they are now, those that it extends first, and what the command line set."""
    blocks = []
    for path in recipe.files:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            text = f"({path}: cannot be read any more: {error})"
        blocks.append(Block(f"The recipe: {Path(path).name}", text))
    if recipe.overrides:
        blocks.append(Block("Set on the command line", recipe.overrides))
    return blocks


def sources_section(recipe: Recipe, facts: Sequence[Fact]) -> Section:
    """The recipe's text, the whole run's command, and what is installed."""
    packages = "\n".join(f"{name}=={version}" for name, version in installed().items())
    command = f"luigi --module workflows FullReproduction --recipe {recipe_argument(recipe)}"
    if recipe.overrides:
        command += f" --set {recipe.overrides!r}"
    blocks = [*recipe_blocks(recipe), Block(f"Installed packages: {len(installed())}", packages)]
    return Section("Recipe and software", paragraphs=[("All of it again: ", command)], blocks=blocks)


def installed() -> dict[str, str]:
    """Versions of all distributions of this environment, by name."""
    found = {}
    for distribution in importlib.metadata.distributions():
        try:
            found[str(distribution.metadata["Name"])] = distribution.version
        except (UserError, KeyError, TypeError):  # one without metadata, half removed
            continue
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def software(facts: Sequence[Fact]) -> str:
    """Versions of what made the numbers."""
    versions = {name: version for fact in facts for name, version in fact.libraries.items()}
    segments = [segment for fact in facts for segment in fact.segments]
    for segment in segments:  # the whole versions, of which keys have less
        versions |= segment.libraries
    record: Mapping[str, object] = facts[-1].record if facts else {}
    versions |= {name: str(record[name]) for name in ("python", "torch", "luigi") if name in record}
    told = [*sorted(versions.items()), ("checkout", str(record.get("git_revision", "unknown")))]
    told += [("computed on", text) for text in dict.fromkeys(map(machine_of, segments)) if text]
    return " · ".join(f"{words(name)} {version}" for name, version in told)
