"""One process of `harness.in_fresh_process`: `python -m benchmarks.worker MODULE:FUNCTION ARGUMENTS OUTPUT`."""

import importlib
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    name, arguments, output = sys.argv[1:]
    module, _, function = name.partition(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    if result is not None:  # on other ranks than the main one
        Path(output).write_text(json.dumps(result))
