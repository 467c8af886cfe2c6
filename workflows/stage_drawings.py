"""How the stages of a run stand on each other, and when each ran: drawings that the page itself draws, so that they are
text to search, follow its colours and fit its width."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workflows.report_facts import Fact, busy

_WIDTH, _HEIGHT, _GAP, _LEVEL = 360, 24, 10, 52  # units of the drawing; a phone shows about one a pixel
_LETTER, _PADDING = 6.7, 9  # of a monospaced font of 11
_LONGEST_KIND = 42


@dataclass(frozen=True)
class Node:
    """A kind of stage: its place, what stands in it, and its stages."""

    x: float
    y: float
    width: float
    text: str
    stages: str
    height: int = _HEIGHT


@dataclass(frozen=True)
class Graph:
    """Kinds of stages from top to bottom, and arrows (x, y of start and end) from what is read to what reads it."""

    nodes: Sequence[Node]
    arrows: Sequence[tuple[float, float, float, float]]
    height: float
    width: int = _WIDTH


@dataclass(frozen=True)
class Bar:
    """When a stage ran, in percent of the whole: (left, width, how it ended) of each attempt."""

    label: str
    artifact: str
    attempts: Sequence[tuple[float, float, str]]
    text: str


def graph(facts: Sequence[Fact]) -> Graph:
    """The kinds of stages of a run. Arrows that others imply are left out."""
    members: dict[str, list[str]] = defaultdict(list)
    reads: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        kind = fact.step.kind.name
        members[kind].append(fact.step.label)
        reads[kind] |= {used.kind.name for used in fact.step.inputs.values()} - {kind}
    levels: dict[str, int] = {}

    def level(kind: str, under: frozenset[str] = frozenset()) -> int:
        if kind not in levels:
            below = [level(used, under | {kind}) for used in reads[kind] if used not in under]
            levels[kind] = 1 + max(below, default=-1)
        return levels[kind]

    rows: dict[int, list[str]] = defaultdict(list)
    for kind in members:
        rows[level(kind)].append(kind)
    nodes, y = _placed([rows[number] for number in sorted(rows)], members)
    needed = {kind: _without_implied(kind, reads) for kind in members}
    arrows = [
        (
            nodes[used].x + nodes[used].width / 2,
            nodes[used].y + _HEIGHT,
            nodes[kind].x + nodes[kind].width / 2,
            nodes[kind].y,
        )
        for kind in members
        for used in sorted(needed[kind])
    ]
    return Graph(list(nodes.values()), arrows, y)


def _placed(
    rows: Sequence[Sequence[str]], members: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Node], float]:
    """Nodes in centred lines, a level below the other; a level that is too wide takes several lines."""
    nodes: dict[str, Node] = {}
    y = 2.0
    for row in rows:
        lines: list[list[tuple[str, str, float]]] = [[]]
        for kind in row:
            short = kind if len(kind) <= _LONGEST_KIND else f"{kind[: _LONGEST_KIND - 1]}…"
            text = short if len(members[kind]) == 1 else f"{short} × {len(members[kind])}"
            width = min(_LETTER * len(text) + 2 * _PADDING, _WIDTH - 2)
            if lines[-1] and _line_width(lines[-1]) + _GAP + width > _WIDTH - 2:
                lines.append([])
            lines[-1].append((kind, text, width))
        for line in lines:
            x = (_WIDTH - _line_width(line)) / 2
            for kind, text, width in line:
                nodes[kind] = Node(round(x, 1), y, round(width, 1), text, "\n".join(members[kind]))
                x += width + _GAP
            y += _HEIGHT + _GAP
        y += _LEVEL - _HEIGHT - _GAP
    return nodes, y - (_LEVEL - _HEIGHT) + 2


def _line_width(line: Sequence[tuple[str, str, float]]) -> float:
    return sum(width for *_, width in line) + _GAP * (len(line) - 1)


def _without_implied(kind: str, reads: Mapping[str, set[str]]) -> set[str]:
    """What a kind reads, without what something else that it reads stands on."""
    return {
        used
        for used in reads[kind]
        if not any(used in _below(other, reads) for other in reads[kind] - {used})
    }


def _below(kind: str, reads: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    pending = set(reads.get(kind, ()))
    while pending:
        used = pending.pop()
        if used not in found:
            found.add(used)
            pending |= reads.get(used, set())
    return found


def bars(facts: Sequence[Fact], written: Mapping[str, str]) -> list[Bar]:
    """When each stage ran; the time in which nothing did is left out.

    Args:
        written: how long each took, for people, by artifact.
    """
    spans = busy(facts)
    whole = sum(end - start for start, end in spans) or 1.0

    def place(moment: float) -> float:
        """In percent."""
        return 100 * sum(max(0.0, min(moment, end) - start) for start, end in spans) / whole

    found = []
    for fact in facts:
        attempts = []
        for segment in fact.segments:
            left = place(segment.started)
            right = place(segment.started + (segment.seconds or 0.0))
            attempts.append((round(min(left, 99.5), 2), round(max(right - left, 0.4), 2), segment.ended))
        found.append(Bar(fact.step.label, fact.artifact, attempts, written[fact.artifact]))
    return found
