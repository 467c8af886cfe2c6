"""Benchmarks: all that is known of each one's data, a module each with one record.

Files and their formats, readers, the texts that training must not see, where to fetch it, how the generated sample
writes one. Not here: what models are asked (`evaluate`, `finetune`). Each module here adds its record; a user's come
by `core.registry.load_plugin`.
"""

import importlib
import pkgutil

from data_pipeline.benchmarks.benchmark import BENCHMARKS, Benchmark, BenchmarkText, Origin, Sample

__all__ = ["BENCHMARKS", "MODULES", "Benchmark", "BenchmarkText", "Origin", "Sample"]

MODULES = tuple(module.name for module in pkgutil.iter_modules(__path__))

for _module in MODULES:
    importlib.import_module(f"{__name__}.{_module}")
