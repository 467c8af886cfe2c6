"""Signals in the middle of stages, by hand: `python tests/workflows/signals.py FOLDER`, a line a case.

A data stage (deduplication, with a pool of two processes), a training and an evaluation (two ranks each) of a small recipe
get SIGTERM, SIGINT, SIGHUP and SIGKILL through luigi, with one worker and two, with luigi's own scheduler and a daemon. Each
time: the exit code is not 0, no process is left ten seconds later, and the same command ends well and with the manifest of
an undisturbed run. What comes before a stage is made once and copied.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TINY = CHECKOUT / "tests" / "recipes" / "tiny.toml"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL)
LEFT_SECONDS = 10.0
# Of each kind of stage: the task, the artifacts' folder, and when it is in the middle of its work.
STAGES: dict[str, tuple[str, str, Callable[[Path], bool]]] = {
    "data": ("DeduplicateDocuments", "deduplicate", lambda partial: any((partial / "stats").glob("*.json"))),
    "training": ("PretrainGPT2", "pretrain", lambda partial: any((partial / "checkpoints").glob("step-*"))),
    "evaluation": (
        "EvaluateWikiText103",
        "wikitext103",
        lambda partial: (partial / "logs" / "machine.json").exists(),
    ),
}


def recipe(folder: Path) -> Path:
    """Like the tests' tiny one, longer, so that there is a middle."""
    path = folder / "small.toml"
    text = (
        TINY.read_text().replace("steps = 60", "steps = 400").replace("documents = 300", "documents = 2000")
    )
    path.write_text(text.replace("stride = 64", "stride = 4"))
    return path


class Case:
    """A folder with what comes before a stage, and luigi commands on it."""

    def __init__(self, folder: Path, made: Path, stage: str, url: str) -> None:
        self.folder, self.url = folder, url
        self.task, self.kind, self.in_the_middle = STAGES[stage]
        self.runs = folder / "runs"
        shutil.copytree(made, self.runs, symlinks=True)
        for path in (self.runs / self.kind).glob("*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def start(self, workers: int) -> subprocess.Popen:
        where = ["--scheduler-url", self.url] if self.url else []
        command = [sys.executable, "-m", "luigi", "--module", "workflows", self.task]
        command += ["--recipe", str(self.folder.parent / "small.toml"), "--runs", str(self.runs)]
        command += ["--cpu-workers", "2", "--workers", str(workers), *where]
        output = (self.folder / "output").open("a")
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )

    def partial(self) -> Path | None:
        return next(iter((self.runs / self.kind).glob("*.partial")), None)

    def processes(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
                where = os.readlink(path / "cwd")
            except OSError:
                continue
            if str(self.runs).encode() in words or where == str(self.folder):
                found.append(path.name)
        return found


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def manifest(runs: Path, kind: str) -> bytes:
    (path,) = (runs / kind).glob("*/manifest.json")
    return path.read_bytes()


def try_case(case: Case, number: signal.Signals, workers: int, expected: bytes) -> str:
    """What is wrong, or nothing."""
    process = case.start(workers)
    if not wait_for(lambda: (partial := case.partial()) and case.in_the_middle(partial), 120):
        process.kill()
        return "the stage was over too soon"
    process.send_signal(number)
    code = process.wait(timeout=120)
    problems = []
    if code != (-signal.SIGKILL if number == signal.SIGKILL else 130):
        problems.append(f"exit code {code}")
    if not wait_for(lambda: not case.processes(), LEFT_SECONDS):
        problems.append(f"processes left: {case.processes()}")
    partial = case.partial()
    record = json.loads((partial / "run.json").read_text()) if partial else {"segments": [{}]}
    ended = record["segments"][-1].get("ended")
    if ended not in ("killed", "stopped") or (ended == "killed" and number != signal.SIGKILL):
        problems.append(f"run.json says {ended}")
    again = case.start(workers)
    if (code := again.wait(timeout=300)) != 0:
        return "; ".join([*problems, f"the next run ended with {code}"])
    if manifest(case.runs, case.kind) != expected:
        problems.append("another manifest")
    return "; ".join(problems)


def daemon(folder: Path) -> tuple[subprocess.Popen, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "import sys; from luigi.cmdline import luigid; luigid(sys.argv[1:])"
    command = [sys.executable, "-c", program, "--address", "127.0.0.1", "--port", str(port)]
    log = (folder / "luigid.log").open("w")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            return False
        return True

    assert wait_for(answers, 30)
    return process, url


def cases(only: str) -> Iterator[tuple[str, signal.Signals, int, bool]]:
    for found in itertools.product(STAGES, SIGNALS, (1, 2), (False, True)):
        name = f"{found[0]} {found[1].name} {found[2]} {'luigid' if found[3] else 'local'}"
        if all(word in name.split() for word in only.split()):
            yield found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="words that a case has: data SIGINT 2 luigid")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    recipe(folder)
    made = folder / "made"
    command = [sys.executable, "-m", "luigi", "--module", "workflows", "EvaluateWikiText103"]
    command += ["--recipe", str(folder / "small.toml"), "--runs", str(made)]
    subprocess.run(command, cwd=CHECKOUT, check=True)
    process, url = daemon(folder)
    failed = 0
    try:
        for index, (stage, number, workers, remote) in enumerate(cases(given.only)):
            place = folder / f"case{index}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            case = Case(place, made, stage, url if remote else "")
            problem = try_case(case, number, workers, manifest(made, case.kind))
            failed += bool(problem)
            where = "luigid" if remote else "local"
            print(f"{stage:10} {number.name:7} workers {workers} {where:6} {problem or 'right'}", flush=True)
            if not problem:
                shutil.rmtree(place)
    finally:
        process.terminate()
        process.wait()
    print(f"{failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
