"""Families of models: one record each, beside its network in `core.models`. No torch.

A family is what `ModelConfig.family` names; nothing outside its record asks for its name. Each module here adds its
own; a user's come by `core.registry.load_plugin`.
"""

import importlib
import pkgutil

from core.families.family import FAMILIES, Family, add_family

__all__ = ["FAMILIES", "Family", "add_family"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
