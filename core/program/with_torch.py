"""Imported before anything else by the programs that train and evaluate: where torch is missing they end with one line.

The data pipeline is installed without it, so a user can well be there.
"""

import importlib.util
import sys

from core.errors import MissingLibraryError, told_to_user

if importlib.util.find_spec("torch") is None:
    _program = f"python -m {sys.modules['__main__'].__package__}"
    sys.exit(told_to_user(MissingLibraryError(_program, "torch")))
