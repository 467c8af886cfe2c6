"""What Luigi sees and people type: a task for each stage, thin faces of the steps of `workflows.recipe_plan`."""

import luigi

from core.families import FAMILIES
from data_pipeline import steps
from data_pipeline.engine.steps import Step
from recipes.records import FINE_TUNING, ZERO_SHOT, FineTuning, ZeroShot
from workflows.evaluation import ENSEMBLE, EVALUATE, FINETUNE
from workflows.stage import Pipeline, Stage
from workflows.texts import TEXTS
from workflows.training import PRETRAIN


class WriteSample(Stage):
    """The generated corpus and benchmark files."""

    makes = "runs/sample/…: corpus/*.jsonl.gz, benchmarks/ in their authors' formats, and which defects were planted"
    stage = steps.SAMPLE.name

    def choices(self) -> list[dict[str, str]]:
        return [{}] if self.settings.sample is not None else []

    def make_step(self) -> Step:
        return self.plan.corpus.sample()


class CorpusStage(Stage):
    """A stage of one corpus."""

    selectors = ("corpus",)
    corpus = luigi.Parameter(default="", description="one corpus of the recipe (default: all)")

    def choices(self) -> list[dict[str, str]]:
        return [{"corpus": corpus.name} for corpus in self.settings.corpora]


class FetchDocuments(CorpusStage):
    """One corpus, wherever it comes from, as document shards."""

    makes = "runs/fetch/<corpus>-…: documents-*.parquet, quarantine/ of bad records"
    stage = steps.FETCH.name

    def make_step(self) -> Step:
        return self.plan.corpus.fetch(self.corpus)


class FetchBenchmark(Stage):
    """One benchmark from the hub, or from a local copy in hub layout, in its authors' format."""

    makes = "runs/benchmark/<benchmark>-…: the files as its authors publish them"
    stage = steps.BENCHMARK.name
    selectors = ("benchmark",)
    benchmark = luigi.Parameter(default="", description="one benchmark of the recipe (default: all)")

    def choices(self) -> list[dict[str, str]]:
        found = self.settings.benchmarks
        return [{"benchmark": name} for name in found if found[name].source == "huggingface"]

    def make_step(self) -> Step:
        step: Step = self.plan.corpus.benchmark(self.benchmark).step
        return step


class CleanDocuments(CorpusStage):
    """Repaired documents of one language, long enough, of one corpus."""

    makes = "runs/clean/<corpus>-…: documents-*.parquet, dropped/ with the reason of each that is left out"
    stage = steps.CLEAN.name

    def make_step(self) -> Step:
        return self.plan.corpus.clean(self.corpus)


class DecontaminateDocuments(Stage):
    """All documents, without text that occurs in a benchmark."""

    makes = (
        "runs/decontaminate/<recipe>-…: documents-*.parquet, hits.jsonl of what was cut, and for which text"
    )
    stage = steps.DECONTAMINATE.name

    def choices(self) -> list[dict[str, str]]:
        return [{}] if self.settings.benchmarks else []

    def make_step(self) -> Step:
        return self.plan.corpus.decontaminate()


class DeduplicateDocuments(Stage):
    """All documents, one of each group of duplicates."""

    makes = "runs/deduplicate/<recipe>-…: documents-*.parquet, clusters.jsonl of what was alike"
    stage = steps.DEDUPLICATE.name

    def make_step(self) -> Step:
        return self.plan.corpus.deduplicate()


class FamilyStage(Stage):
    """A stage of one model family, on the documents that its models learn from."""

    selectors = ("family",)
    family = luigi.Parameter(default="", description="one model family (default: those of the recipe)")

    def choices(self) -> list[dict[str, str]]:
        return [{"family": family} for family in self.plan.families()]


class TrainTokenizer(FamilyStage):
    """A tokenizer trained on the family's documents, or the recipe's given one."""

    makes = "runs/tokenizer/<recipe>-<family>-…: tokenizer.json"
    stage = steps.TOKENIZER.name

    def make_step(self) -> Step:
        return self.plan.corpus.tokenizer(self.family)


class TrainSentenceSplitter(FamilyStage):
    """A model of where sentences end, for families whose corpora have a sequence a sentence."""

    makes = "runs/sentences/<recipe>-<family>-…: punkt.json"
    stage = steps.SENTENCES.name

    def choices(self) -> list[dict[str, str]]:
        return [member for member in super().choices() if self.plan.corpus.sentences(member["family"])]

    def make_step(self) -> Step:
        return self.plan.corpus.sentences(self.family)


class TokenizeCorpus(FamilyStage):
    """The family's documents as one indexed dataset."""

    makes = "runs/tokenize/<recipe>-<family>-…: corpus.bin and corpus.idx, as Megatron-core reads them"
    stage = steps.TOKENIZE.name

    def make_step(self) -> Step:
        return self.plan.corpus.tokenize(self.family)


class ModelStage(Stage):
    """A stage of one model."""

    model = luigi.Parameter(default="", description="one model of the recipe (default: all)")


class Pretrain(ModelStage):
    """Pretraining of one model of the recipe (paper section 4.2)."""

    makes = "runs/pretrain/<model>-…: model/ (config.json, model.safetensors), metrics.jsonl (losses), logs/"
    stage = PRETRAIN
    selectors = ("model",)
    causal: bool | None = None

    def choices(self) -> list[dict[str, str]]:
        models = self.settings.models.values()
        return [
            {"model": model.name}
            for model in models
            if self.causal in (None, FAMILIES[model.config.family].causal)
        ]

    def make_step(self) -> Step:
        return self.plan.pretrain(self.model)


class Evaluate(ModelStage):
    """One zero-shot evaluation of one model, beside its controls (paper section 5.2)."""

    makes = "runs/<task>/<model>-…: result.json, the measure beside its controls, logs/"
    stage = EVALUATE
    selectors = ("task", "model")
    task = luigi.Parameter(default="", description="one zero-shot task (default: all)")

    @property
    def record(self) -> ZeroShot:
        return ZERO_SHOT[self.task]

    def choices(self) -> list[dict[str, str]]:
        return self.plan.measurements()

    def make_step(self) -> Step:
        return self.plan.evaluate(self.task, self.model)


class GenerateTexts(ModelStage):
    """A few texts that a model writes, for the report."""

    makes = "runs/texts/<model>-…: texts.json"
    stage = TEXTS
    selectors = ("model",)

    def choices(self) -> list[dict[str, str]]:
        return self.plan.writings()

    def make_step(self) -> Step:
        return self.plan.texts(self.model)


class Finetune(ModelStage):
    """Fine-tuning of one model on a task with one seed, and its scores (paper section 5.3)."""

    makes = "runs/<task>/<model>-seed<seed>-…: model/, result.json, predictions/, metrics.jsonl, logs/"
    stage = FINETUNE
    selectors = ("task", "model", "seed")
    task = luigi.Parameter(default="", description="one fine-tuning task (default: all)")
    seed = luigi.Parameter(default="", description="one seed of the recipe (default: all)")

    @property
    def record(self) -> FineTuning:
        return FINE_TUNING[self.task]

    def choices(self) -> list[dict[str, str]]:
        return self.plan.finetunings()

    def make_step(self) -> Step:
        return self.plan.finetune(self.task, self.model, self.seed)


class Ensemble(ModelStage):
    """What all seeds of a fine-tuning say together (paper section 5.3)."""

    makes = "runs/ensemble/<model>-<task>-…: predictions of all seeds together, and their scores"
    stage = ENSEMBLE
    selectors = ("task", "model")
    task = luigi.Parameter(default="", description="one fine-tuning task (default: all)")

    @property
    def record(self) -> FineTuning:
        return FINE_TUNING[self.task]

    def choices(self) -> list[dict[str, str]]:
        return self.plan.ensembles()

    def make_step(self) -> Step:
        return self.plan.ensemble(self.task, self.model)


# The names that people type for single families and tasks.


class PretrainGPT2(Pretrain):
    """GPT-2 and other causal models of the recipe."""

    causal = True


class PretrainBERT(Pretrain):
    """BERT and other models of the recipe that read whole texts."""

    causal = False


class EvaluateWikiText103(Evaluate):
    """Perplexity on WikiText-103."""

    task = luigi.Parameter(default="wikitext103", description="the task")


class EvaluateLambada(Evaluate):
    """Last-word accuracy on LAMBADA."""

    task = luigi.Parameter(default="lambada", description="the task")


class FinetuneRACE(Finetune):
    """Reading comprehension on RACE."""

    task = luigi.Parameter(default="race", description="the task")


class PretrainingPipeline(Pipeline):
    """Raw text to trained models."""

    makes = "runs/pretrain/<model>-…, one each model of the recipe"

    def requires(self) -> list[luigi.Task]:
        return list(self.clone(Pretrain).members())


class EvaluationPipeline(Pipeline):
    """Trained models to numbers."""

    makes = "runs/<task>/<model>-…, one each measure of the recipe"

    def requires(self) -> list[luigi.Task]:
        found: list[luigi.Task] = self.clone(Evaluate).members() if self.plan.measurements() else []
        found += self.clone(Finetune).members() if self.plan.finetunings() else []
        return found + (self.clone(Ensemble).members() if self.plan.ensembles() else [])
