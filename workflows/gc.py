"""`python -m workflows gc`: shows what nothing needs any more in a folder of artifacts, and removes it on demand. What
that is, is said in `workflows.garbage`."""

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import workflows
from core.errors import UserError, message_for_user
from data_pipeline.cleanup import not_in_use
from recipes.overrides import SET, SET_HELP
from recipes.reader import load_recipe
from workflows.arguments import add_runs
from workflows.garbage import Found, look, remove, trash_bytes
from workflows.noted import NOTED_FILE, noted
from workflows.show_plan import size_text
from workflows.stage import Stage, offline, walk

DESCRIPTION = """Show the artifacts that nothing needs any more, with their sizes and what still refers to them: stale, partial (given up),
damaged, and set aside as damaged. Needed is, with all that it was made of: what a link of latest/ leads to, what the recipes want that
were run here, as they are now, and those of --recipe, what was adopted, and what outputs of `python -m data_pipeline build` stand on. With --yes they are
removed, each at once, by way of a trash folder, so it may be killed at any time. Nothing is touched that a process holds
locked or that no stage made, and no link is followed."""
EPILOG = """example:
  python -m workflows gc
    stale    runs/deduplicate/sample-0123456789ab  2.8 MB  (read by tokenizer/sample-gpt2-4567cdef0123)
    1 folder(s), 2.8 MB, can go: python -m workflows gc --yes
"""


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "gc",
        help="what nothing needs any more: stale, partial and damaged artifacts; --yes removes it",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--recipe", action="append", default=[], help="what it wants is needed, too; may be repeated"
    )
    parser.add_argument(SET, default="", metavar="KEY=VALUE,…", help=SET_HELP)
    add_runs(parser)
    parser.add_argument("--yes", action="store_true", help="remove them; without it nothing is touched")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.set_defaults(
        function=lambda given: collect(
            Path(given.runs), given.recipe, given.set, agreed=given.yes, as_json=given.json
        )
    )


def collect(
    root: Path, recipes: Sequence[str], overrides: str = "", *, agreed: bool = False, as_json: bool = False
) -> int:
    """Print what can go, what stays though it looks so, and what is of nobody; remove the first when it is agreed to."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give that of the artifacts by --runs")
    root = Path(root).absolute()
    wanted, unknown = stages_of(root, recipes, overrides)
    with not_in_use(root) if agreed else contextlib.nullcontext():
        entries, needed, found = look(root, wanted, unknown)
        gone = remove(root, found) if agreed else []
    if as_json:
        print(json.dumps(as_table(found, gone), indent=2, ensure_ascii=False))
        return 0
    for line in [*(_line(one) for one in found), *needed.unknown]:
        print(line)
    for line in _ends(root, found, gone, agreed, len(entries)):
        print(line)
    return 0


def stages_of(root: Path, recipes: Sequence[str], overrides: str) -> tuple[dict[str, list[Stage]], list[str]]:
    """All stages of the given recipes, and of those that were run in a folder and still are there; and why it is not
    known of which artifacts these are made, a line each.

    Raises:
        UserError: that is not known of a given recipe: it has errors, or a source of it is pinned nowhere.
    """
    found: dict[str, list[Stage]] = {}
    unknown = []
    for name in recipes:
        load_recipe(name, overrides)  # raises what a task would only print
        found[name] = _stages(name, overrides, root)
    for name in noted(root):
        if name in found or not Path(name).is_file():  # what is gone is wanted by nobody
            continue
        try:
            load_recipe(name)
            found[name] = _stages(name, "", root)
        except Exception as error:
            if (message := message_for_user(error)) is None:
                raise
            reason = message.splitlines()[0]
            unknown.append(
                f"{name}, which was run here, cannot be planned ({reason}): anything may be needed for it, until that is "
                f"mended, or its line in {root / NOTED_FILE} removed"
            )
    return found, unknown


def _stages(recipe: str, overrides: str, root: Path) -> list[Stage]:
    """With their keys taken."""
    stages: dict[str, Stage] = {}
    for task in (workflows.FullReproduction, workflows.CorpusReport):
        face: Any = task  # Luigi's parameters are keywords that no type checker knows
        stages |= {one.task_id: one for one in walk(face(recipe=recipe, set=overrides, runs=str(root)))}
    with offline(stages.values()):
        for stage in stages.values():
            stage.artifact  # noqa: B018
    return list(stages.values())


def _line(one: Found) -> str:
    size = f"  {size_text(one.bytes)}" if one.entry is not None else ""
    return f"{one.what:8} {one.path}{size}" + (f"  ({one.note})" if one.note else "")


def _ends(
    root: Path, found: Sequence[Found], gone: Sequence[Found], agreed: bool, entries: int
) -> Iterator[str]:
    going = [one for one in found if one.can_go]
    kept = entries - len(going)
    trash = trash_bytes(root)
    if trash:
        yield f"{size_text(trash)} of what was removed before are still in the trash"
    if agreed:
        yield f"{len(gone)} folder(s) removed, {size_text(sum(one.bytes for one in gone))}; {kept} kept"
        for one in going:
            if one not in gone:
                yield f"{one.path}: is in use now, and stays"
    elif going or trash:
        size = size_text(sum(one.bytes for one in going))
        yield f"{len(going)} folder(s), {size}, can go: python -m workflows gc --yes; {kept} are kept"
    else:
        yield f"nothing can go; {kept} are kept"


def as_table(found: Sequence[Found], gone: Sequence[Found]) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "found": [
            {
                "path": str(one.path),
                "what": one.what,
                "bytes": one.bytes,
                "note": one.note or None,
                "can_go": one.can_go,
                "removed": one in gone,
            }
            for one in found
        ]
    }
