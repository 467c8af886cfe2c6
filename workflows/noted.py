"""Which recipes were run in a folder of artifacts: noted by luigi's commands, so that `gc` knows what is still wanted.

A recipe counts as it is now: what it stood on before it was edited is wanted no more.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.cleanup import in_use

NOTED_FILE = ".recipes.jsonl"


def begin_work(runs: Path, recipe: Path) -> contextlib.ExitStack:
    """Note a recipe, and keep the folder from being cleaned until the result is closed, or the process gone.

    Does nothing where the folder cannot be written.
    """
    held = contextlib.ExitStack()
    with contextlib.suppress(OSError):
        held.enter_context(in_use(runs))
        if str(recipe) not in list(noted(runs)):
            with (runs / NOTED_FILE).open("a", encoding="utf-8") as stream:
                # Begins a line of its own, also where a kill cut one off.
                stream.write("\n" + json.dumps({"recipe": str(recipe)}, ensure_ascii=False) + "\n")
    return held


def noted(runs: Path) -> Iterator[str]:
    """Paths of the recipes."""
    with contextlib.suppress(OSError):
        for line in (runs / NOTED_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                yield str(json.loads(line)["recipe"])
