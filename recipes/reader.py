"""Reading recipes: all errors of a file are collected and raised at once, each with the file and the key, before
anything runs.

What a file extends and what a command line sets are merged before (`recipes.documents`). Paths in a recipe are relative
to the file that they stand in and may hold environment variables (`${REAL_DATA}`). What can be named in one
(families, sources, tasks) are records; our own packages add theirs as a user's plug-ins do.
"""

import dataclasses
import functools
import glob
import importlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.config import ModelConfig, ParallelConfig, TrainingConfig
from core.errors import ConfigurationError
from core.families import FAMILIES
from core.tables import did_you_mean, from_table, unknown_key
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.filters.filter import filter_tables
from data_pipeline.settings import (
    BenchmarkSettings,
    CleaningSettings,
    DecontaminationSettings,
    DeduplicationSettings,
    SampleSettings,
    TokenizerSettings,
)
from data_pipeline.sources.presets import CORPORA
from data_pipeline.sources.source import SOURCES, HubSource, LocalSource, Source, name_errors
from recipes.documents import Document, read_document
from recipes.models import load_recipe_plugins, model_shape
from recipes.records import FINE_TUNING
from recipes.schema import (
    EvaluationSettings,
    FinetuningSettings,
    Identity,
    LaunchSettings,
    Model,
    Recipe,
    TextSettings,
)

_OUR_PACKAGES = ("pretrain", "evaluate", "finetune")
_TABLES = (
    "plugins",
    "recipe",
    "sample",
    "corpora",
    "clean",
    "decontaminate",
    "deduplicate",
    "tokenizers",
    "parallel",
    "models",
    "benchmarks",
    "evaluation",
    "texts",
    "launch",
)
# Until a tokenizer exists, a model's shape is checked with this many tokens; any size pads to the same multiple.
_UNKNOWN_VOCABULARY = 1024


@functools.cache
def load_recipe(name_or_path: str, overrides: str = "") -> Recipe:
    """Read and check a recipe.

    Args:
        overrides: the text of `--set`: values instead of the recipe's.

    Raises:
        ConfigurationError: with every error, each naming file and key.
    """
    document = read_document(name_or_path, overrides)
    add_our_records()
    return _Reader(document, overrides).read()


def add_our_records() -> None:
    """Make what our own packages add known."""
    for package in _OUR_PACKAGES:
        importlib.import_module(package)


class _Reader:
    """Turns a recipe's tables into a `Recipe`, collecting errors on the way."""

    def __init__(self, read: Document, overrides: str) -> None:
        self.read_from = read
        self.document = read.tables
        self.overrides = overrides
        self.errors: list[str] = []

    def read(self) -> Recipe:
        for key in self.document:
            if key not in _TABLES:
                self.errors.append(unknown_key("", key, _TABLES))
        plugins = tuple(load_recipe_plugins(self.read_from, self.errors))  # before what they add is named
        clean = dict(self.table("clean"))
        length_tokenizer = self.existing(clean.pop("length_tokenizer", ""), "clean.length_tokenizer")
        tables = {
            "identity": self.settings(Identity, "recipe"),
            "sample": self.settings(SampleSettings, "sample") if "sample" in self.document else None,
            "corpora": tuple(self.corpora()),
            "cleaning": self.cleaning(clean),
            "decontamination": self.settings(DecontaminationSettings, "decontaminate"),
            "deduplication": self.settings(DeduplicationSettings, "deduplicate"),
            "tokenizers": self.with_paths(TokenizerSettings, "tokenizers", FAMILIES),
            "parallel": self.settings(ParallelConfig, "parallel"),
            "benchmarks": self.with_paths(BenchmarkSettings, "benchmarks", BENCHMARKS),
            "evaluation": self.settings(EvaluationSettings, "evaluation"),
            "texts": self.settings(TextSettings, "texts"),
            "launch": self.settings(LaunchSettings, "launch"),
        }
        models = self.models(tables["tokenizers"])
        recipe = Recipe(
            path=self.read_from.path,
            files=self.read_from.files,
            overrides=self.overrides,
            plugins=plugins,
            length_tokenizer=length_tokenizer,
            models=models,
            **tables,
        )
        self.check_together(recipe)
        if self.errors:
            raise ConfigurationError([self.read_from.located(error) for error in self.errors])
        return recipe

    def table(self, key: str) -> dict[str, Any]:
        value = self.document.get(key, {})
        if isinstance(value, dict):
            return value
        self.errors.append(f"{key}: must be a table, is {value!r}")
        return {}

    def settings(self, cls: type, key: str) -> Any:
        return from_table(cls, self.table(key), key, self.errors)

    def cleaning(self, table: dict[str, Any]) -> Any:
        filters = filter_tables(table, "clean", self.expand, self.errors)
        return from_table(CleaningSettings, table, "clean", self.errors, filter_settings=filters)

    def tables(self, key: str, known: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """The sub-tables of a table, with what is no table, or not `known`, reported."""
        result = {}
        for name, value in self.table(key).items():
            if known is not None and name not in known:
                self.errors.append(unknown_key(key, name, known))
            elif not isinstance(value, dict):
                self.errors.append(f"{key}.{name}: must be a table, is {value!r}")
            else:
                result[name] = value
        return result

    def expand(self, text: str, where: str) -> str:
        """Fill in environment variables and make a path absolute, from the folder of the file that it stands in."""
        for name in re.findall(r"\$\{(\w+)\}", text):
            if name not in os.environ:
                self.errors.append(f"{where}: the environment variable {name} is not set")
        return str(self.read_from.folder(where) / os.path.expanduser(os.path.expandvars(text)))

    def existing(self, text: str, where: str) -> Path | None:
        if not text:
            return None
        before = len(self.errors)
        path = Path(self.expand(text, where))
        if len(self.errors) == before and not path.exists():
            self.errors.append(f"{where}: {path} does not exist")
        return path

    def with_paths(self, cls: type, key: str, known: Iterable[str]) -> dict[str, Any]:
        """Sub-tables of settings with a `path` of a file that must be there."""
        result = {}
        for name, table in self.tables(key, known).items():
            settings: Any = from_table(cls, table, f"{key}.{name}", self.errors)
            if settings is not None:
                path = self.existing(settings.path, f"{key}.{name}.path")
                result[name] = dataclasses.replace(settings, path=str(path or ""))
        return result

    def corpora(self) -> list[Source]:
        entries = self.document.get("corpora", [])
        if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
            self.errors.append("corpora: one or more [[corpora]] tables are needed")
            return []
        result = []
        for index, entry in enumerate(entries):
            source = self.source(entry, f"corpora[{index}]")
            if source is not None:
                result.append(source)
        names = [source.name for source in result]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.errors.append(f"corpora: two are called {name!r}")
        return result

    def source(self, entry: dict[str, Any], where: str) -> Source | None:
        if "families" in entry:
            self.errors.append(f"{where}.families: unknown key (the key is called for)")
            return None
        table = {**self.preset(entry, where), **entry}
        kind = table.pop("source", None)
        table.pop("preset", None)
        if kind not in SOURCES:
            known = ", ".join(SOURCES)
            self.errors.append(
                f"{where}.source: must be one of {known}, is {kind!r}{did_you_mean(kind, SOURCES)}"
            )
            return None
        for name in SOURCES[kind].own_paths:
            if isinstance(table.get(name), str):
                table[name] = self.expand(table[name], f"{where}.{name}")
        families = table.pop("for", [])
        if entry.get("for") == [] or not isinstance(families, list) or not set(families) <= set(FAMILIES):
            hint = "".join(did_you_mean(name, FAMILIES) for name in families if name not in FAMILIES)
            self.errors.append(
                f"{where}.for: must be a list of one or more of {', '.join(FAMILIES)}, is {families!r}{hint}"
            )
            families = []
        source = from_table(SOURCES[kind], {**table, "families": families}, where, self.errors)
        if isinstance(source, LocalSource):
            return self.with_files(source, f"{where}.paths")
        if isinstance(source, HubSource):
            return dataclasses.replace(source, dataset=self.dataset(source.dataset, f"{where}.dataset"))
        return source

    def with_files(self, source: LocalSource, where: str) -> LocalSource:
        paths = [self.expand(path, where) for path in source.paths]
        for path in paths:
            if "${" not in path and not os.path.exists(path) and not any(glob.iglob(path, recursive=True)):
                self.errors.append(f"{where}: no file matches {path}")
        return dataclasses.replace(source, paths=paths)

    def preset(self, entry: dict[str, Any], where: str) -> dict[str, Any]:
        """What a corpus' preset says; of one that is read from elsewhere, only what its texts are."""
        name = entry.get("preset", "")
        if not name:
            return {}
        if not isinstance(name, str) or name not in CORPORA:
            hint = did_you_mean(name, CORPORA)
            self.errors.append(f"{where}.preset: must be one of {', '.join(CORPORA)}, is {name!r}{hint}")
            return {}
        table = {**dataclasses.asdict(CORPORA[name]), "source": HubSource.kind}
        table["for"] = list(table.pop("families"))
        if entry.get("source", HubSource.kind) == HubSource.kind:
            return table
        return {key: table[key] for key in ("join_lines", "for", "licence", "terms", "stand_in")}

    def dataset(self, name: str, where: str) -> str:
        """A dataset's name on the hub as it is, a local folder as an absolute path."""
        path = Path(self.expand(name, where))
        if path.is_dir():
            return str(path)
        if "${" not in name and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            self.errors.append(f"{where}: {path} is no folder, and {name!r} no dataset's name on the hub")
        return name

    def models(self, tokenizers: dict[str, TokenizerSettings]) -> dict[str, Model]:
        result = {}
        for name, table in self.tables("models").items():
            model = self.model(name, dict(table), tokenizers)
            if model is not None:
                result[name] = model
        return result

    def model(
        self, name: str, table: dict[str, Any], tokenizers: dict[str, TokenizerSettings]
    ) -> Model | None:
        where = f"models.{name}"
        before = len(self.errors)
        self.errors += name_errors(name, where)
        training = from_table(TrainingConfig, table.pop("training", {}), f"{where}.training", self.errors)
        parallel = self.layout(table.pop("parallel", {}), f"{where}.parallel")
        finetuning = {}
        tuned = table.pop("finetuning", {})
        if not isinstance(tuned, Mapping):
            self.errors.append(f"{where}.finetuning: must be a table, is {tuned!r}")
            tuned = {}
        for task, settings in tuned.items():
            if task not in FINE_TUNING:
                self.errors.append(unknown_key(f"{where}.finetuning", task, FINE_TUNING))
                continue
            finetuning[task] = from_table(
                FinetuningSettings, settings, f"{where}.finetuning.{task}", self.errors
            )
        shape = self.shape(table, tokenizers, where)
        if shape is None or training is None or parallel is None or len(self.errors) > before:
            return None
        tasks = {task: settings for task, settings in finetuning.items() if settings is not None}
        return Model(name, shape, training, tasks, parallel)

    def layout(self, own: Any, where: str) -> ParallelConfig | None:
        """A model's layout: the recipe's, and what is the model's own."""
        common = self.table("parallel")
        unsound: list[str] = []
        if from_table(ParallelConfig, common, "parallel", unsound) is None:
            common = {}  # said of the recipe's table
        if not isinstance(own, Mapping):
            self.errors.append(f"{where}: must be a table, is {own!r}")
            return None
        return from_table(ParallelConfig, {**common, **own}, where, self.errors)

    def shape(
        self, table: dict[str, Any], tokenizers: dict[str, TokenizerSettings], where: str
    ) -> ModelConfig | None:
        family = table.get("family") or str(table.get("preset", "")).split("-")[0]
        known = tokenizers[family].vocabulary_size if family in tokenizers else 0
        return model_shape(table, known or _UNKNOWN_VOCABULARY, where, self.errors)

    def check_together(self, recipe: Recipe) -> None:
        """Checks across tables, each made where its tables are sound."""
        for model in recipe.models.values():
            self.check_model(recipe, model)
        used = [f"corpora {source.name}" for source in recipe.corpora if source.kind == "sample"]
        used += [f"benchmarks.{name}" for name, b in recipe.benchmarks.items() if b.source == "sample"]
        if used and "sample" not in self.document:
            self.errors.append(f"sample: missing, but used by {', '.join(used)}")
        for family in recipe.families():
            if family not in self.table("tokenizers"):
                self.errors.append(f"tokenizers.{family}: missing, but the recipe has {family} models")
            if recipe.corpora and not recipe.sources_for(family):
                self.errors.append(f"corpora: none is for {family}, but the recipe has {family} models")
        for name, settings in recipe.benchmarks.items():
            if why := BENCHMARKS[name].not_from(settings.source):
                self.errors.append(f"benchmarks.{name}.source: {why}; give the path of its files")
        measured = {task.benchmark for task in recipe.measured_tasks()}
        for name in recipe.benchmarks:
            inherited = self.read_from.origin(f"benchmarks.{name}") != self.read_from.path
            if (
                recipe.models and name not in measured and not inherited
            ):  # what is extended may know more models
                self.errors.append(
                    f"benchmarks.{name}: no model of the recipe is measured on it; leave it out, or add such a model"
                )

    def check_model(self, recipe: Recipe, model: Model) -> None:
        """A model against the layout, and against what it is measured on."""
        where = f"models.{model.name}"
        parallel = model.parallel
        self.errors += model.layout_errors(parallel)
        for task, settings in model.finetuning.items():
            record, place = FINE_TUNING[task], f"{where}.finetuning.{task}"
            if not model.fits(record):
                self.errors.append(f"{place}: not for models of the family {model.config.family}")
            if record.benchmark not in self.table("benchmarks"):
                self.errors.append(f"benchmarks.{record.benchmark}: missing, but {where} is fine-tuned on it")
            self.errors += record.errors(settings, model.config, place)
            self.errors += settings.layout_errors(parallel.task_data_parallel, place)
            if recipe.launch is not None:
                self.errors += recipe.launch.layout_errors(settings.layout(parallel).world_size, place)
        if recipe.launch is not None:
            self.errors += recipe.launch.layout_errors(parallel.world_size, where)
        for scored in recipe.zero_shot_tasks():
            if recipe.evaluation is not None and model.fits(scored):
                errors = scored.errors(recipe.evaluation, model.config, "evaluation")
                self.errors += [f"{error} (of {where})" for error in errors]
