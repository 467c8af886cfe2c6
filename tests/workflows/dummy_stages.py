"""Small stages of the tests' own, and luigi commands on them: for what every stage does."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TINY = str(CHECKOUT / "tests" / "recipes" / "tiny.toml")

# A stage of two steps, each a file; it dies (or fails) at the second when told to.
DUMMY = """
import os, sys, time
from pathlib import Path
from core.errors import TransientError, UserError
from data_pipeline.engine.steps import StageKind, Step
import workflows.attempts
from workflows.stage import Stage

workflows.attempts._WAIT_SECONDS = 0.05

def first(directory, place):
    trace("first")
    (directory / "content").write_text("first")
    return {"documents": 1}

def second(directory, place):
    if not (directory / "one").exists():
        trace("one")
        (directory / "one").write_text("1")
    mode = os.environ.get("MODE", "")
    if mode == "die":
        os.kill(os.getpid(), 9)
    if mode == "fail":
        raise UserError("the disk is full of frogs")
    if mode == "bug":
        raise KeyError("frog")
    if mode == "numpy":
        import numpy
        numpy.zeros(3).reshape(2, 2)
    if mode == "slow":
        time.sleep(2)
    if mode == "stuck":
        time.sleep(600)
    if mode == "transient" and not (directory / "lost").exists():
        (directory / "lost").touch()
        raise TransientError("a process was lost")
    trace("two")
    (directory / "two").write_text("2")
    return {"steps": 2}

FIRST = Step(StageKind("first", 1, ()), "tiny", first, label="first of the test", parameters={"documents": 3})
SECOND = Step(StageKind("second", 1, ()), "tiny", second, label="second of the test", inputs={"first": FIRST})

class First(Stage):
    stage = "first"
    def make_step(self):
        return FIRST

class Second(Stage):
    stage = "second"
    def make_step(self):
        return SECOND

def sleep(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)

def pooled(directory, place):
    list(place.executor.map(sleep, [str(directory / "a"), str(directory / "b")]))

class Pooled(Stage):
    stage = "pooled"
    def make_step(self):
        return Step(StageKind("pooled", 1, ()), "tiny", pooled, label="a pool of the test")

class Unplannable(Stage):
    stage = "third"
    def make_step(self):
        return Step(StageKind("third", 1, ()), "tiny", second, label="third of the test")
    def stands_on(self):
        raise KeyError("frog")

def trace(word):
    with open(os.environ["TRACE"], "a") as stream:
        stream.write(word + "\\n")
"""


class Luigi:
    """Runs a dummy task in a fresh process, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trace = folder / "trace"
        (folder / "dummies.py").write_text(textwrap.dedent(DUMMY).replace("\\\\n", "\\n"))

    def start(self, mode: str = "", task: str = "Second", options: tuple[str, ...] = ()) -> subprocess.Popen:
        environment = {
            **os.environ,
            "MODE": mode,
            "TRACE": str(self.trace),
            "PYTHONPATH": f"{self.folder}:{CHECKOUT}",
        }
        command = [sys.executable, "-m", "luigi", "--module", "dummies", task, "--recipe", TINY, *options]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self, mode: str = "", task: str = "Second", options: tuple[str, ...] = ()
    ) -> tuple[int, str, str]:
        process = self.start(mode, task, options)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def traced(self) -> list[str]:
        return self.trace.read_text().split() if self.trace.exists() else []

    def artifact(self, stage: str) -> Path:
        return next(path for path in (self.folder / "runs" / stage).iterdir() if path.is_dir())
