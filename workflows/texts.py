"""The step that lets a trained causal model write a few texts, for people to read in the report: drawn from seeded
streams, the same on any layout."""

from pathlib import Path
from typing import Any

from core.config import ModelConfig
from core.families import FAMILIES
from core.files import read_json
from data_pipeline.engine.steps import StageKind, Step, Summary, Workplace, log_of
from recipes.schema import Recipe
from workflows.launch import failure, run_ranks
from workflows.training import LIBRARIES, network_code, plugin_parameters

TEXTS = "texts"
FILE = "texts.json"
_MOST_AT_A_TIME = 16
_LARGEST_ON_ONE_PROCESS = 1e9  # parameters; more are split as in training


def texts_kind() -> StageKind:
    networks = [code for name in FAMILIES if FAMILIES[name].causal for code in network_code(name)]
    return StageKind(TEXTS, 1, ("evaluate.generate", *networks), LIBRARIES)


def texts(recipe: Recipe, model: str, trained_model: Step, tokenizer: Step) -> Step:
    """Texts of one model."""
    kind, config = texts_kind(), recipe.models[model].config
    prompts = recipe.texts.begun_by
    settings: dict[str, Any] = {"tokens": recipe.texts.tokens, "seed": recipe.identity.seed}
    if recipe.texts.temperature:
        settings |= {"temperature": recipe.texts.temperature, "top_k": recipe.texts.top_k}
    layout = recipe.models[model].parallel
    ranks = layout.tensor_parallel if _parameters(config) > _LARGEST_ON_ONE_PROCESS else 1

    def work(directory: Path, place: Workplace) -> Summary:
        line = ["generate", "--checkpoint", str(place.directory(trained_model))]
        line += ["--tokenizer", str(place.directory(tokenizer)), "--output", str(directory / FILE)]
        line += [f"--prompt={prompt}" for prompt in prompts]
        line += ["--batch-size", str(min(len(prompts), _MOST_AT_A_TIME))]
        line += ["--tensor-parallel", str(ranks), "--device", layout.device]
        for name, value in settings.items():
            line += [f"--{name.replace('_', '-')}", str(value)]
        for plugin in recipe.plugins:
            line += ["--plugin", plugin]
        log = log_of(kind, directory)
        code = run_ranks("evaluate", line, ranks=ranks, log=log, settings=recipe.launch, device=layout.device)
        if not (directory / FILE).exists():
            raise failure(f"the program ended without {FILE}", log, code)
        written = read_json(directory / FILE)["texts"]
        return {"texts": len(written), "tokens": sum(text["tokens"] for text in written)}

    return Step(
        kind,
        model,
        work,
        label=f"texts of {model}",
        parameters={"prompts": prompts, **settings, **plugin_parameters(FAMILIES.plugin(config.family))},
        inputs={"model": trained_model, "tokenizer": tokenizer},
        selectors={"model": model},
        facts=lambda summary: f"{summary['texts']} texts, {summary['tokens']} tokens",
        layout={"tensor_parallel": ranks},
    )


def _parameters(config: ModelConfig) -> int:
    """Of the layers and embeddings, near enough to tell whether one process holds them."""
    return 12 * config.layers * config.hidden**2 + config.padded_vocabulary_size * config.hidden
