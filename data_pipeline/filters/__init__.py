"""Filters of documents: named in a recipe's `[clean]` or by `--filters`, ours a module each, users' added by plug-ins.

    from data_pipeline.filters import FILTERS

    def no_lists(document):
        return document.text.count("\\n- ") < 10

    FILTERS.add("no_lists", no_lists)

What a filter may answer, and filters with settings, are in `data_pipeline.filters.filter`. None is asked unless it is
named.
"""

import importlib
import pkgutil

from data_pipeline.filters.filter import FILTERS, Edited, Filter

__all__ = ["FILTERS", "Edited", "Filter"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
