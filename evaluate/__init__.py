"""Zero-shot evaluation of pretrained models, and their text: a module a task, named after its benchmark's module.

Importing the package makes the tasks' records known (`recipes.records.ZERO_SHOT`) and needs no torch. A user's come by
`core.registry.load_plugin`.
"""

from core.registry import import_records
from data_pipeline.benchmarks import MODULES

import_records(__name__, MODULES)
