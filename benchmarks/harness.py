"""How benchmarks measure and report: sides in turns, ratios within each turn, the machine, tables and JSON.

Machines are shared and their speed drifts: sides take turns (A B A B …), and what counts is the ratio of each turn.
What is measured, and against what, is the business of each benchmark's module.
"""

import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import math
import os
import platform
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.tables import out_of_range

CHECKOUT = Path(__file__).resolve().parents[1]
Measurement = Mapping[str, float]  # of one side in one turn, by the title of a column
_LIBRARIES = (
    "torch",
    "numpy",
    "tokenizers",
    "tiktoken",
    "gigatoken",
    "nltk",
    "transformers",
    "datasketch",
    "rensa",
    "megatron-core",
)


@dataclass(frozen=True)
class Settings:
    """What every benchmark can be told; each adds its own."""

    turns: int = 3

    def errors(self, where: str) -> list[str]:
        numbers = [name for name, value in vars(self).items() if type(value) is int]
        return out_of_range(self, where, **dict.fromkeys(numbers, (1, math.inf)))


@dataclass(frozen=True)
class Spread:
    """What several turns gave."""

    median: float
    least: float
    most: float
    turns: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values), list(values))

    @classmethod
    def of_ratios(cls, first: Sequence[float], other: Sequence[float]) -> "Spread":
        """Of each turn's own ratio."""
        return cls.of([one / two for one, two in zip(first, other, strict=True)])

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        median, least, most = (f"{value:,.{digits}f}" for value in (self.median, self.least, self.most))
        return median if len(self.turns) == 1 else f"{median} ({least}–{most})"


class Report:
    """What a benchmark found: printed as it comes, and `content` for JSON."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.content: dict[str, Any] = {
            "benchmark": name,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "settings": json.loads(json.dumps(dataclasses.asdict(settings), default=str)),
            "notes": [],
            "rows": [],
        }
        self._columns: list[str] = []
        self.note(", ".join(f"{key} {value}" for key, value in self.content["machine"].items()))

    def note(self, text: str) -> None:
        """A line between tables."""
        self.content["notes"].append(text)
        print(f"{text}\n" if not self._columns else f"\n{text}\n", flush=True)
        self._columns = []

    def row(self, row: Mapping[str, Any]) -> None:
        """A line of a table, by column; other columns than the row before had begin a new table."""
        if list(row) != self._columns:
            print("\n" * bool(self._columns) + f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
            self._columns = list(row)
        print(
            "| " + " | ".join("–" if cell is None else str(cell) for cell in row.values()) + " |", flush=True
        )
        self.content["rows"].append(
            {key: dataclasses.asdict(cell) if isinstance(cell, Spread) else cell for key, cell in row.items()}
        )

    def compare(
        self,
        sides: Mapping[str, Callable[[], Measurement]],
        turns: int,
        compared: Collection[str],
        case: Mapping[str, Any] | None = None,
    ) -> None:
        """Measure the sides in turn: a row for each, with the ratio of the first to it.

        Args:
            sides: the first is compared with the others. A measurement may lack a quantity that others have.
            compared: quantities of which the ratio is shown, too.
            case: columns that say what the rows are of.
        """
        results: dict[str, list[Measurement]] = {side: [] for side in sides}
        for _ in range(turns):
            for side, measure in sides.items():
                results[side].append(measure())
        first = next(iter(results.values()))
        titles = dict.fromkeys(title for measured in results.values() for title in measured[0])
        for side, measured in results.items():
            row: dict[str, Any] = {**(case or {}), "side": side}
            for title in titles:
                values = [measurement[title] for measurement in measured if title in measurement]
                row[title] = Spread.of(values) if values else None
                if title in compared:
                    own = [measurement[title] for measurement in first]
                    row[f"{title}: first to it"] = (
                        None if measured is first else Spread.of_ratios(own, values)
                    )
            self.row(row)

    def has_peer(self, *modules: str) -> bool:
        """Whether what is compared with is installed; if not, says so."""
        try:
            for module in modules:
                importlib.import_module(module)
        except ImportError as error:
            self.note(f"{error}: only our side is measured; pip install -e '.[peers]' brings the other")
            return False
        return True


def seconds(work: Callable[[], object]) -> float:
    """What it takes by the clock on the wall."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def whole_process(command: Sequence[str], folder: Path | None = None, **variables: str) -> Measurement:
    """Seconds of a command, its start and its children's included: "processor s" and "wall s".

    Args:
        folder: where it runs, by default the checkout.
        variables: of its environment, beside this process's own but for PYTHONPATH.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(
        command,
        cwd=folder or CHECKOUT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise UserError(f"{shlex.join(command)}\n{ended.stderr[-3000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"processor s": used, "wall s": wall}


def in_fresh_process(
    function: Callable[..., Any], *, ranks: int = 1, threads: int | None = None, **arguments: Any
) -> Any:
    """What a module's function gives in a process of its own, or, on several ranks, gives on one of them.

    Args:
        ranks: more than one are started by torchrun.
        threads: of each process; None leaves the environment as it is.
        arguments: what the function is called with; they and what it gives go through JSON.
    """
    launch = (
        ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"] if ranks > 1 else []
    )
    name = f"{function.__module__}:{function.__qualname__}"
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        command = [
            sys.executable,
            "-m",
            *launch,
            "benchmarks.worker",
            name,
            json.dumps(arguments),
            str(output),
        ]
        process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if process.returncode:
            raise RuntimeError(f"{name} failed in its own process\n{process.stderr[-3000:]}")
        return json.loads(output.read_text())


def describe_machine() -> dict[str, str]:
    """The processor, its cores that may be used, the GPU if there is one, and versions of what is compared."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    affinity = getattr(os, "sched_getaffinity", None)
    facts = {
        "processor": names[0] if names else platform.machine(),
        "cores": str(len(affinity(0)) if affinity else os.cpu_count()),
        "python": platform.python_version(),
    }
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        facts["gpu"] = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    installed = {distribution.name for distribution in importlib.metadata.distributions()}
    return facts | {name: importlib.metadata.version(name) for name in _LIBRARIES if name in installed}
