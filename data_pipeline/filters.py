"""A user's own filters of documents: named in a recipe's `[clean]` or by `--filters`, added by a plug-in.

    from data_pipeline.filters import FILTERS

    def no_lists(document):
        return document.text.count("\\n- ") < 10

    FILTERS.add("no_lists", no_lists)

A filter says of a repaired document, long enough and of the right language, whether it is kept. What it drops is
listed in `dropped/` under its name, as everything that cleaning drops.
"""

from collections.abc import Callable
from typing import Any

from core.registry import Registry

FILTERS: Registry[Callable[[Any], bool]] = Registry("filter")
