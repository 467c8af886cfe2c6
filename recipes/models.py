"""Single parts of a recipe, which programs on ranks read alone: a model, the plug-ins."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.config import ModelConfig, TrainingConfig, preset
from core.errors import ConfigurationError, UserError
from core.registry import load_plugin
from core.tables import did_you_mean, from_table, in_tables, unknown_key
from recipes.documents import Document, read_document

_BESIDE_THE_SHAPE = ("preset", "training", "finetuning", "parallel")  # keys of a model


def load_recipe_plugins(document: Document, errors: list[str]) -> list[str]:
    """Import the modules that a recipe names under `plugins`; files are relative to the one that names them.

    Args:
        errors: gets a line for each that cannot be imported.

    Returns:
        their names, files with absolute paths.
    """
    named = document.tables.get("plugins", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        errors.append(f"plugins: must be a list of modules' names and .py files, is {named!r}")
        return []
    folder = document.folder("plugins")
    plugins = [str(folder / name) if name.endswith(".py") else name for name in named]
    for plugin in plugins:
        try:
            load_plugin(plugin)
        except UserError as error:
            errors.append(f"plugins: {error}")
    return plugins


def model_shape(
    table: Mapping[str, Any], vocabulary_size: int, where: str, errors: list[str]
) -> ModelConfig | None:
    """A model's shape from its table: flat fields, or a preset and what differs from it.

    Args:
        vocabulary_size: the tokenizer's.
        errors: gets every error, prefixed with `where`; then None is returned.
    """
    fields = {key: value for key, value in table.items() if key not in _BESIDE_THE_SHAPE}
    known = [*in_tables(ModelConfig), *_BESIDE_THE_SHAPE]
    for key in [key for key in fields if key not in known]:
        errors.append(unknown_key(where, key, known))
        del fields[key]
    if "vocabulary_size" in fields:
        errors.append(f"{where}.vocabulary_size: comes from the tokenizer, leave it out")
    if "preset" in table:
        try:
            fields = {**dataclasses.asdict(preset(str(table["preset"]))), **fields}
        except ConfigurationError as error:
            errors += [f"{where}.preset: {line}" for line in error.errors]
            return None
    return from_table(ModelConfig, {**fields, "vocabulary_size": vocabulary_size}, where, errors)


def read_model(
    name_or_path: str, name: str, vocabulary_size: int, overrides: str = ""
) -> tuple[ModelConfig, TrainingConfig]:
    """One model of a recipe; its plug-ins are loaded.

    Args:
        overrides: the text of `--set`.

    Raises:
        ConfigurationError: every error of the model's tables, each naming file and key.
    """
    document = read_document(name_or_path, overrides)
    models = document.tables.get("models", {})
    if not isinstance(models, dict) or not isinstance(models.get(name), dict):
        known = list(models) if isinstance(models, dict) else []
        hint = did_you_mean(name, known)
        raise ConfigurationError([f"{document.path}: no model {name!r}{hint} (models: {', '.join(known)})"])
    errors: list[str] = []
    load_recipe_plugins(document, errors)
    where, table = f"models.{name}", dict(models[name])
    training = from_table(TrainingConfig, table.pop("training", {}), f"{where}.training", errors)
    shape = model_shape(table, vocabulary_size, where, errors)
    if shape is None or training is None:
        raise ConfigurationError([document.located(error) for error in errors])
    return shape, training
