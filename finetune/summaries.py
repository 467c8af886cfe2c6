"""Summarization by a causal model that is fine-tuned: article, "TL;DR:", summary; the loss is on the summary only.

Not here: the data's format and what summaries are worth (`data_pipeline.benchmarks.summaries`), losses and texts
(`generation`), training (`tuner`).
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.config import ModelConfig
from data_pipeline.benchmarks.splits import Split
from data_pipeline.benchmarks.summaries import (
    LIBRARIES,
    SPLITS,
    TASKS,
    Row,
    SummaryTask,
    measured,
    predictions_of,
    prompts_for,
    read_split,
    references_of,
)
from data_pipeline.benchmarks.text_metrics import means, rouge_of_all
from data_pipeline.tokenization.tokenizers import Tokenizer
from finetune.program import Program
from recipes.records import Column, FineTuning, Table, add_fine_tuning, fits_the_model
from recipes.schema import FinetuningSettings

if TYPE_CHECKING:
    from core.parallel.mesh import Mesh
    from finetune.generation import AnswerExamples, Answering
    from finetune.heads import Scorer

BEAMS = 4
_SHORTEST_SEQUENCE = 64


class Summaries(Program):
    """A task for one tokenizer and sequence length. Half of the sequence, at most, is the summary's."""

    task: SummaryTask

    def __init__(
        self, data: Path, tokenizer: Tokenizer, sequence_length: int, settings: FinetuningSettings
    ) -> None:
        self.splits: dict[str, Split[Row]] = {name: read_split(data, self.task, name) for name in SPLITS}
        self.tokenizer, self.sequence_length = tokenizer, sequence_length
        self.answer_tokens = min(self.task.tokens, sequence_length // 2)
        self._predictions: dict[str, Table] = {}

    @functools.lru_cache(maxsize=4)  # noqa: B019 - one program a process
    def _encoded(self, split: str, without_article: bool = False) -> tuple["AnswerExamples", dict[str, int]]:
        """The examples, and how many articles and summaries lost their end."""
        from finetune.generation import AnswerExamples, ended_answers

        rows = self.splits[split].rows
        room = self.sequence_length + 1 - self.answer_tokens
        articles = ["" if without_article else row.article for row in rows]
        prompts = prompts_for(articles, self.tokenizer, room)
        answers, cut = ended_answers(
            [f" {row.summary.strip()}" for row in rows], self.tokenizer, self.answer_tokens
        )
        examples = AnswerExamples(
            prompts.tokens,
            answers,
            groups=np.arange(len(rows)),
            sequence_length=self.sequence_length,
            pad=self.tokenizer.end_of_document,
        )
        return examples, {"articles_cut": prompts.cut, "summaries_cut": cut}

    def examples(self, split: str) -> "AnswerExamples":
        return self._encoded(split)[0]

    def model(self, config: ModelConfig, mesh: "Mesh") -> "Answering":
        from finetune.generation import Answering

        return Answering(config, mesh, self.task.name)

    def on_dev(self, score: "Scorer") -> dict[str, Any]:
        return self._perplexity(score, "validation")

    def result(self, score: "Scorer", controls: bool) -> dict[str, Any]:
        from finetune.generation import shared_by

        rows = self.splits["test"].rows
        texts = self._texts(score, self.examples("test"), "summaries")
        found = measured(rows, texts, shared_by(score, "ROUGE"))
        self._predictions = {"test": predictions_of(rows, texts, found.scores)}
        result = {
            **found.result,
            **self._perplexity(score, "test"),
            "way": f"{BEAMS} beams, at most {self.answer_tokens} tokens",
            "cut": {split: self._encoded(split)[1] for split in SPLITS},
            "left_out": {name: split.report() for name, split in self.splits.items() if split.left_out},
        }
        if controls:
            blind, _ = self._encoded("test", without_article=True)
            texts = self._texts(score, blind, "without articles")
            worth = means(rouge_of_all(texts, references_of(rows), shared_by(score, "ROUGE")))
            result["without_article"] = worth | self._perplexity(score, "test", without_article=True)
        return result

    def predictions(self, score: "Scorer") -> dict[str, Table]:
        return self._predictions

    def _perplexity(self, score: "Scorer", split: str, without_article: bool = False) -> dict[str, Any]:
        from finetune.generation import answer_losses, perplexities

        examples, _ = self._encoded(split, without_article)
        return perplexities(examples, answer_losses(score, examples, split), self.tokenizer)

    def _texts(self, score: "Scorer", examples: "AnswerExamples", what: str) -> list[str]:
        from core.generation.beams import BeamSearch
        from finetune.generation import answers_of

        answers = answers_of(
            score,
            examples.prompts,
            self.answer_tokens,
            stop=self.tokenizer.end_of_document,
            method=BeamSearch(BEAMS),
            what=what,
        )
        return [self.tokenizer.decode(answer.tokens).strip() for answer in answers]


class CnnDailyMail(Summaries):
    task = TASKS["cnn_dailymail"]


class Xsum(Summaries):
    task = TASKS["xsum"]


def _errors(settings: Any, config: Any, where: str) -> list[str]:
    if (settings.sequence_length or config.sequence_length) < _SHORTEST_SEQUENCE:
        return [
            f"{where}.sequence_length: must be {_SHORTEST_SEQUENCE} or more for articles and summaries, is "
            f"{settings.sequence_length} with a model of {config.sequence_length}"
        ]
    return fits_the_model(settings, config, where)


def _record(task: SummaryTask, program: type[Summaries]) -> FineTuning:
    return FineTuning(
        name=task.name,
        title=task.title,
        benchmark=task.name,
        program=f"{__name__}:{program.__name__}",
        causal=True,
        columns=(
            Column("ROUGE-1", "rouge1", "percent", error="standard_error.rouge1"),
            Column("ROUGE-2", "rouge2", "percent", error="standard_error.rouge2"),
            Column("ROUGE-L", "rougeL", "percent", error="standard_error.rougeL"),
            Column("perplexity", "perplexity"),
            Column("first sentences", "first_sentences.rouge1", "percent"),
            Column("another summary", "another_summary.rouge1", "percent"),
            Column("article left out", "without_article.rouge1", "percent"),
            Column("dev perplexity, median of seeds", "dev_median"),
        ),
        published=None,
        facts=lambda result: f"ROUGE-1 {result['rouge1']:.1%}",
        note="F measures on the test set, of the epoch and seed with the lowest perplexity on the validation set. "
        "Beside them ROUGE-1 of the article's first three sentences, of another article's summary, without the article.",
        libraries=LIBRARIES,
        chosen_by="perplexity",
        lower_is_better=True,
        errors=_errors,
    )


for _program in (CnnDailyMail, Xsum):
    add_fine_tuning(_record(_program.task, _program))
