"""All tests on each promised Python, and the fast ones on the oldest promised torch: `make test-pythons`.

Each has a virtual environment of its own, `.venv-3.12`, and a log beside it. Prints a table; exit code 1 when one failed.
Which Pythons and which torch is read from pyproject.toml. Words given choose among the rows: `3.13`, `torch`.
"""

import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def rows() -> list[tuple[str, str, str]]:
    """(interpreter, release of torch or "" for the pinned one, target of make)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first, end = map(int, re.findall(r"3\.(\d+)", project["requires-python"]))
    (torch,) = re.findall(r"torch>=([\d.]+)", " ".join(project["optional-dependencies"]["train"]))
    pythons = [f"python3.{minor}" for minor in range(first, end)]
    return [*((python, "", "pytest") for python in pythons), (pythons[0], f"{torch}.0", "test-fast")]


def run(python: str, torch: str, target: str) -> tuple[bool, str]:
    """Whether the tests passed, and pytest's closing line."""
    if not shutil.which(python) or subprocess.run([python, "-c", ""], check=False).returncode:
        return False, f"there is no {python} here"
    log = ROOT / f".venv-{python.removeprefix('python')}{f'-torch-{torch}' if torch else ''}.log"
    with log.open("w") as stream:
        command = ["make", target, f"PYTHON={python}", f"TORCH={torch}"]
        result = subprocess.run(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, check=False)
    lines = log.read_text(errors="replace").splitlines()
    closing = [line for line in lines if re.search(r"\d+ (passed|failed|errors?)\b.* in ", line)]
    return result.returncode == 0, closing[-1].strip("= ") if closing else f"no test ran, see {log.name}"


def main(chosen: list[str]) -> int:
    failed = 0
    for python, torch, target in rows():
        what = f"{python:11} {f'torch {torch}' if torch else 'torch pinned':13} {target:10}"
        if chosen and not any(word in what for word in chosen):
            continue
        started = time.monotonic()
        passed, closing = run(python, torch, target)
        failed += not passed
        minutes = (time.monotonic() - started) / 60
        print(f"{what} {'passed' if passed else 'FAILED'} {minutes:5.1f} min   {closing}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
