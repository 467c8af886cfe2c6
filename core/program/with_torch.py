"""Imported before anything else by the programs that train and evaluate: where torch is missing they end with one line.

The data pipeline is installed without it, so a user can well be there.

Importing torch makes half a million objects that stay, and Python's collector would go over them again and again, for a
tenth of a program's start: in those that begin by `run_on_ranks` it rests until then.
"""

import gc
import importlib.util
import sys

from core.errors import MissingLibraryError, told_to_user

_package = sys.modules["__main__"].__package__

if importlib.util.find_spec("torch") is None:
    sys.exit(told_to_user(MissingLibraryError(f"python -m {_package}", "torch")))
if _package in ("pretrain", "evaluate", "finetune"):
    gc.disable()
