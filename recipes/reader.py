"""Reading recipes: all errors of a file are collected and raised at once, each with the file and the key, before
anything runs.

Paths in a recipe are relative to its file and may hold environment variables (`${REAL_DATA}`).
"""

import dataclasses
import functools
import glob
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.config import ModelConfig, ParallelConfig, TrainingConfig, preset
from core.errors import ConfigurationError
from core.tables import from_table
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings
from data_pipeline.sources.presets import CORPORA
from recipes.schema import (
    BENCHMARKS,
    FAMILIES,
    BenchmarkSettings,
    Corpus,
    EvaluationSettings,
    FinetuningSettings,
    Identity,
    Model,
    Recipe,
    SampleSettings,
    TokenizerSettings,
    name_errors,
)

_TABLES = (
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
)
# Until a tokenizer exists, a model's shape is checked with this many tokens; any size pads to the same multiple.
_UNKNOWN_VOCABULARY = 1024


RECIPES = Path(__file__).resolve().parent


@functools.cache
def load_recipe(name_or_path: str) -> Recipe:
    """Read and check a recipe.

    Raises:
        ConfigurationError: with every error of the file, each naming file and key.
    """
    path = recipe_path(name_or_path)
    return _Reader(path, read_recipe(path)).read()


class _Reader:
    """Turns one parsed file into a `Recipe`, collecting errors on the way."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path = path
        self.document = document
        self.errors: list[str] = []

    def read(self) -> Recipe:
        for key in self.document:
            if key not in _TABLES:
                self.errors.append(f"{key}: unknown key (known: {', '.join(_TABLES)})")
        clean = dict(self.table("clean"))
        length_tokenizer = self.existing(clean.pop("length_tokenizer", ""), "clean.length_tokenizer")
        recipe = {
            "path": self.path,
            "identity": self.settings(Identity, "recipe"),
            "sample": self.settings(SampleSettings, "sample") if "sample" in self.document else None,
            "corpora": tuple(self.corpora()),
            "cleaning": self.settings(CleaningSettings, "clean", clean),
            "length_tokenizer": length_tokenizer,
            "decontamination": self.settings(DecontaminationSettings, "decontaminate"),
            "deduplication": self.settings(DeduplicationSettings, "deduplicate"),
            "tokenizers": self.tokenizers(),
            "parallel": self.settings(ParallelConfig, "parallel"),
            "benchmarks": self.benchmarks(),
            "evaluation": self.settings(EvaluationSettings, "evaluation"),
        }
        recipe["models"] = self.models(recipe["tokenizers"], recipe["parallel"])
        if not self.errors:
            self.check_together(Recipe(**recipe))
        if self.errors:
            raise ConfigurationError([f"{self.path}: {error}" for error in self.errors])
        return Recipe(**recipe)

    def table(self, key: str) -> dict[str, Any]:
        value = self.document.get(key, {})
        if isinstance(value, dict):
            return value
        self.errors.append(f"{key}: must be a table, is {value!r}")
        return {}

    def settings(self, cls: type, key: str, table: dict[str, Any] | None = None) -> Any:
        try:
            return from_table(cls, self.table(key) if table is None else table, key, self.errors)
        except ValueError as error:  # values that fit their types but not each other
            self.errors.append(str(error))
            return None

    def tables(self, key: str, known: tuple[str, ...] | None = None) -> dict[str, dict[str, Any]]:
        """The sub-tables of a table, with what is no table, or not `known`, reported."""
        result = {}
        for name, value in self.table(key).items():
            if known is not None and name not in known:
                self.errors.append(f"{key}.{name}: unknown key (known: {', '.join(known)})")
            elif not isinstance(value, dict):
                self.errors.append(f"{key}.{name}: must be a table, is {value!r}")
            else:
                result[name] = value
        return result

    def expand(self, text: str, where: str) -> str:
        """Fill in environment variables and make a path absolute, from the recipe's folder."""
        for name in re.findall(r"\$\{(\w+)\}", text):
            if name not in os.environ:
                self.errors.append(f"{where}: the environment variable {name} is not set")
        return str(self.path.parent / os.path.expanduser(os.path.expandvars(text)))

    def existing(self, text: str, where: str) -> Path | None:
        if not text:
            return None
        before = len(self.errors)
        path = Path(self.expand(text, where))
        if len(self.errors) == before and not path.exists():
            self.errors.append(f"{where}: {path} does not exist")
        return path

    def corpora(self) -> list[Corpus]:
        entries = self.document.get("corpora", [])
        if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
            self.errors.append("corpora: one or more [[corpora]] tables are needed")
            return []
        result = []
        for index, entry in enumerate(entries):
            corpus = self.corpus(entry, f"corpora[{index}]")
            if corpus is not None:
                result.append(corpus)
        names = [corpus.name for corpus in result]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.errors.append(f"corpora: two are called {name!r}")
        return result

    def corpus(self, entry: dict[str, Any], where: str) -> Corpus | None:
        if "families" in entry:
            self.errors.append(f"{where}.families: unknown key (the key is called for)")
            return None
        entry = {**self.preset(entry, where), **entry}
        families = entry.pop("for", list(FAMILIES))
        if not isinstance(families, list) or not families or not set(families) <= set(FAMILIES):
            self.errors.append(f'{where}.for: must be a list of "gpt2" and "bert", is {families!r}')
            return None
        corpus = from_table(Corpus, {**entry, "families": families}, where, self.errors)
        if corpus is None:
            return None
        paths = [self.expand(path, f"{where}.paths") for path in corpus.paths]
        for path in paths:
            if "${" not in path and not glob.glob(path, recursive=True):
                self.errors.append(f"{where}.paths: no file matches {path}")
        dataset = self.dataset(corpus.dataset, f"{where}.dataset")
        return dataclasses.replace(corpus, paths=paths, dataset=dataset)

    def preset(self, entry: dict[str, Any], where: str) -> dict[str, Any]:
        """What a corpus' preset says; of one that is read from elsewhere, only how its records are read."""
        name = entry.get("preset", "")
        if not name:
            return {}
        if not isinstance(name, str) or name not in CORPORA:
            self.errors.append(f"{where}.preset: must be one of {', '.join(CORPORA)}, is {name!r}")
            return {}
        table = CORPORA[name].corpus_table()
        if entry.get("source", table["source"]) == table["source"]:
            return table
        return {key: table[key] for key in ("join_lines", "for")}

    def dataset(self, name: str, where: str) -> str:
        """A dataset's name on the hub as it is, a local folder as an absolute path."""
        if not name:
            return name
        path = Path(self.expand(name, where))
        if path.is_dir():
            return str(path)
        if "${" not in name and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            self.errors.append(f"{where}: {path} is no folder, and {name!r} no dataset's name on the hub")
        return name

    def tokenizers(self) -> dict[str, TokenizerSettings]:
        result = {}
        for family, table in self.tables("tokenizers", FAMILIES).items():
            where = f"tokenizers.{family}"
            settings = from_table(TokenizerSettings, table, where, self.errors)
            if settings is not None:
                path = self.existing(settings.path, f"{where}.path")
                result[family] = dataclasses.replace(settings, path=str(path or ""))
        return result

    def benchmarks(self) -> dict[str, BenchmarkSettings]:
        result = {}
        for name, table in self.tables("benchmarks", BENCHMARKS).items():
            where = f"benchmarks.{name}"
            settings = from_table(BenchmarkSettings, table, where, self.errors)
            if settings is not None:
                path = self.existing(settings.path, f"{where}.path")
                result[name] = dataclasses.replace(settings, path=str(path or ""))
        return result

    def models(
        self, tokenizers: dict[str, TokenizerSettings], parallel: ParallelConfig | None
    ) -> dict[str, Model]:
        result = {}
        for name, table in self.tables("models").items():
            model = self.model(name, dict(table), tokenizers)
            if model is None:
                continue
            result[name] = model
            if parallel is not None:
                where = f"models.{name}"
                self.errors += model.config.layout_errors(
                    parallel.tensor_parallel, where, parallel.sequence_parallel
                )
                self.errors += model.training.layout_errors(parallel.data_parallel, f"{where}.training")
        return result

    def model(
        self, name: str, table: dict[str, Any], tokenizers: dict[str, TokenizerSettings]
    ) -> Model | None:
        where = f"models.{name}"
        before = len(self.errors)
        self.errors += name_errors(name, where)
        training = from_table(TrainingConfig, table.pop("training", {}), f"{where}.training", self.errors)
        tasks = table.pop("finetuning", {})
        race = None
        for task, settings in tasks.items():
            if task != "race":
                self.errors.append(f"{where}.finetuning.{task}: unknown key (known: race)")
                continue
            race = from_table(FinetuningSettings, settings, f"{where}.finetuning.race", self.errors)
        shape = self.shape(table, tokenizers, where)
        if shape is not None and "race" in tasks and shape.family != "bert":
            self.errors.append(f"{where}.finetuning.race: only bert models are fine-tuned on RACE")
        if shape is None or training is None or len(self.errors) > before:
            return None
        return Model(name, shape, training, race)

    def shape(
        self, table: dict[str, Any], tokenizers: dict[str, TokenizerSettings], where: str
    ) -> ModelConfig | None:
        family = table.get("family") or str(table.get("preset", "")).split("-")[0]
        known = tokenizers[family].vocabulary_size if family in tokenizers else 0
        return model_shape(table, known or _UNKNOWN_VOCABULARY, where, self.errors)

    def check_together(self, recipe: Recipe) -> None:
        """Checks across tables, made when each table is sound."""
        sampled = [f"corpora {corpus.name}" for corpus in recipe.corpora if corpus.source == "sample"]
        sampled += [f"benchmarks.{name}" for name, b in recipe.benchmarks.items() if b.source == "sample"]
        if sampled and recipe.sample is None:
            self.errors.append(f"sample: missing, but used by {', '.join(sampled)}")
        for family in recipe.families():
            if family not in recipe.tokenizers:
                self.errors.append(f"tokenizers.{family}: missing, but the recipe has {family} models")
            if not recipe.sources_for(family):
                self.errors.append(f"corpora: none is for {family}, but the recipe has {family} models")
        for model in recipe.models.values():
            if model.race is not None and "race" not in recipe.benchmarks:
                self.errors.append(f"benchmarks.race: missing, but models.{model.name} is fine-tuned on it")


def recipe_path(name_or_path: str) -> Path:
    """The file of a recipe given by name, or by path when it ends in `.toml`."""
    if name_or_path.endswith(".toml"):
        return Path(name_or_path).absolute()
    return RECIPES / f"{name_or_path}.toml"


def read_recipe(path: Path) -> dict[str, Any]:
    """The parsed tables of a recipe file.

    Raises:
        ConfigurationError: no such file, or not TOML.
    """
    if not path.is_file():
        known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.toml")))
        raise ConfigurationError(
            [f"{path}: no such recipe (known names: {known}; or give a path ending in .toml)"]
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: not valid TOML ({error})"]) from error


def model_shape(
    table: Mapping[str, Any], vocabulary_size: int, where: str, errors: list[str]
) -> ModelConfig | None:
    """A model's shape from its table: flat fields, or a preset and what differs from it.

    Args:
        vocabulary_size: the tokenizer's.
        errors: gets every error, prefixed with `where`; then None is returned.
    """
    fields = {key: value for key, value in table.items() if key not in ("training", "finetuning", "preset")}
    if "vocabulary_size" in fields:
        errors.append(f"{where}.vocabulary_size: comes from the tokenizer, leave it out")
    if "preset" in table:
        try:
            fields = {**dataclasses.asdict(preset(table["preset"])), **fields}
        except ConfigurationError as error:
            errors += [f"{where}.preset: {line}" for line in error.errors]
            return None
    return from_table(ModelConfig, {**fields, "vocabulary_size": vocabulary_size}, where, errors)


def read_model(path: Path, name: str, vocabulary_size: int) -> tuple[ModelConfig, TrainingConfig]:
    """One model of a recipe file.

    Raises:
        ConfigurationError: every error of the model's tables, each naming file and key.
    """
    models = read_recipe(path).get("models", {})
    if name not in models:
        raise ConfigurationError([f"{path}: no model {name!r} (models: {', '.join(models)})"])
    errors: list[str] = []
    where = f"{path}: models.{name}"
    shape = model_shape(models[name], vocabulary_size, where, errors)
    training = from_table(TrainingConfig, models[name].get("training", {}), f"{where}.training", errors)
    if shape is None or training is None:
        raise ConfigurationError(errors)
    return shape, training
