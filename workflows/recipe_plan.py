"""The steps of a recipe, from raw text to numbers: which there are, and what each stands on.

The pipeline's steps are chained in `data_pipeline.corpora`; those of programs on ranks are described in `training` and
`evaluation`. What Luigi sees of them is in `tasks`.
"""

import functools

from core.families import FAMILIES
from data_pipeline.corpora import Corpus, CorpusSettings, once
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.engine.steps import Step
from recipes.reader import load_recipe
from recipes.records import FINE_TUNING, ZERO_SHOT
from recipes.schema import Recipe
from workflows import evaluation, texts, training


class Plan:
    """The steps of one recipe, each one object."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.corpus = Corpus(
            CorpusSettings(
                name=recipe.corpus_name,
                sources=recipe.ordered_corpora(),
                lock=LockFile(recipe.lock_path),
                cleaning=recipe.cleaning,
                length_tokenizer=recipe.length_tokenizer,
                decontamination=recipe.decontamination,
                deduplication=recipe.deduplication,
                benchmarks=recipe.benchmarks,
                tokenizers=recipe.tokenizers,
                kinds={family: FAMILIES[family].tokenizer for family in recipe.tokenizers},
                sample=recipe.sample,
                seed=recipe.identity.seed,
            )
        )

    def families(self) -> list[str]:
        """Those of the models, or of the tokenizers where a recipe is a corpus only."""
        return self.recipe.families() or list(self.recipe.tokenizers)

    def measurements(self) -> list[dict[str, str]]:
        """(task, model) of every zero-shot evaluation."""
        return [
            {"task": task.name, "model": model.name}
            for task in self.recipe.zero_shot_tasks()
            for model in self.recipe.models.values()
            if model.fits(task)
        ]

    def writings(self) -> list[dict[str, str]]:
        """(model) of every model that writes texts."""
        wanted = self.recipe.models_of(causal=True) if self.recipe.texts.count else []
        return [{"model": model} for model in wanted]

    def finetunings(self) -> list[dict[str, str]]:
        """(task, model, seed) of every fine-tuning."""
        return [
            {"task": task, "model": model.name, "seed": str(seed)}
            for model in self.recipe.models.values()
            for task, settings in model.finetuning.items()
            for seed in settings.seeds
        ]

    def ensembles(self) -> list[dict[str, str]]:
        """(task, model) of every ensemble: of fine-tunings with several seeds."""
        return [
            {"task": task, "model": model.name}
            for model in self.recipe.models.values()
            for task, settings in model.finetuning.items()
            if len(settings.seeds) > 1 and FINE_TUNING[task].makes_ensembles
        ]

    @once
    def pretrain(self, model: str) -> Step:
        family = self.recipe.models[model].config.family
        return training.pretrain(
            self.recipe, model, self.corpus.tokenize(family), self.corpus.tokenizer(family)
        )

    @once
    def evaluate(self, task: str, model: str) -> Step:
        family = self.recipe.models[model].config.family
        record = ZERO_SHOT[task]
        return evaluation.evaluate(
            self.recipe,
            record,
            model,
            self.pretrain(model),
            self.corpus.tokenizer(family),
            self.corpus.benchmark(record.benchmark),
        )

    @once
    def texts(self, model: str) -> Step:
        family = self.recipe.models[model].config.family
        return texts.texts(self.recipe, model, self.pretrain(model), self.corpus.tokenizer(family))

    @once
    def finetune(self, task: str, model: str, seed: str) -> Step:
        family = self.recipe.models[model].config.family
        record = FINE_TUNING[task]
        return evaluation.finetune(
            self.recipe,
            record,
            model,
            int(seed),
            self.pretrain(model),
            self.corpus.tokenizer(family),
            self.corpus.benchmark(record.benchmark),
        )

    @once
    def ensemble(self, task: str, model: str) -> Step:
        seeds = map(str, self.recipe.models[model].finetuning[task].seeds)
        members = {seed: self.finetune(task, model, seed) for seed in seeds}
        return evaluation.ensemble(FINE_TUNING[task], model, members)


@functools.cache
def plan_of(recipe: str, overrides: str = "") -> Plan:
    """The plan of a recipe by its name or path, and what `--set` says."""
    return Plan(load_recipe(recipe, overrides))
