"""Pretraining (paper section 4.2): for each family a record and its samples, and one command line. Importing it imports
no torch.

The record of a family in `core.families` that can be pretrained stands in the module of its name here; a user's comes by
a plug-in.
"""

import importlib
from pathlib import Path

from core.families import FAMILIES

for _family in FAMILIES:
    if (Path(__file__).parent / f"{_family}.py").is_file():
        importlib.import_module(f"{__name__}.{_family}")
