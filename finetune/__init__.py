"""Fine-tuning of pretrained models: a module a task, named after its benchmark's module.

Importing the package makes the tasks' records known (`recipes.records.FINE_TUNING`) and needs no torch. A user's come
by `core.registry.load_plugin`.
"""

from core.registry import import_records
from data_pipeline.benchmarks import MODULES

import_records(__name__, MODULES)
