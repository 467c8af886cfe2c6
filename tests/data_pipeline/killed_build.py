"""A build of many small shards that kills itself; run by `test_resume.py` as a program.

Arguments: input pattern, benchmark file, tokenizer kind and size, output, and the number of files after whose renaming
the process kills itself (0: never).
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import data_pipeline.sources.local
from data_pipeline.__main__ import main

_rename = os.replace


def _kill_after(renames: int) -> None:
    remaining = renames

    def replace(source: Any, target: Any) -> None:
        nonlocal remaining
        _rename(source, target)
        remaining -= 1
        if remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace


if __name__ == "__main__":
    pattern, benchmark, kind, output, renames = sys.argv[1:]
    data_pipeline.sources.local._GROUP_BYTES = 1
    if int(renames):
        _kill_after(int(renames))
    command = ["build", "--input", pattern, "--benchmark", f"lambada={benchmark}", "--train-tokenizer", kind]
    sys.exit(main([*command, "--output", str(Path(output)), "--workers", "1"]))
