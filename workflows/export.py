"""`python -m workflows report`: where a recipe's report is, and the report in one file to send to somebody."""

import argparse
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import atomic_write
from workflows.arguments import add_recipe, add_runs
from workflows.corpus_report import DATA_PAGE, PAGES

_FIRST = (1980, 1, 1, 0, 0, 0)  # of every file, so that the same report gives the same archive


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="where a finished report is, or all of it in one archive",
        description="Say where the newest report of a recipe is. --export writes it to an archive, pages of documents "
        "and results included: report.html in it needs nothing else.",
    )
    add_recipe(parser)
    add_runs(parser)
    parser.add_argument("--export", type=Path, metavar="FILE.zip", help="write the report to this archive")
    parser.set_defaults(function=run)


def run(given: argparse.Namespace) -> int:
    folder = report_folder(given.recipe, given.set, given.runs)
    if given.export is None:
        print(folder / "index.html")
        return 0
    export(folder, given.export)
    print(given.export)
    return 0


def report_folder(recipe: str, changes: str, runs: str) -> Path:
    """Where the finished report of a recipe is.

    Raises:
        UserError: it is not made.
    """
    import workflows

    kind: Any = workflows.Report  # whose parameters are keywords that no type checker knows
    stage = kind(recipe=recipe, set=changes, runs=runs)
    if not stage.is_made():
        told = ["--recipe", recipe, *(["--set", changes] if changes else []), "--runs", runs]
        again = f"luigi --module workflows FullReproduction {shlex.join(told)}"
        raise UserError(f"the report of {recipe} in {runs} is not made, or is of another recipe: {again}")
    folder: Path = stage.directory
    return folder


def export(folder: Path, archive: Path) -> None:
    """Write a report to a ZIP archive.

    Raises:
        UserError: the archive cannot be written.
    """
    if archive.suffix.lower() != ".zip":
        raise UserError(f"{archive}: must end in .zip")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(archive) as temporary, zipfile.ZipFile(temporary, "w") as written:
            for path, name in _contents(folder):
                entry = zipfile.ZipInfo(name, _FIRST)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                written.writestr(entry, path.read_bytes())
    except OSError as error:
        raise UserError(f"{archive}: cannot be written: {error}") from error


def _contents(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files of a report and their names in the archive."""
    yield folder / "index.html", "report.html"
    for name in ("report.md", "results.json", DATA_PAGE):
        yield folder / name, name
    for path in sorted((folder / PAGES).glob("*.html")):
        yield path, f"{PAGES}/{path.name}"
