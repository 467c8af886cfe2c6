"""`python -m workflows verify`: whether finished artifacts are what their manifests say; damaged ones are set aside."""

import argparse
from pathlib import Path
from typing import Any

from data_pipeline.engine.integrity import repair, verify_store
from workflows.arguments import add_runs

_REPAIR = "python -m workflows verify --repair"
DESCRIPTION = """Read every file of every finished artifact and compare it with its manifest: a line for each that is missing, changed, or
in no manifest, and exit code 1. A copy of the folder elsewhere is as good. With --repair what is damaged is set aside
(….damaged-TIME): the next run of a whole recipe (FullReproduction, BuildCorpus, …) makes it anew, with the same bytes."""
EPILOG = """example:
  python -m workflows verify --repair
    runs/tokenize/sample-gpt2-0a1b2c3d4e5f/corpus.bin: its sha256 differs from the manifest's
    runs/tokenize/sample-gpt2-0a1b2c3d4e5f: what is wrong was set aside as …
"""


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "verify",
        help="check every finished artifact against its manifest",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_runs(parser)
    parser.add_argument(
        "--repair", action="store_true", help="set damaged artifacts aside: the next run makes them anew"
    )
    parser.set_defaults(function=lambda given: verify_artifacts(Path(given.runs), given.repair))


def verify_artifacts(runs: Path, mend: bool) -> int:
    """Print every problem of every finished artifact, and with `mend` set aside what is damaged.

    Returns:
        1 when there is a problem that was not mended.
    """
    checked = unfinished = problems = mended = aside_before = 0
    for found in verify_store(runs):
        checked += not (found.unfinished or found.aside)
        unfinished += found.unfinished
        problems += len(found.problems)
        aside_before += len(found.problems) if found.aside else 0
        for problem in found.problems:
            print(problem)
        if mend and (aside := repair(found)) is not None:
            mended += len(found.problems)
            print(f"{found.directory}: what is wrong was set aside as {aside}")
    more = f", {unfinished} unfinished" if unfinished else ""
    print(f"{checked} artifacts checked{more}, {problems} problem(s)")
    if mended:
        print("the next run makes anew what is gone, with the same bytes")
    elif problems > aside_before and not mend:
        print(
            f"to set damaged artifacts aside, for the next run to make them anew: {_REPAIR} --runs '{runs}'"
        )
    return 1 if problems > mended else 0
