"""The part of a recipe that pretraining reads: one model's shape and training settings. No torch."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.config import ConfigurationError, ModelConfig, TrainingConfig, from_table, preset

RECIPES = Path(__file__).resolve().parents[1] / "workflows" / "recipes"


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
