"""Guides as programs: what in a page of `docs/` runs, in which folder, and what it must print.

In a page, HTML comments before fenced blocks say so: `<!-- runs -->` (bash or Python, in the order of the page, all in one
folder), `<!-- prints -->` (lines of which the block before printed each), `<!-- in FILE -->` (a quotation of a file below
`docs/examples`, lines left out). `<!-- after: PAGE -->` at a page's beginning: it starts in the folder that PAGE leaves.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from guide_inputs import write_inputs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^<!-- (\w+)(?: (\S+))? -->\n```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One marked block of a page: its mark, what the mark names, its language and its text."""

    mark: str
    name: str
    language: str
    text: str


def blocks(guide: str) -> list[Block]:
    found = _BLOCK.findall((DOCS / guide).read_text(encoding="utf-8"))
    return [Block(*parts) for parts in found]


def guides() -> list[str]:
    """The pages that something of runs."""
    return [
        path.name for path in sorted(DOCS.glob("*.md")) if any(b.mark == "runs" for b in blocks(path.name))
    ]


def before(guide: str) -> str:
    """The page in whose folder this one begins; empty for none."""
    first = re.match(r"<!-- after: (\S+) -->", (DOCS / guide).read_text(encoding="utf-8"))
    return first[1] if first else ""


def typed(guide: str) -> str:
    """All that runs for a page, what comes before included."""
    texts = [block.text for block in blocks(guide) if block.mark == "runs"]
    return (typed(before(guide)) if before(guide) else "") + "\n".join(texts)


def trains(guide: str) -> bool:
    """Whether a page, or one that comes before, starts a program on ranks."""
    programs = ("torchrun", "-m pretrain", "-m evaluate", "-m finetune", "core.parallel.mesh")
    return any(program in typed(guide) for program in programs)


def play(guide: str, folder: Path) -> None:
    """Run a page in a folder that holds what it begins with.

    Raises:
        AssertionError: a block failed, or did not print what the page says.
    """
    output = ""
    for number, block in enumerate(blocks(guide)):
        if block.mark == "runs":
            output = _run(block, folder, f"{guide}, marked block {number}")
        elif block.mark == "prints":
            for line in block.text.splitlines():
                assert line.strip() in output, f"{guide}: nothing printed {line.strip()!r}\n{output[-3000:]}"


def prepare(folder: Path, start: Path | None) -> None:
    """Fill a folder with what the page before left, or with the inputs and examples that all pages have."""
    if start is not None:
        shutil.copytree(start, folder, dirs_exist_ok=True, symlinks=True)
        return
    write_inputs(folder)
    shutil.copytree(DOCS / "examples", folder / "docs" / "examples")


def _run(block: Block, folder: Path, what: str) -> str:
    commands = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*commands[block.language], block.text],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=550,
        check=False,
    )
    assert result.returncode == 0, f"{what}:\n{block.text}\n{result.stdout[-5000:]}"
    return result.stdout
