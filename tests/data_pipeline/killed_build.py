"""Builds a corpus of many small shards while killing the build at random moments; run by `test_resume.py`.

Arguments: input pattern, benchmark file, tokenizer kind and size, output, kills and seed. Every attempt is a process of
its own that SIGKILL ends after a random time; when a build gets through before the kills are used up, another one
starts beside it (`output-1`, `output-2`, …). The last one is left in peace. Prints the finished outputs and the kills.
"""

import json
import os
import random
import signal
import sys
import time

import nltk.tokenize.punkt  # noqa: F401  what the stages import, before the first fork
import pycld2  # noqa: F401
import scipy.sparse.csgraph  # noqa: F401

import data_pipeline.sources.pieces
from data_pipeline.__main__ import main


def attempt(command: list[str], seconds: float | None) -> bool:
    """Build in a child process, killed after some seconds; True when it got through."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(command))
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.waitstatus_to_exitcode(status) == 0
    return True


if __name__ == "__main__":
    pattern, benchmark, kind, output, kills, seed = sys.argv[1:]
    data_pipeline.sources.pieces._GROUP_BYTES = 1
    data_pipeline.sources.pieces._LINES_PIECE_BYTES = 2_000
    draw = random.Random(int(seed))
    build = ["build", "--input", pattern, "--benchmark", f"lambada={benchmark}", "--train-tokenizer", kind]
    outputs = [output]
    killed = 0
    while killed < int(kills):
        if attempt([*build, "--workers", "1", "--output", outputs[-1]], draw.uniform(0.05, 0.6)):
            outputs.append(f"{output}-{len(outputs)}")
        else:
            killed += 1
    attempt([*build, "--workers", "1", "--output", outputs[-1]], None)
    print(json.dumps({"outputs": outputs, "killed": killed}))
